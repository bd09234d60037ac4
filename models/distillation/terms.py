"""A term of the objective: what it compares, by which loss function, and its weight over the iterations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from models.distillation.features import StudentSignal, TeacherSignal
from models.distillation.losses import define_loss

Pairs = Sequence[tuple[Tensor, Tensor]]


class Comparison(NamedTuple):
    """Two sides that a loss function compares.

    Attributes:
        sides: both of them in words.
        pairs: (student, teacher, ground truth of the first images of the batch) -> the tensors of both sides.
        needs_teacher: whether one of them is the teacher's.
        needs_features: whether they are features.
    """

    sides: str
    pairs: Callable[[StudentSignal, TeacherSignal | None, Tensor], Pairs]
    needs_teacher: bool = True
    needs_features: bool = False


def of_ground_truth(student: StudentSignal, _: TeacherSignal | None, hr_image: Tensor) -> Pairs:
    """The student's images and the ground truth, of those images that have one."""
    return [(student.image[: len(hr_image)], hr_image)]


def of_images(student: StudentSignal, teacher: TeacherSignal | None, _: Tensor) -> Pairs:
    """The student's images and the teacher's."""
    assert teacher is not None
    return [(student.image, teacher.image)]


GROUND_TRUTH = Comparison("student, H", of_ground_truth, needs_teacher=False)
IMAGES = Comparison("student, teacher", of_images)
FEATURES = Comparison(  # whose widths may differ
    "student feature, teacher feature", lambda student, *_: student.pairs, needs_features=True
)
TRANSLATED_FEATURES = Comparison(
    "student feature, teacher feature, one translated",
    lambda student, *_: list(zip(student.features, student.targets, strict=True)),
    needs_features=True,
)


@dataclass(frozen=True)
class Term:
    """One loss of the objective.

    Attributes:
        lossfn_type: the name of its loss function.
        start: the iterations before it joins.
        end: the iteration by which its weight has fallen to 0, linearly from the first in which it counts; None: it
            does not fall.
        charbonnier_eps: of the Charbonnier loss, should it be that.
    """

    compares: Comparison
    lossfn_type: str
    weight: float
    start: int = 0
    end: int | None = None
    charbonnier_eps: float = 1e-9

    def __post_init__(self) -> None:
        assert self.end is None or self.end > self.start + 1, "its weight is 0 in every iteration"

    def weight_at(self, step: int) -> float:
        """Its weight in iteration `step`; the first iteration is 1."""
        if step <= self.start:
            return 0.0
        if self.end is None:
            return self.weight
        return self.weight * max(0, self.end - step) / (self.end - self.start - 1)

    def __call__(self, student: StudentSignal, teacher: TeacherSignal | None, hr_image: Tensor) -> Tensor:
        """The loss, unweighted, summed over the pairs that it compares."""
        loss = define_loss(self.lossfn_type, charbonnier_eps=self.charbonnier_eps)
        pairs = self.compares.pairs(student, teacher, hr_image)
        return torch.stack([loss(as_float32(x), as_float32(y)) for x, y in pairs]).sum()

    def __str__(self) -> str:
        notes = [f"{self.lossfn_type}({self.compares.sides})"]
        notes += [f"after {self.start:,} iterations"] if self.start else []
        notes += [f"falling to 0 in iteration {self.end:,}"] if self.end is not None else []
        return ", ".join(notes)


def as_float32(x: Tensor) -> Tensor:
    """bfloat16 as float32, so that losses are not rounded; other precisions as they are."""
    return x.float() if x.dtype == torch.bfloat16 else x
