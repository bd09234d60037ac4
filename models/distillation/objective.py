"""The objective of distillation: named terms and their weighted sum."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from models.distillation.features import StudentSignal, TeacherSignal
from models.distillation.terms import IMAGES, TRANSLATED_FEATURES, Term

MOST = 100  # published weights come to some tens of l_g_L1
TINY = 1e-12  # keeps a loss that is 0 from being divided by


class Objective:
    """G_loss, the weighted sum of the terms that have a weight; `str()` is its formula.

    Args:
        terms: by their names in the log, l_g_L1 first.
        mean_over_processes: if given, the other terms are scaled to the size of l_g_L1, in each iteration, before they
            are weighted; sizes are those of the whole batch, so processes have to share them.

    Raises:
        ValueError: no loss has a weight in some iteration, or there is no l_g_L1 to scale to.
    """

    def __init__(
        self, terms: Mapping[str, Term], *, mean_over_processes: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.terms = {name: term for name, term in terms.items() if term.weight > 0}
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
    def compares_images(self) -> bool:
        """Whether the teacher's images count in any iteration."""
        return any(term.compares is IMAGES for term in self.terms.values())

    @property
    def compares_features(self) -> bool:
        """Whether features count in any iteration."""
        return any(term.compares.needs_features for term in self.terms.values())

    @property
    def translates(self) -> bool:
        """Whether translated features count in any iteration."""
        return any(term.compares is TRANSLATED_FEATURES for term in self.terms.values())

    def needs_teacher(self, step: int) -> bool:
        """Whether iteration `step` asks the teacher at all."""
        return any(term.compares.needs_teacher for term in self.active(step).values())

    def needs_features(self, step: int) -> bool:
        """Whether iteration `step` compares features."""
        return any(term.compares.needs_features for term in self.active(step).values())

    def __call__(
        self, student: StudentSignal, teacher: TeacherSignal | None, hr_image: Tensor, step: int
    ) -> dict[str, Tensor]:
        """The losses that are active in iteration `step`, each unweighted, and `G_loss`; all scalars.

        Args:
            hr_image: the ground truth of the first images of the batch, at least of one.
        """
        active = self.active(step)
        losses = {name: term(student, teacher, hr_image) for name, term in active.items()}
        weighted = torch.stack([active[name].weight_at(step) * loss for name, loss in losses.items()])
        if self.mean_over_processes:
            sizes = self.mean_over_processes(torch.stack(list(losses.values())).detach())
            weighted = weighted * (sizes[0] / sizes.clamp_min(TINY))  # the first is l_g_L1
        return losses | {"G_loss": weighted.sum()}

    def overwhelming(self, losses: Mapping[str, float], step: int) -> dict[str, float]:
        """Those of the losses of iteration `step` that count more than `MOST` times l_g_L1, and how many times."""
        active = self.active(step)
        if self.mean_over_processes or "l_g_L1" not in active:
            return {}
        counts = {name: term.weight_at(step) * losses[name] for name, term in active.items()}
        truth = max(counts["l_g_L1"], TINY)
        return {name: count / truth for name, count in counts.items() if count > MOST * truth}

    def __str__(self) -> str:
        def describe(name: str, term: Term) -> str:
            scaled = ", scaled to l_g_L1" if self.mean_over_processes and name != "l_g_L1" else ""
            return f"{term.weight:g} * {name} [{term}{scaled}]"

        return "G_loss = " + " + ".join(describe(name, term) for name, term in self.terms.items())
