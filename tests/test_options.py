"""The option files of the study, what is refused in an option file, overrides, and what is written back."""

import copy
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from models.model_plain import check_networks
from models.network_swinir import SwinIR
from tests.conftest import ROOT
from utils.options.load import load
from utils.options.networks import Network
from utils.options.types import Section
from utils.process.errors import UserError
from utils.runs import checkpoints
from utils.runs.history import flat
from utils.runs.inputs import load_all

STUDY = sorted((ROOT / "options").glob("*.json"))
TABLE = {
    "model": "plain",
    "scale": 4,
    "n_channels": 3,
    "netG.net_type": "swinir",
    "netG.upscale": 4,
    "netG.in_chans": 3,
    "netG.img_size": 48,
    "netG.embed_dim": 60,
    "netG.depths": [4, 4, 4, 4],
    "netG.num_heads": [6, 6, 6, 6],
    "netG.window_size": 8,
    "netG.mlp_ratio": 2,
    "netG.img_range": 1,
    "netG.upsampler": "pixelshuffle",
    "netG.resi_connection": "1conv",
    "datasets.train.H_size": 192,
    "datasets.train.dataloader_batch_size": 32,
    "datasets.train.dataloader_shuffle": True,
    "datasets.train.dataroot_H": "trainsets/DIV2K/DIV2K_train_HR",
    "train.G_lossfn_type": "l1",
    "train.E_decay": 0.999,
    "train.G_optimizer_type": "adam",
    "train.G_optimizer_lr": 2e-4,
    "train.G_optimizer_betas": [0.9, 0.999],
    "train.G_optimizer_wd": 0,
    "train.G_optimizer_clipgrad": None,
    "train.G_scheduler_type": "MultiStepLR",
    "train.G_scheduler_milestones": [50_000, 80_000, 90_000, 95_000],
    "train.G_scheduler_gamma": 0.5,
    "train.total_iter": 100_000,
    "train.checkpoint_test": 5000,
    "train.checkpoint_save": 5000,
    "train.checkpoint_print": 200,
}

Write = Callable[..., Path]


@pytest.fixture
def hr_folder(tmp_path: Path) -> Path:
    """An empty folder: option files are checked without a look at the images."""
    folder = tmp_path / "HR"
    folder.mkdir()
    return folder


@pytest.fixture
def write(tmp_path: Path, raw_options: dict[str, Any]) -> Write:
    """Write an option file that is right but for some keys, given as {"section.key": value}."""

    def write(changes: Mapping[str, Any], *, name: str = "options.json") -> Path:
        raw = copy.deepcopy(raw_options)
        for dotted, value in changes.items():
            *sections, key = dotted.split(".")
            section = raw
            for part in sections:
                section = section[part]
            section[key] = value
        path = tmp_path / name
        path.write_text(json.dumps(raw), encoding="utf-8")
        return path

    return write


def complaint(path: Path, *overrides: str) -> str:
    """What `load` says about a file."""
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", STUDY, ids=lambda path: path.stem)
def test_a_file_of_the_study_has_the_values_of_the_table(path: Path) -> None:
    options = load(path)
    values = flat(options.model_dump())
    assert {key: values[key] for key in TABLE} == TABLE
    assert [test.name for test in options.datasets.tests] == ["Set5", "DIV2K_valid"]


def test_the_files_of_the_study_differ_only_in_what_is_compared() -> None:
    changes: dict[str, dict[str, Any]] = {
        "swinir_student": {"train.distillation_type": "none"},
        "swinir_student_distill_response": {"train.distillation_type": "response"},
        "swinir_student_distill_feature": {"train.distillation_type": "feature"},
        "swinir_student_distill_best": {
            "train.distillation_type": "feature",
            "train.feature_pairs": None,
            "train.feature_translator": "student",
            "train.balance_losses": True,
        },
    }
    by_task = {values["task"]: values for values in (flat(load(path).model_dump()) for path in STUDY)}
    alone = by_task["swinir_student"]
    assert by_task == {task: alone | {"task": task} | changed for task, changed in changes.items()}


def test_the_features_of_the_small_scale_study_are_those_of_its_teacher(shared: Callable[[str], Path]) -> None:
    teacher = shared("teachers/DAT_light_x4.pth")
    path = ROOT / "options" / "study" / "train_swinir_student_distill_feature.json"
    check_networks(load(path, [f"path.pretrained_netTeacher={teacher}"]))


def test_the_files_of_the_small_scale_study_differ_only_in_what_they_compare() -> None:
    folder = ROOT / "options" / "study"
    files = (folder / path.name for path in STUDY)
    first, *others = (flat(load(path).model_dump(exclude_unset=True)) for path in files)
    taught = {"task", "path.pretrained_netTeacher", "netTeacher.net_type", "netTeacher.upscale", "netTeacher.in_chans"}
    compared = ("distillation_type", "teacher", "feature_pairs", "feature_translator", "balance_losses")
    allowed = taught | {f"train.{key}" for key in compared}
    for other in others:
        assert {key for key in first | other if first.get(key) != other.get(key)} - {"netTeacher.features"} <= allowed


WRONG = {
    "unknown key of the file": ("foo", 1, "foo: unknown key"),
    "unknown key of path": ("path.foo", 1, "path.foo: unknown key"),
    "unknown key of datasets": (
        "datasets.val",
        {},
        "datasets: unknown key 'val'; did you mean 'train'? Test sets have",
    ),
    "unknown key of the training set": ("datasets.train.foo", 1, "datasets.train.foo: unknown key"),
    "unknown key of a test set": ("datasets.test.foo", 1, "datasets.test.foo: unknown key"),
    "unknown key of netG": ("netG.foo", 1, "netG.foo: unknown key"),
    "unknown key of netTeacher": ("netTeacher.foo", 1, "netTeacher.foo: unknown key"),
    "misspelt key of spandrel's teacher": (
        "netTeacher",
        {"net_type": "spandrel", "feature": []},
        "netTeacher.feature: unknown key; did you mean netTeacher.features?",
    ),
    "unknown kind of teacher": (
        "netTeacher.net_type",
        "dat",
        "netTeacher.net_type: should be 'swinir' or 'swinir_student' or 'spandrel', but is 'dat'",
    ),
    "spandrel for the student": (
        "netG.net_type",
        "spandrel",
        "netG.net_type: should be 'swinir' or 'swinir_student', but is \"spandrel\"",
    ),
    "value for the teacher": ("netTeacher", 5, "netTeacher: should be a section in braces, but is 5"),
    "feature of spandrel's teacher": (
        "netTeacher",
        {"net_type": "spandrel", "features": "layers.0"},
        'netTeacher.features: should be a valid list, but is "layers.0"',
    ),
    "spandrel's teacher without a file": (
        "netTeacher",
        {"net_type": "spandrel"},
        "path.pretrained_netTeacher: missing, but netTeacher.net_type is 'spandrel'",
    ),
    "key of spandrel's teacher elsewhere": (
        "netG.features",
        ["layers.0"],
        "netG.features: unknown key; did you mean netTeacher.features?",
    ),
    "unknown key of train": ("train.foo", 1, "train.foo: unknown key"),
    "misspelt section": ("netGG", {}, "netGG: unknown key; did you mean netG?"),
    "misspelt path": (
        "path.pretrained_netTeecher",
        None,
        "path.pretrained_netTeecher: unknown key; did you mean path.pretrained_netTeacher?",
    ),
    "misspelt key of the training set": (
        "datasets.train.hsize",
        192,
        "datasets.train.hsize: unknown key; did you mean datasets.train.H_size?",
    ),
    "misspelt key of a test set": (
        "datasets.test.datarootH",
        "x",
        "datasets.test.datarootH: unknown key; did you mean datasets.test.dataroot_H?",
    ),
    "misspelt key of netG": ("netG.embed_dims", 60, "netG.embed_dims: unknown key; did you mean netG.embed_dim?"),
    "misspelt key of train": (
        "train.G_optimiser_lr",
        1e-3,
        "train.G_optimiser_lr: unknown key; did you mean train.G_optimizer_lr?",
    ),
    "key of another section": ("netG.total_iter", 5, "netG.total_iter: unknown key; did you mean train.total_iter?"),
    "key outside its section": ("E_decay", 0.9, "E_decay: unknown key; did you mean train.E_decay?"),
    "training key of a test set": (
        "datasets.test.H_size",
        192,
        "datasets.test.H_size: unknown key; did you mean datasets.train.H_size?",
    ),
    "value for a section": ("datasets.train", [1], "datasets.train: should be a section in braces, but is [1]"),
    "string for a number": (
        "train.G_optimizer_lr",
        "2e-4",
        'train.G_optimizer_lr: should be a valid number, but is "2e-4"',
    ),
    "string for a list": ("netG.depths", "6666", "netG.depths: should be a valid list"),
    "number for a folder": (
        "datasets.train.dataroot_H",
        5,
        "datasets.train.dataroot_H: should be a path or a list of paths, but is 5",
    ),
    "list of no folder": (
        "datasets.test.dataroot_H",
        [],
        "datasets.test.dataroot_H: should be a path or a list of paths, but is []",
    ),
    "list of more than folders": (
        "datasets.train.dataroot_H",
        ["a", 1],
        "datasets.train.dataroot_H: should be a path or a list of paths, but is ['a', 1]",
    ),
    "folder that stands twice in a list": (
        "datasets.train.dataroot_H",
        ["a", "b", "a"],
        "datasets.train.dataroot_H: names a folder twice",
    ),
    "folder with control characters in a list": (
        "datasets.train.dataroot_H",
        ["a", "D:\train"],
        r'datasets.train.dataroot_H: should be a path without control characters, but is "D:\train" (JSON wants /',
    ),
    "LR folder for two of HR": (
        "datasets.train",
        {"name": "DF2K", "dataroot_H": ["a", "b"], "dataroot_L": "c"},
        "datasets.train.dataroot_L: should name as many folders as dataroot_H, 2, but names 1",
    ),
    "NaN": ("train.G_optimizer_lr", float("nan"), "train.G_optimizer_lr: should be a finite number, but is NaN"),
    "infinity": ("train.G_lossfn_weight", float("inf"), "train.G_lossfn_weight: should be a finite number"),
    "zero rate": ("train.G_optimizer_lr", 0, "train.G_optimizer_lr: should be greater than 0, but is 0"),
    "negative weight": ("train.distill_lossfn_weight", -1, "train.distill_lossfn_weight: should be greater than or eq"),
    "decay of one": ("train.E_decay", 1, "train.E_decay: should be less than 1"),
    "wrong choice": (
        "train.distillation_type",
        "features",
        "train.distillation_type: should be 'none', 'response' or 'feature', but is \"features\"",
    ),
    "wrong scale": ("scale", 5, "scale: should be 1, 2, 3, 4 or 8, but is 5"),
    "bool for an integer": ("train.total_iter", True, "train.total_iter: should be a valid integer, but is true"),
    "integer for a bool": ("datasets.train.dataloader_shuffle", 1, "datasets.train.dataloader_shuffle: should be a va"),
    "fraction for an integer": ("train.total_iter", 1.5, "train.total_iter: should be a valid integer"),
    "one beta": ("train.G_optimizer_betas", [0.9], "train.G_optimizer_betas: should have at least 2 entries"),
    "short pair": ("train.feature_pairs", [[0, 0], [1]], "train.feature_pairs.1: should have at least 2 entries"),
    "long pair": ("train.feature_pairs", [[0, 1, 2]], "train.feature_pairs.0: should have at most 2 entries"),
    "no pair": ("train.feature_pairs", [], "train.feature_pairs: should have at least 1 entries"),
    "crop that the scale does not divide": (
        "datasets.train.H_size",
        30,
        "datasets.train.H_size: 30 is not a multiple of scale 4",
    ),
    "student of another scale": ("netG.upscale", 2, "netG.upscale: 2 does not fit scale 4"),
    "teacher of another scale": ("netTeacher.upscale", 8, "netTeacher.upscale: 8 does not fit scale 4"),
    "student of other channels": ("netG.in_chans", 1, "netG.in_chans: 1 does not fit n_channels 3"),
    "distillation without a teacher": (
        "train.distillation_type",
        "response",
        "path.pretrained_netTeacher: missing, but distillation_type is 'response'",
    ),
    "weight that ends where it begins": (
        "train",
        {"total_iter": 9, "start_feature_iter": 5, "end_feature_iter": 6},
        "train.end_feature_iter: 6 leaves no iteration after train.start_feature_iter (5)",
    ),
    "attention without features": (
        "train.attention_lossfn_weight",
        1000,
        "train: attention_lossfn_weight and affinity_lossfn_weight need distillation_type 'feature'",
    ),
    "frequencies of no teacher": ("train.frequency_target", "teacher", "train.frequency_target: there is no teacher"),
    "zoomed inputs without a teacher": ("train.zoomed_inputs", True, "train.zoomed_inputs: only a teacher can label"),
    "task with a slash": ("task", "a/b", "task: should consist of letters, digits"),
    "task above the root": ("task", "..", "task: should consist of letters, digits"),
    "test set with a slash": ("datasets.test.name", "a/b", "datasets.test.name: should consist of letters, digits"),
    "test sets of equal name": (
        "datasets.test2",
        {"name": "toy_test", "dataroot_H": "x"},
        "datasets: two test sets have the same name (toy_test, toy_test)",
    ),
}


@pytest.mark.parametrize(("key", "value", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_or_key_is_refused_by_file_key_and_expectation(
    write: Write, key: str, value: object, expected: str
) -> None:
    path = write({key: value})
    assert complaint(path).startswith(f"{path}: {expected}")


def test_a_bool_for_a_choice_of_numbers_is_refused(write: Write) -> None:
    path = write({"n_channels": True})
    assert complaint(path).startswith(f"{path}: n_channels: should be a number, but is true")


@pytest.mark.parametrize("key", ["task", "scale", "netG", "datasets.test.dataroot_H", "train.total_iter"])
def test_a_missing_key_is_named(write: Write, raw_options: dict[str, Any], key: str) -> None:
    *sections, last = key.split(".")
    section = raw_options
    for part in sections:
        section = section[part]
    del section[last]
    path = write({})
    assert complaint(path) == f"{path}: {key}: this key is missing"


def test_each_of_several_problems_has_a_line_of_its_own(write: Write) -> None:
    path = write({"train.total_iter": "10", "train.E_decay": 2, "train.G_optimiser_lr": 1})
    assert complaint(path).splitlines() == [
        f"{path}: 3 problems:",
        "  train.E_decay: should be less than 1, but is 2",
        '  train.total_iter: should be a valid integer, but is "10"',
        "  train.G_optimiser_lr: unknown key; did you mean train.G_optimizer_lr?",
    ]


def test_a_wrong_value_that_the_networks_share_is_one_problem(write: Write) -> None:
    path = write({"n_channels": 2, "netG.upscale": 5})
    assert complaint(path).splitlines()[1:] == [
        "  n_channels: should be 1 or 3, but is 2",
        "  netG.upscale: should be 1, 2, 3, 4 or 8, but is 5",
    ]


def test_of_a_file_with_very_many_problems_the_first_are_shown(write: Write) -> None:
    first, *shown, last = complaint(write({f"train.key{index}": 1 for index in range(100)})).splitlines()
    assert first.endswith(": 100 problems:")
    assert [line.partition(": ")[0] for line in shown] == [f"  train.key{index}" for index in range(30)]
    assert last == "  and 70 more"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"task": "a", "task": "b"}', 'cannot be read as JSON: Duplicate key "task"'),
        (b'{"netG": {"depths": [6], "depths": [4]}}', 'cannot be read as JSON: Duplicate key "depths"'),
        (b'{"task": "a",\n "scale" 4}', "cannot be read as JSON: <string>:2"),
        (b'{"task": ', "cannot be read as JSON"),
        (b"", "cannot be read as JSON"),
        (b"\xff\xfe{}", "cannot be read as JSON"),
        (b'[{"task": "a"}]', "the file should hold one JSON object"),
        (None, "the option file cannot be read (No such file"),
    ],
)
def test_a_file_that_is_no_json_object_is_refused_by_name(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "options.json"
    if content is not None:
        path.write_bytes(content)
    assert complaint(path).startswith(f"{path}: {expected}")


def test_comments_are_skipped_and_values_that_look_like_comments_are_kept(write: Write) -> None:
    path = write({"path": {"root": "http://x//y", "cache": "/* z */"}})
    plain = load(path)
    text = path.read_text(encoding="utf-8").replace(', "', ',  // "task": "other" // and more\n"')
    path.write_text(f"// head {{\n/* and\nmore */ {text} // tail", encoding="utf-8")
    assert load(path) == plain
    assert (plain.path.root, plain.path.cache) == ("http://x//y", "/* z */")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.total_iter=200", "train.total_iter", 200),
        ("train.G_optimizer_lr=1e-5", "train.G_optimizer_lr", 1e-5),
        ("netG.depths=[3, 1]", "netG.depths", [3, 1]),
        ("train.feature_pairs=[[0,1],[1,2]]", "train.feature_pairs", [[0, 1], [1, 2]]),
        ("train.G_optimizer_clipgrad=null", "train.G_optimizer_clipgrad", None),
        ("datasets.train.dataloader_shuffle=false", "datasets.train.dataloader_shuffle", False),
        ("train.distillation_type=feature", "train.distillation_type", "feature"),
        ("path.root=../my runs", "path.root", "../my runs"),
        ("path.cache=http://x//y?a=b", "path.cache", "http://x//y?a=b"),
        ('task="5"', "task", "5"),
    ],
)
def test_an_override_is_json_or_else_a_string(write: Write, override: str, key: str, value: object) -> None:
    path = write({"path.pretrained_netTeacher": "x.pth", "train.G_optimizer_clipgrad": 1.5})
    before, after = load(path), load(path, [override])
    assert flat(after.model_dump()) == flat(before.model_dump()) | {key: value}
    assert after != before


def test_overrides_make_sections_and_the_last_one_counts(write: Write, raw_options: dict[str, Any]) -> None:
    del raw_options["path"]
    path = write({"netG.upsampler": ""})
    changes = ["path.root=elsewhere", "datasets.test2.name=more", "datasets.test2.dataroot_H=images"]
    options = load(path, [*changes, "train.total_iter=7", "train.total_iter=8", "netG.upsampler=null"])
    assert options.task_folder == Path("elsewhere/toy")
    assert [test.name for test in options.datasets.tests] == ["toy_test", "more"]
    assert options.train.total_iter == 8
    assert options.netG.upsampler is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.total_iter", "--set train.total_iter: expected key=value, for example train.total_iter=200"),
        ("task.name=x", "--set task.name=x: task is not a section"),
        ("netG.depths.0=3", "--set netG.depths.0=3: depths is not a section"),
        ("train.total_iters=3", "train.total_iters: unknown key; did you mean train.total_iter?"),
        ("train.total_iter=many", 'train.total_iter: should be a valid integer, but is "many"'),
    ],
)
def test_a_wrong_override_is_refused(write: Write, override: str, expected: str) -> None:
    assert expected in complaint(write({}), override)


def test_what_is_saved_loads_as_the_same_options_with_the_same_keys_set(write: Write, tmp_path: Path) -> None:
    changes = {"train.distillation_type": "feature", "path.pretrained_netTeacher": "Lehrer/größer.pth"}
    test2 = {"name": "more", "dataroot_H": "images"}
    options = load(write({**changes, "datasets.test2": test2}), ["train.total_iter=123", "netG.upsampler=null"])
    saved = tmp_path / "saved.json"
    options.save(saved)
    again = load(saved)
    assert again == options
    assert again.model_dump(exclude_unset=True) == options.model_dump(exclude_unset=True)
    assert json.loads(saved.read_text(encoding="utf-8"))["train"]["total_iter"] == 123


def test_two_files_of_one_task_are_refused(write: Write) -> None:
    first, second = write({}, name="first.json"), write({"train.total_iter": 20}, name="second.json")
    with pytest.raises(UserError, match=f"^{second}: task: 'toy' is the task of an earlier file, too$"):
        load_all([first, second])
    elsewhere = write({"path.root": "elsewhere"}, name="second.json")
    assert [options.task for options in load_all([first, elsewhere])] == ["toy", "toy"]


@pytest.mark.parametrize("key", ["pretrained_netG", "pretrained_netE", "pretrained_netTeacher"])
def test_missing_weights_are_noticed_before_anything_runs(write: Write, tmp_path: Path, key: str) -> None:
    weights = tmp_path / "weights.pth"
    teacher = {"path.pretrained_netTeacher": __file__, "train.distillation_type": "response"}
    path = write({**teacher, f"path.{key}": str(weights)})
    with pytest.raises(UserError, match=f"^{path}: path.{key}: there is no file {weights}"):
        load_all([path])
    weights.touch()
    assert len(load_all([path])) == 1


def test_a_task_that_has_begun_can_do_without_the_weights_that_it_began_with(write: Write, tmp_path: Path) -> None:
    path = write({"path.pretrained_netG": str(tmp_path / "gone.pth"), "path.root": str(tmp_path)})
    checkpoints.save(tmp_path / "toy" / "models", 5, {"G": b"", "E": b"", "state": b""})
    assert len(load_all([path])) == 1


def test_all_that_is_missing_is_named_once(write: Write, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    folders = {"datasets.train.dataroot_H": f"{gone}/HR", "datasets.test.dataroot_L": f"{gone}/LR"}
    weights = {"path.pretrained_netTeacher": f"{gone}.pth", "train.distillation_type": "response"}
    first = write(folders, name="first.json")
    second = write({"task": "second", **folders, **weights}, name="second.json")
    with pytest.raises(UserError) as caught:
        load_all([first, second])
    assert str(caught.value).splitlines() == [
        f"{first}: datasets.train.dataroot_H: there is no folder {gone}/HR",
        f"{first}: datasets.test.dataroot_L: there is no folder {gone}/LR",
        f"{second}: path.pretrained_netTeacher: there is no file {gone}.pth",
        "  python -m data.download fetches DIV2K, Set5 and others",
        "  python -m model_zoo.download fetches official weights",
    ]


@pytest.mark.parametrize(
    ("changes", "override", "sentence"),
    [
        ({}, "train.total_iters=5", r" with --set: train\.total_iters: unknown key"),
        ({"train.E_decays": 0.5}, "scale=2", r": train\.E_decays: unknown key"),
    ],
)
def test_a_key_of_the_command_line_is_not_blamed_on_the_file(
    changes: dict[str, Any], override: str, sentence: str, write: Write
) -> None:
    path = write(changes)
    with pytest.raises(UserError, match=f"^{path}{sentence}"):
        load(path, [override])


def test_of_a_misspelt_file_the_nearest_is_named(write: Write, tmp_path: Path) -> None:
    (tmp_path / "DAT_light_x4.pth").touch()
    wrong = {"path.pretrained_netTeacher": f"{tmp_path}/DAT-light-x4.pth", "train.distillation_type": "response"}
    with pytest.raises(UserError, match=rf"DAT-light-x4\.pth \(there is {tmp_path}/DAT_light_x4\.pth\)$"):
        load_all([write(wrong)])


def test_a_teacher_that_is_not_used_may_be_missing(write: Write, tmp_path: Path) -> None:
    path = write({"path.pretrained_netTeacher": str(tmp_path / "weights.pth")})
    assert load_all([path])[0].train.distillation_type == "none"


def test_an_earlier_task_of_the_same_call_may_train_the_teacher(write: Write, tmp_path: Path) -> None:
    weights = tmp_path / "runs" / "toy" / "models" / "10_E.pth"
    changes = {"train.distillation_type": "response", "path.pretrained_netTeacher": str(weights)}
    first, second = write({}, name="first.json"), write({"task": "pupil", **changes}, name="second.json")
    assert [options.task for options in load_all([first, second])] == ["toy", "pupil"]
    with pytest.raises(UserError, match=f"^{second}: path.pretrained_netTeacher: there is no file {weights}"):
        load_all([second, first])


def test_a_test_set_that_is_null_is_left_out(write: Write) -> None:
    path = write({"datasets.test_more": {"name": "more", "dataroot_H": "nowhere"}})
    assert [test.name for test in load(path).datasets.tests] == ["toy_test", "more"]
    assert [test.name for test in load(path, ["datasets.test=null"]).datasets.tests] == ["more"]


def test_overrides_apply_to_every_file(write: Write) -> None:
    paths = [write({"task": task}, name=f"{task}.json") for task in ("one", "two")]
    assert [options.train.total_iter for options in load_all(paths, ["train.total_iter=3"])] == [3, 3]


def test_the_network_section_is_the_signature_of_swinir() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(SwinIR).parameters.items()}
    del defaults["norm_layer"]  # a class, which JSON cannot name; KAIR's files do not either
    signature = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    section = Network().model_dump()
    assert section.pop("net_type") == "swinir"
    assert section == signature


def sections(section: type[Section]) -> list[type[Section]]:
    """All kinds of section below one."""
    return [kind for child in section.__subclasses__() for kind in (child, *sections(child))]


@pytest.mark.parametrize("kind", sections(Section))
def test_every_field_has_a_description(kind: type[Section]) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


OPTION_FILES = sorted((ROOT / "options").rglob("*.json"))
assert len(OPTION_FILES) >= 12


@pytest.mark.slow
@pytest.mark.parametrize("path", OPTION_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_shipped_file_is_a_lab_note_whose_networks_go_together(path: Path) -> None:
    head = path.read_text().partition("{")[0]
    assert f"python main_train_student.py --opt {path.relative_to(ROOT)}" in head
    assert "Needs" in head
    assert "dB" in head
    check_networks(load(path))
