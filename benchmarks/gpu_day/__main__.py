"""The first ten minutes on a card: `python -m benchmarks.gpu_day --minutes 9 --out FOLDER [--resume FILES]`.

Five phases: the machine, correctness, speed, training, packing. Each row of results is in FOLDER/results.json the
moment it is known; what fails is a row. With --resume, an earlier day's training goes on, for nearly all of the time.
docs/gpu.md says what to bring to a machine without a network.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu_day.phases import FORKED, ROOT, Day, Results, run_phase
from utils.tables import markdown

# Shares of the time, at most; what a phase leaves, training has.
SHARES = {"machine": 0.08, "correctness": 0.25, "speed": 0.28}
PACKING = 0.07
LEAST = 15.0  # s; importing PyTorch alone takes some of them
TINY_TRAINING = 18.0  # s


def main() -> None:
    """Run the phases; the exit code is 1 if anything failed."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_day", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, required=True, help="for all phases together")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the results")
    parser.add_argument("--resume", type=Path, nargs="+", default=[], metavar="FILE", help="what phase 5 has packed")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"], help="default: cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, which only show that everything runs")
    parser.add_argument("--data", type=Path, default=ROOT / "trainsets/BSD400", metavar="FOLDER", help="HR images")
    parser.add_argument("--options", type=Path, default=ROOT / "options/gpu_day/A.json", help="what is trained")
    arguments = parser.parse_args()
    if arguments.minutes <= 0:
        parser.error(f"--minutes {arguments.minutes} should be above 0")
    FORKED.set_forkserver_preload(["benchmarks.gpu_day.correctness", "benchmarks.gpu_day.speed", "timm.layers"])
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.out.resolve() / "results.json")
    with tempfile.TemporaryDirectory(prefix="gpu_day") as work:
        day = Day(
            device=arguments.device,
            tiny=arguments.tiny,
            out=arguments.out.resolve(),
            work=Path(work),
            data=arguments.data.resolve(),
            options=arguments.options.resolve(),
            resume=tuple(path.resolve() for path in arguments.resume),
        )
        run_all(day, results, ends=started + 60 * arguments.minutes, minutes=arguments.minutes)
    rows = [{key: str(row.get(key, "")) for key in ("phase", "work", "failed")} for row in results.failed()]
    sys.stdout.write(f"{len(results.rows)} rows, of which {len(rows)} failed: {results.path}\n")
    if rows:
        sys.stdout.write(f"{markdown(rows)}\n")
    sys.exit(bool(rows))


def run_all(day: Day, results: Results, *, ends: float, minutes: float) -> None:
    """The phases in their order; `ends` is on the clock of `time.monotonic`."""
    # Only now: PyTorch takes seconds to import, and help should not have to wait for it.
    from benchmarks.gpu_day.correctness import correctness
    from benchmarks.gpu_day.machine import machine
    from benchmarks.gpu_day.packing import packing
    from benchmarks.gpu_day.speed import speed
    from benchmarks.gpu_day.training import training

    phases = {"machine": machine, "correctness": correctness, "speed": speed}
    for name in ["machine"] if day.resume else list(phases):
        run_phase(name, phases[name], day, seconds=max(LEAST, 60 * minutes * SHARES[name]), results=results)
    for_packing = 60 * minutes * PACKING
    for_training = ends - time.monotonic() - for_packing
    if day.tiny:
        for_training = min(for_training, TINY_TRAINING)
    run_phase("training", training, day, seconds=for_training, results=results)
    run_phase("packing", packing, day, seconds=max(ends - time.monotonic(), for_packing), results=results)


if __name__ == "__main__":
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "gpu_day_compiled"))
    main()
