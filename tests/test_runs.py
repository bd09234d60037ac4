"""The processes of the tests are forked from one that has imported what they need."""

import sys
from pathlib import Path

from tests.runs import Run, in_fork, run_script


def imported_by_a_run(options: Path, output: Path) -> set[str]:
    before = set(sys.modules)
    run_script(["--opt", str(options)], output)
    return set(sys.modules) - before


def test_a_forked_run_imports_nothing_that_takes_time(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 1, "checkpoint_test": 1})
    slow = {"torch", "timm", "tensorboard", "skimage", "scipy", "data", "models", "utils"}
    imported = in_fork(imported_by_a_run, run.options, run.output)
    assert [name for name in imported if name.partition(".")[0] in slow] == []
