"""`python -m benchmarks.gpu_day` on the CPU, and what it packs."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_day.packing import pack, unpack
from benchmarks.gpu_day.phases import Day, Results, run_phase
from tests.conftest import ROOT
from tests.gpu_day_phase import good_bad_and_endless
from utils.process.errors import UserError
from utils.runs import checkpoints


def gpu_day(out: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    """The rows of a day on the CPU, all of which have to be good."""
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.gpu_day", "--device", "cpu", "--tiny"]
    command += ["--data", "none", "--out", out, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = json.loads((out / "results.json").read_text())
    assert done.returncode == 0, (done.stdout, done.stderr, [row for row in rows if "failed" in row])
    return rows


@pytest.mark.slow
def test_a_day_goes_through_its_phases_and_another_machine_goes_on(tmp_path: Path) -> None:
    start = time.monotonic()
    rows = gpu_day(tmp_path / "first", "--minutes", "3")
    assert time.monotonic() - start < 3 * 60 + 10
    assert list(dict.fromkeys(row["phase"] for row in rows)) == [
        *("machine", "correctness", "speed", "training", "packing")
    ]
    (first,) = [row for row in rows if row["phase"] == "training"]
    assert (first["begun"], first["losses"][0]["iter"]) == (0, first["saved"])
    files = sorted((tmp_path / "first").iterdir())
    assert len(files) <= 8
    assert all(path.stat().st_size < 16 * 2**20 for path in files)
    packed = [path for path in files if path.name != "results.json"]
    rows = gpu_day(tmp_path / "second", "--minutes", "0.7", "--resume", *packed)
    (second,) = [row for row in rows if row["phase"] == "training"]
    assert second["begun"] == first["saved"] < second["saved"]
    assert json.loads((tmp_path / "second/run.json").read_text())["iter"] == second["saved"]


def day(tmp_path: Path) -> Day:
    return Day(device="cpu", tiny=True, out=tmp_path, work=tmp_path, data=tmp_path, options=tmp_path / "x.json")


@pytest.mark.slow
def test_what_fails_is_a_row_and_what_hangs_is_killed_at_the_deadline(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    run_phase("toy", good_bad_and_endless, day(tmp_path), seconds=10, results=results)
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["work"] for row in rows] == ["good", "bad", "the phase"]
    assert rows[0]["found"] is True
    assert rows[1]["failed"] == "ValueError: this card is wet"
    assert rows[2]["failed"] == "killed at its deadline of 10 s"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "runs/toy"
    (folder / "images").mkdir(parents=True)
    (folder / "images/large.png").write_bytes(b"not packed")
    (folder / "metrics.jsonl").write_text('{"iter": 5}\n')
    for step in (5, 10):
        checkpoints.save(folder / "models", step, {"G": b"g" * step, "E": b"e", "state": b"s"})
    return folder


def test_what_is_packed_is_unpacked_with_the_newest_checkpoint_alone(task: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    files = pack(task, tmp_path / "out")
    assert unpack(files, tmp_path / "there") == tmp_path / "there/toy"
    found = sorted(path.name for path in (tmp_path / "there").rglob("*") if path.is_file())
    assert found == ["10_E.pth", "10_G.pth", "10_checkpoint.json", "10_state.pth", "metrics.jsonl"]
    assert checkpoints.newest(tmp_path / "there/toy/models") == 10


def test_a_packed_file_that_is_damaged_or_missing_is_named(task: Path, tmp_path: Path) -> None:
    part, manifest = pack(task, tmp_path)
    with pytest.raises(UserError, match=r"--resume: run\.tar\.gz\.0 is not among the files"):
        unpack([manifest], tmp_path / "there")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"run\.tar\.gz\.0: damaged"):
        unpack([part, manifest], tmp_path / "there")
