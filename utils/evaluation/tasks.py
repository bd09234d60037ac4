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


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """A task, and how strongly its images are degraded.

    Attributes:
        channels: of the images: 1 for gray, 3 for RGB.
        noise: standard deviation, in grey levels of 255; only for denoising.
        jpeg: JPEG quality, 0 to 100; only for JPEG artefact reduction.
    """

    task: str
    channels: int
    scale: int
    noise: float
    jpeg: int

    @property
    def kind(self) -> Kind:
        """The kind of task."""
        return TASKS[self.task].kind

    @property
    def degree(self) -> str:
        """As the published script names it: `x4`, `noise25` or `jpeg10`."""
        return {"sr": f"x{self.scale}", "noise": f"noise{self.noise:g}", "jpeg": f"jpeg{self.jpeg}"}[self.kind]

    def settings(self) -> dict[str, str | float]:
        """The settings that matter to the task: a JPEG task has no noise level."""
        settings: dict[str, str | float] = {"task": self.task, "channels": self.channels, "scale": self.scale}
        if self.kind != "sr":
            settings[self.kind] = {"noise": self.noise, "jpeg": self.jpeg}[self.kind]
        return settings


def task_of_network(*, upsampler: str, channels: int, kind: Kind) -> str:
    """The task that a network of this reconstruction and image channels is for.

    Args:
        kind: what a network without up-sampling was trained for; "sr" is other images, in pairs of files.
    """
    if upsampler or kind == "sr":
        return SR_TASKS.get(upsampler, "classical_sr")
    return next(name for name, task in TASKS.items() if task == Task(kind, channels=(channels,)))
