"""What is compared: our code and the published implementation, spandrel's copy of it, on the same work.

Every function that makes a side's work has plain arguments, so that it can be sent to that side's process.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import Build, Run
from data.dataset_sr import SRCrops, SRImages
from data.folders.pairs import Pair
from data.sampler import Draw
from data.stores.mapped import decoded
from models.distillation.features import TeacherSignal
from models.distillation.objective import Objective
from models.distillation.teacher import Teacher
from models.distillation.terms import GROUND_TRUTH, IMAGES, TRANSLATED_FEATURES, Term
from models.distillation.translators import Trainable, Translators
from models.inspect.summary import count_flops
from models.model_plain import compiler
from models.network_swinir import SwinIR
from models.network_swinir_student import STUDENT as STUDENT_WIDTHS
from models.select_network import SWINIR_M
from utils.imaging.io import write_image
from utils.process.machine import keep_freed_memory

STUDENT: dict[str, Any] = STUDENT_WIDTHS | {
    "img_size": 48,
    "mlp_ratio": 2,
    "upscale": 4,
    "upsampler": "pixelshuffle",
}
TEACHER: dict[str, Any] = SWINIR_M | {"upscale": 4}
PAIRS = [[0, 0], [1, 1], [2, 2], [3, 3]]
CROPS_A_RUN = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: the same work by us and by the peer, what is measured of it, and its FLOPs, if they are known.

    Ours is of precision `dtype`; the peer's is always float32.
    """

    name: str
    ours: Build
    peer: Build
    measure: str = "seconds"
    flops: float | None = None
    dtype: torch.dtype = torch.float32


class PublishedWithFeatures(nn.Module):
    """The peer's network with its RSTB features, by hooks as its users take them."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        architecture = importlib.import_module("spandrel.architectures.SwinIR.__arch.SwinIR")
        self.network = architecture.SwinIR(**arguments)
        self.feature_dims = [arguments["embed_dim"]] * len(arguments["depths"])
        self.window_size: int = arguments["window_size"]
        self.features: list[Tensor] = []
        for layer in self.network.get_submodule("layers").children():
            layer.register_forward_hook(lambda _module, _inputs, output: self.features.append(output))

    def forward(self, image: Tensor) -> Tensor:
        """The restored image."""
        return self.forward_with_features(image)[0]

    def forward_with_features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The restored image and the features."""
        self.features = []
        return self.network(image), self.features


NETWORKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ours": lambda arguments: SwinIR(**arguments),
    "peer": PublishedWithFeatures,
}


def forward_case(
    name: str,
    arguments: dict[str, Any],
    shape: tuple[int, ...],
    device: torch.device,
    *,
    amp: bool = False,
    measure: str = "seconds",
) -> Case:
    """Restore one image, (1, 3, H, W); `amp` is ours alone."""
    with torch.device("meta"):
        flops = count_flops(SwinIR(**arguments), channels=3) * shape[2] * shape[3] / 64**2
    build = partial(forward_run, arguments=arguments, shape=shape, device=device)
    return Case(
        name=name,
        ours=partial(build, "ours", amp=amp),
        peer=partial(build, "peer", amp=False),
        measure=measure,
        flops=flops if measure == "seconds" else None,
        dtype=torch.bfloat16 if amp else torch.float32,
    )


def forward_run(who: str, *, arguments: dict[str, Any], shape: tuple[int, ...], device: torch.device, amp: bool) -> Run:
    """One side's restoration of a random image."""
    network = NETWORKS[who](arguments).eval().to(device)
    image = torch.rand(shape, device=device)

    def forward() -> Tensor:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=amp):
            return network(image)

    return forward


def step_case(
    name: str,
    *,
    student_arguments: dict[str, Any],
    teacher_arguments: dict[str, Any] | None,
    kind: str,
    batch: int,
    device: torch.device,
    fast: bool = False,
) -> Case:
    """One optimizer step; a response is stored for us and asked online by the peer, features are online for both.

    `fast`, which is ours alone, is bfloat16, and torch.compile on a GPU.
    """
    build = partial(
        step_run,
        student_arguments=student_arguments,
        teacher_arguments=teacher_arguments,
        kind=kind,
        batch=batch,
        device=device,
    )
    dtype = torch.bfloat16 if fast else torch.float32
    return Case(name=name, ours=partial(build, "ours", fast=fast), peer=partial(build, "peer", fast=False), dtype=dtype)


def step_run(
    who: str,
    *,
    student_arguments: dict[str, Any],
    teacher_arguments: dict[str, Any] | None,
    kind: str,
    batch: int,
    device: torch.device,
    fast: bool,
) -> Run:
    """One side's optimizer step on random images."""
    if who == "ours":
        keep_freed_memory()  # as main_train_student.py does
    compiled = compiler(fast and device.type == "cuda")
    stored_for_us = who == "ours" and kind == "response"
    student = NETWORKS[who](student_arguments)
    teacher = NETWORKS[who](teacher_arguments) if teacher_arguments and not stored_for_us else None
    translators = Translators(PAIRS, student=student, teacher=teacher) if teacher and kind == "feature" else None
    trainable = Trainable(student, translators, pairs=PAIRS).to(device)
    forward = compiled(trainable)
    ask = Teacher(teacher.to(device), compiled=compiled) if teacher else None
    objective = Objective(
        {
            "l_g_L1": Term(GROUND_TRUTH, "l1", 1.0),
            "l_g_distill": Term(IMAGES, "l1", float(kind != "none")),
            "l_g_feature": Term(TRANSLATED_FEATURES, "l1", float(kind == "feature")),
        }
    )
    optimizer = torch.optim.Adam(trainable.parameters(), lr=2e-4, fused=who == "ours")
    size = student_arguments["img_size"]
    lr_image = torch.rand(batch, 3, size, size, device=device)
    hr_image = torch.rand(batch, 3, 4 * size, 4 * size, device=device)
    stored = TeacherSignal(hr_image.flip(0), []) if stored_for_us else None

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            taught = ask(lr_image) if ask else stored
            answered = forward(lr_image, taught.features if taught and kind == "feature" else None)
        loss = objective(answered, taught, hr_image, 1)["G_loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def crops_case(name: str, folder: Path, *, size: tuple[int, int]) -> Case:
    """Random HR crops with their LR crops: slices of the store, and decoding both files for each."""
    height, width = size
    rng = np.random.default_rng(0)
    pairs = [Pair(folder / "HR" / f"{i}.png", folder / "LR" / f"{i}x4.png") for i in range(2)]
    for pair in pairs:
        coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        write_image(pair.L, coarse)
        write_image(pair.H, cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    build = partial(crops_run, pairs=pairs, folder=folder)
    return Case(name=name, ours=partial(build, "ours"), peer=partial(build, "peer"))


def crops_run(who: str, *, pairs: list[Pair], folder: Path) -> Run:
    """One side's random crops of 192x192, as a worker process makes them."""
    cv2.setNumThreads(0)
    files = [pair.L for pair in pairs] + [pair.H for pair in pairs]
    store = decoded(files, channels=3, folder=folder, label="benchmark") if who == "ours" else None
    crops = SRCrops(SRImages(pairs, scale=4, channels=3, store=store), H_size=192, seed=0)
    positions = count()
    return lambda: [crops[Draw(position % 2, position)] for position in islice(positions, CROPS_A_RUN)]
