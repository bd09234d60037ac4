"""`pip install .` makes four commands that work in any folder, beside whatever else is installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data.folders.derived import make_bicubic_lr
from tests.conftest import ROOT, toy_options, write_images
from utils.runs.journal import Journal

ROOMS = ("models", "data", "utils", "model_zoo")
FILES = ("main_train_student.py", "main_test_swinir.py")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with ours among them, and others that are called like our rooms."""
    folder = tmp_path_factory.mktemp("install")
    clone, site = folder / "clone", folder / "site"
    clone.mkdir()  # setuptools leaves files in the folder that it builds from
    for name in ROOMS:
        shutil.copytree(ROOT / name, clone / name)
    for name in (*FILES, "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, clone)
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, clone], check=True)
    subprocess.run([*PIP, "install", "--no-deps", "--target", site, *folder.glob("*.whl")], check=True)
    for name in ROOMS:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("raise ImportError('this package is of others')")
    return site


def run(site: Path, *command: str | Path, folder: Path) -> str:
    """What an installed command prints that is run in `folder`."""
    path = f"{site / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_every_module_is_installed_and_nothing_beside_the_package(site: Path) -> None:
    installed = {path.relative_to(site / "swinir_student") for path in (site / "swinir_student").rglob("*.py")}
    modules = {path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert installed == modules | {Path(name) for name in FILES}
    names = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"swinir_student", "bin", *ROOMS}  # the rooms are those of others


@pytest.mark.slow
def test_installed_commands_train_test_report_and_export(site: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "HR")
    make_bicubic_lr(images, tmp_path / "LR", scale=4)
    raw = toy_options(images, root=tmp_path / "runs")
    raw["datasets"]["train"]["dataloader_num_workers"] = 2
    raw["train"] |= {"total_iter": 2, "checkpoint_test": 2, "checkpoint_save": 2}
    (tmp_path / "toy.json").write_text(json.dumps(raw))
    task, weights = tmp_path / "runs" / "toy", tmp_path / "runs" / "toy" / "models" / "2_E.pth"

    run(site, "torchrun", "--nproc_per_node=2", "--no-python", "swinir-train", "--opt", "toy.json", folder=tmp_path)
    start = Journal(task / "environment.jsonl").read()[0]
    assert start["processes"] == 2
    assert "swinir-train --opt toy.json" in start["command"]
    assert start["commit"] is None  # the package is no clone

    said = run(site, "swinir-test", "--model_path", weights, "--folder_gt", "HR", "--folder_lq", "LR", folder=tmp_path)
    assert "PSNR" in said
    assert "toy" in run(site, "swinir-report", task, folder=tmp_path)
    assert (tmp_path / "report" / "index.html").exists()
    run(site, "swinir-export", weights, "--out", "exported", folder=tmp_path)
    assert {path.suffix for path in (tmp_path / "exported").iterdir()} >= {".safetensors", ".onnx", ".md"}
    for command in ("swinir-train", "swinir-test", "swinir-report", "swinir-export"):
        assert f"usage: {command} " in run(site, command, "-h", folder=tmp_path)
