"""Figures of a run that programs can read: one JSON object a line."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from utils.process.errors import UserError
from utils.process.files import write_whole


class Line(BaseModel):
    """What every line has; its other keys are whatever they are."""

    model_config = ConfigDict(extra="allow", strict=True)

    iteration: NonNegativeInt = Field(alias="iter")


class Timing(Line):
    """A line of `timing.jsonl`."""

    seconds: float
    data_seconds: float


class Metrics(Line):
    """A line of `metrics.jsonl`: losses, crops that were skipped, or figures of a test set."""

    kind: str
    epoch: int | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> "Metrics":
        found: dict[str, Any] = self.model_extra or {}
        if self.kind == "train":
            Losses.model_validate(found)
        elif self.kind == "test":
            Test.model_validate(found)
        elif self.kind == "teacher":
            Judgement.model_validate(found)
        elif self.kind != "skipped" or not isinstance(found.get("crops"), list):
            raise ValueError("no such kind")
        return self


class Losses(BaseModel):
    """What a line of kind "train" has: the learning rate, and losses by their names."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, float]

    lr: float


class Figures(BaseModel):
    """PSNR in dB and SSIM, over all channels and on Y."""

    model_config = ConfigDict(strict=True)

    psnr: float
    ssim: float
    psnr_y: float
    ssim_y: float
    psnrb: float | None = None
    psnrb_y: float | None = None


class Image(Figures):
    """The figures of one image."""

    model_config = ConfigDict(extra="forbid", strict=True)

    L_path: str
    H_path: str
    label: str | None = None


class Judgement(Figures):
    """What a line of kind "teacher" has: the means over a test set, and the figures of each image."""

    dataset: str
    images: list[Image]


class Test(Judgement):
    """What a line of kind "test" has, of the student."""

    weights: str


LINES: dict[str, type[Line]] = {"metrics": Metrics, "timing": Timing}


class Journal:
    """A file of JSON objects, one a line, each of them with the iteration (`iter`) that it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, figures: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            UserError: the disk is full or cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error

    def read(self) -> list[dict[str, Any]]:
        """All lines; none where there is no file. A last line that was cut off is left out.

        Raises:
            UserError: another line is damaged.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [self._parse(line, number) for number, line in enumerate(lines, start=1)]

    def _parse(self, line: str, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
            LINES.get(self.path.stem, Line).model_validate(record)
        except (ValidationError, ValueError, RecursionError) as error:
            raise UserError(f"{self.path}: line {number} is damaged; without that line the task goes on") from error
        return record

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Forget the other lines: those of iterations that a resumed run is about to repeat."""
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in self.read() if wanted(line)).encode())
