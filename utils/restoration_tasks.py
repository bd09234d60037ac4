"""The seven restoration tasks of the published test script, and which networks are for which."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["sr", "noise", "jpeg"]


@dataclass(frozen=True)
class Task:
    """What distinguishes one of the tasks: what is to be restored, and in images of how many channels."""

    kind: Kind
    channels: tuple[int, ...] = (1, 3)


TASKS = {
    "classical_sr": Task("sr"),
    "lightweight_sr": Task("sr"),
    "real_sr": Task("sr"),
    "gray_dn": Task("noise", channels=(1,)),
    "color_dn": Task("noise", channels=(3,)),
    "jpeg_car": Task("jpeg", channels=(1,)),
    "color_jpeg_car": Task("jpeg", channels=(3,)),
}
SR_TASKS = {"pixelshuffle": "classical_sr", "pixelshuffledirect": "lightweight_sr", "nearest+conv": "real_sr"}
DATASET_KINDS: dict[str, Kind] = {"sr": "sr", "dncnn": "noise", "jpeg": "jpeg"}  # by dataset_type


def task_of_network(*, upsampler: str, channels: int, kind: Kind) -> str:
    """The task that a network of this reconstruction and image channels is for.

    Args:
        kind: what a network without up-sampling was trained for; "sr" is other images, in pairs of files.
    """
    if upsampler or kind == "sr":
        return SR_TASKS.get(upsampler, "classical_sr")
    return next(name for name, task in TASKS.items() if task == Task(kind, channels=(channels,)))
