"""The benchmarks run; what they measure is no matter for tests."""

import sys

import pytest

from benchmarks import __main__ as benchmarks

pytestmark = pytest.mark.slow


def test_the_benchmarks_run_on_tiny_shapes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--tiny", "--rounds", "1"])
    benchmarks.main()
    table = capsys.readouterr().out
    for work in ("data:", "student, ", "SwinIR-M, ", "A, ", "B, ", "| C "):
        assert work in table
