"""The images of `make demo`."""

from pathlib import Path

import pytest

import data.demo_images
from tests.conftest import ROOT
from utils.imaging.io import image_size
from utils.options.load import load


def test_the_option_files_of_the_demo_find_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data.demo_images.main([])
    for file in (ROOT / "options" / "demo").glob("*.json"):
        datasets = load(file).datasets
        (train,) = datasets.train.folders
        assert min(min(image_size(path)) for path in train.H.iterdir()) >= datasets.train.H_size
        assert all(len(list(Path(test.place).iterdir())) == 3 for test in datasets.tests)
