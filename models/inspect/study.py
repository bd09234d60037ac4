"""How `python -m models.inspect.translator_study` measures what translators have learnt.

Shapes: N tokens, D_t channels of the teacher's feature, D of what is compared, C H W an image in [0, 1].
"""

from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import NamedTuple, cast

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from models.inspect.feature_maps import middle
from models.model_plain import ModelPlain
from utils.process.errors import UserError
from utils.report.pictures.curves import COLOURS, SETTINGS, as_svg, logarithmic
from utils.report.problems import lr_image, missing_image
from utils.report.tasks import Task
from utils.runs import checkpoints
from utils.weights import load_weights, read_weights

TOKENS = 20_000  # of each feature, from which its statistics are taken
LEGEND = """
norm, effective rank: of the translator's matrix, Frobenius and by the entropy of its singular values
variance, target / teacher: how large what the student is compared with is, beside the teacher's feature
teacher's variance in ...: share of it that a linear map finds in the target, and in what the student answers
l_g_feature: this pair's part, by "l1"; of a constant's: 100% is what the best constant answer has
"""


class PairStatistics(NamedTuple):
    """What one pair came to.

    Attributes:
        norm: Frobenius norm of the translator's matrix.
        rank: its effective rank.
        variance_ratio: variance of the target, with which the student is compared, over that of the teacher's feature.
        r2_target: share of the variance of the teacher's feature that is linear in the target.
        r2_student: share of it that is linear in what the student answers.
        loss: mean absolute difference of answer and target, this pair's part of l_g_feature.
        of_constant: `loss` divided by the loss of the best constant answer.
    """

    norm: float
    rank: float
    variance_ratio: float
    r2_target: float
    r2_student: float
    loss: float
    of_constant: float


def effective_rank(matrix: Tensor) -> float:
    """Exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007, definition 1)."""
    values = torch.linalg.svdvals(matrix.double())
    shares = values[values > 0] / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def r_squared(target: Tensor, given: Tensor) -> float:
    """Share of the variance of (N, D_t) that is linear in (N, D), by least squares with a constant."""
    target, given = (x.double() - x.double().mean(0) for x in (target, given))
    scaled = given / given.std(0).clamp_min(1e-30)  # channels that hardly vary still count
    residual = target - scaled @ torch.linalg.lstsq(scaled, target, driver="gelsd").solution
    return 1 - float(residual.square().sum() / target.square().sum())


def pair_statistics(weight: Tensor, teacher: Tensor, answer: Tensor, target: Tensor) -> PairStatistics:
    """The figures of one pair.

    Args:
        weight: the translator's matrix.
        teacher: the teacher's feature, (N, D_t).
        answer: the student's feature as it is compared, (N, D).
        target: what the answer should be, (N, D).
    """
    loss = (answer - target).abs().mean()
    constant = (target - target.median(0).values).abs().mean()
    return PairStatistics(
        norm=float(weight.norm()),
        rank=effective_rank(weight),
        variance_ratio=float(target.var(0).sum() / teacher.var(0).sum()),
        r2_target=r_squared(teacher, target),
        r2_student=r_squared(teacher, answer),
        loss=float(loss),
        of_constant=float(loss / constant),
    )


@torch.no_grad()
def study(task: Task) -> dict[str, PairStatistics]:
    """The figures of each pair, by `student's feature-teacher's feature`, at the task's newest checkpoint.

    Raises:
        UserError: the task compares no features, has no checkpoint, was not validated yet, or its test images are
            gone.
    """
    model = ModelPlain(task.options, device=torch.device("cpu"))
    if model.translators is None or model.teacher is None:
        raise UserError(f"{task.folder}: this task compares no features")
    load_newest(model, task.folder / "models")
    model.trainable.eval()
    images = lr_images(task)
    share = TOKENS // len(images)
    pairs = model.translators.pairs
    # Of each pair, the tokens of each image.
    teacher: list[list[Tensor]] = [[] for _ in pairs]
    answers: list[list[Tensor]] = [[] for _ in pairs]
    targets: list[list[Tensor]] = [[] for _ in pairs]
    for image in images:
        taught = model.teacher.of_any_size(image[None]).features
        answered = model.trainable(image[None], taught)
        for i, (_, t) in enumerate(pairs):
            teacher[i].append(thinned(taught[t][0], share))
            answers[i].append(thinned(answered.features[i][0], share))
            targets[i].append(thinned(answered.targets[i][0], share))
    return {
        f"{s}-{t}": pair_statistics(
            cast("nn.Linear", model.translators[i]).weight,
            teacher=torch.cat(teacher[i]),
            answer=torch.cat(answers[i]),
            target=torch.cat(targets[i]),
        )
        for i, (s, t) in enumerate(pairs)
    }


def load_newest(model: ModelPlain, folder: Path) -> None:
    """Load student (G) and translators of the newest checkpoint, changing nothing: the task may be running.

    Raises:
        UserError: there is no checkpoint, or it is of another network.
    """
    steps = checkpoints.complete(folder)
    if not steps:
        raise UserError(f"{folder}: there is no checkpoint yet")
    parts = model.parts()
    for part in ("G", "P"):
        path = checkpoints.part_path(folder, steps[-1], part)
        load_weights(parts[part], read_weights(path), source=path)


def lr_images(task: Task) -> list[Tensor]:
    """The middles of the images that the last validation on the first test set restored, (C, H, W).

    Raises:
        UserError: the task was not validated yet, or an image is not there any more.
    """
    name = task.options.datasets.tests[0].name if task.options.datasets.tests else ""
    validations = [of_task for of_task in task.validations if of_task.problem.dataset == name]
    if not validations:
        raise UserError(f"{task.folder}: this task was not validated yet")
    last = validations[-1]
    if missing := missing_image(last.results):
        raise UserError(f"{missing}: this test image is not there any more")
    return [middle(lr_image(result, last.problem.setting)) for result in last.results]


def thinned(tokens: Tensor, count: int) -> Tensor:
    """Up to `count` of (N, D), evenly spread."""
    return tokens[:: ceil(len(tokens) / max(1, count))]


def rows(studied: Mapping[str, Mapping[str, PairStatistics]]) -> list[dict[str, str]]:
    """The table: shares of 1 as percentages."""
    return [
        {
            "task": task,
            "pair": pair,
            "norm": f"{of.norm:.2f}",
            "effective rank": f"{of.rank:.1f}",
            "variance, target / teacher": f"{of.variance_ratio:.2e}",
            "teacher's variance in the target": f"{of.r2_target:.1%}",
            "in the student": f"{of.r2_student:.1%}",
            "l_g_feature": f"{of.loss:.3e}",
            "of a constant's": f"{of.of_constant:.1%}",
        }
        for task, pairs in studied.items()
        for pair, of in pairs.items()
    ]


def draw(studied: Mapping[str, Mapping[str, PairStatistics]]) -> bytes:
    """Bars over the pairs, a colour for each task and a panel for each figure, as SVG."""
    panels: dict[str, Callable[[PairStatistics], float]] = {
        "effective rank of the translator": lambda of: of.rank,
        "variance, target / teacher": lambda of: of.variance_ratio,
        "teacher's variance in the target": lambda of: of.r2_target,
        "teacher's variance in the student": lambda of: of.r2_student,
        "l_g_feature over that of a constant": lambda of: of.of_constant,
    }
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(11, 6.4), layout="constrained")
        *axes, last = figure.subplots(2, 3).flat
        names = list(dict.fromkeys(pair for pairs in studied.values() for pair in pairs))
        for panel, (title, value) in zip(axes, panels.items(), strict=True):
            for number, ((task, pairs), colour) in enumerate(zip(studied.items(), COLOURS, strict=False)):
                width = 0.8 / len(studied)
                places = np.array([names.index(pair) for pair in pairs]) + (number - (len(studied) - 1) / 2) * width
                panel.bar(places, [value(of) for of in pairs.values()], width, color=colour, label=task)
            panel.set_xticks(range(len(names)), names)
            panel.set_title(title, fontsize="medium")
            panel.set_xlabel("pair, student's feature-teacher's")
            if title.startswith("variance"):
                logarithmic(panel)  # from thousandths to thousands
        last.axis("off")
        last.legend(*axes[0].get_legend_handles_labels(), loc="center", frameon=False)
        return as_svg(figure)
