"""Option files as KAIR's users have them, which train denoising, JPEG artefact reduction and super-resolution."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.dataset_degraded import CleanImages, DegradedCrops, jpeg_window, noisy_window, turn
from data.sampler import Draw
from data.select_dataset import define_tests
from data.stores.windows import Window, reorient
from data.workers import Guarded
from models.distillation.losses import define_loss
from models.model_plain import ModelPlain
from tests.conftest import ROOT, make_image, train_here
from tests.golden.fill import fill_
from tests.runs import equal
from utils.evaluation.evaluate import evaluate
from utils.imaging.io import jpeg_round_trip, write_image
from utils.imaging.metrics import judged_border
from utils.imaging.tensors import to_image
from utils.options.load import load
from utils.process.errors import UserError
from utils.report.results import comparisons, figure_rows
from utils.report.tasks import read_methods

KAIR = ROOT / "tests" / "kair"
FILES = sorted(KAIR.glob("*.json"))
TINY = (
    "netG.embed_dim=12",
    "netG.depths=[1,1]",
    "netG.num_heads=[2,2]",
    "datasets.train.dataloader_batch_size=4",
    "datasets.train.dataloader_num_workers=0",
    "train.G_optimizer_lr=1e-3",
    "train.checkpoint_print=1",
    "train.checkpoint_save=4",
    "train.checkpoint_test=4",
)
OF_ALL = {
    "gpu_ids: ignored; devices are chosen by CUDA_VISIBLE_DEVICES and torchrun",
    "dist: ignored; torchrun decides how many processes there are",
    "netG.init_type: ignored; SwinIR initialises itself, which is KAIR's 'default'",
    "train.G_optimizer_reuse: ignored; a run that continues always has its optimizer's state",
    "train.G_regularizer_orthstep: ignored; weights are not regularised",
    "train.G_regularizer_clipstep: ignored; weights are not regularised",
    "datasets.train.phase: ignored; the key of the set, train or test..., decides",
}
OF_SR = {"train.total_iter: missing; training ends at the last milestone, 500000"}
OF_DEGRADED = {
    "scale: missing; it is 1",
    "merge_bn: ignored; SwinIR has no batch normalisation",
    "merge_bn_startpoint: ignored; SwinIR has no batch normalisation",
    "train.total_iter: missing; training ends at the last milestone, 1600000",
}
OF_NOISE = OF_DEGRADED | {
    "datasets.train.sigma_test: ignored; each test set has its own",
    "datasets.test.sigma_test: read as datasets.test.sigma",
}
OF_JPEG = OF_DEGRADED | {
    "datasets.train.quality_factor_test: ignored; each test set has its own",
    "datasets.test.quality_factor_test: read as datasets.test.quality_factor",
    "datasets.train.is_color: ignored; n_channels decides",
    "datasets.test.is_color: ignored; n_channels decides",
}
NOTES = {
    "classical_sr": OF_SR,
    "color_dn": OF_NOISE,
    "gray_dn": OF_NOISE,
    "jpeg_car": OF_JPEG,
    "lightweight_sr": OF_SR,
}


@pytest.fixture
def clean_folder(tmp_path: Path) -> Path:
    """A folder of three clean images."""
    for index in range(3):
        write_image(tmp_path / "clean" / f"{index}.png", make_image(48, 40, seed=index))
    return tmp_path / "clean"


def tiny(folder: Path, *more: str, window: int = 8) -> list[str]:
    """Overrides that make an option file of KAIR small enough for a test."""
    roots = [f"datasets.{key}.dataroot_H={folder}" for key in ("train", "test")]
    size = [f"datasets.train.H_size={4 * window}", f"netG.img_size={2 * window}", f"netG.window_size={window}"]
    return [*TINY, f"path.root={folder.parent / 'runs'}", *roots, *size, *more]


def lines(task: Path, kind: str) -> list[dict[str, Any]]:
    records = map(json.loads, (task / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == kind]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_kair_loads_and_each_key_that_is_not_ours_has_a_line(path: Path) -> None:
    options = load(path)
    assert set(options.notes) == OF_ALL | NOTES[path.stem]
    assert len(options.notes) == len(set(options.notes))
    assert options.train.total_iter == options.train.G_scheduler_milestones[-1]


def test_the_older_names_of_kair_are_read_and_of_two_names_the_one_for_tests_counts(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    text = (KAIR / "jpeg_car.json").read_text().replace('"jpeg"', '"deblocking"')
    path.write_text(text.replace("quality_factor", "quality").replace('"quality_test": 40', '"quality_test": 10'))
    datasets = load(path).datasets
    assert (datasets.train.dataset_type, datasets.tests[0].dataset_type) == ("jpeg", "jpeg")
    assert (datasets.train.quality_factor, datasets.tests[0].quality_factor) == (40, 10)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "color_dn",
            '"dncnn"',
            '"ffdnet"',
            "datasets.train.dataset_type: should be 'sr', 'dncnn' or 'jpeg', but is \"ffdnet\"",
        ),
        (
            "classical_sr",
            '_lossfn_type": "l1"',
            '_lossfn_type": "l2sum"',
            "train.G_lossfn_type: should be 'l1', 'l2' or 'charbonnier', but is \"l2sum\"",
        ),
        (
            "classical_sr",
            '_orthstep": null',
            '_orthstep": 10',
            "train.G_regularizer_orthstep: 10 is not supported, since weights are not regularised; remove the key",
        ),
        ("classical_sr", '"default"', '"orthogonal"', "netG.init_type: 'orthogonal' is not supported, since SwinIR"),
        ("classical_sr", '"gpu_ids"', '"gpu_idz"', "gpu_idz: unknown key"),
        ("color_dn", '"n_channels"', '"scale": 2, "n_channels"', "netG.upscale: 1 does not fit scale 2"),
        (
            "color_dn",
            '"dataroot_L": null',
            '"dataroot_L": "LR"',
            "datasets.train.dataroot_L: 'dncnn' degrades images of dataroot_H; set it to null",
        ),
        (
            "classical_sr",
            '"G_scheduler_milestones": [250000, 400000, 450000, 475000, 500000]',
            '"G_scheduler_milestones": []',
            "train.total_iter: this key is missing",
        ),
    ],
)
def test_what_cannot_be_ignored_is_refused(file: str, old: str, new: str, expected: str, tmp_path: Path) -> None:
    text = (KAIR / f"{file}.json").read_text()
    assert old in text
    path = tmp_path / "kair.json"
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=f"^{path}: (2 problems:\n  )?{re.escape(expected)}"):
        load(path)


def test_a_degradation_needs_scale_1_and_scale_1_needs_lr_images_or_a_degradation() -> None:
    path = KAIR / "classical_sr.json"
    with pytest.raises(UserError, match=r"datasets\.test\.dataset_type: 'jpeg' needs scale 1, but scale is 2$"):
        load(path, ["datasets.test.dataset_type=jpeg"])
    with pytest.raises(UserError, match=r"datasets\.train\.dataroot_L: missing; at scale 1, bicubic makes no LR"):
        load(path, ["scale=1", "netG.upscale=1"])
    with pytest.raises(UserError, match=r"train\.teacher: 'stored' needs LR images that stay the same"):
        load(KAIR / "color_dn.json", ["train.teacher=stored"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_kair_trains(path: Path, clean_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = 7 if path.stem == "jpeg_car" else 8
    overrides = tiny(clean_folder, "task=kair", "train.total_iter=3", window=window)
    train_here(monkeypatch, "--opt", path, "--set", *overrides)
    task = clean_folder.parent / "runs" / "kair"
    log = (task / "train.log").read_text()
    notes = load(path, overrides).notes
    assert [note for note in notes if log.count(f" : {note}\n") != 1] == []
    losses = [record["G_loss"] for record in lines(task, "train")]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    assert [record["dataset"] for record in lines(task, "test")] == ["test_dataset", "test_dataset"]
    made = {child.name for child in clean_folder.parent.iterdir()}
    assert ("clean_LR_bicubic" in made) == path.stem.endswith("_sr")  # degradations leave no files


def test_denoising_learns_and_resumes_to_the_same_bits(clean_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: str, total_iter: int) -> Path:
        more = (f"task={task}", f"train.total_iter={total_iter}", "train.E_decay=0.5", "datasets.train.sigma=50")
        train_here(monkeypatch, "--opt", KAIR / "color_dn.json", "--set", *tiny(clean_folder, *more))
        return clean_folder.parent / "runs" / task

    whole = run("whole", 12)
    run("parts", 4)
    parts = run("parts", 12)
    assert (whole / "metrics.jsonl").read_bytes() == (parts / "metrics.jsonl").read_bytes()
    for part in ("G", "E"):
        weights = [torch.load(task / "models" / f"12_{part}.pth", weights_only=True) for task in (whole, parts)]
        assert equal(*weights)
    losses = [record["G_loss"] for record in lines(whole, "train")]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


@pytest.mark.parametrize("sigma", [15, 50])
def test_the_input_of_denoising_has_the_psnr_of_its_noise_over_the_whole_image(sigma: int, clean_folder: Path) -> None:
    options = load(KAIR / "color_dn.json", tiny(clean_folder, f"datasets.test.sigma={sigma}"))
    tests = define_tests(options)["test_dataset"]
    items = [tests[index] for index in range(len(tests))]
    assert all(item["L"].dtype == torch.float32 and item["L"].max() > 1 for item in items)
    for item in items:
        error = 255 * item["L"].double() - item["H"].double()
        expected = 20 * np.log10(255 / sigma)
        assert 20 * np.log10(255 / error.square().mean().sqrt()) == pytest.approx(expected, abs=0.15)
    # As it is judged, the input is rounded and clipped, and nothing of its border is left out.
    results = evaluate(lambda image: image, tests, border=judged_border(options.scale), device=torch.device("cpu"))
    for item, result in zip(items, results, strict=True):
        judged = to_image(item["L"]).astype(float) - item["H"].permute(1, 2, 0).numpy()
        assert result.psnr == pytest.approx(10 * np.log10(255**2 / np.square(judged).mean()))


def test_the_model_validates_without_a_border(clean_folder: Path) -> None:
    options = load(KAIR / "gray_dn.json", tiny(clean_folder, "datasets.test.sigma=0"))
    model = ModelPlain(options, device=torch.device("cpu"))
    fill_(model.student, 1)
    tests = define_tests(options)["test_dataset"]
    images: list[np.ndarray] = []
    results = model.validate(tests, on_image=lambda image, _: images.append(image))
    error = images[0].astype(float) - tests[0]["H"].permute(1, 2, 0).numpy()
    assert results["E"][0].psnr == pytest.approx(10 * np.log10(255**2 / np.square(error).mean()))


def test_the_report_has_the_degraded_images_as_its_baseline(
    clean_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("task=kair", "train.total_iter=1", "datasets.test.quality_factor=10")
    train_here(monkeypatch, "--opt", KAIR / "jpeg_car.json", "--set", *tiny(clean_folder, *more, window=7))
    (compared,) = comparisons(read_methods([clean_folder.parent / "runs" / "kair"]))
    baseline, *_ = figure_rows(compared)
    tests = define_tests(load(KAIR / "jpeg_car.json", tiny(clean_folder, *more, window=7)))["test_dataset"]
    results = evaluate(lambda image: image, tests, border=0, device=torch.device("cpu"))
    assert baseline["method"] == "degraded image"
    assert baseline["PSNR"].strip("*") == f"{np.mean([result.psnr for result in results]):.2f}"


class TestCrops:
    """The crops that denoising and JPEG artefact reduction learn from."""

    @pytest.mark.parametrize("orientation", range(8))
    def test_the_views_are_the_orientations_of_super_resolution(self, orientation: int) -> None:
        image = make_image(5, 7, seed=0)
        np.testing.assert_array_equal(turn(image, orientation), reorient(image, orientation))

    def test_noise_is_white_unclipped_and_a_function_of_seed_and_position(self, clean_folder: Path) -> None:
        images = CleanImages(sorted(clean_folder.iterdir()), channels=3)

        def take(seed: int, position: int) -> tuple[torch.Tensor, torch.Tensor]:
            item = DegradedCrops(images, H_size=40, seed=seed, degrade=partial(noisy_window, sigma=50))[
                Draw(0, position)
            ]
            return item["L"], item["L"] - item["H"] / 255

        noises = {(seed, position): take(seed, position)[1] for seed in (0, 1) for position in (0, 1)}
        assert torch.equal(noises[0, 1], take(0, 1)[1])
        stacked = torch.stack(list(noises.values())).flatten(1).double()
        torch.testing.assert_close(stacked.corrcoef(), torch.eye(4, dtype=torch.float64), atol=0.06, rtol=0)
        assert 255 * float(stacked.std()) == pytest.approx(50, rel=0.03)
        assert take(0, 0)[0].max() > 1
        assert take(0, 0)[0].min() < 0

    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_jpeg_crop_is_the_crop_of_the_jpeg_of_the_turned_image(self, channels: int) -> None:
        image = turn(make_image(101, 93, seed=3, channels=channels), 5)
        whole = jpeg_round_trip(np.ascontiguousarray(image), 10)
        degrade, rng = partial(jpeg_window, quality=10), np.random.default_rng(0)
        for top, left in [(0, 0), (8, 16), (13, 5), (50, 31), (93 - 42, 101 - 42)]:
            degraded = degrade(image, Window(top, left, 42), rng).permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(degraded, whole[top : top + 42, left : left + 42])

    def test_a_file_that_changes_is_named(self, clean_folder: Path) -> None:
        images = CleanImages(sorted(clean_folder.iterdir()), channels=3)
        write_image(clean_folder / "0.png", make_image(48, 40, seed=9)[:, :-1])
        crops = DegradedCrops(images, H_size=32, seed=0, degrade=partial(noisy_window, sigma=15))
        error = Guarded(crops)[Draw(0, 0)]
        assert isinstance(error, UserError)
        assert str(error) == f"{clean_folder / '0.png'}: the file was changed while it was in use"

    def test_a_test_image_that_changes_is_named(self, clean_folder: Path) -> None:
        tests = define_tests(load(KAIR / "gray_dn.json", tiny(clean_folder)))["test_dataset"]
        write_image(clean_folder / "0.png", make_image(48, 40, seed=9)[:, :-1])
        with pytest.raises(UserError, match=f"^{clean_folder / '0.png'}: the file was changed while it was in use$"):
            tests[0]


def test_charbonnier_adds_its_eps_unsquared() -> None:
    x, y = torch.tensor([0.5, 0.25]), torch.tensor([0.5, 0.5])
    loss = define_loss("charbonnier", charbonnier_eps=1e-3)(x, y)
    assert float(loss) == pytest.approx((np.sqrt(1e-3) + np.sqrt(0.0625 + 1e-3)) / 2)
    options = load(KAIR / "gray_dn.json", ["netG.embed_dim=12", "netG.depths=[1]", "netG.num_heads=[2]"])
    assert ModelPlain(options, device=torch.device("cpu")).objective.terms["l_g_L1"].charbonnier_eps == 1e-3
