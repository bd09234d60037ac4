"""The report as one HTML page that needs no other file, and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from utils.report import bootstrap
from utils.report.cost import cost_rows
from utils.report.differs import differing_options
from utils.report.headline import headline
from utils.report.pictures.crops import CROP, strips
from utils.report.pictures.curves import curve_pictures
from utils.report.pictures.feature_maps import feature_strips
from utils.report.pictures.picture import Picture, Strip
from utils.report.results import Comparison, Rows, cautions, comparisons, difference_rows, figure_rows
from utils.report.tasks import Method, Task, all_tasks
from utils.report.tested import Tested
from utils.tables import markdown

TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True)
class Part:
    """What the page says of one comparison.

    Attributes:
        title: what was measured.
        images: by test set.
    """

    title: str
    headline: str
    figures: Rows
    cautions: list[str]
    differences: Rows
    how_differences: str
    images: dict[str, list[Strip]]


def part_of(table: Comparison, *, prefix: str) -> Part:
    """The tables and pictures of a comparison; the names of its files begin with `prefix`."""
    return Part(
        title=table.title,
        headline=headline(table),
        figures=figure_rows(table),
        cautions=cautions(table),
        differences=difference_rows(table),
        how_differences=how_differences(table.methods),
        images={name: strips(table, name, prefix=f"{prefix}{name}") for name in table.problems},
    )


def how_differences(methods: Sequence[Method]) -> str:
    """The text that explains the differences and their intervals."""
    several = any(len(method.runs) > 1 for method in methods)
    runs = "; over runs, where either has several, Student's t of pooled variance" if several else ""
    alone = "" if several else " One run each does not tell what another seed would change."
    return (
        f"Difference to {methods[0].name} of the means over the same images, and its {bootstrap.LEVEL:.0%} interval: "
        f"paired bootstrap over images, {bootstrap.RESAMPLES:,} resamples, seed {bootstrap.SEED}, percentiles, "
        f"which are too narrow where there are few images{runs}.{alone}"
    )


def content(methods: Sequence[Method]) -> dict[str, Any]:
    """Everything that the page shows: `differs` and `cost` are tables, as are those of `parts`."""
    tables = comparisons(methods)
    by_prefix = {f"{number}_" if len(tables) > 1 else "": table for number, table in enumerate(tables, start=1)}
    return {
        "methods": methods,
        "tasks": list(all_tasks(methods)),
        "tested": [run for method in methods for run in method.runs if isinstance(run, Tested)],
        "parts": [part_of(table, prefix=prefix) for prefix, table in by_prefix.items()],
        "differs": differing_options(methods),
        "cost": cost_rows(methods),
        "curves": curve_pictures(methods, by_prefix),
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
    environment.filters["groups"] = groups
    template = environment.get_template(TEMPLATE.name)
    written = datetime.now().astimezone().isoformat(" ", timespec="minutes")
    return template.render(report, written=written, option_text=option_text)


def groups(rows: Rows, column: str) -> list[tuple[str, Rows]]:
    """Rows that follow one another and agree in a column, as the page heads them."""
    return [(name, list(of_name)) for name, of_name in groupby(rows, key=lambda row: row[column])]


def option_text(task: Task) -> str:
    """The exact option file, as training wrote it."""
    return (task.folder / "options.json").read_text(encoding="utf-8")


def text(report: dict[str, Any]) -> str:
    """The tables in Markdown."""
    texts: list[str] = [] if report["parts"] else ["No task has been validated yet."]
    for part in report["parts"]:
        texts += [part.headline, f"{part.title}:", markdown(part.figures), *part.cautions]
        if part.differences:
            texts += [part.how_differences, markdown(part.differences)]
    if report["differs"]:
        texts += ["What differs in the options:", markdown(report["differs"])]
    if report["cost"]:
        texts.append(markdown(report["cost"]))
    return "\n\n".join(texts) + "\n"


def pictures(report: dict[str, Any]) -> list[Picture]:
    """All pictures of the page."""
    of_images = [strip for part in report["parts"] for of_set in part.images.values() for strip in of_set]
    return [*report["curves"], *(picture for s in [*of_images, *report["feature_strips"]] for picture in s.pictures)]


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
