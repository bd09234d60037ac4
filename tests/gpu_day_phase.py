"""A phase of checks that fail and hang, in a file that imports no PyTorch: the process that runs it starts at once."""

import subprocess
from collections.abc import Iterator
from functools import partial

from benchmarks.gpu_day.phases import Check, Day, Row


def hang() -> Row:
    subprocess.run(["sleep", "300"], check=True)
    return {}


def fail() -> Row:
    raise ValueError("this card is wet")


def good_bad_and_endless(_: Day, deadline: float) -> Iterator[Check]:
    """What works, what fails, what hangs, and what is not reached."""
    yield "good", partial(dict, found=deadline > 0)
    yield "bad", fail
    yield "endless", hang
    yield "never reached", fail
