"""Results of the test script as a row of a report: the teacher, or a published model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.evaluation.evaluate import ImageResult
from utils.evaluation.results import read_results
from utils.evaluation.tasks import TASKS
from utils.imaging.metrics import judged_border
from utils.process.errors import UserError
from utils.report.problems import BICUBIC, FILES, UNKNOWN, Problem, Setting, problem_of

NONE = "-"  # what a table shows where there is nothing to tell


@dataclass(frozen=True)
class Validation:
    """How a network did on one problem.

    Attributes:
        psnr_y: the mean over the images, in dB.
    """

    iteration: int
    problem: Problem
    results: Sequence[ImageResult]
    psnr_y: float


@dataclass(frozen=True, kw_only=True)
class Tested:
    """What the test script found of one network on its test sets.

    Attributes:
        name: by which no other run of the report goes.
        settings: what its files say of model and test, by test set.
        images: where each restored image is, by what it should be and the test set.
    """

    name: str
    folder: Path
    validations: list[Validation]
    settings: Mapping[str, Mapping[str, Any]]
    images: Mapping[tuple[str, str], Path]
    seed = NONE

    @classmethod
    def read(cls, folder: Path, files: Sequence[Path]) -> "Tested":
        """Read the `results.json` of one network, whose results are in a folder.

        Raises:
            UserError: a file is damaged, or none tells figures.
        """
        validations, settings = [], {}
        images: dict[tuple[str, str], Path] = {}
        for file in files:
            content, results = read_results(file)
            dataset = file.parent.name
            settings[dataset] = {key: value for key, value in content.items() if key not in {"images", "average"}}
            if results:
                problem = problem_of(setting_of_test(content), dataset, list(results.values()))
                mean = float(np.mean([result.psnr_y for result in results.values()]))
                validations.append(Validation(0, problem, list(results.values()), mean))
                images |= {
                    (dataset, result.H_path): file.parent / f"{name}_SwinIR.png" for name, result in results.items()
                }
        if not validations:
            raise UserError(f"{files[0]}: it holds no figures: there was no ground truth, or the test did not end")
        name = folder.resolve().name
        return cls(name=name, folder=folder, validations=validations, settings=settings, images=images)

    def progress(self, iteration: int | None = None) -> str:
        """Nothing: a test does not know how long the network was trained."""
        return NONE

    def seconds(self, iteration: int) -> float | None:
        """None: a test does not know how long training took."""
        return None

    def image_path(self, dataset: str, result: ImageResult) -> Path:
        """Where the test script left its image."""
        return self.images[dataset, result.H_path]


def setting_of_test(content: Mapping[str, Any]) -> Setting:
    """How the test script degraded the images, by its `results.json`; old ones do not tell where LR images are from."""
    kind, scale = TASKS[content["task"]].kind, content["scale"]
    lr = "" if kind != "sr" else UNKNOWN
    if kind == "sr" and "folder_lq" in content:
        lr = FILES if content["folder_lq"] else BICUBIC
    border, strength = content.get("border", judged_border(scale)), 0 if kind == "sr" else content[kind]
    return Setting(kind=kind, scale=scale, channels=content["channels"], border=border, strength=strength, lr=lr)
