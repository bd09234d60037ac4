"""Seeds and grids: several runs of one option file by one command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, train_here
from utils.process.errors import UserError
from utils.runs.variants import Variant, variants


def test_every_combination_is_a_task_named_by_what_varies() -> None:
    assert variants([], []) == [Variant()]
    found = variants([0, 1], ["train.feature_pairs=null,[[0,0],[1,2]]", "train.G_optimizer_lr=1e-3"])
    assert [variant.suffix for variant in found] == [
        f"_feature_pairs-{pairs}_G_optimizer_lr-1e-3_seed{seed}" for pairs in ("null", "0-0-1-2") for seed in (0, 1)
    ]
    assert found[2].overrides == (
        *("train.feature_pairs=[[0,0],[1,2]]", "train.G_optimizer_lr=1e-3", "train.manual_seed=0"),
    )


@pytest.mark.parametrize("grid", ["train.total_iter", "train.total_iter=1,,2", "train.total_iter=", "a=x/y,x:y"])
def test_a_grid_that_makes_no_tasks_is_refused(grid: str) -> None:
    with pytest.raises(UserError, match="--grid"):
        variants([], [grid])


@pytest.fixture
def file(raw_options: dict[str, Any], tmp_path: Path) -> Path:
    raw_options["train"] |= {"total_iter": 1, "checkpoint_test": 1, "checkpoint_save": 1}
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(raw_options))
    return path


@pytest.mark.slow
def test_seeds_are_reported_as_runs_of_one_method(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = tmp_path / "reports"
    monkeypatch.setattr("main_train_student.REPORTS", reports)
    train_here(monkeypatch, "--opt", file, "--seeds", "0", "1", "--grid", "train.G_lossfn_type=l1,l2")
    names = {f"toy_G_lossfn_type-{loss}_seed{seed}" for loss in ("l1", "l2") for seed in (0, 1)}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == names
    saved = json.loads((tmp_path / "runs/toy_G_lossfn_type-l2_seed1/options.json").read_text())["train"]
    assert (saved["G_lossfn_type"], saved["manual_seed"]) == ("l2", 1)
    printed = capsys.readouterr().out
    assert "| toy_G_lossfn_type-l2_seed* " in printed
    assert (reports / "toy_G_lossfn_type-l1_seed0" / "index.html").is_file()


@pytest.mark.slow
def test_tasks_run_at_once_in_processes_of_their_own_and_one_that_fails_is_named(file: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "main_train_student.py"), "--opt", str(file), "--jobs", "2"]
    losses = "train.G_lossfn_type=l1,l2"
    done = subprocess.run([*command, "--grid", losses], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "| toy_G_lossfn_type-l2 " in done.stdout
    wrong = ["--grid", "netG.drop_path_rate=0.1,0.2", "--set", "netG.num_heads=[5,5]"]
    done = subprocess.run([*command, *wrong], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --jobs: 2 of 2 tasks failed; see ")
    assert "num_heads" in (tmp_path / "runs/output/toy_drop_path_rate-0.1.txt").read_text()
