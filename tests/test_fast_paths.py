"""Each fast path gives what the plain one gives."""

import json
import resource
import shutil
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from data.batches import training_batches
from data.select_dataset import define_crops, define_tests
from models import network_swinir, swin_transformer
from models.inspect.profiling import profile_steps
from models.model_plain import ModelPlain, compiler
from models.network_swinir import SwinIR
from models.select_network import define_teacher
from models.swin_transformer import BYTES_OF_WINDOW, WINDOWS_AT_ONCE, at_once
from tests.conftest import train_here
from tests.golden.fill import fill_, image
from tests.runs import in_fork
from utils.evaluation.evaluate import average, evaluate
from utils.evaluation.restorer import Restorer
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.process.machine import keep_freed_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("upsampler", "upscale"),
    [("pixelshuffle", 3), ("pixelshuffle", 8), ("pixelshuffledirect", 2), ("nearest+conv", 4), ("", 1)],
)
def test_large_images_are_restored_part_by_part_to_the_same_result(
    upsampler: str, upscale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = fill_(
        SwinIR(16, embed_dim=12, depths=[2], num_heads=[2], window_size=4, upsampler=upsampler, upscale=upscale), 0
    ).eval()
    lr_image = image((2, 3, 42, 18), 1).float()
    with torch.no_grad():
        whole = network(lr_image)
    monkeypatch.setattr(swin_transformer, "WINDOWS_AT_ONCE", {"cpu": 7})
    monkeypatch.setattr(network_swinir, "STRIP_PIXELS", {"cpu": 5 * 20})
    with torch.no_grad():
        parts = network(lr_image)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(network(lr_image), whole, rtol=0, atol=1e-5)  # with gradients: nothing in parts


def test_a_gpu_works_on_what_fits_into_an_eighth_of_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    network = SwinIR(8, depths=[1], num_heads=[2], window_size=8, upscale=4, upsampler="pixelshuffle")
    for gigabytes, windows, pixels in ((80, 8192, 512**2), (8, 2048, 87381), (0.1, 128, 128**2)):
        monkeypatch.setattr(swin_transformer, "free_at_first", {gpu: int(gigabytes * 2**30)}.get)
        assert at_once(WINDOWS_AT_ONCE, BYTES_OF_WINDOW, gpu) == windows
        assert network.strip_pixels(gpu) == pixels
    assert at_once(WINDOWS_AT_ONCE, BYTES_OF_WINDOW, CPU) == 128


def test_restoring_in_parts_leaves_the_features_alone() -> None:
    """An image of one window could be changed in place."""
    network = fill_(SwinIR(8, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=8), 0).eval()
    lr_image = image((1, 3, 8, 8), 1).float()
    with torch.no_grad():
        _, in_inference = network.forward_with_features(lr_image)
    _, in_training = network.forward_with_features(lr_image)
    for fast, plain in zip(in_inference, in_training, strict=True):
        torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_steps_are_the_plain_ones(raw_options: dict[str, Any], tmp_path: Path) -> None:
    raw_options["netG"] |= {"depths": [1], "num_heads": [2], "drop_path_rate": 0}
    raw_options["netTeacher"] |= {"depths": [1], "num_heads": [2]}
    raw_options["train"] |= {"distillation_type": "feature", "feature_pairs": [[0, 0]]}
    raw_options["path"]["pretrained_netTeacher"] = str(tmp_path / "teacher.pth")
    teacher = define_teacher(Options.model_validate(raw_options))
    torch.save(fill_(teacher, 1).state_dict(), tmp_path / "teacher.pth")
    batches = [{"L": image((2, 3, 8, 8), s).float(), "H": image((2, 3, 32, 32), s + 1).float()} for s in (0, 2)]
    losses = []
    for how in (False, "reduce-overhead"):  # what True does, and more
        raw_options["train"]["compile"] = how
        model = ModelPlain(Options.model_validate(raw_options), device=CPU)
        losses.append([model.train_step(batch | {"H_path": ["a", "b"], "window": ["", ""]}) for batch in batches])
    for plain, fast in zip(*losses, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=0)
    numbers = torch.arange(3)
    assert torch.equal(compiler(True)(torch.neg)(numbers), -numbers)


@pytest.mark.slow
def test_a_trained_student_restores_set5_in_bfloat16_as_well(
    shared: Callable[[str], Path], raw_options: dict[str, Any], tmp_path: Path
) -> None:
    raw_options["path"]["cache"] = str(tmp_path)
    raw_options["datasets"] = {
        "train": raw_options["datasets"]["train"]
        | {"dataroot_H": str(shared("testsets/Set14/HR")), "H_size": 64, "dataloader_batch_size": 8},
        "test": {
            "name": "Set5",
            "dataroot_H": str(shared("testsets/Set5/HR")),
            "dataroot_L": str(shared("testsets/Set5/LR_bicubic/X4")),
        },
    }
    raw_options["train"] |= {"total_iter": 150, "G_optimizer_lr": 2e-3, "E_decay": 0.97}
    options = Options.model_validate(raw_options)
    model = ModelPlain(options, device=CPU)
    for batch in islice(
        training_batches(define_crops(options), options, first_step=0, device=torch.device("cpu")),
        options.train.total_iter,
    ):
        model.train_step(batch)
    psnr = {}
    for amp in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            results = evaluate(
                Restorer(model.ema, scale=4, window_size=4),
                define_tests(options)["Set5"],
                border=4,
                device=CPU,
            )
        psnr[amp] = average(results)["psnr_y"]
    assert psnr[False] > 22, "this student is not trained, so its precision does not matter"
    assert psnr[True] != psnr[False], "this was not restored in bfloat16"
    assert psnr[True] == pytest.approx(psnr[False], abs=0.02)


def page_faults(*, keep: bool) -> int:
    """How many there are when a large block is used again and again."""
    if keep:
        keep_freed_memory()
    for _ in range(10):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(30):  # a block may be placed anew once or twice, not each time
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    kept, default = (in_fork(partial(page_faults, keep=keep)) for keep in (True, False))
    assert kept < default / 10


def test_a_profile_tells_the_parts_of_a_step_and_trains_nothing(
    raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.json").write_text(json.dumps(raw_options))
    train_here(monkeypatch, "--opt", tmp_path / "toy.json", "--profile", "2")
    table = capsys.readouterr().out
    for part in ("data wait", "student", "backward", "optimizer and EMA"):
        assert f"| {part} " in table
    events = json.loads((tmp_path / "runs/toy/profile/trace_0.json").read_text())["traceEvents"]
    assert sum(event["name"] == "backward" for event in events) == 2
    assert not (tmp_path / "runs/toy/models").exists()


def test_more_iterations_than_there_are_cannot_be_profiled(raw_options: dict[str, Any]) -> None:
    model = ModelPlain(Options.model_validate(raw_options), device=CPU)
    with pytest.raises(UserError, match=r"--profile 8: with 3 to warm up, that is more than train.total_iter 10"):
        profile_steps(model, iter([]), steps=8)
