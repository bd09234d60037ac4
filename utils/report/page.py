"""The report as one HTML page that needs no other file, and as Markdown."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from utils.report import bootstrap
from utils.report.crops import CROP, comparisons
from utils.report.curves import curve_pictures
from utils.report.feature_maps import feature_strips
from utils.report.picture import Picture
from utils.report.results import cost_rows, difference_rows, figure_rows, missing_baselines
from utils.report.tasks import Method, Task, all_tasks, test_sets
from utils.tables import markdown

TEMPLATE = Path(__file__).with_name("page.html.j2")


def how_differences(methods: Sequence[Method]) -> str:
    """What the intervals are and of what, for the reader to judge."""
    several = any(len(method.tasks) > 1 for method in methods)
    runs = "; over runs, where either has several, Student's t of pooled variance" if several else ""
    return (
        f"Difference to {methods[0].name} of the means over the same images, and its {bootstrap.LEVEL:.0%} interval: "
        f"paired bootstrap over images, {bootstrap.RESAMPLES:,} resamples, seed {bootstrap.SEED}, percentiles, "
        f"which are too narrow where there are few images{runs}."
    )


def content(methods: Sequence[Method]) -> dict[str, Any]:
    """Everything that the page shows; `figures`, `differences` and `cost` are tables, the rest is pictures and text."""
    return {
        "methods": methods,
        "tasks": list(all_tasks(methods)),
        "figures": figure_rows(methods),
        "missing_baselines": missing_baselines(methods),
        "differences": difference_rows(methods),
        "how_differences": how_differences(methods),
        "cost": cost_rows(methods),
        "curves": curve_pictures(methods),
        "comparisons": {dataset: comparisons(methods, dataset) for dataset in test_sets(methods)},
        "crop": CROP,
        "feature_strips": feature_strips(methods),
    }


def html(report: dict[str, Any]) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template(TEMPLATE.name)
    written = datetime.now().astimezone().isoformat(" ", timespec="minutes")
    return template.render(report, written=written, option_text=option_text)


def option_text(task: Task) -> str:
    """The exact option file, as training wrote it."""
    return (task.folder / "options.json").read_text(encoding="utf-8")


def text(report: dict[str, Any]) -> str:
    """The tables in Markdown."""
    parts = [markdown(report["figures"]) if report["figures"] else "No task has been validated yet."]
    parts += report["missing_baselines"]
    if report["differences"]:
        parts += [report["how_differences"], markdown(report["differences"])]
    return "\n\n".join([*parts, markdown(report["cost"])]) + "\n"


def pictures(report: dict[str, Any]) -> list[Picture]:
    """All pictures of the page."""
    strips = [strip for of_set in report["comparisons"].values() for strip in of_set] + report["feature_strips"]
    return [*report["curves"], *(picture for strip in strips for picture in strip.pictures)]


def write(methods: Sequence[Method], folder: Path) -> str:
    """Write `index.html`, `table.md` and, for papers, `figures/` into a folder, and return the tables."""
    report = content(methods)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for picture in pictures(report):
        (folder / "figures" / picture.file).write_bytes(picture.content)
    tables = text(report)
    (folder / "table.md").write_text(tables, encoding="utf-8")
    (folder / "index.html").write_text(html(report), encoding="utf-8")
    return tables
