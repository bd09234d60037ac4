"""Losses and PSNR over the iterations, drawn for eyes that confuse colours and for print (SVG)."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.report.picture import Picture
from utils.report.tasks import Method, Points, Task, all_tasks, test_sets

COMPARED = {
    "l_g_L1": "student and ground truth, images in [0, 1]",
    "l_g_distill": "student and teacher, images in [0, 1]",
    "l_g_feature": "student and teacher, features",
}
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


def curve_pictures(methods: Sequence[Method]) -> list[Picture]:
    """One picture for each loss that any task has, and one for each test set."""
    pictures = []
    records = [record for task in all_tasks(methods) for record in task.metrics]
    for name in dict.fromkeys(key for record in records for key in record if key.startswith("l_")):
        points = partial(Task.losses, name=name)
        title = COMPARED.get(name, name)
        pictures.append(draw(methods, points, name=name, title=title, ylabel=name, log=True))
    for dataset in test_sets(methods):
        points = partial(Task.psnr_y, dataset=dataset)
        title = f"{dataset}, averaged weights (E)"
        pictures.append(draw(methods, points, name=f"psnr_y_{dataset}", title=title, ylabel="PSNR on Y [dB]"))
    return [picture for picture in pictures if picture]


def draw(
    methods: Sequence[Method],
    points: Callable[[Task], Points],
    *,
    name: str,
    title: str,
    ylabel: str,
    log: bool = False,
) -> Picture | None:
    """A line for each run that has points, in its method's style; None where there is none."""
    lines = [(method, [line for task in method.tasks if (line := points(task))]) for method in methods]
    if not any(of_method for _, of_method in lines):
        return None
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5.5, 4), layout="constrained")
        axes: Axes = figure.subplots()
        axes.set(xlabel="iteration", ylabel=ylabel, yscale="log" if log else "linear")
        axes.set_title(title, fontsize="medium")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for (method, of_method), style in zip(lines, cycle(STYLES)):
            for number, line in enumerate(of_method):
                label = None if number else method.name
                x, y = zip(*line, strict=True)
                axes.plot(x, y, marker="" if log else "o", markersize=4, label=label, **style)
        axes.set_xlim(left=0)  # after the lines, or it fixes the other end, too
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        content = as_svg(figure)
    ends = [f"{method.name} ends at {line[-1][1]:.4g}" for method, of_method in lines for line in of_method]
    return Picture(f"{name}.svg", content, f"{ylabel} over the iterations ({title}): {', '.join(ends)}")


def as_svg(figure: Figure) -> bytes:
    """A figure as the content of a file that is the same whenever it is drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
