"""Where iterations were made."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from utils.runs import environment
from utils.runs.environment import record_environment
from utils.runs.journal import Journal

CPU = torch.device("cpu")


def starts(folder: Path) -> list[int]:
    return [record["iter"] for record in Journal(folder / "environment.jsonl").read()]


def test_every_start_is_kept_unless_its_iterations_were_made_again(tmp_path: Path) -> None:
    for step, expected in ((0, [0]), (5, [0, 5]), (9, [0, 5, 9]), (9, [0, 5, 9]), (5, [0, 5]), (0, [0])):
        record_environment(tmp_path, step=step, device=CPU, teacher=None)
        assert starts(tmp_path) == expected


def test_a_teacher_that_became_another_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher = tmp_path / "teacher.pth"
    for step, weights in ((0, b"first"), (5, b"first"), (9, b"second")):
        assert caplog.messages == []
        teacher.write_bytes(weights)
        record_environment(tmp_path, step=step, device=CPU, teacher=str(teacher))
    assert caplog.messages == [f"{teacher}: the teacher's weights are not those of the iterations up to 9"]


def clone(folder: Path) -> str:
    """A repository with one commit, which is returned."""
    git = ["git", "-C", str(folder), "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    folder.mkdir()
    (folder / "code.py").write_text("first")
    for command in (["init", "--quiet"], ["add", "code.py"], ["commit", "--quiet", "-m", "First"]):
        subprocess.run([*git, *command], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def test_code_command_and_libraries_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = clone(tmp_path / "clone")
    monkeypatch.setattr(environment, "CODE", tmp_path / "clone")
    monkeypatch.setattr(sys, "argv", ["main_train_student.py", "--opt", "my options.json"])
    record = environment.environment(CPU)
    assert record["commit"] == commit
    assert record["dirty"] is False
    assert record["command"] == "main_train_student.py --opt 'my options.json'"
    assert record["versions"]["torch"] == version("torch")
    assert f", {torch.get_num_threads()} thread" in record["device"]
    (tmp_path / "clone" / "code.py").write_text("second")
    assert environment.environment(CPU)["dirty"] is True


def test_code_that_lies_in_the_repository_of_another_project_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a virtual environment of that project."""
    clone(tmp_path / "project")
    site = tmp_path / "project" / "site-packages"
    site.mkdir()
    monkeypatch.setattr(environment, "CODE", site)
    record = environment.environment(CPU)
    assert record["commit"] is None
    assert record["dirty"] is False


def test_every_recorded_library_is_required() -> None:
    required = (ROOT / "requirements.txt").read_text()
    assert [name for name in environment.LIBRARIES if f"{name}>=" not in required] == []
