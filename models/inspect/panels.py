"""Pictures to follow a run by: LR, student, teacher and HR of a few fixed crops, side by side.

Images are [0, 1]; crops are (1, C, H, W), pictures (H, W, 3) uint8.
"""

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.model_plain import ModelPlain
from utils.evaluation.evaluate import Dataset, name_of
from utils.evaluation.restorer import Restorer
from utils.imaging.tensors import to_image, unit_range

IMAGES = 4
SIZE = 48  # LR pixels


class Panels:
    """The centres of the first images of the first test set, and what the teacher, if there is one, makes of them."""

    def __init__(self, model: ModelPlain, tests: Mapping[str, Dataset]) -> None:
        self.model = model
        self.crops = {
            f"{name}/{image}": crops
            for name, dataset in islice(tests.items(), 1)
            for image, crops in self._crops(dataset)
        }

    @torch.no_grad()
    def _crops(self, dataset: Dataset) -> Iterator[tuple[str, list[Tensor]]]:
        """The name and the crops of each image: LR, its enlargement, the teacher's if any, HR."""
        scale = self.model.options.scale
        teach = self.model.teacher_restore() if self.model.teacher else None
        for index in range(min(IMAGES, len(dataset))):
            item = dataset[index]
            lr_image, hr_image = (unit_range(item[key][None]) for key in ("L", "H"))
            top, left = (max(size - SIZE, 0) // 2 for size in lr_image.shape[2:])
            hr_image = window(hr_image, scale * top, scale * left, scale * SIZE)
            lr_image = window(lr_image, top, left, SIZE).to(self.model.device)
            taught = [teach(lr_image)] if teach else []
            yield name_of(item), [lr_image, F.interpolate(lr_image, scale_factor=scale), *taught, hr_image]

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """By test set and image, left to right: LR (enlarged by repeating pixels), student (E), teacher if any, HR."""
        student = self.model.ema
        restore = Restorer(student, scale=self.model.options.scale, window_size=student.window_size)
        return {
            name: side_by_side([enlarged, restore(lr_image), *references])
            for name, (lr_image, enlarged, *references) in self.crops.items()
        }


def window(image: Tensor, top: int, left: int, size: int) -> Tensor:
    """The (1, C, size, size) window of (1, C, H, W) whose first pixel is (top, left), or as much as there is of it."""
    return image[:, :, top : top + size, left : left + size]


def side_by_side(images: list[Tensor]) -> np.ndarray:
    """Pictures of one height in a row, gray ones as colour."""
    row = np.concatenate([to_image(image[0]) for image in images], axis=1)
    return np.broadcast_to(row, (*row.shape[:2], 3)).copy()
