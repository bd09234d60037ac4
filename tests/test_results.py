"""RESULTS.md and docs/study: their tables are what their commands make of the committed records."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from utils.options.load import load
from utils.report import __main__ as report
from utils.report import results
from utils.report.problems import Problem
from utils.report.tasks import Judged

RESULTS = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
STUDY = (ROOT / "docs" / "study" / "README.md").read_text(encoding="utf-8")
REPORTS = re.findall(r"^ +python -m utils\.report (docs/study/\S.*)$", STUDY, re.MULTILINE)


@pytest.fixture(scope="module")
def baselines() -> Iterator[None]:
    """The figures of bicubic, worked out once for each test set."""
    figures, known = results.baseline_figures, dict[Problem, dict[str, float]]()

    def once(problem: Problem, judged: Judged | None) -> dict[str, float]:
        return known.get(problem) or known.setdefault(problem, figures(problem, judged))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "baseline_figures", once)
        yield


def table_lines(text: str) -> list[str]:
    """The lines of all Markdown tables."""
    return [line for line in text.splitlines() if line.startswith("|")]


def test_every_section_has_a_command() -> None:
    assert len(REPORTS) == len(re.findall(r"^\| test set +\| method .* manual_seed", STUDY, re.MULTILINE)) > 0


def test_the_short_table_says_what_the_long_ones_say() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table_lines(RESULTS)[2:]]
    means = [line.replace("*" * 2, "") for line in table_lines(STUDY) if line.startswith("| mean of 3 sets")]
    assert len(rows) >= 10
    for method, _, value, difference in rows:
        of_method = [line for line in means if f"| {method} " in line]
        assert any(f"| {value} " in line for line in of_method), (method, value)
        assert not difference or any(f"| {difference} |" in line for line in of_method), (method, difference)


@pytest.mark.parametrize("method", ["A", "B", "C"])
def test_the_readme_says_what_the_long_tables_say(method: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {method} \| [^|]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", readme, re.MULTILINE)
    for dataset, figure in zip(("Set5", "Set14", "BSD100"), row, strict=True):
        cells = rf"^\| {dataset} +\| time_{method}_seed\* +\| (\*\*)?{figure} ± "
        assert re.search(cells, STUDY, re.MULTILINE), dataset


@pytest.mark.usefixtures("baselines")
@pytest.mark.parametrize("folders", REPORTS)
@pytest.mark.slow
def test_the_tables_are_those_of_the_records(
    folders: str, shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "testsets").mkdir()  # where the records say that the images are
    for name in ("Set5", "Set14", "BSD100"):
        (tmp_path / "testsets" / name).symlink_to(shared(f"testsets/{name}"))
    tasks = [str(path) for pattern in folders.split() for path in sorted(ROOT.glob(pattern))]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", *tasks])
    report.main()
    following = re.split("\n##+ ", STUDY.split(f"python -m utils.report {folders}\n")[1])[0]
    assert table_lines((tmp_path / "report" / "table.md").read_text(encoding="utf-8")) == table_lines(following)


def test_the_best_option_file_is_what_was_run() -> None:
    records = [load(ROOT / "docs" / "study" / f"C_side_balanced{seed}" / "options.json") for seed in ("", "_1", "_2")]
    best = load(ROOT / "options" / "study" / "train_swinir_student_distill_best.json")
    for seed, record in enumerate(records):
        train = best.train.model_copy(update={"manual_seed": seed})
        assert record == best.model_copy(update={"task": record.task, "train": train})


def test_the_records_name_no_folder_of_the_machine() -> None:
    """They are read from a clone, anywhere."""
    files = [path for path in (ROOT / "docs" / "study").glob("*/*") if path.suffix in {".json", ".jsonl"}]
    assert len(files) >= 5 * 9
    assert [path for path in files if re.search(r'["=]/', path.read_text(encoding="utf-8"))] == []
