"""What student and teacher say about a batch: images and features.

Shapes: B batch, C image channels, H W height and width of the LR image, s scale, L tokens, D channels of a feature,
D_s and D_t those of student and teacher. Images are [0, 1].
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class FeatureNetwork(Protocol):
    """What distillation asks of a network, student or teacher."""

    @property
    def feature_dims(self) -> Sequence[int]:
        """Channels of each of its features: a SwinIR's are the outputs of its RSTBs."""

    @property
    def window_size(self) -> int:
        """The network extends its input, at the bottom and at the right, to multiples of this number of pixels."""

    def forward_with_features(self, image: Tensor, /) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W) -> the restored image (B, C, s*H, s*W) and each feature, (B, L, its channels).

        L counts the pixels of the image after its extension to multiples of `window_size`.
        """


class TeacherSignal(NamedTuple):
    """What the teacher has to say about a batch: its image (B, C, s*H, s*W) and features, each (B, H*W, D_t)."""

    image: Tensor
    features: list[Tensor]


class StudentSignal(NamedTuple):
    """The student's image (B, C, s*H, s*W), and for each pair of features what is compared.

    Attributes:
        features: the student's features (B, H*W, D_s) or, where those are translated, (B, H*W, D_t).
        targets: what they should be, of the same shape.
        pairs: before translation, the student's (B, H*W, D_s) and the teacher's (B, H*W, D_t).
    """

    image: Tensor
    features: Sequence[Tensor] = ()
    targets: Sequence[Tensor] = ()
    pairs: Sequence[tuple[Tensor, Tensor]] = ()


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
