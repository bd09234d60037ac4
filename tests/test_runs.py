"""The processes of the tests are forked from one that has imported what they need."""

import sys
from pathlib import Path

from tests.runs import FORKED, Run, run_script


def modules_of_a_run(arguments: list[str], output: Path, imported: Path) -> None:
    before = set(sys.modules)
    run_script(arguments, output)
    imported.write_text("\n".join(set(sys.modules) - before))


def test_a_forked_run_imports_nothing_that_takes_time(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 1, "checkpoint_test": 1})
    imported = tmp_path / "imported.txt"
    process = FORKED.Process(target=modules_of_a_run, args=(["--opt", str(run.options)], run.output, imported))
    process.start()
    process.join()
    assert process.exitcode == 0, run.output.read_text()
    slow = {"torch", "timm", "tensorboard", "skimage", "scipy", "data", "models", "utils"}
    assert [name for name in imported.read_text().splitlines() if name.partition(".")[0] in slow] == []
