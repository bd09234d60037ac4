"""PSNR and losses over iterations and over training time, drawn for eyes that confuse colours and for print (SVG)."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from utils.report.pictures.picture import Picture, file_name
from utils.report.results import Comparison
from utils.report.tasks import Method, Points, Task, all_tasks

COMPARED = {
    "l_g_L1": "student and ground truth, images in [0, 1]",
    "l_g_distill": "student and teacher, images in [0, 1]",
    "l_g_feature": "student and teacher, features",
}
TIMES = (("h", 3600), ("min", 60), ("s", 1))  # the largest unit of which there are two or more
# Okabe and Ito's colours, the yellow left out, which is too pale for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES: list[dict[str, Any]] = [{"color": c, "linestyle": line} for line in ("-", "--", ":") for c in COLOURS]
SETTINGS: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 12,
    "grid.alpha": 0.3,
    "svg.hashsalt": "report",  # the same records give the same file
}


class PlainLogFormatter(LogFormatter):
    """Labels the ticks that matplotlib would label, but with plain numbers."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """0.04 in place of 4 times a power of 10, and nothing where there would be no label."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def curve_pictures(methods: Sequence[Method], tables: Mapping[str, Comparison]) -> list[Picture]:
    """Two pictures for each test set and for each loss that any task has: over iterations, and over time.

    Args:
        tables: by what the names of their files begin with.
    """
    pictures = []
    for prefix, of in tables.items():
        for dataset, problem in of.problems.items():
            points = partial(Task.psnr_y, problem=problem)
            title = f"{dataset}, averaged weights (E)" if len(tables) == 1 else f"{dataset}: {of.title}"
            pictures += draw(methods, points, name=f"{prefix}psnr_y_{dataset}", title=title, ylabel="PSNR on Y [dB]")
    records = [record for task in all_tasks(methods) for record in task.metrics]
    for name in dict.fromkeys(key for record in records for key in record if key.startswith("l_")):
        points = partial(Task.losses, name=name)
        pictures += draw(methods, points, name=name, title=COMPARED.get(name, name), ylabel=name, log=True)
    return pictures


def draw(
    methods: Sequence[Method],
    points: Callable[[Task], Points],
    *,
    name: str,
    title: str,
    ylabel: str,
    log: bool = False,
) -> list[Picture]:
    """The same lines over iterations and over time; what has no points is no picture."""
    over_iterations = {method.name: [points(task) for task in all_tasks([method])] for method in methods}
    over_time = {method.name: [task.over_time(points(task)) for task in all_tasks([method])] for method in methods}
    longest = max((x for of_method in over_time.values() for line in of_method for x, _ in line), default=0.0)
    unit, seconds = next((unit for unit in TIMES if longest >= 2 * unit[1]), TIMES[-1])
    over_time = {
        method: [[(x / seconds, y) for x, y in line] for line in of_method] for method, of_method in over_time.items()
    }
    lines = partial(draw_lines, title=title, ylabel=ylabel, log=log)
    drawn = [
        lines(over_iterations, file=file_name(name, suffix=".svg"), xlabel="iteration"),
        lines(over_time, file=file_name(name, "time", suffix=".svg"), xlabel=f"training time [{unit}]"),
    ]
    return [picture for picture in drawn if picture]


def draw_lines(
    lines: Mapping[str, Sequence[Points]], *, file: str, title: str, xlabel: str, ylabel: str, log: bool
) -> Picture | None:
    """A line for each run that has points, in its method's style; None where there is none."""
    if not any(line for of_method in lines.values() for line in of_method):
        return None
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5.5, 4), layout="constrained")
        axes: Axes = figure.subplots()
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_title(title, fontsize="medium")
        if log:
            logarithmic(axes)
        else:
            axes.ticklabel_format(axis="y", useOffset=False)
        if xlabel == "iteration":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for (method, of_method), style in zip(lines.items(), cycle(STYLES)):
            for number, line in enumerate(filter(None, of_method)):
                x, y = zip(*line, strict=True)
                label = None if number else method
                axes.plot(x, y, marker="" if log else "o", markersize=4, label=label, **style)
        axes.set_xlim(left=0)  # after the lines, or it fixes the other end, too
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        content = as_svg(figure)
    ends = [f"{method} ends at {line[-1][1]:.4g}" for method, of_method in lines.items() for line in of_method if line]
    return Picture(file, content, f"{ylabel} over {xlabel} ({title}): {', '.join(ends)}")


def logarithmic(axes: Axes) -> None:
    """Make the y axis logarithmic, with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PlainLogFormatter())
    axes.yaxis.set_minor_formatter(PlainLogFormatter(labelOnlyBase=False))


def as_svg(figure: Figure) -> bytes:
    """A figure as the content of a file that is the same whenever it is drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
