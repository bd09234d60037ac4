"""The student of the research log: SwinIR with four short RSTBs of 60 channels."""

from typing import Any

from models.network_swinir import SwinIR

STUDENT = {"embed_dim": 60, "depths": [4, 4, 4, 4], "num_heads": [6, 6, 6, 6], "window_size": 8}


class SwinIR_Student(SwinIR):  # noqa: N801 -- the research log's name
    """SwinIR with the student's defaults; takes every argument of `SwinIR`.

    Without arguments it counts the log's 891,123 parameters: no upsampler, `mlp_ratio` 4. The x4 student of the
    option files sets `upsampler`, `upscale` and `mlp_ratio` 2, and counts 988,959.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{**STUDENT, **arguments})
