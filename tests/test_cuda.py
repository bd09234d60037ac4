"""What `python -m tests.cuda` compares, with the CPU in the place of the GPU."""

from pathlib import Path

import torch

from tests.cuda import comparisons


def test_the_cpu_agrees_with_itself_and_bfloat16_nearly(tmp_path: Path) -> None:
    compared = list(comparisons(tmp_path, torch.device("cpu"), compiled=False))
    assert len(compared) == 8
    for name, found, tolerance in compared:
        assert (0 < found <= tolerance) if "bf16" in name else found == 0, (name, found)
