"""The official weights: `python -m model_zoo.download`, and what fetches them when they are missing."""

import dataclasses
import json
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

import main_test_swinir
import model_zoo.download
from models.network_swinir import SwinIR
from tests.server import BODY, Server, sha256
from utils.imaging.io import write_image
from utils.process.errors import UserError


@pytest.fixture
def official_x4(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> model_zoo.download.Weights:
    """SwinIR-M_x4 with the body of the server as its file, and `tmp_path` as the folder that weights go to."""
    real = model_zoo.download.find(task="classical_sr", scale=4, training_patch_size=64)
    weights = dataclasses.replace(real, url=server.url(), size=len(BODY), sha256=sha256(BODY))
    monkeypatch.setattr(model_zoo.download, "official", lambda: [weights])
    monkeypatch.setattr(model_zoo.download, "FOLDER", tmp_path)
    return weights


def test_official_weights_by_name(official_x4: model_zoo.download.Weights, tmp_path: Path) -> None:
    model_zoo.download.main([official_x4.name])
    assert [path.name for path in tmp_path.iterdir()] == [official_x4.file]
    assert (tmp_path / official_x4.file).read_bytes() == BODY


def test_ensure_downloads_official_names_only(
    official_x4: model_zoo.download.Weights, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "teachers" / official_x4.file
    assert model_zoo.download.ensure(path) == path
    assert path.read_bytes() == BODY
    path.write_bytes(b"my own")
    assert model_zoo.download.ensure(path).read_bytes() == b"my own"
    assert len(server.requests) == 1
    with pytest.raises(UserError, match=r"mine\.pth does not exist and is not one of the official weights"):
        model_zoo.download.ensure(tmp_path / "mine.pth")


def test_the_test_script_downloads_the_weights_that_it_lacks(
    official_x4: model_zoo.download.Weights, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SwinIR(
        img_size=16, embed_dim=12, depths=[2], num_heads=[2], window_size=8, upscale=4, upsampler="pixelshuffle"
    )
    buffer = BytesIO()
    torch.save({"params": network.state_dict()}, buffer)
    server.files["/weights"] = buffer.getvalue()
    published = dataclasses.replace(
        official_x4, url=server.url("/weights"), size=len(buffer.getvalue()), sha256=sha256(buffer.getvalue())
    )
    monkeypatch.setattr(model_zoo.download, "official", lambda: [published])
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "Clean" / "a.png", np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))
    arguments = ["main_test_swinir.py", "--task", "classical_sr", "--scale", "4", "--folder_gt", "Clean"]
    monkeypatch.setattr(sys, "argv", arguments)
    main_test_swinir.main()
    assert (tmp_path / "model_zoo" / published.file).read_bytes() == buffer.getvalue()
    assert (tmp_path / "results" / "swinir_classical_sr_x4" / "Clean" / "a_SwinIR.png").exists()

    (tmp_path / "model_zoo" / published.file).unlink()
    server.files["/weights"] = buffer.getvalue()[:-1] + b"?"
    with pytest.raises(SystemExit):
        main_test_swinir.main()
    assert not (tmp_path / "model_zoo" / published.file).exists()


def test_every_official_weight_is_found_by_its_selectors() -> None:
    official = model_zoo.download.official()
    assert len({weights.name for weights in official}) == len({weights.file for weights in official}) == 28
    for weights in official:
        assert model_zoo.download.find(**weights.selectors()) == weights
    ignored = model_zoo.download.find(task="color_dn", noise=25, jpeg=40, training_patch_size=128)
    assert ignored.name == "SwinIR-M_color_noise25"


def test_find_lists_the_choices() -> None:
    with pytest.raises(UserError, match=r"none for task='gray_dn', scale=1, noise=20, .*noise=15.*noise=25.*noise=50"):
        model_zoo.download.find(task="gray_dn", noise=20)
    with pytest.raises(UserError, match="none for task 'sr', the choices are classical_sr, color_dn"):
        model_zoo.download.find(task="sr")


def test_readme_lists_the_official_weights() -> None:
    readme = Path(model_zoo.download.TABLE).with_name("README.md").read_text(encoding="utf-8")
    expected = [
        [weights.name, ", ".join(f"{k}={v}" for k, v in selectors.items()), weights.file, str(weights.size or "-")]
        for weights in model_zoo.download.official()
        for selectors in [{k: str(v).lower() if v is True or v is False else v for k, v in weights.selectors().items()}]
    ]
    rows = [line.strip("| ").split(" | ") for line in readme.splitlines() if line.startswith("| SwinIR")]
    assert rows == expected


def test_the_table_is_that_of_the_manifest(shared: Callable[[str], Path]) -> None:
    manifest = json.loads(shared("manifest.json").read_text(encoding="utf-8"))
    published = [(entry["path"], entry["url"], entry["size"], entry["sha256"]) for entry in manifest["SwinIR_weights"]]
    assert [(w.file, w.url, w.size, w.sha256) for w in model_zoo.download.official()] == published
