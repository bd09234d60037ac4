"""Training runs as real processes, forked from one that has imported everything, and what they come to."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.distributed.run import config_from_args, elastic_launch, parse_args

import main_train_student
from models.select_network import define_teacher
from tests.conftest import toy_options, write_images
from tests.golden.fill import fill_
from utils.options.schema import Options
from utils.runs import checkpoints
from utils.runs.journal import Journal

T = TypeVar("T")
FORKED = multiprocessing.get_context("forkserver")  # a fork of a process that has imported torch costs no seconds
# Beside this module, what a run imports only after it has read its options; tests/test_runs.py finds what is missing.
FORKED.set_forkserver_preload(
    [
        "tests.runs",
        "data.folders.check",
        "data.select_dataset",
        "models.inspect.profiling",
        "models.training",
        "timm.layers",
        "torch.utils.flop_counter",
        "torch.utils.serialization",
        "torch.utils.tensorboard",
        "utils.process.terminal",
        "utils.runs.inputs",
        "utils.runs.lock",
        "utils.runs.variants",
    ]
)


class Run:
    """An option file at toy scale in a folder of its own, whose task can be run, ended in any way, and compared.

    Args:
        folder: where images, options, derived files and results go.
        raw: changes to the toy options, section by section.
    """

    def __init__(self, folder: Path, **raw: Any) -> None:
        options = toy_options(folder / "HR", root=folder / "runs")
        options["path"] |= {"cache": str(folder / "cache"), "pretrained_netTeacher": str(folder / "teacher.pth")}
        options["netG"]["drop_path_rate"] = 0.3
        options["train"] |= {"distillation_type": "feature", "total_iter": 60, "checkpoint_test": 20}
        for section, changes in raw.items():
            for key, value in changes.items():
                options[section][key] = options[section][key] | value if isinstance(value, dict) else value
        self.folder = folder
        self.cache = folder / "cache"
        self.task = Path(options["path"]["root"]) / "toy"
        self.models = self.task / "models"
        self.output = folder / "output.txt"
        self.options = folder / "toy.json"
        self.options.write_text(json.dumps(options))
        if not (folder / "HR").exists():
            write_images(folder / "HR")
            teacher = define_teacher(Options.model_validate(options))
            torch.save(fill_(teacher, 1).state_dict(), folder / "teacher.pth")

    def start(self, *overrides: str, prepare: Callable[[], None] | None = None) -> BaseProcess:
        """Run the training script in a new process, which calls `prepare` first."""
        self.output.unlink(missing_ok=True)
        arguments = ["--opt", str(self.options), *(["--set", *overrides] if overrides else [])]
        process = FORKED.Process(target=run_script, args=(arguments, self.output, prepare))
        process.start()
        return process

    def torchrun(self, processes: int, *overrides: str, restarts: int = 0) -> "Torchrun":
        """Run the training script in several processes; `{rank}` in an override is each one's number."""
        arguments = ["--opt", str(self.options), *(["--set", *overrides] if overrides else [])]
        self.output.unlink(missing_ok=True)
        launcher = Torchrun(arguments, self.output, processes=processes, restarts=restarts)
        launcher.start()
        return launcher

    def finish(self, *overrides: str) -> None:
        """Run the task to its end."""
        process = self.start(*overrides)
        process.join()
        assert process.exitcode == 0, self.output.read_text()

    def reset(self) -> None:
        """Forget the task and everything that was derived from the images."""
        for path in (self.task, self.cache):
            shutil.rmtree(path, ignore_errors=True)

    def checkpoint_size(self) -> int:
        """Bytes of one checkpoint of the finished task."""
        return sum(path.stat().st_size for path in checkpoints.members(self.models).popitem()[1])

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The lines of one kind of metrics.jsonl so far."""
        records = Journal(self.task / "metrics.jsonl").read()
        return [record for record in records if record["kind"] == kind]

    def results(self) -> "Results":
        """What the finished task has left."""
        last = checkpoints.complete(self.models)[-1]
        parts = {path.name: torch.load(path, weights_only=True) for path in self.models.glob(f"{last}_*.pth")}
        return Results((self.task / "metrics.jsonl").read_bytes(), kair_lines(self.task / "train.log"), parts)


class Results:
    """The figures, the log without its times, and the last checkpoint of a task."""

    def __init__(self, metrics: bytes, log: list[str], parts: dict[str, Any]) -> None:
        self.metrics = metrics
        self.log = log
        self.parts = parts

    def differences(self, other: "Results") -> list[str]:
        """What is not the same, bit for bit."""
        compared = {
            "metrics.jsonl": self.metrics == other.metrics,
            "train.log": self.log == other.log,
            "last checkpoint": equal(self.parts, other.parts),
        }
        return [name for name, same in compared.items() if not same]


class Torchrun(ForkServerProcess):
    """torchrun, forked and forking: its agent, and the training script in each of its processes.

    Args:
        arguments: of the script; `{rank}` in one of them is each process's number.
        output: file of what all of them print.
        processes: how many.
        restarts: how often all are started anew when one fails.
    """

    def __init__(self, arguments: Sequence[str], output: Path, *, processes: int, restarts: int = 0) -> None:
        super().__init__()
        self.arguments = arguments
        self.output = output
        # --standalone, with forks in the place of new interpreters, and time to notice that another process is lost
        self.flags = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--start-method=fork"]
        self.flags += ["--monitor-interval=0.5", f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]

    def run(self) -> None:
        """What the forked process does."""
        print_to(self.output)
        config, _, _ = config_from_args(parse_args([*self.flags, "main_train_student.py"]))
        elastic_launch(config, run_rank)(self.arguments)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        self.join(timeout)
        assert self.exitcode is not None, f"torchrun still runs after {timeout} s"
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to torchrun itself."""
        assert self.pid is not None
        os.kill(self.pid, number)


def run_rank(arguments: Sequence[str]) -> None:
    """`main_train_student.py` in a process that torchrun has forked, which is called by its rank from then on."""
    rank = os.environ["RANK"]
    Path("/proc/self/comm").write_text(f"rank {rank}")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # torchrun's own is inherited
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        train([argument.replace("{rank}", rank) for argument in arguments])
    except SystemExit as ended:  # torchrun would wait for what a forked process returns
        sys.stderr.flush()
        os._exit(int(ended.code or 0))


def run_script(arguments: Sequence[str], output: Path, prepare: Callable[[], None] | None = None) -> None:
    """`main_train_student.py` with its output in a file, after `prepare`; runs in a forked process."""
    print_to(output)
    train(arguments, prepare=prepare)


def print_to(output: Path) -> None:
    """Append all that this process and its children print to a file."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def train(arguments: Sequence[str], *, prepare: Callable[[], None] | None = None) -> None:
    """The training script in this process, which was forked for it."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # what a user has, not that of this process
    if prepare:
        prepare()
    sys.argv = ["main_train_student.py", *arguments]
    main_train_student.main()


def in_fork(function: Callable[..., T], *arguments: Any) -> T:
    """What a function returns that is called in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=FORKED) as executor:
        return executor.submit(function, *arguments).result()


def errors(run: Run) -> list[str]:
    """What a run that was refused or could not go on has said of it; fails if there is a traceback, too."""
    output = run.output.read_text()
    assert "Traceback" not in output, output
    return [line for line in output.splitlines() if line.startswith("error: ")]


def kair_lines(log: Path) -> list[str]:
    """The lines that speak of an iteration, without their time."""
    return re.findall(r"<epoch:.*", log.read_text())


def equal(first: Any, second: Any) -> bool:
    """Whether nested dictionaries and lists of tensors and numbers are the same, bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


def wait_until(condition: Callable[[], Any], process: BaseProcess) -> bool:
    """Wait for a condition; whether it came true before the process ended."""
    while not condition():
        if process.exitcode is not None:
            return False
        time.sleep(0.0005)
    return True


def children(pid: int | None) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_waiting(pid: int | None) -> bool:
    """Whether a process has had nothing to do for some time: not even on a busy machine is it runnable."""
    for _ in range(20):
        time.sleep(0.02)
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            return False
    return True


def rank_pid(torchrun: Torchrun, rank: int) -> int | None:
    """The process of a rank, if it runs."""
    for pid in children(torchrun.pid):
        state = Path(f"/proc/{pid}/stat").read_text()
        if f"(rank {rank}) " in state and f"(rank {rank}) Z" not in state:
            return pid
    return None


class Disk:
    """A file system of its own on a folder, as a context.

    Raises:
        OSError: to mount it needs root's rights.
    """

    def __init__(self, folder: Path, *, kilobytes: int) -> None:
        self.folder = folder
        self.kilobytes = kilobytes

    def __enter__(self) -> "Disk":
        self.folder.mkdir(exist_ok=True)
        self._mount("-t", "tmpfs", "-o", f"size={self.kilobytes}k", "tmpfs")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def enlarge(self) -> None:
        """Make it so large that it is never full."""
        self._mount("-o", "remount,size=500m")

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments, str(self.folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())
