"""Files of weights from strangers: no code of theirs runs, and nothing but weights comes out of them.

Downloads and archives from strangers are in `test_download.py`.
"""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.model_plain import ModelPlain
from models.network_swinir import SwinIR
from models.resume import resume
from models.select_network import network_from_weights, network_with_weights
from tests.conftest import ROOT
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.weights import read, read_weights


class Surprise:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


def save_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def save_safetensors(content: Any, path: Path) -> None:
    safetensors.torch.save_file(content, path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "wrap", [lambda surprise: surprise, lambda surprise: {"params": {"w": torch.ones(1), "x": surprise}}]
)
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(
    save: Callable[[object, Path], None], suffix: str, wrap: Callable[[Surprise], object], tmp_path: Path
) -> None:
    path, marker = tmp_path / f"weights{suffix}", tmp_path / "marker"
    save(wrap(Surprise(marker)), path)
    with pytest.raises(UserError, match=f"^{path}: not a readable checkpoint"):
        read_weights(path)
    assert not marker.exists()
    if suffix == ".pth" and save is save_zip:
        torch.load(path, weights_only=False)
        assert marker.exists(), "the file was harmless, so the test shows nothing"


def test_no_source_loads_a_pickle_in_another_way() -> None:
    rooms = ("models", "data", "utils", "model_zoo", "benchmarks")
    sources = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    for path in [*sources, *ROOT.glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert len(re.findall(r"(?<!safetensors\.)torch\.load\(", text)) == text.count("weights_only=True"), path
        assert not any(word in text for word in ("pickle.load", "weights_only=False", "allow_pickle=True")), path


def test_safetensors_are_read_wherever_weights_are(raw_options: dict[str, Any], tmp_path: Path) -> None:
    source = ModelPlain(Options.model_validate(raw_options), device=torch.device("cpu")).student
    nn.init.constant_(source.conv_first.weight, 0.25)
    path = tmp_path / "student.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    raw_options["path"]["pretrained_netG"] = str(path)
    model = ModelPlain(Options.model_validate(raw_options), device=torch.device("cpu"))
    resume(model)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.student.state_dict().items())


def saved(save: Callable[[object, Path], None], path: Path) -> bytes:
    save({"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.float16)}, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file of each kind, by its name."""
    folder = tmp_path_factory.mktemp("good")
    return {
        "zip.pth": saved(save_zip, folder / "zip.pth"),
        "legacy.pth": saved(save_legacy, folder / "legacy.pth"),
        "flat.safetensors": saved(save_safetensors, folder / "flat.safetensors"),
    }


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=300, deadline=None, database=None)
@given(data=st.data())
def test_any_bytes_are_weights_or_a_user_error(
    data: st.DataObject, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    content = files[name]
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content = content[:position] + data.draw(st.binary(max_size=4)) + content[position + 1 :]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        weights = read_weights(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
    else:
        assert all(isinstance(value, torch.Tensor) for value in weights.values())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("a.pth", "a.safetensors"):
        with pytest.raises(UserError, match=f"^{tmp_path}/{name}: there is no such checkpoint$"):
            read(tmp_path / name)


FIRST = "layers.0.residual_group.blocks.0.attn"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("conv_first.weight", torch.tensor(1.0)),
        ("conv_first.weight", torch.zeros(0, 3, 3, 3)),
        ("conv_first.weight", torch.zeros(1, 1, 1, 1).expand(10**6, 3, 3, 3)),
        (f"{FIRST}.relative_position_bias_table", torch.zeros(49, 0)),
        ("layers.0.residual_group.blocks.1.attn_mask", torch.tensor(1.0)),
    ],
)
def test_weights_of_impossible_shapes_make_no_network(name: str, value: torch.Tensor) -> None:
    weights = SwinIR(img_size=8, embed_dim=12, depths=[2], num_heads=[2], window_size=4).state_dict()
    network_from_weights(weights, source=Path("good.pth"))
    with pytest.raises(UserError, match=r"^strange\.pth: these are not the weights of a SwinIR \("):
        network_from_weights(weights | {name: value}, source=Path("strange.pth"))


@pytest.mark.parametrize("index", [torch.tensor(1), torch.zeros(0, 0), torch.zeros(9, 9, dtype=torch.int64)])
def test_an_index_of_another_shape_is_refused(index: torch.Tensor) -> None:
    weights = SwinIR(img_size=8, embed_dim=12, depths=[2], num_heads=[2], window_size=4).state_dict()
    with pytest.raises(UserError, match=r"^strange\.pth: .*relative_position_index"):
        network_with_weights(
            weights | {f"{FIRST}.relative_position_index": index}, source=Path("strange.pth"), options=None
        )
