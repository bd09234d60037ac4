"""Phase 2: whether the device computes what the CPU does, at the real sizes and through the code of real runs."""

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from benchmarks.gpu_day.phases import ROOT, Check, Day, Row
from benchmarks.gpu_day.trials import (
    FEATURE,
    KINDS,
    attention,
    first_batches,
    images,
    model_of,
    options_of,
    student_of,
    teacher_of,
)
from data.dataset_sr import SRImages, sr_pairs
from data.folders.files import list_images
from models.memory import peak_bytes
from models.model_plain import ModelPlain
from models.network_swinir import SwinIR
from models.resume import save
from utils.evaluation.evaluate import evaluate
from utils.evaluation.restorer import Restorer
from utils.imaging.io import read_image
from utils.imaging.tensors import to_tensor, unit_range
from utils.weights import load_weights, read_weights, stated_arguments

CPU = torch.device("cpu")
STEPS = 6
BATCH = 2
FLOAT32, BFLOAT16 = 5e-3, 5e-2  # relative difference of losses; convolutions on GPUs round to TF32
GRADIENTS = {False: 2e-2, True: 2e-1}  # of a parameter's gradient, by whether the step is bfloat16
TRAINED = ROOT / "model_zoo/swinir_student_x4/swinir_student_x4.safetensors"
SET5 = ROOT / "testsets/Set5"
NO_DEVICE_HAS = 2**50  # bytes
Losses = list[dict[str, float]]


def correctness(day: Day, _: float) -> Iterator[Check]:
    """The checks of this phase, the cheap ones first."""
    student, teacher = student_of(day), teacher_of(day)
    for amp in (False, True):
        precision = "bf16" if amp else "float32"
        yield f"student, {precision}: output and gradients against float64", partial(gradients, day, student, amp=amp)
        if day.device == "cuda":
            fused = partial(gradients, day, student, amp=amp, fused=True)
            yield f"student, {precision}, fused attention: output and gradients against float64", fused
    yield "SwinIR-M: output and gradients against float64", partial(gradients, day, teacher, size=16)
    yield "a crop that is NaN is skipped", partial(skipped, day)
    yield "stochastic depth, twice with one seed", partial(repeated, day)
    yield "crops in the device's memory are the loader's", partial(crops_agree, day)
    yield "PSNR on Y of a trained student [dB]", partial(judged, day)
    yield "tiles", partial(tiled, day)
    yield "smaller tiles where memory runs out", partial(out_of_memory, day)
    for name, train in KINDS.items():
        yield f"losses of {name}", partial(losses_agree, day, name, train)
    yield "losses after a change of device", partial(resumed, day)
    yield "a message to one rank", partial(one_rank, day)
    for name in ("A", "C at its best"):
        yield f"losses of {name}, bf16", partial(losses_agree, day, name, KINDS[name], amp="bf16")
    if day.device == "cuda":
        for name, arguments in (("student", student), ("SwinIR-M", teacher)):
            yield f"{name}, 256x256: estimated over measured peak memory", partial(memory_estimate, day, arguments)
    if not day.tiny:
        compiled = partial(losses_agree, day, "A", {}, amp="bf16")
        yield "losses of A, bf16, compiled", partial(compiled, compile=True)
        yield "losses of A, bf16, compiled, CUDA graphs", partial(compiled, compile="reduce-overhead")


def compared(found: float, at_most: float) -> Row:
    """A row that passes if a difference is no larger than it may be; NaN is larger."""
    return {"found": found, "at_most": at_most, "passed": found <= at_most}


def crops_agree(day: Day) -> Row:
    """Batches with a stored teacher's crops and zoomed ones, which may differ by a level where they are halved."""
    batches = []
    for cache in ("memmap", "device"):
        kind = KINDS["B, stored teacher"] | {"zoomed_inputs": True}
        options = options_of(day, "crops", batch=8, cache=cache, **kind)
        batches.append(first_batches(options, model_of(options, day.place), STEPS))
    worst = {
        key: max(
            int((ours[key].cpu().int() - theirs[key].cpu().int()).abs().max())
            for theirs, ours in zip(*batches, strict=True)
        )
        for key in ("L", "H", "T", "Z")
    }
    return {"levels": worst, "passed": all(level <= (key == "Z") for key, level in worst.items())}


def largest(differences: Sequence[float]) -> float:
    """The maximum, or NaN if one is: Python's `max` passes over it."""
    return math.nan if any(map(math.isnan, differences)) else max(differences)


def gradients(day: Day, arguments: dict[str, Any], *, amp: bool = False, fused: bool = False, size: int = 48) -> Row:
    """The output, and the gradient of each parameter by its norm, against the CPU in float64."""
    torch.manual_seed(0)
    with attention(fused=fused):
        network = SwinIR(**arguments)
    crop = 16 if day.tiny else size
    image, target = torch.rand(1, 3, crop, crop), torch.rand(1, 3, 4 * crop, 4 * crop)

    def made(network: nn.Module, image: Tensor, target: Tensor) -> list[Tensor]:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=amp and image.dtype == torch.float32):
            output = network(image)
        (output.to(target.dtype) - target).square().mean().backward()
        return [output.detach(), *(parameter.grad for parameter in network.parameters() if parameter.grad is not None)]

    expected = made(copy.deepcopy(network).double(), image.double(), target.double())
    found = made(network.to(day.place), image.to(day.place), target.to(day.place))
    assert len(found) == len(expected)
    differences = [
        float((ours.cpu().double() - theirs).norm() / theirs.norm().clamp_min(1e-12))
        for ours, theirs in zip(found, expected, strict=True)
    ]
    return {"of_the_output": differences[0]} | compared(largest(differences), GRADIENTS[amp])


def losses_of(model: ModelPlain, batches: Sequence[dict[str, Any]]) -> Losses:
    """The losses of the batches from the model's step on."""
    return [
        {name: loss.item() for name, loss in model.train_step(batch).items()} for batch in batches[model.step : STEPS]
    ]


def difference(found: Losses, expected: Losses) -> float:
    """The largest relative difference of any loss."""
    return largest(
        [
            abs(ours[name] - theirs[name]) / theirs[name]
            for ours, theirs in zip(found, expected, strict=True)
            for name in theirs
        ]
    )


def losses_agree(day: Day, name: str, train: dict[str, Any], **fast: Any) -> Row:
    """Some steps on the device, perhaps in another precision, and on the CPU in float32."""
    task = "".join(letter if letter.isalnum() else "_" for letter in name)
    plain, asked = (options_of(day, task, batch=BATCH, **(train | changes)) for changes in ({}, fast))
    model = model_of(asked, day.place)
    batches = first_batches(asked, model, STEPS)
    expected = losses_of(model_of(plain, CPU), batches)
    return compared(difference(losses_of(model, batches), expected), BFLOAT16 if fast else FLOAT32)


def skipped(day: Day) -> Row:
    """A crop that is NaN changes nothing, and is named."""
    options = options_of(day, "skipped", batch=BATCH)
    model = model_of(options, day.place)
    (batch,) = first_batches(options, model, 1)
    model.train_step(batch)
    before = [parameter.clone() for parameter in (*model.trainable.parameters(), *model.ema.parameters())]
    spoilt = batch | {"L": batch["L"].float() / 255, "H": batch["H"].float() / 255}
    spoilt["H"][1, 0, 0, 0] = math.nan
    model.train_step(spoilt)
    model.settle()
    same = all(map(torch.equal, before, (*model.trainable.parameters(), *model.ema.parameters())))
    faults = [crop for skipped in model.take_skipped() for crop in skipped.crops]
    return {"faults": faults, "passed": same and len(faults) == 1 and model.bad_steps == 1}


def repeated(day: Day) -> Row:
    """The same losses twice, though branches of the network are dropped at random."""
    options = options_of(day, "repeated", batch=BATCH, network={"drop_path_rate": 0.3})
    first, again = (model_of(options, day.place) for _ in range(2))
    batches = first_batches(options, first, STEPS)
    expected = losses_of(first, batches)
    torch.rand(7, device=day.place)  # nothing may depend on the generator
    return compared(difference(losses_of(again, batches), expected), FLOAT32)


def resumed(day: Day) -> Row:
    """A checkpoint of the CPU that is continued on the device, and one of the device on the CPU."""
    options = options_of(day, "resumed", batch=BATCH, **FEATURE)
    whole = model_of(options, CPU)
    batches = first_batches(options, whole, STEPS)
    expected = losses_of(whole, batches)[STEPS // 2 :]
    differences = []
    for task, (first, second) in {"there": (CPU, day.place), "back": (day.place, CPU)}.items():
        renamed = options_of(day, task, batch=BATCH, **FEATURE)
        begun = model_of(renamed, first)
        losses_of(begun, batches[: STEPS // 2])
        save(begun)
        continued = model_of(renamed, second)
        assert continued.step == STEPS // 2
        differences.append(difference(losses_of(continued, batches), expected))
    return compared(largest(differences), FLOAT32)


def one_rank(day: Day) -> Row:
    """A sum over the one process that there is, by the library that several processes use: NCCL on GPUs."""
    backend = "nccl" if day.device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        message = torch.arange(1000.0, device=day.place)
        torch.distributed.all_reduce(message)
        return {"backend": backend, "passed": torch.equal(message.cpu(), torch.arange(1000.0))}
    finally:
        torch.distributed.destroy_process_group()


def trained(device: torch.device) -> SwinIR:
    """The student of the model zoo."""
    network = SwinIR(**stated_arguments(TRAINED))
    load_weights(network, read_weights(TRAINED), source=TRAINED)
    return network.eval().to(device)


def judged(day: Day) -> Row:
    """The PSNR of Set5, or of some other images where it is not there, on both devices."""
    folder: Path = images(day) if day.tiny or not SET5.exists() else SET5 / "HR"
    tests = SRImages(sr_pairs(folder, None, scale=4, cache=day.work / "cache")[:5], scale=4, channels=3)
    on_device, on_cpu = (
        [result.psnr_y for result in evaluate(restorer(device), tests, border=4, device=device)]
        for device in (day.place, CPU)
    )
    differences = [abs(ours - theirs) for ours, theirs in zip(on_device, on_cpu, strict=True)]
    return {"psnr_y": sum(on_device) / len(on_device)} | compared(largest(differences), 0.01)


def restorer(device: torch.device, *, tile: int | None = None) -> Restorer:
    """The student of the model zoo, as it is judged."""
    network = trained(device)
    return Restorer(network, scale=4, window_size=network.window_size, tile=tile)


@torch.no_grad()
def tiled(day: Day) -> Row:
    """An image that is restored in tiles, on both devices."""
    pixels = read_image(list_images(images(day))[0], channels=3)[:64, :80]
    image = unit_range(to_tensor(pixels))[None]
    on_device, on_cpu = (restorer(device, tile=48)(image.to(device)).cpu() for device in (day.place, CPU))
    return compared(float((on_device - on_cpu).abs().max()), FLOAT32)


@torch.no_grad()
def out_of_memory(day: Day) -> Row:
    """An image for which the device has no memory at once, beside the same in tiles from the beginning."""
    network = trained(day.place)

    def short_of_memory(lr_image: Tensor) -> Tensor:
        if lr_image.shape[-1] > 64:
            torch.empty(NO_DEVICE_HAS, dtype=torch.uint8, device=day.place)
        return network(lr_image)

    pixels = read_image(list_images(images(day))[0], channels=3)[:64, :80]
    image = unit_range(to_tensor(pixels))[None].to(day.place)
    restore = Restorer(short_of_memory, scale=4, window_size=network.window_size, tile_overlap=8)
    restored, tile = restore(image), restore.largest_tile
    if tile is None:
        return {"tile": None, "passed": False}
    expected = Restorer(network, scale=4, window_size=network.window_size, tile=tile, tile_overlap=8)(image)
    return {"tile": tile} | compared(float((restored - expected).abs().max()), FLOAT32)


@torch.no_grad()
def memory_estimate(day: Day, arguments: dict[str, Any], *, size: int = 256) -> Row:
    """The peak that decides about tiles, over what restoring one image takes: below 1, images may not fit."""
    network = SwinIR(**arguments).eval().to(day.place)
    network(torch.rand(1, 3, 16, 16, device=day.place))
    image = torch.rand(1, 3, size, size, device=day.place)
    torch.cuda.reset_peak_memory_stats(day.place)
    before = torch.cuda.memory_allocated(day.place)
    network(image)
    found = peak_bytes(network, size**2) / (torch.cuda.max_memory_allocated(day.place) - before)
    return {"found": found, "at_least": 1.0, "passed": found >= 1.0}
