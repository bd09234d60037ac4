"""What is compared: our code and the published implementation, spandrel's copy of it, on the same work."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from data.dataset_sr import SRCrops, SRImages
from data.folders import Pair
from data.image_store import decoded
from data.sampler import Draw
from models.distillation import Objective, Teacher, Term, Trainable, Translators
from models.network_swinir import SwinIR
from models.select_network import SWINIR_M
from utils.images import write_image

STUDENT: dict[str, Any] = {
    "img_size": 48,
    "embed_dim": 60,
    "depths": [4] * 4,
    "num_heads": [6] * 4,
    "window_size": 8,
    "mlp_ratio": 2,
    "upscale": 4,
    "upsampler": "pixelshuffle",
}
TEACHER: dict[str, Any] = SWINIR_M | {"upscale": 4}
PAIRS = [[0, 0], [1, 1], [2, 2], [3, 3]]
Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One row: the same work by us and by the peer, and its FLOPs, if they are known."""

    name: str
    ours: Run
    peer: Run
    flops: float | None = None


def published(arguments: dict[str, Any]) -> nn.Module:
    """The peer's network."""
    return importlib.import_module("spandrel.architectures.SwinIR.__arch.SwinIR").SwinIR(**arguments)


class PublishedWithFeatures(nn.Module):
    """The peer's network with its RSTB features, by hooks as its users take them."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.network = published(arguments)
        self.embed_dim: int = arguments["embed_dim"]
        self.depths: list[int] = arguments["depths"]
        self.window_size: int = arguments["window_size"]
        self.features: list[Tensor] = []
        for layer in self.network.get_submodule("layers").children():
            layer.register_forward_hook(lambda _module, _inputs, output: self.features.append(output))

    def forward_with_features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The restored image and the features."""
        self.features = []
        return self.network(image), self.features


def forward_case(name: str, arguments: dict[str, Any], shape: tuple[int, ...], device: torch.device) -> Case:
    """Restore one image."""
    image = torch.rand(shape, device=device)
    networks = [network.eval().to(device) for network in (SwinIR(**arguments), published(arguments))]
    networks[0].load_state_dict(networks[1].state_dict())

    def run(network: nn.Module) -> Run:
        def forward() -> Tensor:
            with torch.inference_mode():
                return network(image)

        return forward

    return Case(name, run(networks[0]), run(networks[1]))


def step_case(
    name: str,
    *,
    student: dict[str, Any],
    teacher: dict[str, Any] | None,
    features: bool,
    batch: int,
    device: torch.device,
) -> Case:
    """One optimizer step, alone, or with an online teacher by response or by features."""

    def run(networks: list[Any]) -> Run:
        pupil, master = networks
        translators = Translators(PAIRS, student=pupil, teacher=master) if features else None
        trainable = Trainable(pupil, translators).to(device)
        frozen = Teacher(master.to(device)) if master is not None else None
        term = Term("l1", 1.0)
        objective = Objective(term, l_g_distill=term if frozen else None, l_g_feature=term if features else None)
        optimizer = torch.optim.Adam(trainable.parameters(), lr=2e-4)
        size = student["img_size"]
        lr_image = torch.rand(batch, 3, size, size, device=device)
        hr_image = torch.rand(batch, 3, 4 * size, 4 * size, device=device)

        def step() -> None:
            taught = frozen(lr_image) if frozen else None
            signal = trainable(lr_image, taught.features if taught and features else None)
            loss = objective(signal, taught, hr_image, 1)["G_loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return step

    ours = [SwinIR(**student), None if teacher is None else SwinIR(**teacher)]
    theirs = [PublishedWithFeatures(student), None if teacher is None else PublishedWithFeatures(teacher)]
    return Case(name, run(ours), run(theirs))


def crops_case(name: str, folder: Path, *, height: int, width: int, crops: int) -> Case:
    """Random crops with their LR crops: from the store, and by decoding the files for each."""
    rng = np.random.default_rng(0)
    pairs = [Pair(folder / "HR" / f"{i}.png", folder / "LR" / f"{i}x4.png") for i in range(2)]
    for pair in pairs:
        coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        write_image(pair.L, coarse)
        write_image(pair.H, cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    store = decoded([p.L for p in pairs] + [p.H for p in pairs], channels=3, folder=folder, label="benchmark")
    sources = [SRImages(pairs, scale=4, channels=3, store=kind) for kind in (store, None)]
    ours, peer = (SRCrops(source, H_size=192, seed=0) for source in sources)
    counter = iter(range(10**9))

    def run(dataset: SRCrops) -> Run:
        return lambda: [dataset[Draw(position % 2, position)] for position in (next(counter) for _ in range(crops))]

    return Case(name, run(ours), run(peer))
