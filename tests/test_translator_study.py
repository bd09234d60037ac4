"""What translators are said to have learnt, on features made for the purpose and on a task's checkpoint."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from models.inspect import translator_study
from models.inspect.study import effective_rank, pair_statistics, r_squared
from models.select_network import define_teacher
from tests.conftest import train_here
from tests.golden.fill import fill_
from utils.options.schema import Options


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(5000, 8, generator=torch.manual_seed(0))


def test_the_effective_rank_counts_directions_of_one_size() -> None:
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.outer(torch.arange(1.0, 6.0), torch.ones(3))) == pytest.approx(1, abs=1e-6)
    assert effective_rank(torch.diag(torch.tensor([1.0, 1.0, 1e-9]))) == pytest.approx(2, abs=1e-6)


def test_r_squared_is_the_share_that_is_linear_whatever_its_size_and_offset(noise: torch.Tensor) -> None:
    assert r_squared(noise, 1e-3 * noise.flip(1) + 3) == pytest.approx(1, abs=1e-4)
    assert r_squared(noise, noise[:, :2]) == pytest.approx(2 / 8, abs=0.01)
    assert r_squared(noise, torch.zeros(5000, 3)) == 0
    assert r_squared(noise, noise.square()) < 0.01


def test_a_translator_that_forgets_the_teacher_is_told_from_one_that_keeps_it(noise: torch.Tensor) -> None:
    forgetful, faithful = 1e-4 * torch.eye(8)[:3], torch.eye(8)
    figures = pair_statistics(forgetful, noise, answer=torch.zeros(5000, 3), target=noise @ forgetful.T)
    assert figures.loss < 1e-4, "it meets the loss"
    assert figures.of_constant == pytest.approx(1, abs=0.01), "but no better than a constant"
    assert (figures.r2_target, figures.r2_student) == (pytest.approx(3 / 8, abs=0.01), 0)
    assert figures.variance_ratio == pytest.approx(1e-8 * 3 / 8, rel=0.05)
    figures = pair_statistics(faithful, noise, answer=0.5 * noise, target=noise)
    assert (figures.r2_target, figures.r2_student, figures.variance_ratio) == pytest.approx((1, 1, 1))
    assert figures.of_constant == pytest.approx(0.5, abs=0.01)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: Path | str) -> None:
    monkeypatch.setattr(sys, "argv", ["translator_study", *map(str, arguments)])
    translator_study.main()


@pytest.mark.slow
def test_tasks_of_both_sides_are_studied_from_their_folders(
    tmp_path: Path, raw_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw_options["path"]["pretrained_netTeacher"] = str(tmp_path / "teacher.pth")
    torch.save(fill_(define_teacher(Options.model_validate(raw_options)), 1).state_dict(), tmp_path / "teacher.pth")
    feature = {"distillation_type": "feature", "total_iter": 5}
    sides = {f"{side}s": {**feature, "feature_translator": side} for side in ("teacher", "student")}
    for task, train in {**sides, "response": {"distillation_type": "response", "total_iter": 5}}.items():
        file = tmp_path / f"{task}.json"
        file.write_text(json.dumps(raw_options | {"task": task, "train": raw_options["train"] | train}))
        train_here(monkeypatch, "--opt", file)
    capsys.readouterr()
    folder = Path(raw_options["path"]["root"]).rename(tmp_path / "elsewhere")
    (folder / "teachers" / "models" / "9_G.pth").touch()  # of a save under way
    run(monkeypatch, *(folder / task for task in sides), "--out", tmp_path / "out")
    table = (tmp_path / "out" / "translators.md").read_text()
    assert capsys.readouterr().out.endswith(table)
    _, _, *lines = (line.split("|") for line in table.splitlines() if line.startswith("|"))
    assert [(line[1].strip(), line[2].strip()) for line in lines] == [
        (task, pair) for task in sides for pair in ("0-0", "1-2")
    ]
    for task, norms in zip(sides, (lines[:2], lines[2:]), strict=True):
        weights = torch.load(folder / task / "models" / "5_P.pth")
        expected = [f"{weights[f'{index}.weight'].norm():.2f}" for index in (0, 1)]
        assert [line[3].strip() for line in norms] == expected
    kept = [float(line[6].strip(" %")) for line in lines]
    assert all(share < 95 for share in kept[:2]), "12 of the teacher's 24 channels cannot hold all"
    assert all(share > 96 for share in kept[2:]), "normalisation loses little"
    assert (tmp_path / "out" / "translators.svg").read_text().startswith("<?xml")
    for path in (folder / "teachers" / "models").glob("5_*"):
        path.unlink()
    for task, sentence in (("response", "this task compares no features"), ("teachers", "there is no checkpoint yet")):
        with pytest.raises(SystemExit) as exit_code:
            run(monkeypatch, folder / task, "--out", tmp_path / "out")
        assert exit_code.value.code == 2
        assert sentence in capsys.readouterr().err
    assert (folder / "teachers" / "models" / "9_G.pth").exists()
