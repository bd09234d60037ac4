"""Several commands at once, each with a GPU of its own."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from utils.process.errors import UserError


def run_jobs(commands: Mapping[str, Sequence[str]], *, at_once: int, folder: Path) -> None:
    """Run commands by name, `at_once` of them at a time; each sees one GPU, and a share of the cores.

    What a command prints goes to `<folder>/<name>.txt`. If this process is to end, the commands get SIGTERM, and it
    ends after them.

    Raises:
        UserError: commands have failed; the others were run to their ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places: SimpleQueue[int] = SimpleQueue()
    for place in range(at_once):
        places.put(place)
    running: list[subprocess.Popen[bytes]] = []
    ending = False

    def run(name: str) -> bool:
        place = places.get()
        try:
            if ending:
                return True
            with (folder / f"{name}.txt").open("wb") as output:
                process = subprocess.Popen(
                    commands[name], env=environment(place, at_once), stdout=output, stderr=subprocess.STDOUT
                )
                running.append(process)
                return process.wait() == 0
        finally:
            places.put(place)

    with ThreadPoolExecutor(at_once) as pool:
        try:
            succeeded = dict(zip(commands, pool.map(run, commands), strict=True))
        except BaseException:
            ending = True
            for process in running:
                process.terminate()
            raise
    if failed := [str(folder / f"{name}.txt") for name, success in succeeded.items() if not success]:
        raise UserError(f"--jobs: {len(failed)} of {len(commands)} tasks failed; see {', '.join(failed)}")


def environment(place: int, at_once: int) -> dict[str, str]:
    """The variables of the command in one of the places: its GPU, and how many threads it may have."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(number) for number in range(at_once)]
    threads = max(1, len(os.sched_getaffinity(0)) // at_once)
    gpu = "" if visible == "" else gpus[place % len(gpus)]
    return {"OMP_NUM_THREADS": str(threads)} | os.environ | {"CUDA_VISIBLE_DEVICES": gpu}
