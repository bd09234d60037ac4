"""What translators have learnt: `python -m models.translator_study superresolution/TASK [...] [--out report]`.

For each pair of features of a task of `distillation_type` "feature", on the LR images of its first test set: how large
its translator is and of what rank, how much of the teacher it lets through, and what the student makes of that.

Shapes: N tokens; D_s and D_t channels of the student's and the teacher's feature; D of those that are compared.
"""

import argparse
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from models.feature_maps import middle
from models.model_plain import ModelPlain
from utils.errors import UserError, exit_on_user_error
from utils.files import write_whole
from utils.images import read_image, to_tensor, unit_range
from utils.report.curves import COLOURS, SETTINGS
from utils.report.tasks import Task
from utils.tables import markdown

TOKENS = 20_000  # of which statistics are taken; more change the second decimal
FILES = ("translators.md", "translators.svg")


class Learnt(NamedTuple):
    """What one pair came to.

    Attributes:
        norm: Frobenius norm of the translator's matrix.
        rank: its effective rank.
        gain: variance of what the student is compared with over that of the teacher's feature.
        kept: share of the teacher's variance that is linear in what the student is compared with.
        found: share of the teacher's variance that is linear in what the student answers.
        loss: mean absolute difference of the two that are compared, l_g_feature with "l1".
        of_constant: that over the same of the best constant.
    """

    norm: float
    rank: float
    gain: float
    kept: float
    found: float
    loss: float
    of_constant: float


def effective_rank(matrix: Tensor) -> float:
    """Exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007, definition 1)."""
    values = torch.linalg.svdvals(matrix.double())
    shares = values[values > 0] / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def explained(target: Tensor, given: Tensor) -> float:
    """Share of the variance of (N, D_t) that is linear in (N, D): R^2 of least squares with a constant."""
    target, given = (x.double() - x.double().mean(0) for x in (target, given))
    scaled = given / given.std(0).clamp_min(1e-30)  # channels that hardly vary still count
    residual = target - scaled @ torch.linalg.lstsq(scaled, target, driver="gelsd").solution
    return 1 - float(residual.square().sum() / target.square().sum())


def learnt(weight: Tensor, *, teacher: Tensor, compared: Tensor, target: Tensor) -> Learnt:
    """The figures of one pair.

    Args:
        weight: the translator's matrix.
        teacher: its feature, (N, D_t).
        compared: what the student answers, (N, D).
        target: what it should be, (N, D).
    """
    loss = (compared - target).abs().mean()
    constant = (target - target.median(0).values).abs().mean()
    return Learnt(
        norm=float(weight.norm()),
        rank=effective_rank(weight),
        gain=float(target.var(0).sum() / teacher.var(0).sum()),
        kept=explained(teacher, target),
        found=explained(teacher, compared),
        loss=float(loss),
        of_constant=float(loss / constant),
    )


@torch.no_grad()
def study(task: Task) -> dict[str, Learnt]:
    """The figures of each pair, by `student's feature-teacher's feature`, at the task's newest checkpoint.

    Raises:
        UserError: the task compares no features, was not validated yet, or its images or weights cannot be read.
    """
    model = ModelPlain(task.options, device=torch.device("cpu"))
    if model.translators is None or model.teacher is None:
        raise UserError(f"{task.folder}: this task compares no features")
    model.restore()
    model.trainable.eval()
    images = list(lr_images(task, multiple=model.teacher.network.window_size))
    taught = [model.teacher(lr_image).features for lr_image in images]
    answered = [model.trainable(lr_image, features) for lr_image, features in zip(images, taught, strict=True)]
    return {
        f"{s}-{t}": learnt(
            next(model.translators[index].parameters()),
            teacher=tokens(features[t] for features in taught),
            compared=tokens(signal.features[index] for signal in answered),
            target=tokens(signal.targets[index] for signal in answered),
        )
        for index, (s, t) in enumerate(model.translators.pairs)
    }


def lr_images(task: Task, *, multiple: int) -> Iterator[Tensor]:
    """The middles of the LR images of the first test set, (1, C, H, W) in [0, 1], as the task's records name them."""
    tests = [record for record in task.metrics if record["kind"] == "test"]
    if not tests:
        raise UserError(f"{task.folder}: this task was not validated yet")
    for image in tests[0]["images"]:
        pixels = to_tensor(read_image(Path(image["L_path"]), channels=task.options.n_channels))
        yield middle(unit_range(pixels), multiple=multiple)[None]


def tokens(features: Iterable[Tensor]) -> Tensor:
    """Several (1, L, D) as (N, D), evenly thinned out to about TOKENS."""
    every = torch.cat([feature[0] for feature in features])
    return every[:: max(1, len(every) // TOKENS)]


def rows(studied: Mapping[str, Mapping[str, Learnt]]) -> list[dict[str, str]]:
    """The table: shares of 1 as percentages."""
    return [
        {
            "task": task,
            "pair": pair,
            "norm": f"{of.norm:.2f}",
            "effective rank": f"{of.rank:.1f}",
            "variance, target / teacher": f"{of.gain:.2e}",
            "teacher's variance in the target": f"{of.kept:.1%}",
            "in the student": f"{of.found:.1%}",
            "l_g_feature": f"{of.loss:.3e}",
            "of a constant's": f"{of.of_constant:.1%}",
        }
        for task, pairs in studied.items()
        for pair, of in pairs.items()
    ]


def draw(studied: Mapping[str, Mapping[str, Learnt]]) -> bytes:
    """Three panels of bars over the pairs, a colour for each task, as SVG."""
    panels = {
        "teacher's variance in the target": lambda of: of.kept,
        "teacher's variance in the student": lambda of: of.found,
        "l_g_feature over that of a constant": lambda of: of.of_constant,
    }
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(11, 3.8), layout="constrained")
        axes: Sequence[Axes] = figure.subplots(1, len(panels))
        for panel, (title, share) in zip(axes, panels.items(), strict=True):
            for number, ((task, pairs), colour) in enumerate(zip(studied.items(), COLOURS, strict=False)):
                width = 0.8 / len(studied)
                places = np.arange(len(pairs)) + (number - (len(studied) - 1) / 2) * width
                panel.bar(places, [share(of) for of in pairs.values()], width, color=colour, label=task)
                panel.set_xticks(range(len(pairs)), list(pairs))
            panel.set_title(title, fontsize="medium")
            panel.set(xlabel="pair, student's feature-teacher's", ylim=(0, None))
        axes[0].set_ylabel("share")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def main() -> None:
    """Print the table, and write it and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, nargs="+", help="task folders")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of table and figure (default: report)")
    arguments = parser.parse_args()
    if len(arguments.tasks) > len(COLOURS):
        parser.error(f"the figure has colours for {len(COLOURS)} tasks")
    with exit_on_user_error():
        tasks = [Task.read(folder) for folder in arguments.tasks]
        studied = {task.name: study(task) for task in tasks}
        table = markdown(rows(studied)) + "\n"
        arguments.out.mkdir(parents=True, exist_ok=True)
        for file, content in zip(FILES, (table.encode(), draw(studied)), strict=True):
            write_whole(arguments.out / file, content)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
