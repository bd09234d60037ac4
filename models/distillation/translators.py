"""The translators, linear maps that make two networks' features comparable, and one module for all that is trained.

Shapes: B batch, C image channels, H W height and width of the LR image, s scale, L tokens, D channels of a feature,
D_s and D_t those of student and teacher. Images are [0, 1].
"""

from collections.abc import Sequence
from math import ceil
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from models.distillation.features import FeatureNetwork, StudentSignal, of_pixels

FeaturePairs = Sequence[Sequence[int]]


class Translators(nn.ModuleList):
    """One learnable `Linear` for each pair of features, which makes them comparable.

    On the teacher's side, a `Linear(D_t, D_s)` translates the teacher's feature. A translator that forgets the teacher
    can then make the loss small. On the student's side, a `Linear(D_s, D_t)` translates the student's feature, and no
    translator can do that: the teacher's feature is only layer-normalised without gain, the whitening of Wei et al.
    (2022, arXiv:2205.14141), which gives features of any size the same weight.

    Args:
        pairs: for each translator, the student's feature and the teacher's, counted from 0.
        side: whose features are translated.
    """

    def __init__(
        self,
        pairs: FeaturePairs,
        *,
        student: FeatureNetwork,
        teacher: FeatureNetwork,
        side: Literal["teacher", "student"] = "teacher",
    ) -> None:
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


def check_pairs(pairs: FeaturePairs, *, student: FeatureNetwork, teacher: FeatureNetwork) -> None:
    """Look for each pair's features, the student's and the teacher's, counted from 0.

    Raises:
        ValueError: a pair names a feature that a network does not have.
    """
    for index, (role, network) in enumerate((("student", student), ("teacher", teacher))):
        count = len(network.feature_dims)
        for pair in pairs:
            if not 0 <= pair[index] < count:
                raise ValueError(f"pair {list(pair)}: the {role} has {count} features, counted from 0")


def relative_pairs(*, student: int, teacher: int) -> list[tuple[int, int]]:
    """Each of the student's features with the teacher's of the same relative depth, or the next deeper one.

    Args:
        student: how many features it has.
        teacher: how many features it has.
    """
    return [(s, ceil((s + 1) * teacher / student) - 1) for s in range(student)]


class Trainable(nn.Module):
    """Everything that learns, in one module: optimizer, clipping and the compiler see one object.

    Args:
        translators: if features are compared element by element.
        pairs: the features that are compared, the student's and the teacher's, counted from 0.
    """

    student: FeatureNetwork
    translators: Translators | None

    def __init__(
        self, student: FeatureNetwork, translators: Translators | None = None, *, pairs: FeaturePairs = ()
    ) -> None:
        super().__init__()
        self.student = student
        self.translators = translators
        self.pairs = pairs

    def forward(self, lr_image: Tensor, teacher_features: Sequence[Tensor] | None) -> StudentSignal:
        """(B, C, H, W) and the teacher's features (None if no loss compares them) -> all that the losses compare."""
        image, features = self.student.forward_with_features(lr_image)
        if teacher_features is None:
            return StudentSignal(image)
        features = of_pixels(features, lr_image, self.student.window_size)
        pairs = [(features[s], teacher_features[t]) for s, t in self.pairs]
        if self.translators is None:
            return StudentSignal(image, pairs=pairs)
        compared, targets = self.translators(features, teacher_features)
        return StudentSignal(image, compared, targets, pairs)
