"""From a batch's parts to new weights: optimizer, learning rate, average, and what is refused as not finite."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW
from torch.optim.swa_utils import get_ema_multi_avg_fn

from utils.options.schema import TrainOptions
from utils.process import dist

OPTIMIZERS: dict[str, type[Adam]] = {"adam": Adam, "adamw": AdamW}


class Update:
    """The step from gradients to new weights, and from the weights to their average E.

    If loss or gradient are not finite on one of the processes, all of them leave weights, average and optimizer as they
    were. On a GPU, Python does not wait to know this: optimizer and average read the answer on the device.

    Args:
        trainable: all that learns; the gradients of its parameters are averaged over the processes.
        student: the part of it that is averaged over the iterations, into `ema`.

    Attributes:
        waits: whether the answer is at hand, as on a CPU.
    """

    def __init__(self, trainable: nn.Module, student: nn.Module, ema: nn.Module, train: TrainOptions) -> None:
        self.parameters = list(trainable.parameters())  # once: to collect them takes most of a millisecond
        self.weights: list[Tensor] = list(student.parameters())
        self.averages: list[Tensor] = list(ema.parameters())
        self.optimizer = define_optimizer(self.parameters, train)
        self.train = train
        self.approach = get_ema_multi_avg_fn(train.E_decay)
        self.waits = self.parameters[0].device.type == "cpu"

    def __call__(self, loss: Tensor) -> Tensor:
        """Use the gradients of this process's loss; whether they count, a scalar on the device."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        lost = dist.average(gradients, ~loss.isfinite())
        norm = nn.utils.get_total_norm(gradients)
        counts = norm.isfinite() & ~lost
        if self.waits and not counts:
            return counts
        if self.train.G_optimizer_clipgrad is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.train.G_optimizer_clipgrad, norm)
        if not self.waits:
            self.optimizer.found_inf = (~counts).float()  # type: ignore[attr-defined]  # as GradScaler gives it
        self.optimizer.step()
        self._average(counts)
        return counts

    def _average(self, counts: Tensor) -> None:
        if self.waits:
            self.approach(self.averages, self.weights, None)
            return
        differences = torch._foreach_sub(self.weights, self.averages)
        torch._foreach_mul_(differences, counts * (1 - self.train.E_decay))
        torch._foreach_add_(self.averages, differences)


class Skipped(NamedTuple):
    """A skipped iteration, how many were skipped in a row up to it, and the crops that caused it."""

    step: int
    in_a_row: int
    crops: list[str]


class Outcome:
    """Whether an iteration counted, on its way from the device to the host.

    Args:
        counts: a scalar.
        finite: for each crop, whether the difference of the student's image and the ground truth is finite, (B,).
        crops: the name of each crop.
    """

    def __init__(self, step: int, counts: Tensor, finite: Tensor, crops: Sequence[str]) -> None:
        self.step = step
        self.crops = crops
        self.flags = torch.cat([counts.reshape(1), finite]).to("cpu", non_blocking=True)
        self.arrived = torch.cuda.Event() if counts.is_cuda else None
        if self.arrived:
            self.arrived.record()

    def faults(self) -> list[str] | None:
        """The crops, of all processes, that made loss or gradient infinite or NaN; None if the iteration counted.

        All of the batch if no single one did, as where the fault is in an input that only the teacher labels.
        """
        if self.arrived:
            self.arrived.synchronize()
        counts, *finite = self.flags.tolist()
        if counts:
            return None
        crops = dist.gather(list(zip(self.crops, finite, strict=True)))
        return [name for name, is_finite in crops if not is_finite] or [name for name, _ in crops]


def split(batch: Mapping[str, Any], count: int) -> Iterator[tuple[Mapping[str, Any], float]]:
    """A batch in up to `count` parts of about the same size, each with its share of the crops."""
    size = len(batch["H"])
    largest = math.ceil(size / count)
    for start in range(0, size, largest):
        part = {key: value[start : start + largest] for key, value in batch.items()}
        yield part, len(part["H"]) / size


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
