"""The training script as its users run it: real processes, real files, real kills."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.stores.mapped import ImageStore
from models.select_network import define_teacher
from tests.conftest import ROOT, make_image, train_here
from tests.golden.fill import fill_
from tests.runs import Torchrun
from utils.evaluation.restorer import Restorer
from utils.imaging.io import read_image, write_image
from utils.imaging.tensors import to_image, to_tensor, unit_range
from utils.options.load import load
from utils.options.schema import Options

KAIR_LINE = re.compile(r"<epoch:\s*(\d+), iter:\s*([\d,]+), lr:(\S+)> ((?:\w+: \S+ ?)+)$")
KAIR_TEST = re.compile(r"<epoch:\s*(\d+), iter:\s*([\d,]+), Average PSNR : (\d+\.\d\d)dB")


@pytest.fixture
def toy(raw_options: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Toy options with a teacher, LR images and stochastic depth."""
    raw_options["path"]["pretrained_netTeacher"] = str(tmp_path / "teacher.pth")
    raw_options["netG"]["drop_path_rate"] = 0.3
    teacher = define_teacher(Options.model_validate(raw_options))
    torch.save(fill_(teacher, 1).state_dict(), tmp_path / "teacher.pth")
    return raw_options


def write(raw: dict[str, Any], path: Path, **train: Any) -> Path:
    path.write_text(json.dumps(raw | {"train": raw["train"] | train}))
    return path


def train(*arguments: str | Path, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """The command as a user types it, which takes seconds to import what it needs."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, "main_train_student.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def fork_two(file: Path) -> tuple[int, str]:
    """Exit code and output of two processes, forked."""
    torchrun = Torchrun(["--opt", str(file)], file.with_suffix(".txt"), processes=2)
    torchrun.start()
    return torchrun.wait(), file.with_suffix(".txt").read_text()


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def saved(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint."""
    parts = sorted((folder / "models").glob(f"{step}_[GEP].pth"))
    return {f"{part.name}/{key}": value for part in parts for key, value in torch.load(part).items()}


@pytest.mark.slow
def test_the_study_runs_file_after_file_in_kairs_form(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("none", "response", "feature")
    files = [write(toy | {"task": kind}, tmp_path / f"{kind}.json", distillation_type=kind) for kind in kinds]
    train_here(monkeypatch, "--opt", *files)
    terms = ["l_g_L1", "l_g_distill", "l_g_feature"]
    for count, kind in enumerate(kinds, start=1):
        folder = tmp_path / "runs" / kind
        log = (folder / "train.log").read_text()
        lines = [match for line in log.splitlines() if (match := KAIR_LINE.search(line))]
        assert [int(match[2]) for match in lines] == list(range(1, 11))
        assert re.findall(r"(\w+): ", lines[0][4]) == [*terms[:count], "G_loss"]
        train_records = records(folder, "train")
        assert [f"{record['G_loss']:.3e}" for record in train_records] == [m[4].split()[-1] for m in lines]
        assert [record["epoch"] for record in train_records] == [4 * step // 6 for step in range(10)]
        tests = records(folder, "test")
        assert [(r["iter"], r["weights"]) for r in tests] == [(5, "G"), (5, "E"), (10, "G"), (10, "E")]
        assert KAIR_TEST.findall(log)[-1][2] == f"{tests[-1]['psnr']:.2f}"
        assert "toy_train: 6 training images" in log
        assert len(list((folder / "images" / "toy_test").glob("*.png"))) == 6
        parts = {path.stem for path in (folder / "models").glob("10_*")}
        assert parts == {"10_E", "10_G", "10_state", "10_checkpoint"} | ({"10_P"} if kind == "feature" else set())


@pytest.mark.slow
def test_losses_fall(toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy["netG"]["drop_path_rate"] = 0
    file = write(toy, tmp_path / "toy.json", distillation_type="feature", total_iter=60, checkpoint_test=60)
    train_here(monkeypatch, "--opt", file)
    losses = records(tmp_path / "runs" / "toy", "train")
    for name in ("l_g_L1", "l_g_feature", "G_loss"):  # not l_g_distill: this teacher's output is noise
        first, last = (sum(record[name] for record in part) for part in (losses[:10], losses[-10:]))
        assert last < 0.7 * first, name


def test_terms_without_translators_are_logged_and_balanced(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {f"{name}_lossfn_weight": 1.0 for name in ("frequency", "attention", "affinity")}
    alone = {"distill_lossfn_weight": 0.0, "feature_lossfn_weight": 0.0, "zoomed_inputs": True, "balance_losses": True}
    settings: dict[str, Any] = {"distillation_type": "feature", "teacher": "stored", "frequency_target": "teacher"}
    file = write(toy, tmp_path / "toy.json", total_iter=2, **settings, **weights, **alone)
    train_here(monkeypatch, "--opt", file)
    first, second = records(tmp_path / "runs" / "toy", "train")
    assert list(first)[4:] == ["l_g_L1", "l_g_frequency", "l_g_attention", "l_g_affinity", "G_loss"]
    assert second["G_loss"] == pytest.approx(4 * second["l_g_L1"], rel=1e-5)
    assert not list((tmp_path / "runs" / "toy" / "models").glob("*_P.pth"))


@pytest.mark.parametrize("kind", ["response", "feature"])
@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(
    kind: str, toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy["netG"]["drop_path_rate"] = 0
    delayed = {"start_feature_iter": 3, "G_optimizer_clipgrad": 0.5}
    settings: dict[str, Any] = {"teacher": "stored"} if kind == "response" else delayed
    one = write(toy | {"task": "one"}, tmp_path / "one.json", distillation_type=kind, **settings)
    two = write(toy | {"task": "two"}, tmp_path / "two.json", distillation_type=kind, **settings)
    train_here(monkeypatch, "--opt", one)
    shutil.rmtree(tmp_path / "HR_stores")  # the two make it again
    if kind == "response":
        code, output = fork_two(two)
    else:
        done = train("--opt", two, processes=2)
        code, output = done.returncode, done.stderr
    assert code == 0, output
    for test_kind in ("train", "test"):
        expected, ours = (records(tmp_path / "runs" / task, test_kind) for task in ("one", "two"))
        assert len(ours) == len(expected)
        for theirs, record in zip(expected, ours, strict=True):
            for name, value in theirs.items():
                if isinstance(value, float):
                    tolerance = 1e-5 * abs(value) if test_kind == "train" else 0.01
                    assert record[name] == pytest.approx(value, abs=tolerance), (record["iter"], name)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", [False, True])
def test_a_stored_teacher_is_asked_once_for_each_image(
    ensemble: bool, toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"distillation_type": "response", "teacher": "stored", "teacher_ensemble": ensemble, "total_iter": 2}
    file = write(toy, tmp_path / "toy.json", **settings)
    train_here(monkeypatch, "--opt", file)
    (store,) = (tmp_path / "HR_stores").glob("HR-*-3ch-*-teacher*.u8")
    assert all("l_g_distill" in record for record in records(tmp_path / "runs" / "toy", "train"))
    options = load(file)
    network = define_teacher(options).eval()
    network.load_state_dict(torch.load(options.path.pretrained_netTeacher or ""))
    restore = Restorer(network, scale=4, window_size=network.window_size, self_ensemble=ensemble)
    lr_image = read_image(tmp_path / "HR_LR_bicubic" / "X4" / "0002x4.png", channels=3)
    with torch.no_grad():
        expected = to_image(restore(unit_range(to_tensor(lr_image))[None])[0])
    taught = ImageStore(store, [(48, 64, 3)] * 6)
    np.testing.assert_allclose(taught[2].astype(int), expected.astype(int), atol=1)  # rounding of 8 bits

    built = store.stat().st_mtime_ns
    spelt_out = {"netTeacher": toy["netTeacher"] | {"qkv_bias": True}}
    train_here(monkeypatch, "--opt", write(toy | spelt_out | {"task": "again"}, file, **settings))
    namesake = tmp_path / tmp_path.parent.name / "models" / "teacher.pth"
    namesake.parent.mkdir(parents=True)
    shutil.copy2(tmp_path / "teacher.pth", namesake)
    of_namesake = {"path": toy["path"] | {"pretrained_netTeacher": str(namesake)}}
    train_here(monkeypatch, "--opt", write(toy | of_namesake | {"task": "of_namesake"}, file, **settings))
    assert store.stat().st_mtime_ns == built
    fill_(network, 2)
    torch.save(network.state_dict(), options.path.pretrained_netTeacher or "")
    train_here(monkeypatch, "--opt", write(toy | {"task": "other"}, file, **settings))
    assert not store.exists(), "another teacher needs another store"


def test_a_test_image_that_cannot_be_decoded_costs_no_iterations(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Test"
    for index in range(2):
        write_image(folder / f"{index}.png", make_image(48, 64, seed=index))
    toy["datasets"]["test"]["dataroot_H"] = str(folder)
    file = write(toy, tmp_path / "toy.json")
    train_here(monkeypatch, "--opt", file, "--set", "train.total_iter=1")
    toy["datasets"]["test"]["dataroot_L"] = str(tmp_path / "Test_LR_bicubic" / "X4")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:2000])
    with pytest.raises(SystemExit):
        train_here(monkeypatch, "--opt", write(toy, file))
    assert f"error: {folder}/1.png: cannot be read as an image" in capsys.readouterr().err
    assert (tmp_path / "runs" / "toy" / "models" / "5_checkpoint.json").exists()


def test_a_run_without_distillation_stores_no_teacher(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(toy, tmp_path / "toy.json", distillation_type="none", teacher="stored", total_iter=1)
    train_here(monkeypatch, "--opt", file)
    assert not list((tmp_path / "HR_stores").glob("*teacher*"))


def test_several_set_flags_add_up(toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(toy, tmp_path / "toy.json")
    train_here(monkeypatch, "--opt", file, "--set", "train.total_iter=1", "--set", "task=renamed")
    assert [record["iter"] for record in records(tmp_path / "runs" / "renamed", "train")] == [1]


@pytest.mark.slow
def test_total_iter_can_be_raised_and_the_run_goes_on(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(toy, tmp_path / "toy.json")
    train_here(monkeypatch, "--opt", file, "--set", "train.total_iter=3")
    train_here(monkeypatch, "--opt", file, "--set", "train.total_iter=6")
    folder = tmp_path / "runs" / "toy"
    assert [record["iter"] for record in records(folder, "train")] == [1, 2, 3, 4, 5, 6]
    assert json.loads((folder / "options.json").read_text())["train"]["total_iter"] == 6


def damage_hr(raw: dict[str, Any]) -> None:
    (Path(raw["datasets"]["train"]["dataroot_H"]) / "0001.png").write_text("not an image")


def remove_partner(raw: dict[str, Any]) -> None:
    hr = Path(raw["datasets"]["train"]["dataroot_H"])
    raw["datasets"]["train"]["dataroot_L"] = str(hr.parent / "LR")
    (hr.parent / "LR").mkdir()
    (hr.parent / "LR" / "0000x4.png").write_bytes((hr / "0000.png").read_bytes())


def small_crop(raw: dict[str, Any]) -> None:
    raw["datasets"]["train"]["H_size"] = 52


def missing_teacher(raw: dict[str, Any]) -> None:
    Path(raw["path"]["pretrained_netTeacher"]).unlink()


def other_teacher(raw: dict[str, Any]) -> None:
    raw["netTeacher"]["embed_dim"] = 26


def code_in_teacher(raw: dict[str, Any]) -> None:
    torch.save(Path("surprise"), raw["path"]["pretrained_netTeacher"])


def empty_folder(raw: dict[str, Any]) -> None:
    raw["datasets"]["test"]["dataroot_H"] = str(Path(raw["path"]["root"]).parent / "empty")
    Path(raw["datasets"]["test"]["dataroot_H"]).mkdir()


def missing_folder(raw: dict[str, Any]) -> None:
    raw["datasets"]["train"]["dataroot_H"] = "nowhere/HR"


def unfit_sizes(raw: dict[str, Any]) -> None:
    raw["datasets"]["train"]["dataroot_L"] = raw["datasets"]["train"]["dataroot_H"]


def file_for_a_folder(raw: dict[str, Any]) -> None:
    Path(raw["path"]["root"]).parent.joinpath("file").write_text("")
    raw["path"]["root"] = str(Path(raw["path"]["root"]).parent / "file")


def unknown_key(raw: dict[str, Any]) -> None:
    raw["train"]["G_optimiser_lr"] = 1


@pytest.mark.slow
def test_a_test_set_that_is_left_out_later_keeps_its_figures(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy["datasets"]["test_more"] = toy["datasets"]["test"] | {"name": "more"}
    file = write(toy, tmp_path / "toy.json")
    train_here(monkeypatch, "--opt", file)
    metrics = Path(toy["path"]["root"]) / "toy" / "metrics.jsonl"
    before = metrics.read_text()
    train_here(monkeypatch, "--opt", file, "--set", "datasets.test_more=null")
    assert metrics.read_text() == before
    other = json.dumps(toy["datasets"]["test"] | {"name": "other"})
    train_here(monkeypatch, "--opt", file, "--set", f"datasets.test={other}")
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    judged = [record["dataset"] for record in records if "dataset" in record]
    assert judged.count("other") == 2
    assert judged.count("toy_test") == before.count('"dataset": "toy_test"')


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (missing_folder, "datasets.train.dataroot_H: there is no folder nowhere/HR\n  python -m data.download"),
        (empty_folder, "empty: there is no image"),
        (remove_partner, r"without a partner: 0001, 0002, 0003, 0004, 0005"),
        (unfit_sizes, r"sizes do not fit scale 4: 0000.png is 64x48 and 0000.png 64x48"),
        (damage_hr, r"0001.png: cannot be read as an image"),
        (
            small_crop,
            r"0000.png: 64x48 pixels are too few for datasets.train.H_size 52\n(.*\n)*.*0005.png: 64x48 pixels.*\n"
            "error: datasets.train.H_size 52: the largest that all images allow is 48",
        ),
        (missing_teacher, r"path.pretrained_netTeacher: there is no file .*teacher.pth"),
        (other_teacher, r"teacher.pth: these weights do not fit the network"),
        (code_in_teacher, r"teacher.pth: not a readable checkpoint"),
        (file_for_a_folder, r"file/toy.*: Not a directory"),
        (unknown_key, r"train.G_optimiser_lr: unknown key; did you mean train.G_optimizer_lr\?"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(  # noqa: PLR0917
    spoil: Any, sentence: str, toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    spoil(toy)
    file = write(toy, tmp_path / "toy.json", distillation_type="response")
    with pytest.raises(SystemExit) as exit_code:
        train_here(monkeypatch, "--opt", file)
    error = "\n".join(line for line in capsys.readouterr().err.splitlines() if line.startswith(("error: ", "  ")))
    assert exit_code.value.code == 2
    assert error.startswith("error: ")
    assert re.search(sentence, error), error
    assert not (tmp_path / "runs").exists()


def test_bad_input_shows_no_traceback_to_the_shell(toy: dict[str, Any], tmp_path: Path) -> None:
    done = train("--opt", write(toy, tmp_path / "toy.json"), "--set", "train.G_optimizer_lr=fast")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f'error: {tmp_path / "toy.json"} with --set: train.G_optimizer_lr: should be a valid number, but is "fast"\n'
    )


def test_a_batch_that_cannot_be_split_is_refused_by_every_process(toy: dict[str, Any], tmp_path: Path) -> None:
    toy["datasets"]["train"]["dataloader_batch_size"] = 3
    code, output = fork_two(write(toy, tmp_path / "toy.json"))
    assert code != 0
    assert "dataloader_batch_size: 3 cannot be split over 2 processes" in output
    assert not (tmp_path / "runs").exists()


def test_an_image_that_only_decoding_reveals_as_damaged_stops_the_run_with_its_name(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy["datasets"]["train"] |= {"dataloader_num_workers": 1, "cache": "none"}
    file = write(toy, tmp_path / "toy.json")
    train_here(monkeypatch, "--opt", file, "--set", "train.total_iter=1")
    folder_H = Path(toy["datasets"]["train"]["dataroot_H"])
    toy["datasets"]["train"]["dataroot_L"] = str(folder_H.parent / "HR_LR_bicubic" / "X4")
    for path in folder_H.iterdir():
        path.write_bytes(path.read_bytes()[:2000])
    toy["datasets"].pop("test")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        train_here(monkeypatch, "--opt", write(toy, file))
    assert re.search(r"^error: .*/HR/000\d\.png: cannot be read as an image\n$", capsys.readouterr().err)
