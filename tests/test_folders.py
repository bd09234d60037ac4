"""Datasets as users have them, by their commands: several folders, other tools' LR images, what is refused."""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import main_test_swinir
from data.dataset_sr import SRImages, define_taught
from data.folders.pairs import Pair, pair_images
from data.select_dataset import define_crops, define_sr_crops, define_tests
from models.network_swinir import SwinIR
from tests.conftest import make_image, train_here, write_images
from utils.evaluation.evaluate import ImageResult
from utils.evaluation.restorer import bicubic
from utils.imaging.io import read_image, write_image
from utils.imaging.resize import bicubic_down
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.report.results import comparisons
from utils.report.tasks import read_methods

Train = Callable[..., str]


@pytest.fixture
def train(
    raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    """Train the toy task with some keys changed in its training set and its test set; returns the log."""

    def train(train: dict[str, Any], test: dict[str, Any] | None = None) -> str:
        raw_options["datasets"]["train"] |= train
        raw_options["datasets"]["test"] |= train if test is None else test
        file = tmp_path / "toy.json"
        file.write_text(json.dumps(raw_options))
        train_here(monkeypatch, "--opt", file)
        return capsys.readouterr().out

    return train


@pytest.fixture
def refused(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the training script says of changed folders, before it makes anything."""

    def refused(*changes: dict[str, Any]) -> str:
        with pytest.raises(SystemExit, match="2"):
            train(*changes)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert not (tmp_path / "runs").exists()
        return "\n".join(lines)

    return refused


@pytest.fixture
def two_folders(tmp_path: Path) -> list[str]:
    """Six images each, of the same names but for one."""
    folders = [write_images(tmp_path / name / "HR") for name in ("One", "Two")]
    (folders[1] / "0005.png").rename(folders[1] / "only here.png")
    write_image(folders[1] / "0000.png", make_image(48, 64, seed=99))
    return [str(folder) for folder in folders]


class TestSeveralFolders:
    @pytest.mark.slow
    def test_they_are_one_dataset_whose_results_are_told_apart(
        self, train: Train, two_folders: list[str], tmp_path: Path
    ) -> None:
        log = train({"dataroot_H": two_folders})
        assert f"toy_train: 12 training images in {two_folders[0]}, {two_folders[1]}" in log
        names = {f"{name}_{index:04d}" for name in ("One", "Two") for index in range(5)} | {"0005", "only here"}
        task = tmp_path / "runs" / "toy"
        assert {path.stem for path in (task / "images" / "toy_test").iterdir()} == names
        (comparison,) = comparisons(read_methods([task]))
        judged = comparison.first_judged(comparison.problems["toy_test"])
        assert judged and {result.name for result in judged.results} == names
        for name in ("One", "Two"):
            assert (tmp_path / name / "HR_LR_bicubic" / "X4" / "0000x4.png").is_file()
        (store,) = (tmp_path / "One" / "HR_stores").iterdir()
        assert store.name.startswith("HR_and_1_more-")

    def test_lr_folders_pair_in_their_order(self, raw_options: dict[str, Any], two_folders: list[str]) -> None:
        raw_options["datasets"]["test"]["dataroot_H"] = two_folders
        made = define_tests(Options.model_validate(raw_options))["toy_test"]
        assert isinstance(made, SRImages)
        folders_L = [str(Path(folder).parent / "HR_LR_bicubic" / "X4") for folder in two_folders]
        raw_options["datasets"]["test"]["dataroot_L"] = folders_L
        given = define_tests(Options.model_validate(raw_options))["toy_test"]
        assert isinstance(given, SRImages)
        assert given.pairs == made.pairs
        raw_options["datasets"]["test"]["dataroot_L"] = folders_L[::-1]
        with pytest.raises(UserError, match="without a partner: 0005"):
            define_tests(Options.model_validate(raw_options))

    def test_clean_images_come_from_all(self, raw_options: dict[str, Any], two_folders: list[str]) -> None:
        raw_options |= {"scale": 1, "netG": raw_options["netG"] | {"upsampler": ""}}
        raw_options["netTeacher"] |= {"upsampler": ""}
        for dataset in raw_options["datasets"].values():
            dataset |= {"dataset_type": "dncnn", "dataroot_H": two_folders}
        options = Options.model_validate(raw_options)
        assert len(define_crops(options)) == 12
        tests = define_tests(options)["toy_test"]
        labels = [tests[index].get("label") for index in range(len(tests))]
        assert labels == [f"One_{i:04d}" for i in range(5)] + [None] + [f"Two_{i:04d}" for i in range(5)] + [None]

    def test_of_lists_with_one_first_folder_each_has_its_own_store(
        self, raw_options: dict[str, Any], two_folders: list[str], tmp_path: Path
    ) -> None:
        third = str(write_images(tmp_path / "Three" / "HR"))
        for folders in (two_folders, [two_folders[0], third], two_folders[0]):
            raw_options["datasets"]["train"]["dataroot_H"] = folders
            define_sr_crops(Options.model_validate(raw_options))
        assert len(list((tmp_path / "One" / "HR_stores").iterdir())) == 3

    def test_the_store_of_one_folder_keeps_its_name(self, raw_options: dict[str, Any], tmp_path: Path) -> None:
        define_sr_crops(Options.model_validate(raw_options))
        (store,) = (tmp_path / "HR_stores").iterdir()
        of_lr = hashlib.sha256(str((tmp_path / "HR_LR_bicubic" / "X4").resolve()).encode()).hexdigest()[:8]
        assert re.fullmatch(rf"HR-{of_lr}-3ch-[0-9a-f]{{16}}\.u8", store.name)

    def test_all_that_are_missing_are_named(self, refused: Callable[..., str], tmp_path: Path) -> None:
        absent = [str(tmp_path / name) for name in ("no", "nor this")]
        error = refused({"dataroot_H": [*absent, str(tmp_path / "HR")]}, {})
        assert all(f"datasets.train.dataroot_H: there is no folder {folder}" in error for folder in absent)
        assert "JSON" not in error

    def test_bad_images_of_all_are_in_one_error(self, refused: Callable[..., str], two_folders: list[str]) -> None:
        for folder in two_folders:
            Path(folder, "0003.png").write_text("not an image")
        expected = [f"error: {folder}/0003.png: cannot be read as an image" for folder in two_folders]
        assert refused({"dataroot_H": two_folders}).splitlines() == expected


NAMES = ["a", "b2", "sub/a"]


def write_pairs(
    folder: Path, rename: Callable[[Path], str], *, size_L: tuple[int, int] = (12, 16)
) -> tuple[Path, Path]:
    """The folders of three HR images of 48x64 pixels and of LR images with other names."""
    hr, lr = folder / "Originals", folder / "Small"
    for index, name in enumerate(map(Path, NAMES)):
        write_image(hr / f"{name}.png", make_image(48, 64, seed=index))
        write_image(lr / name.parent / f"{rename(name)}.png", make_image(*size_L, seed=index))
    return hr, lr


@pytest.mark.slow
@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"{name.name}_LR",
        lambda name: f"{name.name}_bicLRx4",
        lambda name: f"{name.name}X4",
        lambda name: f"LR_{name.name}",
    ],
)
def test_lr_names_with_an_affix_that_all_share_pair(
    rename: Callable[[Path], str], train: Train, tmp_path: Path
) -> None:
    hr, lr = write_pairs(tmp_path, rename)
    assert pair_images(hr, lr, scale=4) == [
        Pair(hr / f"{name}.png", lr / name.parent / f"{rename(name)}.png") for name in map(Path, NAMES)
    ]
    train({"dataroot_H": str(hr), "dataroot_L": str(lr)}, {})


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"{name.name}_LR" if name.parent.name else f"{name.name}_lr",
        lambda name: f"{name.name}_L" if name.parent.name else f"L_{name.name}",
        lambda name: name.name[:-1] + "c_LR",
    ],
    ids=["two suffixes", "suffix and prefix", "other names"],
)
def test_other_names_do_not_pair(rename: Callable[[Path], str], refused: Callable[..., str], tmp_path: Path) -> None:
    hr, lr = write_pairs(tmp_path, rename)
    error = refused({"dataroot_H": str(hr), "dataroot_L": str(lr)}, {})
    assert error.startswith(
        f"error: HR images in {hr} without a partner: a, b2, sub/a\nerror: LR images in {lr} without a part"
    )


class TestRoundedUp:
    """LR images as MATLAB's imresize makes them: 13x17 pixels of 49x66, where 12x16 are whole."""

    @pytest.fixture
    def folders(self, tmp_path: Path) -> dict[str, str]:
        for index in range(4):
            image = make_image(49, 66, seed=index)
            write_image(tmp_path / "Odd" / f"{index}.png", image)
            padded = np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="edge")
            write_image(tmp_path / "Odd_up" / f"{index}.png", bicubic_down(padded, 4))
            write_image(tmp_path / "Odd_down" / f"{index}.png", bicubic_down(padded, 4)[:12, :16])
        return {"dataroot_H": str(tmp_path / "Odd"), "dataroot_L": str(tmp_path / "Odd_up")}

    def test_training_uses_what_both_have_and_says_so_once(
        self, train: Train, folders: dict[str, str], tmp_path: Path
    ) -> None:
        assert train(folders, {}).count("the sizes of 4 LR images are rounded up") == 1
        assert (tmp_path / "runs" / "toy" / "models" / "10_G.pth").is_file()

    def test_validation_and_report_use_what_both_have(
        self, train: Train, folders: dict[str, str], tmp_path: Path
    ) -> None:
        train({}, folders)
        task = tmp_path / "runs" / "toy"
        restored = read_image(task / "images" / "toy_test" / "0.png", channels=3)
        assert restored.shape == (48, 64, 3)
        (comparison,) = comparisons(read_methods([task]))
        assert comparison.baselines["toy_test"]["psnr"] > 15

    @pytest.mark.parametrize("cache", ["memmap", "none"])
    def test_crops_and_the_stored_teacher_are_those_of_sizes_rounded_down(
        self, cache: str, raw_options: dict[str, Any], folders: dict[str, str], tmp_path: Path
    ) -> None:
        weights = tmp_path / "teacher" / "models" / "1_G.pth"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"only its name counts here")
        raw_options["path"]["pretrained_netTeacher"] = str(weights)
        raw_options["datasets"]["train"]["cache"] = cache
        made = []
        for folder_L in ("Odd_up", "Odd_down"):
            raw_options["datasets"]["train"] |= folders | {"dataroot_L": str(tmp_path / folder_L)}
            options = Options.model_validate(raw_options)
            images = define_sr_crops(options).images
            taught = define_taught(images, options, bicubic(4), torch.device("cpu"))
            made.append([pixels for index in range(4) for pixels in (*images.pixels(index), taught[index])])
        for up, down in zip(*made, strict=True):
            np.testing.assert_array_equal(up, down)

    def test_the_test_script_gives_the_figures_of_sizes_rounded_down(
        self,
        folders: dict[str, str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        model = tmp_path / "mine" / "model.pth"
        model.parent.mkdir()
        network = SwinIR(
            upscale=4, img_size=8, window_size=8, embed_dim=12, depths=[2], num_heads=[2], upsampler="pixelshuffle"
        )
        torch.save({"params": network.state_dict()}, model)
        arguments = ["--model_path", model, "--folder_gt", folders["dataroot_H"], "--folder_lq"]
        contents, said = [], []
        for folder_lq in (folders["dataroot_L"], tmp_path / "Odd_down"):
            monkeypatch.chdir(tmp_path)
            monkeypatch.setattr(sys, "argv", ["main_test_swinir.py", *map(str, [*arguments, folder_lq])])
            main_test_swinir.main()
            said.append("".join(capsys.readouterr()).count("LR images are rounded up"))
            (results,) = (tmp_path / "results").rglob("results.json")
            images = json.loads(results.read_text())["images"]
            contents.append({name: ImageResult(**of_image).figures() for name, of_image in images.items()})
        assert contents[0] == contents[1]
        assert said == [1, 0]

    @pytest.mark.parametrize("size", [(14, 17), (13, 18), (11, 16)])
    def test_other_sizes_are_refused(self, size: tuple[int, int], folders: dict[str, str]) -> None:
        write_image(Path(folders["dataroot_L"], "2.png"), make_image(*size, seed=0))
        with pytest.raises(UserError, match=rf"do not fit scale 4: 2.png is 66x49 and 2.png {size[1]}x{size[0]}$"):
            pair_images(Path(folders["dataroot_H"]), Path(folders["dataroot_L"]), scale=4)


def test_backslashes_that_json_drops_are_explained(
    raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(written: str) -> str:
        file = tmp_path / "toy.json"
        file.write_text(json.dumps(raw_options).replace('"PLACE"', f'"{written}"'))
        with pytest.raises(SystemExit, match="2"):
            train_here(monkeypatch, "--opt", file)
        return capsys.readouterr().err

    hint = r"JSON drops single backslashes: it wants / or \\ for each \ of a path"
    raw_options["datasets"]["train"]["dataroot_H"] = "PLACE"
    dropped, kept = error(r"D:\data\HR"), error(r"D:\\data\\HR")
    assert "datasets.train.dataroot_H: there is no folder D:dataHR" in dropped
    assert hint in dropped
    assert r"there is no folder D:\data\HR" in kept
    assert hint not in kept
    assert r"(JSON wants / or \\ for each \)" in error(r"D:\train")
    assert error(r"C:\users").endswith(f"; {hint}\n")  # \u begins a number


def test_an_lmdb_is_named_with_what_replaces_it(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lmdb = tmp_path / "DIV2K_train_HR_sub.lmdb"
    lmdb.mkdir()
    for name in ("data.mdb", "lock.mdb", "meta_info.txt"):
        (lmdb / name).write_bytes(b"")
    expected = f"error: {lmdb}: this is an LMDB, which is not read; name the folder of the images that are in it"
    assert refused({"dataroot_H": str(lmdb)}, {}).startswith(expected)
    monkeypatch.setattr(sys, "argv", ["main_test_swinir.py", "--folder_lq", str(lmdb)])
    with pytest.raises(SystemExit, match="2"):
        main_test_swinir.main()
    assert capsys.readouterr().err.startswith(expected)


def test_very_many_bad_images_are_folded_by_what_is_wrong_with_them(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "Many"
    for index in range(42):
        write_image(folder / f"{index:02d}.png", make_image(8, 20 + index, seed=0))
    (folder / "text.png").write_text("not an image")
    named = ", ".join(f"{folder}/{index:02d}.png {20 + index}x8" for index in range(5))
    assert refused({"dataroot_H": str(folder)}, {}) == (
        f"error: {folder}/text.png: cannot be read as an image\n"
        f"error: pixels are too few for datasets.train.H_size 32: {named} and 37 more\n"
        "error: datasets.train.H_size 32: the largest that all images allow is 8"
    )
