"""What the networks of an option file cost."""

import subprocess
import sys

import pytest
from torch import nn

from models.summary import count
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


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_network_is_counted_where_it_is(device: str) -> None:
    network = nn.Conv2d(3, 8, 3, padding=1, device=device)
    assert count(network, channels=3) == {"parameters": 8 * (3 * 9 + 1), "flops": 2 * 64 * 64 * 8 * 3 * 9}
    assert network.weight.device.type == device
