"""Knowledge distillation: what is trained, the frozen teacher, and the objective that binds them.

Shapes: B batch, C image channels, H W height and width of the LR image, s scale, L tokens,
D_s and D_t channels of a feature of student and teacher. Images are [0, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.losses import define_loss

FeaturePairs = Sequence[Sequence[int]]
TINY = 1e-12  # keeps a loss that is 0 from being divided by


class FeatureNetwork(Protocol):
    """What distillation asks of a network, be it student or teacher."""

    @property
    def feature_dims(self) -> Sequence[int]:
        """Channels of each of its features: a SwinIR's are the outputs of its RSTBs."""

    @property
    def window_size(self) -> int:
        """To multiples of what it extends its input, to the bottom and to the right."""

    def forward_with_features(self, image: Tensor, /) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W) -> the restored image (B, C, s*H, s*W) and each feature, (B, L, its channels).

        L counts the pixels of the image after its extension to multiples of `window_size`.
        """


class TeacherSignal(NamedTuple):
    """What the teacher has to say about a batch: its image (B, C, s*H, s*W) and features, each (B, H*W, D_t)."""

    image: Tensor
    features: list[Tensor]


class StudentSignal(NamedTuple):
    """The student's image (B, C, s*H, s*W), and for each pair what is compared: its features and what they should be.

    Both are (B, H*W, D_s), or, where the student's features are translated, (B, H*W, D_t). A tuple, in which
    DistributedDataParallel finds the tensors that no loss uses.
    """

    image: Tensor
    features: list[Tensor]
    targets: list[Tensor]


class Translators(nn.ModuleList):
    """One learnable `Linear` for each pair of features, which makes them comparable.

    On the teacher's side it is a `Linear(D_t, D_s)` of the teacher's feature. The loss can then be met by a translator
    that forgets the teacher. On the student's side, a `Linear(D_s, D_t)` of the student's, it cannot: the teacher's is
    compared as it is, but for a layer normalisation without gain, the whitening of Wei et al. (2022, arXiv:2205.14141),
    which makes features of any size weigh alike.

    Args:
        pairs: for each translator, the student's feature and the teacher's, counted from 0.
        side: whose features are translated.

    Raises:
        ValueError: a pair names a feature that a network does not have.
    """

    def __init__(
        self,
        pairs: FeaturePairs,
        *,
        student: FeatureNetwork,
        teacher: FeatureNetwork,
        side: Literal["teacher", "student"] = "teacher",
    ) -> None:
        for index, (role, network) in enumerate((("student", student), ("teacher", teacher))):
            count = len(network.feature_dims)
            for pair in pairs:
                if not 0 <= pair[index] < count:
                    raise ValueError(f"pair {list(pair)}: the {role} has {count} features, counted from 0")
        widths = [(student.feature_dims[s], teacher.feature_dims[t]) for s, t in pairs]
        super().__init__(nn.Linear(D_s, D_t) if side == "student" else nn.Linear(D_t, D_s) for D_s, D_t in widths)
        self.pairs = [tuple(pair) for pair in pairs]
        self.side = side

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """All features of both, (B, L, D_s) and (B, L, D_t) -> for each pair the student's, and what it should be."""
        ours, theirs = [student[s] for s, _ in self.pairs], [teacher[t] for _, t in self.pairs]
        if self.side == "teacher":
            return ours, [translate(feature) for translate, feature in zip(self, theirs, strict=True)]
        translated = [translate(feature) for translate, feature in zip(self, ours, strict=True)]
        return translated, [F.layer_norm(feature, feature.shape[-1:], eps=1e-8) for feature in theirs]


def relative_pairs(*, student: int, teacher: int) -> list[tuple[int, int]]:
    """Each of the student's features with the teacher's of the same relative depth, or the next deeper one.

    Args:
        student: how many features it has.
        teacher: how many features it has.
    """
    return [(s, ceil((s + 1) * teacher / student) - 1) for s in range(student)]


class Trainable(nn.Module):
    """Everything that learns, in one module: optimizer, clipping and DistributedDataParallel see one object."""

    student: FeatureNetwork
    translators: Translators | None

    def __init__(self, student: FeatureNetwork, translators: Translators | None) -> None:
        super().__init__()
        self.student = student
        self.translators = translators

    def forward(self, lr_image: Tensor, teacher_features: Sequence[Tensor] | None) -> StudentSignal:
        """(B, C, H, W) and, while l_g_feature counts, the teacher's features -> all that the losses compare."""
        image, features = self.student.forward_with_features(lr_image)
        if self.translators is None or teacher_features is None:
            return StudentSignal(image, [], [])
        features = of_pixels(features, lr_image, self.student.window_size)
        return StudentSignal(image, *self.translators(features, teacher_features))


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
        return self._signal(*self.ask(lr_image), lr_image)

    @torch.no_grad()
    def of_any_size(self, lr_image: Tensor) -> TeacherSignal:
        """The same, never compiled: outside of training, each image may have another size."""
        return self._signal(*self.network.forward_with_features(lr_image), lr_image)

    def _signal(self, image: Tensor, features: Sequence[Tensor], lr_image: Tensor) -> TeacherSignal:
        return TeacherSignal(image, of_pixels(features, lr_image, self.network.window_size))


def of_pixels(features: Sequence[Tensor], image: Tensor, window_size: int) -> list[Tensor]:
    """The features of the pixels of an image alone: two networks may extend it differently.

    Args:
        features: each (B, L, D), L the pixels of the image extended to multiples of `window_size`.
        image: (B, C, H, W).

    Returns:
        Each (B, H*W, D).
    """
    height, width = image.shape[2:]
    extended = [size + -size % window_size for size in (height, width)]
    return [feature.unflatten(1, extended)[:, :height, :width].flatten(1, 2) for feature in features]


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
