"""The frozen teacher.

Shapes: B batch, C image channels, H W height and width of the LR image, s scale, L tokens, D channels of a feature,
D_s and D_t those of student and teacher. Images are [0, 1].
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.distillation.features import FeatureNetwork, TeacherSignal, of_pixels


class Teacher:
    """A frozen network. Deliberately not a module: no optimizer, `train()` or checkpoint can reach it."""

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
