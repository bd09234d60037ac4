"""The test script on all seven tasks, with weights in the published layout, and beside the training script."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fill import fill_
from PIL import Image

import main_test_swinir
import main_train_student
from models.network_swinir import SwinIR
from tests.conftest import ROOT, make_image
from utils.evaluate import average, bicubic, compare
from utils.images import read_image, to_image, unit_range, write_image

TINY: dict[str, Any] = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "mlp_ratio": 2}
SR = {"window_size": 8, "img_size": 16, "upscale": 4}
CLEAN = {"window_size": 8, "img_size": 16, "upscale": 1, "upsampler": ""}
JPEG = {"window_size": 7, "img_size": 14, "upscale": 1, "upsampler": "", "img_range": 255.0}
TASKS: dict[str, dict[str, Any]] = {
    "classical_sr": {**SR, "upsampler": "pixelshuffle"},
    "lightweight_sr": {**SR, "upsampler": "pixelshuffledirect"},
    "real_sr": {**SR, "upsampler": "nearest+conv"},
    "gray_dn": {**CLEAN, "in_chans": 1},
    "color_dn": CLEAN,
    "jpeg_car": {**JPEG, "in_chans": 1},
    "color_jpeg_car": JPEG,
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The script in a folder of its own; returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def script(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["main_test_swinir.py", *map(str, arguments)])
        capsys.readouterr()
        main_test_swinir.main()
        return capsys.readouterr().out

    return script


def weights_of(task: str, path: Path) -> Path:
    """A file of random weights in the published layout, for a network that changes its input a little only."""
    network = fill_(SwinIR(**TINY, **TASKS[task]), seed=1)
    with torch.no_grad():
        network.get_parameter("conv_last.weight" if hasattr(network, "conv_last") else "upsample.0.weight").mul_(0.01)
    torch.save({"params": network.state_dict()}, path)
    return path


def results(tmp_path: Path, folder: str) -> dict[str, Any]:
    return json.loads((tmp_path / "results" / folder / "results.json").read_text())


@pytest.fixture
def clean_folder(tmp_path: Path) -> Path:
    """Two clean images whose sizes are no multiples of anything."""
    for index in range(2):
        write_image(tmp_path / "Clean" / f"image {index}.png", make_image(37, 45, seed=index))
    return tmp_path / "Clean"


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("gray_dn", "swinir_gray_dn_noise25"),
        ("color_dn", "swinir_color_dn_noise25"),
        ("jpeg_car", "swinir_jpeg_car_jpeg10"),
        ("color_jpeg_car", "swinir_color_jpeg_car_jpeg10"),
    ],
)
def test_clean_images_are_degraded_restored_and_judged(
    task: str, folder: str, run: Callable[..., str], clean_folder: Path, tmp_path: Path
) -> None:
    model = weights_of(task, tmp_path / "model.pth")
    printed = run(
        "--task", task, "--noise", 25, "--jpeg", 10, "--folder_gt", clean_folder, "--model_path", model
    )  # fmt: skip
    content = results(tmp_path, folder)
    images = content["images"]["Clean"]
    assert images.keys() == {"image 0", "image 1"}
    assert ("psnrb" in images["image 0"]) == task.endswith("jpeg_car")
    assert content["average"]["Clean"]["psnr"] == pytest.approx(np.mean([i["psnr"] for i in images.values()]))
    assert "| Clean" in printed
    restored = tmp_path / "results" / folder / "Clean" / "image 0_SwinIR.png"
    with Image.open(restored) as image:
        assert image.mode == ("L" if task in {"gray_dn", "jpeg_car"} else "RGB")


def test_noise_is_the_published_scripts(clean_folder: Path) -> None:
    item = main_test_swinir.define_task_images(
        "color_dn", folder_lq=None, folder_gt=clean_folder, scale=1, noise=25, quality=40
    )[0]
    bgr = read_image(clean_folder / "image 0.png", channels=3)[..., ::-1].astype(np.float32) / 255
    np.random.seed(seed=0)
    published = bgr + np.random.normal(0, 25 / 255.0, bgr.shape)
    np.testing.assert_allclose(item["L"].numpy(), published[..., ::-1].transpose(2, 0, 1), atol=1e-6)


def test_super_resolution_of_several_folders_makes_one_table(
    run: Callable[..., str], hr_folder: Path, clean_folder: Path, tmp_path: Path
) -> None:
    model = weights_of("classical_sr", tmp_path / "model.pth")
    other = tmp_path / "Set5" / "HR"
    for index in range(2):
        write_image(other / f"{index}.png", make_image(36, 44, seed=index))
    printed = run(
        "--task", "classical_sr", "--scale", 4, "--folder_gt", hr_folder, other, "--model_path", model
    )  # fmt: skip
    content = results(tmp_path, "swinir_classical_sr_x4")
    assert [len(images) for images in content["images"].values()] == [6, 2]
    assert "| Set5" in printed
    assert (other.parent / "HR_LR_bicubic" / "X4" / "0x4.png").exists()


def test_images_without_ground_truth_are_only_restored(
    run: Callable[..., str], clean_folder: Path, tmp_path: Path
) -> None:
    model = weights_of("real_sr", tmp_path / "model.pth")
    run("--task", "real_sr", "--scale", 4, "--folder_lq", clean_folder, "--model_path", model)
    restored = tmp_path / "results" / "swinir_real_sr_x4" / "Clean" / "image 1_SwinIR.png"
    assert read_image(restored, channels=3).shape == (4 * 37, 4 * 45, 3)


def test_tiles_and_self_ensemble_change_what_is_restored(
    run: Callable[..., str], hr_folder: Path, tmp_path: Path
) -> None:
    model = weights_of("lightweight_sr", tmp_path / "model.pth")
    common = ("--task", "lightweight_sr", "--scale", 4, "--folder_gt", hr_folder, "--model_path", model)
    figures = []
    for extra in ((), ("--tile", 16, "--tile_overlap", 8), ("--self_ensemble",)):
        run(*common, *extra)
        figures.append(results(tmp_path, "swinir_lightweight_sr_x4")["average"].popitem()[1]["psnr"])
    assert len(set(figures)) == 3


def test_training_and_the_test_script_give_the_same_figures(
    run: Callable[..., str], raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "toy.json"
    file.write_text(json.dumps(raw_options))
    with monkeypatch.context() as context:
        context.chdir(ROOT)
        context.setattr(sys, "argv", ["main_train_student.py", "--opt", str(file), "--set", "train.total_iter=5"])
        main_train_student.main()
    folder = tmp_path / "runs" / "toy"
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    hr = raw_options["datasets"]["test"]["dataroot_H"]
    for label in ("G", "E"):
        (expected,) = [record for record in logged if record["kind"] == "test" and record["weights"] == label]
        model = folder / "models" / f"5_{label}.pth"
        for option in ((), ("--opt", file)):
            run("--task", "classical_sr", "--scale", 4, "--folder_gt", hr, "--model_path", model, *option)
            (figures,) = results(tmp_path, "swinir_classical_sr_x4")["average"].values()
            for name, value in figures.items():
                assert value == pytest.approx(expected[name], abs=1e-6), (label, name)


def test_set5_comes_out_as_published_where_the_official_weights_are(
    run: Callable[..., str], shared: Callable[[str], Path], tmp_path: Path
) -> None:
    set5 = shared("testsets/Set5")
    model = ROOT / "model_zoo" / "001_classicalSR_DF2K_s64w8_SwinIR-M_x4.pth"
    if not model.exists():
        pytest.skip("python -m model_zoo.download SwinIR-M_x4 was not run")
    run(
        "--task", "classical_sr", "--scale", 4, "--folder_lq", set5 / "LR_bicubic" / "X4",
        "--folder_gt", set5 / "HR", "--model_path", model,
    )  # fmt: skip
    assert results(tmp_path, "swinir_classical_sr_x4")["average"]["Set5"]["psnr_y"] == pytest.approx(32.92, abs=0.01)


@pytest.mark.parametrize(
    ("task", "files", "names"),
    [
        ("classical_sr", "Set5/HR", {"baby", "bird", "butterfly", "head", "woman"}),
        ("jpeg_car", "classic5", {"baboon", "barbara", "boats", "lena", "peppers"}),
    ],
)
def test_real_images_are_degraded_to_what_they_should_be(
    task: str, files: str, names: set[str], shared: Callable[[str], Path]
) -> None:
    folder = shared(f"testsets/{files}")
    lq = shared("testsets/Set5/LR_bicubic/X4") if task == "classical_sr" else None
    images = main_test_swinir.define_task_images(task, folder_lq=lq, folder_gt=folder, scale=4, noise=0, quality=10)
    results = [compare(to_image(bicubic_or_same(images[i], task)), images[i], border=4) for i in range(len(images))]
    assert {result.name for result in results} == names
    mean = average(results)["psnr_y"]
    # Bicubic on Set5 x4 is 28.4 dB in every paper; JPEG of quality 10 on classic5 27.82 dB in those on deblocking.
    assert mean == pytest.approx(28.42 if task == "classical_sr" else 27.82, abs=0.1)


def bicubic_or_same(item: Any, task: str) -> torch.Tensor:
    """What can be had without a network."""
    lr_image = unit_range(item["L"])
    return bicubic(4)(lr_image[None])[0] if task == "classical_sr" else lr_image


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "neither --folder_lq nor --folder_gt is given"),
        (["--folder_gt", "a", "b", "--folder_lq", "c"], "1 folders in --folder_lq, but 2 in --folder_gt"),
        (["--folder_gt", "Clean", "--folder_lq", "Clean"], "makes its own low-quality images"),
        (["--folder_gt", "nowhere"], "nowhere: there is no such folder"),
        (["--folder_gt", "Clean", "--model_path", "mine.pth"], "mine.pth does not exist and is not one of"),
        (["--folder_gt", "Clean", "--noise", "20"], "official weights: none for task='color_dn'"),
        (["--folder_gt", "Clean", "--model_path", "gray.pth"], "scale 1 and 1 channels, but task color_dn"),
        (["--folder_gt", "Clean", "--model_path", "conv.pth"], "conv.pth: these are not the weights of a SwinIR"),
    ],
)
def test_bad_input_is_one_sentence(  # noqa: PLR0917
    arguments: list[str],
    sentence: str,
    run: Callable[..., str],
    clean_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    weights_of("gray_dn", tmp_path / "gray.pth")
    torch.save(torch.nn.Conv2d(3, 3, 3).state_dict(), tmp_path / "conv.pth")
    with pytest.raises(SystemExit) as exit_code:
        run("--task", "color_dn", *arguments)
    assert exit_code.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
    assert not (tmp_path / "results").exists()
