"""The test script on all seven tasks, with weights in the published layout, and beside the training script."""

import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import main_test_swinir
import main_train_student
from data.dataset_degraded import Degraded
from data.dataset_sr import SRImages
from data.dataset_test import define_task_images
from data.folders.test_sets import SetFolders, set_name
from models.network_swinir import SwinIR
from tests.conftest import ROOT, make_image, toy_options
from tests.golden.fill import fill_
from utils.evaluation.evaluate import average, compare
from utils.evaluation.restorer import bicubic
from utils.evaluation.tasks import Degradation
from utils.imaging.io import read_as_stored, read_image, write_image
from utils.imaging.resize import imresize
from utils.imaging.tensors import to_image, to_levels, to_tensor, unit_range

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


def weights_of(task: str, path: Path, *, change: float = 0.01, **arguments: Any) -> Path:
    """A file of random weights in the published layout, for a network that changes its input by little or nothing."""
    network = fill_(SwinIR(**{**TINY, **TASKS[task], **arguments}), seed=1)
    last = network.conv_last if hasattr(network, "conv_last") else network.upsample[0]
    with torch.no_grad():
        last.weight.mul_(change)
        last.bias.mul_(min(100 * change, 1))
    path.parent.mkdir(exist_ok=True)
    torch.save({"params": network.state_dict()}, path)
    return path


def results(tmp_path: Path, folder: str, test_set: str) -> dict[str, Any]:
    return json.loads((tmp_path / "results" / folder / test_set / "results.json").read_text())


@pytest.fixture
def clean_folder(tmp_path: Path) -> Path:
    """Two clean images whose sizes are no multiples of anything."""
    for index in range(2):
        write_image(tmp_path / "Clean" / f"image {index}.png", make_image(37, 45, seed=index))
    return tmp_path / "Clean"


@pytest.mark.slow
def test_several_processes_share_the_images_and_have_the_results_of_one(
    run: Callable[..., str], clean_folder: Path, tmp_path: Path
) -> None:
    model = weights_of("color_dn", tmp_path / "mine" / "model.pth")
    arguments = ["--folder_gt", str(clean_folder), "--model_path", str(model)]
    run(*arguments)
    folder = tmp_path / "results" / "mine_model_color_dn_noise15" / "Clean"
    alone = images_and_figures(folder)
    shutil.rmtree(tmp_path / "results")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run(
        [*torchrun, ROOT / "main_test_swinir.py", *arguments],
        check=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert images_and_figures(folder) == alone


def images_and_figures(folder: Path) -> dict[str, Any]:
    """What a test leaves in a folder, by file, apart from how long it took."""
    files: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["results.json"] = json.loads(files["results.json"])
    assert files["results.json"].pop("seconds") > 0
    return files


def test_a_folder_holds_the_images_of_one_run(
    run: Callable[..., str], clean_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = weights_of("color_dn", tmp_path / "mine" / "model.pth")
    run("--folder_gt", clean_folder, "--model_path", model)
    (clean_folder / "image 0.png").rename(clean_folder / "renamed.png")
    run("--folder_gt", clean_folder, "--model_path", model)
    folder = tmp_path / "results" / "mine_model_color_dn_noise15" / "Clean"
    left = images_and_figures(folder)
    assert left.keys() == {"image 1_SwinIR.png", "renamed_SwinIR.png", "results.json"}
    write_image(tmp_path / "elsewhere" / "Clean" / "other.png", make_image(37, 45, seed=2))
    with pytest.raises(SystemExit):
        run("--folder_lq", tmp_path / "elsewhere" / "Clean", "--model_path", model)
    message = f"it holds the restored images of {clean_folder}; move or delete this folder first"
    assert message in capsys.readouterr().err
    (folder / "results.json").unlink()
    with pytest.raises(SystemExit):
        run("--folder_gt", clean_folder, "--model_path", model)
    assert "which does not say of which folder" in capsys.readouterr().err
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("gray_dn", "mine_model_gray_dn_noise25"),
        ("color_dn", "mine_model_color_dn_noise25"),
        ("jpeg_car", "mine_model_jpeg_car_jpeg10"),
        ("color_jpeg_car", "mine_model_color_jpeg_car_jpeg10"),
    ],
)
def test_clean_images_are_degraded_restored_and_judged(
    task: str, folder: str, run: Callable[..., str], clean_folder: Path, tmp_path: Path
) -> None:
    model = weights_of(task, tmp_path / "mine" / "model.pth")
    printed = run(
        "--task", task, "--noise", 25, "--jpeg", 10, "--folder_gt", clean_folder, "--model_path", model
    )  # fmt: skip
    content = results(tmp_path, folder, "Clean")
    images = content["images"]
    assert images.keys() == {"image 0", "image 1"}
    assert ("psnrb" in images["image 0"]) == task.endswith("jpeg_car")
    assert content["average"]["psnr"] == pytest.approx(np.mean([i["psnr"] for i in images.values()]))
    assert "| Clean" in printed
    restored = tmp_path / "results" / folder / "Clean" / "image 0_SwinIR.png"
    with Image.open(restored) as image:
        assert image.mode == ("L" if task in {"gray_dn", "jpeg_car"} else "RGB")


@pytest.mark.parametrize(
    ("dataset", "folder"),
    [
        ({"dataset_type": "jpeg", "quality_factor": 10}, "student_10_E_color_jpeg_car_jpeg10"),
        ({"dataset_type": "dncnn", "sigma": 50}, "student_10_E_color_dn_noise50"),
        ({"dataset_type": "sr", "dataroot_L": "Clean"}, "student_10_E_classical_sr_x1"),
    ],
)
def test_a_student_is_judged_on_what_it_was_trained_for(
    dataset: dict[str, Any], folder: str, run: Callable[..., str], clean_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "student").mkdir()
    model = weights_of("color_jpeg_car", tmp_path / "student" / "models" / "10_E.pth", img_range=1.0)
    options = toy_options(clean_folder, root=tmp_path) | {"scale": 1, "netG": {**TINY, **JPEG, "img_range": 1.0}}
    for section in options["datasets"].values():
        section.update(dataset)
    (tmp_path / "student" / "options.json").write_text(json.dumps(options))
    pairs = ["--folder_lq", clean_folder] if dataset["dataset_type"] == "sr" else []
    assert folder in run("--folder_gt", clean_folder, *pairs, "--model_path", model)
    run("--folder_gt", clean_folder, *pairs, "--model_path", model, "--noise", 25, "--jpeg", 20)
    strengths = {"jpeg": "jpeg20", "dncnn": "noise25", "sr": "x1"}
    assert (tmp_path / "results" / f"{folder.rpartition('_')[0]}_{strengths[dataset['dataset_type']]}").exists()


def test_noise_is_the_published_scripts(clean_folder: Path) -> None:
    degradation = Degradation(task="color_dn", channels=3, scale=1, noise=25, jpeg=40)
    images = define_task_images(degradation, folder_lq=None, folder_gt=clean_folder)
    assert isinstance(images, Degraded)
    item = images[0]
    bgr = read_image(clean_folder / "image 0.png", channels=3)[..., ::-1].astype(np.float32) / 255
    np.random.seed(seed=0)
    published = bgr + np.random.normal(0, 25 / 255.0, bgr.shape)
    np.testing.assert_allclose(item["L"].numpy(), published[..., ::-1].transpose(2, 0, 1), atol=1e-6)


def test_super_resolution_of_several_folders_makes_one_table(
    run: Callable[..., str], hr_folder: Path, clean_folder: Path, tmp_path: Path
) -> None:
    model = weights_of("classical_sr", tmp_path / "mine" / "model.pth")
    other = tmp_path / "Set5" / "HR"
    for index in range(2):
        write_image(other / f"{index}.png", make_image(36, 44, seed=index))
    printed = run(
        "--task", "classical_sr", "--scale", 4, "--folder_gt", hr_folder, other, "--model_path", model
    )  # fmt: skip
    contents = [results(tmp_path, "mine_model_classical_sr_x4", name) for name in (set_name(hr_folder), "Set5")]
    assert [len(content["images"]) for content in contents] == [6, 2]
    assert "| Set5" in printed
    assert (other.parent / "HR_LR_bicubic" / "X4" / "0x4.png").exists()


def test_images_without_ground_truth_are_only_restored(
    run: Callable[..., str], clean_folder: Path, tmp_path: Path
) -> None:
    model = weights_of("real_sr", tmp_path / "mine" / "model.pth")
    run("--task", "real_sr", "--scale", 4, "--folder_lq", clean_folder, "--model_path", model)
    restored = tmp_path / "results" / "mine_model_real_sr_x4" / "Clean" / "image 1_SwinIR.png"
    assert read_image(restored, channels=3).shape == (4 * 37, 4 * 45, 3)


def test_tiles_and_self_ensemble_change_what_is_restored(
    run: Callable[..., str], hr_folder: Path, tmp_path: Path
) -> None:
    model = weights_of("lightweight_sr", tmp_path / "mine" / "model.pth")
    common = ("--task", "lightweight_sr", "--scale", 4, "--folder_gt", hr_folder, "--model_path", model)
    figures = []
    for extra in ((), ("--tile", 16, "--tile_overlap", 8), ("--self_ensemble",)):
        run(*common, *extra)
        figures.append(results(tmp_path, "mine_model_lightweight_sr_x4", set_name(hr_folder))["average"]["psnr"])
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
            figures = results(tmp_path, f"toy_5_{label}_classical_sr_x4", set_name(Path(hr)))["average"]
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
    assert results(tmp_path, "swinir_classical_sr_x4", "Set5")["average"]["psnr_y"] == pytest.approx(32.92, abs=0.01)


@pytest.mark.slow
def test_a_network_that_spandrel_reads_comes_out_on_set5_as_published(
    run: Callable[..., str], shared: Callable[[str], Path], tmp_path: Path
) -> None:
    set5, model = shared("testsets/Set5"), shared("teachers/DAT_light_x4.pth")
    run("--folder_lq", set5 / "LR_bicubic" / "X4", "--folder_gt", set5 / "HR", "--model_path", model)
    figures = results(tmp_path, "teachers_DAT_light_x4_classical_sr_x4", "Set5")["average"]
    assert figures["psnr_y"] == pytest.approx(32.57, abs=0.02)


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
    channels = 3 if task == "classical_sr" else 1
    degradation = Degradation(task=task, channels=channels, scale=4, noise=0, jpeg=10)
    images = define_task_images(degradation, folder_lq=lq, folder_gt=folder)
    assert isinstance(images, SRImages | Degraded)
    results = [compare(to_levels(bicubic_or_same(images[i], task)), images[i], border=4) for i in range(len(images))]
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
        (
            ["--folder_gt", "Clean", "--folder_lq", "Clean", "--model_path", "colour.pth"],
            "makes its own low-quality images",
        ),
        (["--folder_gt", "a/Clean", "Clean", "Clean_2"], "two test sets would be called Clean_2"),
        (
            ["--task", "classical_sr", "--folder_gt", "Clean", "--model_path", "colour.pth"],
            "at scale 1, bicubic makes no LR images",
        ),
        (["--folder_gt", "nowhere"], "nowhere: there is no such folder"),
        (["--folder_gt", "Clean/image 0.png"], "Clean/image 0.png: this is a file; expected a folder of images"),
        (["--folder_gt", "Clean", "--model_path", "x4.pth"], "for scale 4, but task color_dn is asked for scale 1"),
        (["--folder_gt", "Clean", "--model_path", "mine.pth"], "mine.pth does not exist and is not one of"),
        (["--folder_gt", "Clean", "--noise", "20"], "official weights: none for task='color_dn'"),
        (["--folder_gt", "Clean", "--model_path", "gray.pth"], "for 1 channels, but task color_dn needs 3"),
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
    for name in ("a/Clean", "Clean_2"):
        shutil.copytree(clean_folder, tmp_path / name)
    weights_of("gray_dn", tmp_path / "gray.pth")
    weights_of("color_dn", tmp_path / "colour.pth")
    weights_of("classical_sr", tmp_path / "x4.pth")
    torch.save(torch.nn.Conv2d(3, 3, 3).state_dict(), tmp_path / "conv.pth")
    with pytest.raises(SystemExit) as exit_code:
        run("--task", "color_dn", *arguments)
    assert exit_code.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("task", TASKS)
def test_a_model_and_a_folder_are_enough(
    task: str, run: Callable[..., str], clean_folder: Path, tmp_path: Path
) -> None:
    run("--model_path", weights_of(task, tmp_path / "mine" / "model.pth"), "--folder_lq", clean_folder)
    content = json.loads(next((tmp_path / "results").glob(f"mine_model_{task}_*/Clean/results.json")).read_text())
    scale = TASKS[task]["upscale"]
    assert (content["task"], content["scale"]) == (task, scale)
    restored = next((tmp_path / "results").glob("*/Clean/image 0_SwinIR.png"))
    assert read_as_stored(restored).shape == (scale * 37, scale * 45, TASKS[task].get("in_chans", 3))


def test_a_gray_student_of_super_resolution_is_used_and_judged(
    run: Callable[..., str], hr_folder: Path, clean_folder: Path, tmp_path: Path
) -> None:
    model = weights_of("classical_sr", tmp_path / "mine" / "model.pth", in_chans=1)
    run("--model_path", model, "--folder_gt", hr_folder)
    assert len(results(tmp_path, "mine_model_classical_sr_x4", set_name(hr_folder))["images"]) == 6
    run("--model_path", model, "--folder_lq", clean_folder)
    restored = tmp_path / "results" / "mine_model_classical_sr_x4" / "Clean" / "image 0_SwinIR.png"
    assert read_as_stored(restored).shape == (4 * 37, 4 * 45, 1)


def test_results_are_of_the_kind_of_their_images(run: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    rgba = make_image(20, 24, seed=0, channels=4)
    gray = make_image(20, 24, seed=1, channels=1)
    deep = make_image(20, 24, seed=2).astype(np.uint16) * 257 - 5
    for name, image in {"rgba": rgba, "rgb": rgba[..., :3], "gray": gray, "deep": deep}.items():
        write_image(folder / f"{name}.png", image)
    run("--model_path", weights_of("real_sr", tmp_path / "mine" / "model.pth"), "--folder_lq", folder)
    results = tmp_path / "results" / "mine_model_real_sr_x4" / "mixed"
    restored = {name: read_as_stored(results / f"{name}_SwinIR.png") for name in ("rgba", "rgb", "gray", "deep")}
    assert {name: (image.shape, image.dtype.name) for name, image in restored.items()} == {
        "rgba": ((80, 96, 4), "uint8"),
        "rgb": ((80, 96, 3), "uint8"),
        "gray": ((80, 96, 1), "uint8"),
        "deep": ((80, 96, 3), "uint16"),
    }
    with Image.open(results / "rgba_SwinIR.png") as file:
        assert file.mode == "RGBA"
    np.testing.assert_array_equal(restored["rgba"][..., :3], restored["rgb"])
    alpha = to_image(imresize(to_tensor(rgba[..., 3:]).double() / 255, 4))
    np.testing.assert_array_equal(restored["rgba"][..., 3:], alpha)
    assert len(np.unique(restored["deep"] % 257)) > 100  # not 8 bits that were stretched


def test_results_keep_sub_folders_and_never_share_a_name(run: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "album"
    files = ["a.png", "a.jpg", "b.bmp", "one/b.png", "two/b.png", "two/c.d.png"]
    for index, file in enumerate(files):
        write_image(folder / file, make_image(12, 12 + index, seed=index))
    model = weights_of("color_dn", tmp_path / "mine" / "model.pth", change=0)
    results = tmp_path / "results" / "mine_model_color_dn_noise15"
    expected = {"a.png": 12, "a.jpg": 13, "b": 14, "one/b": 15, "two/b": 16, "two/c.d": 17}
    run("--model_path", model, "--folder_lq", folder)
    written = {path.relative_to(results / "album"): path for path in results.rglob("*.png")}
    assert {
        path.as_posix().removesuffix("_SwinIR.png"): read_as_stored(file).shape[1] for path, file in written.items()
    } == expected
    run("--model_path", model, "--folder_gt", folder)
    content = json.loads((results / "album" / "results.json").read_text())
    assert content["images"].keys() == expected.keys()


@pytest.mark.parametrize(
    ("folder", "name"),
    {"/a/Set5": "Set5", "/a/Set5/LR_bicubic/X4": "Set5", "/a/Set5/GT": "Set5", "/LR": "LR", "/HR/x2": "x2"}.items(),
)
def test_a_set_has_the_name_of_its_folder(folder: str, name: str) -> None:
    assert set_name(Path(folder)) == name


def test_no_file_names_make_two_results_share_one(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.png.png", "a.png.jpg.bmp", "a.jpg.png"):
        write_image(tmp_path / name, make_image(4, 4, seed=0))
    names = SetFolders("any", lq=tmp_path, gt=None).result_names()
    assert len(set(names.values())) == len(names) == 5


def test_results_of_two_models_stand_side_by_side(run: Callable[..., str], clean_folder: Path, tmp_path: Path) -> None:
    official = "001_classicalSR_DF2K_s64w8_SwinIR-M_x4.pth"
    smaller_crops = "001_classicalSR_DIV2K_s48w8_SwinIR-M_x4.pth"
    files = ["A/models/5_E.pth", "A/models/5_G.pth", "B/models/5_E.pth", f"zoo/{official}", f"zoo/{smaller_crops}"]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        run("--model_path", weights_of("classical_sr", tmp_path / file), "--folder_lq", clean_folder)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        "A_5_E_classical_sr_x4",
        "A_5_G_classical_sr_x4",
        "B_5_E_classical_sr_x4",
        "swinir_classical_sr_x4",
        "swinir_classical_sr_x4_s48",
    }


@pytest.mark.slow
def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(clean_folder: Path, tmp_path: Path) -> None:
    model = weights_of("color_dn", tmp_path / "mine" / "model.pth")
    script: list[str | Path] = [sys.executable, ROOT / "main_test_swinir.py"]
    script += ["--model_path", model, "--folder_lq", clean_folder]
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    process = subprocess.run(script, cwd=tmp_path, stdout=subprocess.PIPE, stderr=end, check=True, text=True)
    os.close(end)
    shown = os.read(terminal, 100_000).decode()
    assert "Clean: 100%" in shown
    assert "2/2" in shown
    lines = process.stdout.splitlines()
    assert [line.strip() for line in lines[:2]] == ["image 0", "image 1"]
    quiet = subprocess.run(script, cwd=tmp_path, capture_output=True, check=True, text=True)
    assert quiet.stdout.splitlines() == lines
    assert quiet.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "folder", "option", "figures"),
    [
        # JPEG of quality 10 on classic5, as papers on deblocking give it.
        ("jpeg_car", "classic5", ("--jpeg", 10), {"psnr_y": 27.82, "ssim_y": 0.7595, "psnrb_y": 25.21}),
        # Noise of 25 grey levels is 20.17 dB, and what clipping to [0, 255] takes from it.
        ("gray_dn", "Set12", ("--noise", 25), {"psnr_y": 20.37}),
        ("color_dn", "McMaster", ("--noise", 25), {"psnr": 20.89}),
        ("color_jpeg_car", "McMaster", ("--jpeg", 10), {"psnr": 26.20}),
    ],
)
def test_a_network_that_changes_nothing_gives_the_figures_of_the_degraded_images(  # noqa: PLR0917
    task: str,
    folder: str,
    option: tuple[str, int],
    figures: dict[str, float],
    run: Callable[..., str],
    shared: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    clean = shared(f"testsets/{folder}")
    tiny = {"embed_dim": 2, "depths": [1], "num_heads": [1], "mlp_ratio": 1}
    model = weights_of(task, tmp_path / "mine" / "model.pth", change=0, **tiny)
    run("--task", task, *option, "--folder_gt", clean, "--model_path", model, "--tile", 210, "--tile_overlap", 14)
    (content,) = (tmp_path / "results").glob(f"*/{folder}/results.json")
    average = json.loads(content.read_text())["average"]
    for name, value in figures.items():
        assert average[name] == pytest.approx(value, abs=5e-5 if name == "ssim_y" else 5e-3), name
