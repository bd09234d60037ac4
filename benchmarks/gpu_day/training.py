"""Phase 4: a real run, by the training script, for the time that is left; it is stopped as a machine stops it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_day.packing import unpack
from benchmarks.gpu_day.phases import ROOT, Check, Day, Row
from benchmarks.gpu_day.trials import images
from utils.options.load import load
from utils.runs import checkpoints
from utils.runs.journal import Journal

STOPPING = 25.0  # s before the deadline: the last iteration is saved
TINY = {
    "netG.img_size": 16,
    "netG.embed_dim": 12,
    "netG.depths": [1] * 4,
    "datasets.train.H_size": 64,
    "datasets.train.dataloader_batch_size": 2,
    "datasets.train.dataloader_num_workers": 0,
    "train.checkpoint_print": 1,
    "train.checkpoint_test": 10**8,
}


def training(day: Day, deadline: float) -> Iterator[Check]:
    """The only check of this phase."""
    yield f"training of {day.options.stem}", partial(train, day, deadline)


def train(day: Day, deadline: float) -> Row:
    """Begin or continue, stop by SIGTERM, and tell how far it came."""
    runs = day.work / "runs"
    task = runs / load(day.options).task
    if day.resume:
        unpack(day.resume, runs)
    begun = max(checkpoints.complete(task / "models"), default=0)
    log = day.work / "training.log"
    stopping = min(STOPPING, (deadline - time.monotonic()) / 3)
    with log.open("wb") as output:
        process = subprocess.Popen(command(day, runs), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        stopped = ended(process, deadline - stopping)
        if not stopped:
            process.terminate()
            stopped = ended(process, deadline - 2)
        if not stopped:
            process.kill()
            process.wait()
    saved = max(checkpoints.complete(task / "models"), default=0)
    if process.returncode or saved == begun:
        return {"failed": f"ended with code {process.returncode} at iteration {saved}", "log": tail(log)}
    return {"begun": begun, "saved": saved} | figures(task, begun)


def ended(process: "subprocess.Popen[bytes]", until: float) -> bool:
    """Whether a process has ended by a time of `time.monotonic`."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, until - time.monotonic()))
    return process.returncode is not None


def command(day: Day, runs: Path) -> list[str]:
    """The training script on the day's images."""
    settings: dict[str, Any] = {"path.root": str(runs), "path.cache": str(day.work / "cache")}
    settings["datasets.train.dataroot_H"] = str(day.data if day.data.exists() and not day.tiny else images(day))
    tests = load(day.options).datasets.tests
    if day.tiny or not all(test.folders[0].H.exists() for test in tests):
        settings |= {"datasets.test.dataroot_H": str(images(day)), "datasets.test.dataroot_L": None}
    settings |= TINY if day.tiny else {}
    pairs = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]
    return [sys.executable, "main_train_student.py", "--opt", str(day.options), "--set", *pairs]


def figures(task: Path, begun: int) -> Row:
    """Iterations a second, the last losses, and the figures of each validation."""
    timing = [row for row in Journal(task / "timing.jsonl").read() if row["iter"] > begun]
    earlier = [row for row in Journal(task / "timing.jsonl").read() if row["iter"] <= begun]
    records = Journal(task / "metrics.jsonl").read()
    losses = [row for row in records if row["kind"] == "train"][-1:]
    kept = ("iter", "dataset", "weights", "psnr_y", "ssim_y")
    tests = [{key: row[key] for key in kept} for row in records if row["kind"] == "test"]
    row: Row = {"losses": losses, "tests": tests[-20:]}
    if timing:
        spent = timing[-1]["seconds"] - (earlier[-1]["seconds"] if earlier else 0)
        row["iterations/s"] = (timing[-1]["iter"] - begun) / spent
    return row


def tail(log: Path) -> str:
    """The end of a log."""
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]
