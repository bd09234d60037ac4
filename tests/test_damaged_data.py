"""Damaged and unusual images, of real files: refused by name before training starts, or read as docs/data.md says."""

import ctypes
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from data.batches import training_batches
from data.dataset_sr import SRImages
from data.dataset_test import define_task_images
from data.folders.check import check_experiments
from data.select_dataset import define_crops, define_tests
from tests.conftest import ROOT, make_image, train_here
from utils.evaluation.tasks import Degradation
from utils.imaging.io import write_image
from utils.options.schema import Options
from utils.process.errors import UserError

PICTURE = make_image(48, 64, seed=9)
RGB = Image.fromarray(PICTURE)
DENOISING = Degradation(task="color_dn", channels=3, scale=1, noise=15, jpeg=40)
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


def cut_off(path: Path, part: float, **parameters: Any) -> None:
    """The first part of a good file, which for JPEG is mostly pixels at this quality."""
    RGB.save(path, quality=100, **parameters)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


def write_jpeg_with_thumbnail(path: Path) -> None:
    """Cut off after the end of its thumbnail, which has an end marker of its own."""
    thumbnail = BytesIO()
    RGB.resize((16, 12)).save(thumbnail, "JPEG")
    cut_off(path, 0.9, exif=b"Exif\0\0" + thumbnail.getvalue())


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off.png": (lambda path: cut_off(path, 0.5), "cannot be read as an image"),
    "last byte lost.png": (lambda path: cut_off(path, 0.999), "cannot be read as an image"),
    "half.jpg": (lambda path: cut_off(path, 0.5), "the file is cut off"),
    "end lost.jpg": (lambda path: cut_off(path, 0.99), "the file is cut off"),
    "progressive.jpg": (lambda path: cut_off(path, 0.6, progressive=True), "the file is cut off"),
    "thumbnail.jpg": (write_jpeg_with_thumbnail, "the file is cut off"),
    "cut off.bmp": (lambda path: cut_off(path, 0.9), "cannot be read as an image"),
    "cut off.tif": (lambda path: cut_off(path, 0.9), "cannot be read as an image"),
    "cut off.webp": (lambda path: cut_off(path, 0.9), "cannot be read as an image"),
    "empty.png": (lambda path: path.write_bytes(b""), "cannot be read as an image"),
    "zeros.png": (lambda path: path.write_bytes(bytes(5000)), "cannot be read as an image"),
    "text.png": (lambda path: path.write_text("not an image"), "cannot be read as an image"),
    "TEXT.PNG": (lambda path: path.write_text("not an image"), "cannot be read as an image"),
    "1x1.png": (lambda path: RGB.resize((1, 1)).save(path), "1x1 pixels are too few for "),
    "40000x10.png": (lambda path: Image.new("RGB", (40000, 10)).save(path), "40000x10 pixels are too few for "),
    "dangling.png": (lambda path: path.symlink_to("nowhere.png"), r"cannot be read as an image \(No such file"),
    "loop.png": (lambda path: path.symlink_to(path.name), r"cannot be read as an image \(Too many levels of symbolic"),
    "alpha.tif": (lambda path: RGB.convert("RGBA").save(path), "a TIFF of colour mode RGBA is not read"),
    "float.tif": (lambda path: cv2.imwrite(str(path), PICTURE / np.float32(255)), "cannot be read as an image"),
    "bomb.png": (lambda path: Image.new("1", (20000, 20000)).save(path), "cannot be read as an image"),
    "größe 图像.jpg": (lambda path: cut_off(path, 0.5), "the file is cut off"),
}


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """Two good images and every kind of bad one."""
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for name in ("good.png", "good too.jpg"):
        RGB.save(folder / name)
    for name, (write, _) in REFUSED.items():
        write(folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "cache"), [("train", "memmap"), ("train", "none"), ("test", "memmap")])
def test_one_error_names_every_bad_image_and_no_good_one_before_anything_is_made(  # noqa: PLR0917
    dataset: str, cache: str, spoilt: Path, raw_options: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    raw_options["datasets"][dataset]["dataroot_H"] = str(spoilt)
    raw_options["datasets"]["train"]["cache"] = cache
    file = tmp_path / "toy.json"
    file.write_text(json.dumps(raw_options))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit, match="2"):
        train_here(monkeypatch, "--opt", file)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    named = [error.removeprefix("error: ").split(": ", 1) for error in errors]
    problems = {Path(path).name: reason for path, reason in named}
    assert problems.keys() == REFUSED.keys()
    for name, (_, reason) in REFUSED.items():
        assert re.match(reason, problems[name]), (name, problems[name])
    assert sorted(tmp_path.iterdir()) == before


def test_the_test_script_names_every_bad_image(spoilt: Path) -> None:
    with pytest.raises(UserError) as caught:
        define_task_images(DENOISING, folder_lq=None, folder_gt=spoilt)
    assert sorted(REFUSED) == sorted(
        problem.removeprefix(f"{spoilt}/").partition(": ")[0] for problem in str(caught.value).splitlines()
    )


def test_bad_lr_images_and_test_images_are_in_the_same_error(raw_options: dict[str, Any], tmp_path: Path) -> None:
    lr, other = tmp_path / "LR", tmp_path / "Other"
    for index in range(6):
        write_image(lr / f"{index:04d}x4.png", make_image(12, 16, seed=index))
    write_image(other / "0.png", make_image(19, 64, seed=0))
    cut_off(lr / "0003x4.png", 0.5)
    raw_options["datasets"]["train"]["dataroot_L"] = str(lr)
    raw_options["datasets"]["test_more"] = {"name": "more", "dataroot_H": str(other)}
    with pytest.raises(UserError) as caught:
        check_experiments([Options.model_validate(raw_options)])
    assert str(caught.value) == (
        f"{lr}/0003x4.png: cannot be read as an image\n{other}/0.png: 64x19 pixels are too few for SSIM, which needs 20"
    )


def test_a_task_that_has_begun_reads_only_the_headers(raw_options: dict[str, Any], hr_folder: Path) -> None:
    options = Options.model_validate(raw_options)
    cut_off(hr_folder / "0002.png", 0.5)
    with pytest.raises(UserError, match=r"0002\.png: cannot be read as an image$"):
        check_experiments([options])
    options.task_folder.mkdir(parents=True)
    check_experiments([options])
    (hr_folder / "0002.png").write_text("not even a header")
    with pytest.raises(UserError, match=r"0002\.png: cannot be read as an image$"):
        check_experiments([options])


@pytest.mark.slow
def test_every_process_ends_where_one_finds_a_bad_image(
    raw_options: dict[str, Any], hr_folder: Path, tmp_path: Path
) -> None:
    cut_off(hr_folder / "0002.png", 0.5)
    file = tmp_path / "toy.json"
    file.write_text(json.dumps(raw_options))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    torchrun = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "main_train_student.py", "--opt", str(file)], cwd=ROOT, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **torchrun, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]  # fmt: skip
    endings = [process.communicate(timeout=120)[1].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert endings == [f"error: {hr_folder}/0002.png: cannot be read as an image"] * 2


def without_privileges() -> None:
    """Make root obey the permissions of files, as other users do."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


CHECK = """
import sys
from pathlib import Path
from data.folders.files import list_images
from data.folders.check import Demand, check_images
from utils.process.errors import UserError
for folder in sys.argv[1:]:
    try:
        check_images(map(Demand, list_images(Path(folder))))
    except UserError as error:
        print(error)
"""


@pytest.mark.slow
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    for name in ("A/a.png", "A/b.png", "B/a.png", "B/sub/b.png"):
        write_image(tmp_path / name, PICTURE)
    locked = [tmp_path / "A" / "b.png", tmp_path / "B" / "sub"]
    for path in locked:
        path.chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path / "A"), str(tmp_path / "B")],
        cwd=ROOT, capture_output=True, text=True, check=True,
        preexec_fn=without_privileges if os.geteuid() == 0 else None,
    )  # fmt: skip
    for path in locked:
        path.chmod(0o700)
    assert done.stdout.splitlines() == [
        f"{tmp_path}/A/b.png: cannot be read as an image (Permission denied)",
        f"{tmp_path}/B/sub: this folder cannot be read (Permission denied)",
    ]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write_image(tmp_path / "HR" / "a.png", PICTURE)
    (tmp_path / "HR" / "circle").symlink_to(tmp_path / "HR")
    (tmp_path / "linked").symlink_to(tmp_path / "HR")
    images = define_task_images(DENOISING, folder_lq=tmp_path / "linked", folder_gt=None)
    assert len(images) == 1


def replace(path: Path) -> None:
    write_image(path, make_image(48, 64, seed=77))


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


CHANGES: list[tuple[Callable[[Path], object], str]] = [
    (Path.unlink, r"cannot be read as an image \(No such file or directory\)"),
    (replace, "the file was changed while it was in use"),
    (touch, "the file was changed while it was in use"),
]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("change", "reason"), CHANGES)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_changes_during_training_is_named(
    workers: int, change: Callable[[Path], object], reason: str, raw_options: dict[str, Any], hr_folder: Path
) -> None:
    raw_options["datasets"]["train"] |= {"cache": "none", "dataloader_num_workers": workers}
    raw_options["train"]["total_iter"] = 50
    options = Options.model_validate(raw_options)
    batches = training_batches(define_crops(options), options, first_step=0, device=torch.device("cpu"))
    next(batches)
    change(hr_folder / "0003.png")
    with pytest.raises(UserError, match=f"^{hr_folder}/0003.png: {reason}$"):
        list(batches)


@pytest.mark.parametrize(("change", "reason"), CHANGES)
@pytest.mark.parametrize("side", ["H", "L"])
def test_a_test_image_that_changes_before_validation_is_named(
    side: str, change: Callable[[Path], object], reason: str, raw_options: dict[str, Any]
) -> None:
    tests = define_tests(Options.model_validate(raw_options))["toy_test"]
    assert isinstance(tests, SRImages)
    path = getattr(tests.pairs[4], side)
    change(path)
    with pytest.raises(UserError, match=f"^{path}: {reason}$"):
        [tests[index] for index in range(len(tests))]


def test_training_from_the_store_does_not_need_the_files(raw_options: dict[str, Any], hr_folder: Path) -> None:
    options = Options.model_validate(raw_options)
    batches = training_batches(define_crops(options), options, first_step=0, device=torch.device("cpu"))
    for path in hr_folder.iterdir():
        path.unlink()
    assert len(list(batches)) == 10
