"""What feature distillation compares, for reports: `feature_maps.npz` in the task folder, of the last validation.

Shapes: P pairs of features, H W height and width of the LR window in pixels, C image channels.
"""

from collections.abc import Mapping
from io import BytesIO

import numpy as np
import torch
from torch import Tensor

from models.model_plain import ModelPlain
from utils.evaluation.evaluate import Dataset, name_of
from utils.imaging.tensors import to_image, unit_range
from utils.process.files import write_whole

LARGEST = 128  # LR pixels of a side; bounds the file and the teacher's memory


def middle(image: Tensor) -> Tensor:
    """The middle of (C, H, W), of sides up to LARGEST."""
    height, width = (min(size, LARGEST) for size in image.shape[1:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


@torch.no_grad()
def mean_activations(model: ModelPlain, lr_image: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the channels of |student's features| and of |what they should be|, both (P, H, W) float16.

    `lr_image` is (C, H, W) in [0, 1].
    """
    assert model.teacher is not None
    image = lr_image[None].to(model.device)
    model.trainable.eval()
    signal = model.trainable(image, model.teacher.of_any_size(image).features)
    model.trainable.train()
    student, targets = (
        torch.cat([feature.abs().mean(dim=2) for feature in features])
        .unflatten(1, lr_image.shape[1:])
        .half()
        .cpu()
        .numpy()
        for features in (signal.features, signal.targets)
    )
    return student, targets


def record_feature_maps(model: ModelPlain, tests: Mapping[str, Dataset]) -> None:
    """Write the maps of the middle of the first test image, once l_g_feature has joined."""
    if not tests or model.translators is None or model.step <= model.objective.terms["l_g_feature"].start:
        return
    item = next(iter(tests.values()))[0]
    lr_image = middle(unit_range(item["L"]))
    student, targets = mean_activations(model, lr_image)
    content = BytesIO()
    np.savez_compressed(
        content,
        iter=model.step,
        name=name_of(item),
        image=to_image(lr_image),
        pairs=model.translators.pairs,
        translator=model.translators.side,
        student=student,
        teacher=targets,
    )
    write_whole(model.options.task_folder / "feature_maps.npz", content.getvalue())
