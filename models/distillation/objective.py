"""The objective of distillation: its losses, their weights over the iterations, and their sum.

Shapes: B batch, C image channels, H W height and width of the LR image, s scale, L tokens,
D_s and D_t channels of a feature of student and teacher. Images are [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.distillation.features import StudentSignal, TeacherSignal
from models.distillation.losses import define_loss

TINY = 1e-12  # keeps a loss that is 0 from being divided by


@dataclass(frozen=True)
class Term:
    """One loss of the objective: its function's name, its weight, and the iterations before it joins.

    Attributes:
        end: the iteration by which its weight has fallen to 0, linearly from the first in which it counts; None: it
            does not fall.
        charbonnier_eps: of the Charbonnier loss, should it be that.
    """

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

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss between two tensors of one shape, unweighted."""
        return define_loss(self.lossfn_type, charbonnier_eps=self.charbonnier_eps)(x, y)


class Objective:
    """G_loss, the weighted sum of up to three losses; `str()` is its formula.

    Args:
        l_g_L1: student's image against the ground truth.
        l_g_distill: student's image against the teacher's.
        l_g_feature: student's features against the teacher's, one of them translated, summed over the pairs.
        mean_over_processes: if given, the two others are scaled to the size of l_g_L1, in each iteration, before they
            are weighted; sizes are those of the whole batch, so processes have to share them.

    Raises:
        ValueError: no loss has a weight in some iteration, or there is no l_g_L1 to scale to.
    """

    def __init__(
        self,
        l_g_L1: Term,
        *,
        l_g_distill: Term | None = None,
        l_g_feature: Term | None = None,
        mean_over_processes: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        terms = {"l_g_L1": l_g_L1, "l_g_distill": l_g_distill, "l_g_feature": l_g_feature}
        self.terms = {name: term for name, term in terms.items() if term is not None and term.weight > 0}
        self.mean_over_processes = mean_over_processes
        for step in sorted({1, *(term.end for term in self.terms.values() if term.end is not None)}):
            if not self.active(step):
                raise ValueError(f"no loss has a weight above 0 in iteration {step:,}")
        if mean_over_processes and "l_g_L1" not in self.terms:
            raise ValueError("the losses cannot be balanced with an l_g_L1 of weight 0")

    def active(self, step: int) -> dict[str, Term]:
        """The losses that count in iteration `step`; the first iteration is 1."""
        return {name: term for name, term in self.terms.items() if term.weight_at(step) > 0}

    @property
    def always_uses_all(self) -> bool:
        """Whether every iteration has a gradient for every parameter of student and translators."""
        return "l_g_L1" in self.terms and all(term.start == 0 and term.end is None for term in self.terms.values())

    def needs_teacher(self, step: int) -> bool:
        """Whether iteration `step` asks the teacher at all."""
        return not self.active(step).keys() <= {"l_g_L1"}

    def needs_features(self, step: int) -> bool:
        """Whether iteration `step` compares features."""
        return "l_g_feature" in self.active(step)

    def __call__(
        self, student: StudentSignal, teacher: TeacherSignal | None, hr_image: Tensor, step: int
    ) -> dict[str, Tensor]:
        """The losses that are active in iteration `step`, each unweighted, and `G_loss`; all scalars.

        Args:
            hr_image: the ground truth of the first images of the batch, at least of one.
        """
        compared = {
            "l_g_L1": [(student.image[: len(hr_image)], hr_image)],
            "l_g_distill": [(student.image, teacher.image)] if teacher else [],
            "l_g_feature": list(zip(student.features, student.targets, strict=True)),
        }
        active = self.active(step)
        losses = {
            name: torch.stack([term(as_float32(x), as_float32(y)) for x, y in compared[name]]).sum()
            for name, term in active.items()
        }
        weighted = torch.stack([active[name].weight_at(step) * loss for name, loss in losses.items()])
        if self.mean_over_processes:
            sizes = self.mean_over_processes(torch.stack(list(losses.values())).detach())
            weighted = weighted * (sizes[0] / sizes.clamp_min(TINY))  # the first is l_g_L1
        return losses | {"G_loss": weighted.sum()}

    def __str__(self) -> str:
        between = {
            "l_g_L1": "student, H",
            "l_g_distill": "student, teacher",
            "l_g_feature": "student feature, teacher feature",
        }

        def describe(name: str, term: Term) -> str:
            notes = [f"{term.lossfn_type}({between[name]})"]
            notes += [f"after {term.start:,} iterations"] if term.start else []
            notes += [f"falling to 0 in iteration {term.end:,}"] if term.end is not None else []
            notes += ["scaled to l_g_L1"] if self.mean_over_processes and name != "l_g_L1" else []
            return f"{term.weight:g} * {name} [{', '.join(notes)}]"

        return "G_loss = " + " + ".join(describe(name, term) for name, term in self.terms.items())


def as_float32(x: Tensor) -> Tensor:
    """bfloat16 as float32, so that losses are not rounded; other precisions as they are."""
    return x.float() if x.dtype == torch.bfloat16 else x
