"""What a run says before its first iteration: its plan, a line each, and what in it is hardly meant."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import nn

from models.model_plain import ModelPlain
from models.select_network import describe
from utils.evaluation.evaluate import Dataset
from utils.options.schema import NOTABLE
from utils.process import dist
from utils.process.machine import machine_name


def plan(model: ModelPlain, tests: Mapping[str, Dataset], *, n_images: int) -> dict[str, str]:
    """What a run is about to do, a line each by what it is about.

    Args:
        n_images: training images.
    """
    options, data = model.options, model.options.datasets.train
    crop = data.H_size // options.scale
    sets = ", ".join(f"{name} ({len(dataset):,} test images)" for name, dataset in tests.items())
    batch = f"{data.dataloader_batch_size} crops of {crop}x{crop} a step"
    start = f"iteration {model.step:,}" if model.step else options.path.pretrained_netG or "random weights"
    return {
        "task": f"{options.task} in {options.task_folder}, {describe_device(model.device)}",
        "student": f"{describe(model.student)}, from {start}",
        "teacher": describe_teacher(model),
        "losses": str(model.objective),
        "data": f"{data.name}: {n_images:,} training images in {data.place}, {batch}; tests: {sets}",
    }


def describe_teacher(model: ModelPlain) -> str:
    """`x4 SwinIR, ..., 11,900,199 parameters, teacher.pth, asked in each iteration`."""
    file, train = model.options.path.pretrained_netTeacher, model.options.train
    if model.teacher is None:
        return "none" if file is None else f"none: train.distillation_type is 'none', so {file} is not used"
    how = "answers are stored" if train.teacher == "stored" else "asked in each iteration"
    return f"{describe(cast(nn.Module, model.teacher.network))}, {file}, {how}"


def describe_device(device: torch.device) -> str:
    """`2 processes on NVIDIA H100`, `1 process on Intel Xeon, 2 threads`."""
    count = dist.world_size()
    return f"{count} process{'es' if count > 1 else ''} on {machine_name(device)}"


def doubts(model: ModelPlain) -> Iterator[str]:
    """Options that are probably a mistake, one sentence for each."""
    train = model.options.train
    if share := train.start_in_average(train.total_iter):
        yield (
            f"train.E_decay: after {train.total_iter:,} iterations, an average with a decay of {train.E_decay:g} is "
            f"still {share:.0%} the start; for so few, {NOTABLE ** (1 / train.total_iter):.4g} would suit"
        )
