"""Faults by the hundred, and what they cost: `python -m tests.soak` prints a table, in some minutes to an hour.

The tests call the same functions with small numbers.
"""

import argparse
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from data.batches import training_batches
from data.select_dataset import define_crops, define_tests
from models.model_plain import ModelPlain
from models.resume import resume
from models.training import Training
from tests.runs import Disk, Results, Run, Torchrun, rank_pid, wait_until
from tests.test_option_mutations import check_mutations
from tests.test_spoilt_bytes import KINDS, faults_of_reading
from utils.imaging.tensors import unit_range
from utils.options.load import load
from utils.process.interrupt import Interrupt, Interrupted
from utils.runs import checkpoints
from utils.tables import markdown
from utils.weights import read, serialized

FULL_DISK = "No space left on device"


@dataclass
class Outcome:
    """How many faults were injected, where they struck, and what could not be made good."""

    injected: int = 0
    struck: dict[str, int] = field(default_factory=lambda: {"save": 0, "store": 0, "elsewhere": 0})
    lost: list[str] = field(default_factory=list)


def kill(folder: Path, *, count: int, seed: int, iterations: int = 60) -> Outcome:
    """Kill one run after another at random instants, in saves and while stores are built.

    That ends when `count` kills are done, of which at least one struck a save, one a store and one neither. Each run
    is started again until it ends, and what it ends with is compared with that of a run left alone.
    """
    run, rng, outcome = Run(folder, train={"total_iter": iterations}), random.Random(seed), Outcome()
    expected, seconds = left_alone(run)

    def more() -> bool:
        return outcome.injected < count or 0 in outcome.struck.values()

    while more() or run.task.exists():
        process = run.start()
        if more():
            if not run.task.exists() and rng.random() < 0.5:
                wait_until(lambda: list(run.cache.rglob("*.partial")), process)
            else:
                process.join(rng.uniform(0, seconds))
                if rng.random() < 0.5:
                    wait_until(lambda: list(run.models.glob("*.partial")), process)
            process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            outcome.injected += 1
            saving, storing = list(run.models.glob("*.partial")), list(run.cache.rglob("*.partial"))
            outcome.struck["save" if saving else "store" if storing else "elsewhere"] += 1
        else:
            outcome.lost += judge(run, process.exitcode, expected)
            run.reset()
    return outcome


def left_alone(run: Run) -> tuple[Results, float]:
    """What a run ends with when nothing is done to it, and how many seconds it takes."""
    begin = time.monotonic()
    run.finish()
    seconds = time.monotonic() - begin
    results = run.results()
    run.reset()
    return results, seconds


def judge(run: Run, exitcode: int | None, expected: Results) -> list[str]:
    """What an ended run has lost."""
    return expected.differences(run.results()) if exitcode == 0 else [run.output.read_text()]


def damage(folder: Path, *, count: int, seed: int) -> Outcome:
    """Flip a bit of one file of a checkpoint or cut it short; what is read then should be the one before, or the same.

    The same, since a bit of a manifest may leave all that it says of the files true.
    """
    rng, outcome = random.Random(seed), Outcome()
    for step in (5, 10):
        weights = {"w": torch.rand(50, generator=torch.Generator().manual_seed(step))}
        parts: dict[str, dict[str, Any]] = {"G": weights, "E": weights, "P": weights, "state": {"step": step}}
        checkpoints.save(folder, step, {part: serialized(content) for part, content in parts.items()})
    files = checkpoints.members(folder)[10]
    originals = {path: path.read_bytes() for path in files}
    for _ in range(count):
        path = rng.choice(files)
        data = bytearray(originals[path])
        at = rng.randrange(len(data))
        if rng.random() < 0.5:
            del data[at:]
        else:
            data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        outcome.injected += 1
        found = checkpoints.newest(folder)
        expected = 10 if path.suffix == ".json" and checkpoints.find_fault(folder, 10) is None else 5
        if found != expected or read(checkpoints.part_path(folder, expected, "state")) != {"step": expected}:
            outcome.lost.append(f"{path.name}, byte {at}: read {found}")
        path.write_bytes(originals[path])
    return outcome


def poison(folder: Path, *, count: int, seed: int) -> Outcome:
    """Make NaN of targets in random iterations, until `count` are poisoned, in runs left alone and runs cut in two.

    Both should end alike, finite, having skipped just those iterations.
    """
    rng, outcome = random.Random(seed), Outcome()
    run = Run(folder, train={"total_iter": 12, "checkpoint_save": 3})
    while outcome.injected < count:
        steps = set(rng.sample(range(1, 13), rng.randint(1, 4)))
        outcome.injected += len(steps)
        run.reset()
        train_poisoned(run, steps)
        expected = run.results()
        run.reset()
        train_poisoned(run, steps, stop_after=rng.randint(1, 11))
        train_poisoned(run, steps)
        found = run.results()
        outcome.lost += expected.differences(found)
        skipped = {record["iter"] for record in run.records("skipped")}
        weights = [weight for name in "GE" for weight in found.parts[f"12_{name}.pth"].values()]
        if skipped != steps or not all(weight.isfinite().all() for weight in weights):
            outcome.lost.append(f"NaN in {steps}, skipped {skipped}")
    return outcome


def train_poisoned(run: Run, steps: set[int], *, stop_after: int | None = None) -> None:
    """Train in this process, with a NaN in the target of one crop in each of some iterations."""
    options = load(run.options)
    model = ModelPlain(options, device=torch.device("cpu"))
    resume(model)
    crops, tests, interrupt = define_crops(options), define_tests(options), Interrupt()

    def batches() -> Iterator[dict[str, Any]]:
        for batch in training_batches(crops, options, first_step=model.step, device=model.device):
            step = model.step + 1
            interrupt.requested = step == stop_after
            if step in steps:
                batch["H"] = unit_range(batch["H"])
                batch["H"][0, 0, 0, 0] = float("nan")
            yield batch

    with suppress(Interrupted):
        Training(model, batches=batches(), tests=tests, n_images=len(crops), interrupt=interrupt).run()


def fill_disk(folder: Path, *, count: int, seed: int) -> Outcome:
    """Run on small disks, each of another size, that are made larger when they are full."""
    rng, outcome = random.Random(seed), Outcome()
    run = Run(folder, train={"checkpoint_save": 2}, path={"root": str(folder / "disk")})
    run.finish()
    expected, size = run.results(), run.checkpoint_size()
    while outcome.injected < count:
        with Disk(folder / "disk", kilobytes=int(rng.uniform(0.1, 20) * size / 1000)) as disk:
            process = run.start()
            process.join()
            outcome.injected += 1
            if process.exitcode != 2 or FULL_DISK not in run.output.read_text():
                outcome.lost.append(f"not reported: {run.output.read_text()}")
            disk.enlarge()
            process = run.start()
            process.join()
            outcome.lost += judge(run, process.exitcode, expected)
    return outcome


def kill_ranks(folder: Path, *, count: int, seed: int) -> Outcome:
    """Kill one of two ranks at a random instant, again and again; torchrun starts both anew."""
    rng, outcome = random.Random(seed), Outcome()
    run = Run(folder)
    assert run.torchrun(2).wait() == 0, run.output.read_text()
    expected = run.results()
    while outcome.injected < count:
        run.reset()
        torchrun = run.torchrun(2, restarts=3)
        for _ in range(3):
            outcome.injected += kill_rank(run, torchrun, rng)
        outcome.lost += judge(run, torchrun.wait(), expected)
    return outcome


def kill_rank(run: Run, torchrun: Torchrun, rng: random.Random) -> bool:
    """Kill either of two ranks some time after they have begun to train; whether they had not ended before."""

    def begun() -> int:
        return run.output.read_text().count("training images") if run.output.exists() else 0

    before = begun()
    wait_until(lambda: begun() > before, torchrun)
    time.sleep(rng.uniform(0, 1))
    pid = rank_pid(torchrun, rng.randint(0, 1))
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return pid is not None


def mutate(folder: Path, *, count: int, seed: int) -> Outcome:
    """Mutate an option file; hypothesis ends at the first mutation that is neither accepted nor refused."""
    outcome = Outcome(injected=count)
    try:
        check_mutations(folder, examples=count)
    except AssertionError as error:
        outcome.lost.append(str(error))
    return outcome


def spoil(folder: Path, *, kind: str, count: int, seed: int) -> Outcome:
    """Flip, cut out and put in random bytes of a file of one kind, which is then read or refused in one sentence."""
    return Outcome(injected=count, lost=faults_of_reading(folder, kind, count=count, seed=seed))


FAULTS: dict[str, tuple[Callable[..., Outcome], int]] = {
    "SIGKILL of a run": (kill, 200),
    "bit flipped in, or end cut off, a checkpoint": (damage, 2000),
    "NaN in an iteration": (poison, 200),
    "SIGKILL of one of two ranks": (kill_ranks, 6),
    "full disk": (fill_disk, 20),
    "mutated option file": (mutate, 2000),
    **{f"spoilt bytes of: {kind}": (partial(spoil, kind=kind), 2000) for kind in KINDS},
}


@contextmanager
def silenced() -> Iterator[None]:
    """Without what the runs in this process print."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def main() -> None:
    """Inject the faults and print the table; a line of the log says how far it has come."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is random in it (default: 0)")
    seed = parser.parse_args().seed
    logging.disable(logging.WARNING)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # as in the tests
    rows = []
    for title, (inject, count) in FAULTS.items():
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, silenced():
            outcome = inject(Path(folder), count=count, seed=seed)
        for loss in outcome.lost:
            sys.stderr.write(f"{title}: {loss}\n")
        survived, lost = outcome.injected - len(outcome.lost), len(outcome.lost)
        rows.append({"fault": title, "injected": str(outcome.injected), "survived": str(survived), "lost": str(lost)})
        rows[-1]["seconds"] = f"{time.monotonic() - begin:.0f}"
        sys.stderr.write(f"{rows[-1]}\n")
    sys.stdout.write(f"{markdown(rows)}\n")


if __name__ == "__main__":
    main()
