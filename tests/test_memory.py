"""The estimate of a network's memory, against what a process needs for it."""

import ctypes
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from models.memory import peak_bytes
from models.network_swinir import SwinIR
from tests.runs import in_fork
from utils.process.machine import M_MMAP_THRESHOLD

pytestmark = pytest.mark.slow

SIZE = 192
STUDENT: dict[str, Any] = {"embed_dim": 60, "depths": [2], "num_heads": [6], "window_size": 8, "mlp_ratio": 2}
NETWORKS = [
    STUDENT | {"upscale": 4, "upsampler": "pixelshuffle"},
    STUDENT | {"upscale": 4, "upsampler": "nearest+conv"},
    STUDENT | {"upscale": 4, "upsampler": "pixelshuffledirect"},
    STUDENT | {"upscale": 1, "upsampler": "", "embed_dim": 180},
]


def resident(key: str) -> int:
    """Bytes of this process's memory, as the system counts them."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def peak(arguments: dict[str, Any]) -> int:
    """Bytes that this process takes to restore an image."""
    # glibc keeps some of what was freed, more or less of it from run to run, unless each tensor has pages of its own.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 128 * 1024)
    torch.set_num_threads(1)
    network = SwinIR(**arguments).eval()
    image = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        network(image[:, :, :16, :16])
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        network(image)
    return resident("VmHWM") - before


@pytest.mark.parametrize("arguments", NETWORKS)
def test_the_estimate_covers_what_a_process_needs(arguments: dict[str, Any]) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell the peak of a process's memory")
    measured = in_fork(peak, arguments)
    assert 1.0 < peak_bytes(SwinIR(**arguments), SIZE**2) / measured < 1.6
