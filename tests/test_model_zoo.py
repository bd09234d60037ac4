"""Our own models in model_zoo: they open as their option files say, and have the figures that the README gives."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import main_test_swinir
from models.inspect.summary import count_parameters
from models.select_network import network_with_weights
from tests.conftest import ROOT
from utils.options.load import load
from utils.weights import read_weights

ZOO = ROOT / "model_zoo"
README = (ZOO / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(swinir_\w+)` \|.*\| ([\d,]+) \| ([\d.]+) \| [\d.]+ \| [\d.]+ \|$", README, re.MULTILINE)


def test_every_model_is_in_the_table() -> None:
    assert [name for name, *_ in ROWS] == sorted(path.stem for path in ZOO.rglob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_model_is_what_its_option_file_says_and_has_the_figures_of_the_table(
    row: tuple[str, str, str], shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, parameters, psnr_y = row
    file = ZOO / name / f"{name}.safetensors"
    network = network_with_weights(read_weights(file), source=file, options=load(file.with_name("options.json")))
    assert f"{count_parameters(network):,}" == parameters
    set5 = shared("testsets/Set5")
    folders = ["--folder_lq", str(set5 / "LR_bicubic" / "X4"), "--folder_gt", str(set5 / "HR")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main_test_swinir.py", "--model_path", str(file), *folders])
    main_test_swinir.main()
    (results,) = tmp_path.glob(f"results/{name}_classical_sr_x4/Set5/results.json")
    assert f"{json.loads(results.read_text())['average']['psnr_y']:.2f}" == psnr_y
