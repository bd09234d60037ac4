"""Experiments at the real sizes, or tiny ones, for checks and timings: options, images, batches, models."""

import copy
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import cases
from benchmarks.gpu_day.phases import Day
from data.batches import Batch, training_batches
from data.dataset_sr import SRCrops, define_taught
from data.folders.files import list_images
from data.select_dataset import define_crops
from models import swin_transformer
from models.model_plain import ModelPlain
from models.network_swinir import SwinIR
from models.resume import resume
from utils.imaging.io import read_image, write_image
from utils.imaging.resize import bicubic_down
from utils.options.schema import Options

IMAGES = 8  # so few that stored answers of the teacher are soon made
STUDENT: dict[str, Any] = cases.STUDENT | {"drop_path_rate": 0.0}
TINY_STUDENT = STUDENT | {"img_size": 16, "embed_dim": 12, "depths": [1] * 4}
TINY_TEACHER = {"img_size": 16, "embed_dim": 24, "depths": [1] * 6}
RESPONSE: dict[str, Any] = {"distillation_type": "response"}
FEATURE: dict[str, Any] = {"distillation_type": "feature"}
STUDENT_SIDE = {"feature_translator": "student", "feature_pairs": None, "balance_losses": True}
KINDS: dict[str, dict[str, Any]] = {
    "A": {},
    "B": RESPONSE,
    "B, stored teacher": RESPONSE | {"teacher": "stored"},
    "C": FEATURE,
    "C at its best": FEATURE | STUDENT_SIDE,
    "B, zoomed inputs": RESPONSE | {"zoomed_inputs": True},
}


def student_of(day: Day) -> dict[str, Any]:
    """The student's arguments."""
    return TINY_STUDENT if day.tiny else STUDENT


def teacher_of(day: Day) -> dict[str, Any]:
    """The arguments of SwinIR-M, or of a tiny one."""
    return cases.TEACHER | {"drop_path_rate": 0.0} | (TINY_TEACHER if day.tiny else {})


def options_of(
    day: Day, task: str, *, batch: int, cache: str = "auto", network: dict[str, Any] | None = None, **train: Any
) -> Options:
    """An experiment on a few images of the day's; its files go into the day's work folder."""
    size = 64 if day.tiny else 192
    folder = {"dataroot_H": str(images(day))}
    return Options.model_validate(
        {
            "task": task,
            "scale": 4,
            "path": {
                "root": str(day.work / "trials"),
                "cache": str(day.work / "cache"),
                "pretrained_netTeacher": str(teacher_weights(day)),
            },
            "datasets": {
                "train": {
                    "name": "images",
                    "cache": cache,
                    "H_size": size,
                    "dataloader_batch_size": batch,
                    "dataloader_num_workers": 0 if day.tiny else 8,
                    **folder,
                },
                "test": {"name": "test", **folder},
            },
            "netG": student_of(day) | (network or {}),
            "netTeacher": TINY_TEACHER if day.tiny else {},
            "train": {"total_iter": 10**6, **train},
        }
    )


@contextmanager
def attention(*, fused: bool) -> Iterator[None]:
    """Whether the networks that the block makes train on a GPU with kernels of Triton."""
    usual = swin_transformer.FUSED_TRAINING
    swin_transformer.FUSED_TRAINING = fused
    try:
        yield
    finally:
        swin_transformer.FUSED_TRAINING = usual


def images(day: Day) -> Path:
    """A folder of a few HR images: the day's first ones, or, where it has none, smooth noise."""
    folder = day.work / "HR"
    if folder.exists():
        return folder
    files = list_images(day.data)[:IMAGES] if day.data.exists() else []
    for path in files:
        write_image(folder / f"{path.stem}.png", read_image(path, channels=3))
    for index in range(0 if files else IMAGES):
        size = 384 if day.tiny else 1024
        noise = np.random.default_rng(index).integers(0, 256, (size, size, 3), dtype=np.uint8)
        write_image(folder / f"{index}.png", bicubic_down(noise, 4))
    return folder


def teacher_weights(day: Day) -> Path:
    """The weights of a teacher of SwinIR-M's size, which are random: what it teaches does not matter here."""
    path = day.work / "teacher.pth"
    if not path.exists():
        torch.manual_seed(1)
        torch.save(SwinIR(**teacher_of(day)).state_dict(), path)
    return path


def model_of(options: Options, device: torch.device) -> ModelPlain:
    """The model at its start."""
    model = ModelPlain(copy.deepcopy(options), device=device)
    resume(model)
    return model


def batches_of(options: Options, model: ModelPlain) -> Generator[Batch]:
    """The run's batches, by its own loader; what a stored teacher says is made on the model's device."""
    crops = define_crops(options)
    if options.train.teacher == "stored":
        assert isinstance(crops, SRCrops)
        crops.taught = define_taught(crops.images, options, model.teacher_restore(), model.device)
    return training_batches(crops, options, first_step=model.step, device=model.device)


def first_batches(options: Options, model: ModelPlain, count: int) -> list[Batch]:
    """The first batches of a run."""
    return list(islice(batches_of(options, model), count))
