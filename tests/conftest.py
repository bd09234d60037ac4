"""What several test files share: the golden numbers, the images beside the project, and tiny experiments."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import main_train_student
from tests.server import Server
from utils.imaging.io import write_image

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
SHARED = ROOT.parent / "shared"


def pytest_configure() -> None:
    """Hide GPUs from the tests and their processes, for bits have to agree, and give each one thread, for many run."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Give each test the same random numbers, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Path of a file that is not in the repository, beside it or downloaded into it; without it the test is skipped."""

    def path(relative: str) -> Path:
        for folder in (SHARED, ROOT):
            if (folder / relative).exists():
                return folder / relative
        pytest.skip(f"{relative} is not in the repository, nor in {SHARED}; `python -m data.download` brings test sets")

    return path


@pytest.fixture
def server() -> Iterator[Server]:
    """A running HTTP server."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def train_here(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    """The training script in this process, which saves the seconds of importing torch."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["main_train_student.py", *map(str, arguments)])
    main_train_student.main()


def make_image(height: int, width: int, *, seed: int, channels: int = 3) -> np.ndarray:
    """A smooth random image, (height, width, channels) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 16
    waves = [
        np.sin(x * rng.uniform(0.5, 2) + rng.uniform(0, 6)) + np.cos(y * rng.uniform(0.5, 2)) for _ in range(channels)
    ]
    return np.clip(128 + 50 * np.stack(waves, axis=2) + rng.normal(0, 4, (height, width, channels)), 0, 255).astype(
        "uint8"
    )


def write_images(folder: Path) -> Path:
    """Six HR images of 48x64 pixels; returns their folder."""
    for index in range(6):
        write_image(folder / f"{index:04d}.png", make_image(48, 64, seed=index))
    return folder


@pytest.fixture
def hr_folder(tmp_path: Path) -> Path:
    """A folder of six HR images."""
    return write_images(tmp_path / "HR")


@pytest.fixture
def raw_options(tmp_path: Path, hr_folder: Path) -> dict[str, Any]:
    """The toy options on `hr_folder`."""
    return toy_options(hr_folder, root=tmp_path / "runs")


def toy_options(hr_folder: Path, *, root: Path) -> dict[str, Any]:
    """A complete option file at toy scale: a student of 2 RSTBs, a few images, ten iterations."""
    return {
        "task": "toy",
        "scale": 4,
        "path": {"root": str(root)},
        "datasets": {
            "train": {
                "name": "toy_train",
                "dataroot_H": str(hr_folder),
                "H_size": 32,
                "dataloader_batch_size": 4,
                "dataloader_num_workers": 0,
            },
            "test": {"name": "toy_test", "dataroot_H": str(hr_folder)},
        },
        "netG": {
            "img_size": 8,
            "embed_dim": 12,
            "depths": [1, 2],
            "num_heads": [2, 2],
            "window_size": 4,
            "mlp_ratio": 2,
            "upsampler": "pixelshuffledirect",
        },
        "netTeacher": {
            "img_size": 8,
            "embed_dim": 24,
            "depths": [1, 1, 2],
            "num_heads": [2, 2, 2],
            "window_size": 4,
            "upsampler": "pixelshuffledirect",
        },
        "train": {
            "G_optimizer_lr": 1e-3,
            "feature_pairs": [[0, 0], [1, 2]],
            "total_iter": 10,
            "checkpoint_test": 5,
            "checkpoint_save": 5,
            "checkpoint_print": 1,
        },
    }
