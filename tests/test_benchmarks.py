"""The benchmarks run; what they measure is no matter for tests."""

import subprocess
import sys

from tests.conftest import ROOT


def test_the_benchmarks_run_on_tiny_shapes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", "--rounds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for work in ("data:", "student, ", "SwinIR-M, ", "A, ", "B, ", "| C "):
        assert work in done.stdout
