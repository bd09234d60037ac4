"""The optimizer of an option file, and its learning rate as a function of the iteration."""

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import Adam, AdamW

from utils.options.schema import TrainOptions

OPTIMIZERS: dict[str, type[Adam]] = {"adam": Adam, "adamw": AdamW}


def define_optimizer(parameters: Iterable[nn.Parameter], train: TrainOptions) -> Adam:
    """The optimizer, fused into one kernel; its learning rate is set before each step."""
    first, second = train.G_optimizer_betas
    return OPTIMIZERS[train.G_optimizer_type](
        parameters, lr=train.G_optimizer_lr, betas=(first, second), weight_decay=train.G_optimizer_wd, fused=True
    )


def learning_rate(train: TrainOptions, step: int) -> float:
    """The learning rate of iteration `step`, the first of which is 1: a linear warm-up times the schedule.

    MultiStepLR changes at its milestones. CosineAnnealingLR (Loshchilov and Hutter, ICLR 2017, eq. 5, without restarts)
    falls from the first iteration to 0 after the last one.
    """
    warmth = min(1.0, step / max(1, train.warmup_iter))
    return train.G_optimizer_lr * warmth * decay(train, step)


def decay(train: TrainOptions, step: int) -> float:
    """The schedule's factor in iteration `step`, from 1 downwards."""
    if train.G_scheduler_type == "CosineAnnealingLR":
        return (1 + math.cos(math.pi * (step - 1) / train.total_iter)) / 2
    passed = sum(milestone <= step for milestone in train.G_scheduler_milestones)
    return train.G_scheduler_gamma**passed
