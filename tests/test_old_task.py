"""A task that was begun before the files moved into rooms goes on as it would have then.

`tests/fixtures/task_of_c7ad306` was stopped after iteration 8 of 16 by the code of that commit; the expected files are
what the same code came to without a stop.
"""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import main_train_student
from utils.runs.journal import Journal

# On one machine with one number of threads the end is the same bit for bit, but a fixture goes to many machines. Other
# processors and threads round sums differently: weights by 3e-8, and where a pixel is rounded to the other side, a
# figure by 2e-5 of itself. A resume without the optimizer's state, the translators, the average or the seed differs by
# 5e-6 (in E) and by 1e-3 of a figure at least.
WEIGHTS, FIGURES = 1e-6, 1e-4
FIXTURE = Path(__file__).parent / "fixtures" / "task_of_c7ad306"


def test_a_task_of_an_older_version_is_resumed_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(FIXTURE, tmp_path / "old")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["main_train_student.py", "--opt", "toy.json"])
    main_train_student.main()
    task = folder / "superresolution" / "toy"
    assert "continuing after iteration 8" in (task / "train.log").read_text()
    records, expected = Journal(task / "metrics.jsonl").read(), Journal(FIXTURE / "expected_metrics.jsonl").read()
    assert [record["iter"] for record in records] == [record["iter"] for record in expected]
    for record, before in zip(records, expected, strict=True):
        for key in before.keys() - {"images"}:  # they have the folder's paths; the means are compared
            value = before[key]
            assert record[key] == (pytest.approx(value, rel=FIGURES) if isinstance(value, float) else value), key
    for part in ("G", "E"):
        weights = torch.load(task / "models" / f"16_{part}.pth", weights_only=True)
        torch.testing.assert_close(weights, load_file(FIXTURE / f"expected_{part}.safetensors"), rtol=0, atol=WEIGHTS)
