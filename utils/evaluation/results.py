"""What is kept of a test, and what is said of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.evaluation.evaluate import ImageResult, average
from utils.tables import formatted, markdown

FILE = "results.json"


def forget_results(folder: Path) -> None:
    """Delete the results of an earlier test: they should not stand beside half of a new one's images."""
    (folder / FILE).unlink(missing_ok=True)


def write_results(results: Mapping[str, ImageResult], folder: Path, *, settings: Mapping[str, Any]) -> None:
    """Write `results.json` of one test set into the folder of its images.

    Args:
        results: by image; none where there is no ground truth.
        settings: what the results depend on.
    """
    means = average(list(results.values())) if results else {}
    content = {**settings, "average": means, "images": {name: result.figures() for name, result in results.items()}}
    (folder / FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def results_table(results: Mapping[str, Mapping[str, ImageResult]]) -> str:
    """The table of the test sets that have a ground truth, and a line's end; empty where none has."""
    means = {name: average(list(of_set.values())) for name, of_set in results.items() if of_set}
    rows = [{"test set": name, **formatted(figures)} for name, figures in means.items()]
    return f"{markdown(rows)}\n" if rows else ""
