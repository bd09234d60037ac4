"""What is kept of a test, and what is said of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.evaluate import ImageResult, average
from utils.tables import formatted, markdown


def write_results(
    results: Mapping[str, Mapping[str, ImageResult]], folder: Path, *, settings: Mapping[str, Any]
) -> str:
    """Write `results.json`; returns the table of the test sets that have a ground truth, and where everything is.

    Args:
        results: by test set and image.
        settings: what the results depend on.
    """
    means = {name: average(list(of_set.values())) for name, of_set in results.items() if of_set}
    images = {name: {image: result.figures() for image, result in of_set.items()} for name, of_set in results.items()}
    content = {**settings, "average": means, "images": images}
    (folder / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    rows = [{"test set": name, **formatted(figures)} for name, figures in means.items()]
    place = f"restored images and results.json are in {folder}"
    return f"{markdown(rows)}\n{place}" if rows else place
