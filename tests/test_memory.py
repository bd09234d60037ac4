"""The estimate of a network's memory, against what a process needs for it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.memory import peak_bytes
from models.network_swinir import SwinIR
from tests.conftest import ROOT

SIZE = 192
STUDENT: dict[str, Any] = {"embed_dim": 60, "depths": [2], "num_heads": [6], "window_size": 8, "mlp_ratio": 2}
NETWORKS = [
    STUDENT | {"upscale": 4, "upsampler": "pixelshuffle"},
    STUDENT | {"upscale": 4, "upsampler": "nearest+conv"},
    STUDENT | {"upscale": 4, "upsampler": "pixelshuffledirect"},
    STUDENT | {"upscale": 1, "upsampler": "", "embed_dim": 180},
]
MEASURE = """
import json, os, re, sys
from pathlib import Path
import torch
from models.network_swinir import SwinIR

def resident(key):
    return 1024 * int(re.search(key + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

def peak(arguments, size):
    network = SwinIR(**arguments).eval()
    network(torch.rand(1, 3, 16, 16))
    image = torch.rand(1, 3, size, size)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    network(image)
    return resident("VmHWM") - before

for arguments in json.loads(sys.argv[1]):
    if os.fork() == 0:  # a process for each, which takes all its memory anew
        with torch.no_grad():
            print(peak(arguments, int(sys.argv[2])), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def test_the_estimate_covers_what_a_process_needs() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell the peak of a process's memory")
    command = [sys.executable, "-c", MEASURE, json.dumps(NETWORKS), str(SIZE)]
    # glibc keeps some of what was freed, more or less of it from run to run, unless each tensor has pages of its own.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    measured = [int(line) for line in answer.stdout.split()]
    estimated = [peak_bytes(SwinIR(**arguments), SIZE**2) for arguments in NETWORKS]
    ratios = [estimate / truth for estimate, truth in zip(estimated, measured, strict=True)]
    assert all(1.0 < ratio < 1.6 for ratio in ratios), ratios
