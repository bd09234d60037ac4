"""What the tests, which run on the CPU, cannot tell of a GPU: `python -m tests.cuda` prints a table, in a few minutes.

Each row is the same work on the device and on the CPU. A test calls the same functions with the CPU as the device.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.select_dataset import define_tests
from models.memory import peak_bytes
from models.model_plain import ModelPlain
from models.network_swinir import SwinIR
from models.network_swinir_student import STUDENT
from models.select_network import SWINIR_M, define_teacher
from tests.conftest import toy_options, write_images
from tests.golden.fill import fill_
from utils.evaluation.evaluate import ImageResult
from utils.options.schema import Options
from utils.process.machine import machine_name
from utils.tables import markdown

CPU = torch.device("cpu")
STEPS = 6
FLOAT32 = 2e-3  # relative difference of losses: convolutions on GPUs round to TF32
BFLOAT16 = 3e-2
DECIBELS = 1e-2
FEATURE = {"distillation_type": "feature"}
LOSSES: dict[str, tuple[dict[str, Any], float]] = {
    "A": ({}, FLOAT32),
    "B": ({"distillation_type": "response"}, FLOAT32),
    "C": (FEATURE, FLOAT32),
    "C, student's side, balanced": (FEATURE | {"feature_translator": "student", "balance_losses": True}, FLOAT32),
    "C, zoomed inputs": (FEATURE | {"zoomed_inputs": True}, FLOAT32),
    "C, bf16": (FEATURE | {"amp": "bf16"}, BFLOAT16),
    "C, compiled": (FEATURE | {"compile": True}, FLOAT32),
    "C, bf16, compiled": (FEATURE | {"amp": "bf16", "compile": True}, BFLOAT16),
}
X4 = {"mlp_ratio": 2, "upscale": 4, "upsampler": "pixelshuffle"}
Losses = list[dict[str, float]]


def model_of(folder: Path, device: torch.device, *, task: str = "toy", **train: Any) -> ModelPlain:
    """A toy model without stochastic depth, which draws differently on each device."""
    raw = toy_options(folder / "HR", root=folder / "runs")
    raw["task"] = task
    raw["netG"]["drop_path_rate"] = 0.0
    raw["path"]["pretrained_netTeacher"] = str(folder / "teacher.pth")
    raw["train"] |= train
    options = Options.model_validate(raw)
    if not (folder / "HR").exists():
        write_images(folder / "HR")
        torch.save(fill_(define_teacher(options), 1).state_dict(), folder / "teacher.pth")
    return ModelPlain(options, device=device)


def batch(step: int) -> dict[str, Any]:
    """Random images, the same on every device."""
    generator = torch.Generator().manual_seed(step)
    pixels = {name: torch.rand(2, 3, size, size, generator=generator) for name, size in (("L", 8), ("H", 32), ("Z", 8))}
    return pixels | {"H_path": ["a", "b"], "window": ["", ""]}


def losses_of(model: ModelPlain, *, until: int = STEPS) -> Losses:
    """The losses of the steps from the model's own on."""
    losses = []
    while model.step < until:
        zoomed = model.options.train.zoomed_inputs
        given = {name: value for name, value in batch(model.step).items() if name != "Z" or zoomed}
        losses.append({name: loss.item() for name, loss in model.train_step(given).items()})
    return losses


def difference(found: Losses, expected: Losses) -> float:
    """The largest relative difference of any loss."""
    differences = [
        abs(ours[name] - theirs[name]) / theirs[name]
        for ours, theirs in zip(found, expected, strict=True)
        for name in theirs
    ]
    return largest(differences)


def largest(differences: Sequence[float]) -> float:
    """The maximum, or NaN if one is: Python's `max` passes over it."""
    return torch.tensor(differences).max().item()


def resumed(folder: Path, device: torch.device) -> float:
    """Losses after a checkpoint of the CPU is continued on the device, and one of the device on the CPU."""
    expected = losses_of(model_of(folder, CPU, **FEATURE))[STEPS // 2 :]
    differences = []
    for task, (first, second) in {"there": (CPU, device), "back": (device, CPU)}.items():
        begun = model_of(folder, first, task=task, **FEATURE)
        losses_of(begun, until=STEPS // 2)
        begun.save()
        continued = model_of(folder, second, task=task, **FEATURE)
        continued.restore()
        differences.append(difference(losses_of(continued), expected))
    return largest(differences)


def validated(folder: Path, device: torch.device) -> float:
    """PSNR on Y in dB of the images of a test set, which a GPU restores in batches."""

    def psnr_y(place: torch.device) -> Tensor:
        model = model_of(folder, place)
        fill_(model.ema, 3)
        (test,) = define_tests(model.options).values()
        results: Mapping[str, list[ImageResult]] = model.validate(test, on_image=lambda image, result: None)
        return torch.tensor([result.psnr_y for result in results["E"]])

    return float((psnr_y(device) - psnr_y(CPU)).abs().max())


@torch.no_grad()
def memory_estimate(arguments: Mapping[str, Any], device: torch.device, *, size: int = 256) -> float:
    """Estimated over measured peak memory of restoring one image: below 1, images that do not fit are not tiled."""
    network = SwinIR(**arguments).eval().to(device)
    network(torch.rand(1, 3, 16, 16, device=device))
    image = torch.rand(1, 3, size, size, device=device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    network(image)
    return peak_bytes(network, size**2) / (torch.cuda.max_memory_allocated(device) - before)


def comparisons(folder: Path, device: torch.device, *, compiled: bool) -> Iterator[tuple[str, float, float]]:
    """What is compared, by how much the device differs from the CPU, and by how much it may."""
    for name, (train, tolerance) in LOSSES.items():
        if compiled or not train.get("compile"):
            plain = {key: value for key, value in train.items() if key not in {"amp", "compile"}}
            expected = losses_of(model_of(folder, CPU, **plain))
            yield f"losses of {name}", difference(losses_of(model_of(folder, device, **train)), expected), tolerance
    yield "losses after a change of device", resumed(folder, device), FLOAT32
    yield "PSNR on Y of a test set [dB]", validated(folder, device), DECIBELS


def main() -> None:
    """Print the table; exit code 1 if anything differs by more than it may."""
    parser = argparse.ArgumentParser(prog="python -m tests.cuda", description=__doc__)
    parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU that CUDA can use")
    logging.disable(logging.WARNING)
    device = torch.device("cuda", 0)
    with tempfile.TemporaryDirectory() as folder:
        compared = list(comparisons(Path(folder), device, compiled=True))
    rows = [
        {"compared with the CPU": name, "difference": f"{found:.1e}", "at most": f"{tolerance:.0e}"}
        for name, found, tolerance in compared
    ]
    sys.stdout.write(f"{machine_name(device)}, torch {torch.__version__}\n\n{markdown(rows)}\n")
    for name, arguments in {"student": STUDENT | X4, "SwinIR-M": SWINIR_M | {"upscale": 4}}.items():
        ratio = memory_estimate(arguments, device)
        sys.stdout.write(f"{name}, 256x256: estimated peak memory is {ratio:.2f} of the measured one\n")
    sys.exit(any(not found <= tolerance for _, found, tolerance in compared))


if __name__ == "__main__":
    main()
