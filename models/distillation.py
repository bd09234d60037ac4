"""Knowledge distillation: what is trained, the frozen teacher, and the objective that binds them.

Shapes: B batch, C image channels, H W height and width of the LR image, s scale, L = H*W tokens,
D_s and D_t channels of a feature of student and teacher. Images are [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from models.losses import define_loss

FeaturePairs = Sequence[Sequence[int]]


class FeatureNetwork(Protocol):
    """What distillation asks of a network, be it student or teacher."""

    @property
    def feature_dims(self) -> Sequence[int]:
        """Channels of each of its features: a SwinIR's are the outputs of its RSTBs."""

    @property
    def window_size(self) -> int:
        """Of what its input's height and width should be a multiple."""

    def forward_with_features(self, image: Tensor, /) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W) -> the restored image (B, C, s*H, s*W) and each feature, (B, L, its channels)."""


@dataclass(frozen=True)
class TeacherSignal:
    """What the teacher has to say about a batch: its image (B, C, s*H, s*W) and features, each (B, L, D_t)."""

    image: Tensor
    features: list[Tensor]


@dataclass(frozen=True)
class StudentSignal:
    """The student's image (B, C, s*H, s*W), and for each pair its features and the teacher's, both (B, L, D_s)."""

    image: Tensor
    features: list[Tensor]
    translated: list[Tensor]


class Translators(nn.ModuleList):
    """One learnable `Linear(D_t, D_s)` for each pair of features, from the teacher's to the student's.

    Args:
        pairs: for each translator, the student's feature and the teacher's, counted from 0.

    Raises:
        ValueError: a pair names a feature that a network does not have.
    """

    def __init__(self, pairs: FeaturePairs, *, student: FeatureNetwork, teacher: FeatureNetwork) -> None:
        for index, (role, network) in enumerate((("student", student), ("teacher", teacher))):
            count = len(network.feature_dims)
            for pair in pairs:
                if pair[index] >= count:
                    raise ValueError(f"pair {list(pair)}: the {role} has {count} features, counted from 0")
        super().__init__(nn.Linear(teacher.feature_dims[t], student.feature_dims[s]) for s, t in pairs)
        self.pairs = [tuple(pair) for pair in pairs]

    def forward(self, teacher_features: Sequence[Tensor]) -> list[Tensor]:
        """The teacher's features of each pair, (B, L, D_t) -> (B, L, D_s)."""
        return [translate(teacher_features[t]) for translate, (_, t) in zip(self, self.pairs, strict=True)]


class Trainable(nn.Module):
    """Everything that learns, in one module: optimizer, clipping and DistributedDataParallel see one object."""

    student: FeatureNetwork
    translators: Translators | None

    def __init__(self, student: FeatureNetwork, translators: Translators | None) -> None:
        super().__init__()
        self.student = student
        self.translators = translators

    def forward(self, lr_image: Tensor, teacher_features: Sequence[Tensor] | None) -> StudentSignal:
        """(B, C, H, W) and, once l_g_feature has joined, the teacher's features -> all that the losses compare."""
        image, features = self.student.forward_with_features(lr_image)
        if self.translators is None or teacher_features is None:
            return StudentSignal(image, [], [])
        paired = [features[s] for s, _ in self.translators.pairs]
        return StudentSignal(image, paired, self.translators(teacher_features))


class Teacher:
    """A frozen network. Deliberately not a module: no optimizer, `train()`, DDP or checkpoint can reach it."""

    network: FeatureNetwork

    def __init__(self, network: nn.Module, *, compiled: bool = False) -> None:
        self.network = cast("FeatureNetwork", network.eval().requires_grad_(requires_grad=False))
        ask = self.network.forward_with_features
        self.ask = torch.compile(ask) if compiled else ask

    @torch.no_grad()  # not inference_mode: the translators' gradients need these tensors
    def __call__(self, lr_image: Tensor) -> TeacherSignal:
        """(B, C, H, W) -> the teacher's image and features."""
        return TeacherSignal(*self.ask(lr_image))


@dataclass(frozen=True)
class Term:
    """One loss of the objective: its function's name, its weight, and the iterations before it joins.

    Attributes:
        charbonnier_eps: of the Charbonnier loss, should it be that.
    """

    lossfn_type: str
    weight: float
    start: int = 0
    charbonnier_eps: float = 1e-9

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss between two tensors of one shape, unweighted."""
        return define_loss(self.lossfn_type, charbonnier_eps=self.charbonnier_eps)(x, y)


class Objective:
    """G_loss, the weighted sum of up to three losses; `str()` is its formula.

    Args:
        l_g_L1: student's image against the ground truth.
        l_g_distill: student's image against the teacher's.
        l_g_feature: student's features against the teacher's translated ones, summed over the pairs.

    Raises:
        ValueError: no loss has a weight in the first iteration.
    """

    def __init__(self, l_g_L1: Term, *, l_g_distill: Term | None = None, l_g_feature: Term | None = None) -> None:
        terms = {"l_g_L1": l_g_L1, "l_g_distill": l_g_distill, "l_g_feature": l_g_feature}
        self.terms = {name: term for name, term in terms.items() if term is not None and term.weight > 0}
        if not self.active(1):
            raise ValueError("no loss has a weight above 0 in the first iteration")

    def active(self, step: int) -> dict[str, Term]:
        """The losses that count in iteration `step`; the first iteration is 1."""
        return {name: term for name, term in self.terms.items() if step > term.start}

    @property
    def always_uses_all(self) -> bool:
        """Whether every iteration has a gradient for every parameter of student and translators."""
        return "l_g_L1" in self.terms and all(term.start == 0 for term in self.terms.values())

    def needs_teacher(self, step: int) -> bool:
        """Whether iteration `step` asks the teacher at all."""
        return not self.active(step).keys() <= {"l_g_L1"}

    def needs_features(self, step: int) -> bool:
        """Whether iteration `step` compares features."""
        return "l_g_feature" in self.active(step)

    def __call__(
        self, student: StudentSignal, teacher: TeacherSignal | None, hr_image: Tensor, step: int
    ) -> dict[str, Tensor]:
        """The losses that are active in iteration `step`, each unweighted, and `G_loss`; all scalars."""
        compared = {
            "l_g_L1": [(student.image, hr_image)],
            "l_g_distill": [(student.image, teacher.image)] if teacher else [],
            "l_g_feature": list(zip(student.features, student.translated, strict=True)),
        }
        active = self.active(step)
        losses = {
            name: torch.stack([term(full(x), full(y)) for x, y in compared[name]]).sum()
            for name, term in active.items()
        }
        return losses | {"G_loss": torch.stack([active[name].weight * losses[name] for name in active]).sum()}

    def __str__(self) -> str:
        between = {
            "l_g_L1": "student, H",
            "l_g_distill": "student, teacher",
            "l_g_feature": "student feature, translated teacher feature",
        }
        parts = [
            f"{term.weight:g} * {name} [{term.lossfn_type}({between[name]})"
            + (f", after {term.start:,} iterations]" if term.start else "]")
            for name, term in self.terms.items()
        ]
        return "G_loss = " + " + ".join(parts)


def full(x: Tensor) -> Tensor:
    """bfloat16 as float32, so that losses are not rounded; other precisions as they are."""
    return x.float() if x.dtype == torch.bfloat16 else x
