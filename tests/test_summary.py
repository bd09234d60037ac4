"""What the networks of an option file cost."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


def test_the_summary_shows_the_counts_of_the_option_files() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "models.summary", "--opt", "options/train_swinir_student.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    student, teacher = done.stdout.splitlines()[1:]
    assert student.split()[:3] == ["student", "988,959", "8.31%"]
    assert teacher.split()[:3] == ["teacher", "11,900,199", "100.00%"]
    assert float(student.split()[3]) == pytest.approx(12.67, abs=0.02)
