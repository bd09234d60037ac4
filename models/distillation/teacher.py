"""The frozen teacher.

Shapes: B batch, C image channels, H W height and width of the LR image, s scale, L tokens, D channels of a feature,
D_s and D_t those of student and teacher. Images are [0, 1].
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.distillation.features import FeatureNetwork, TeacherSignal, of_pixels

Ask = Callable[[Tensor], tuple[Tensor, Sequence[Tensor]]]


class Teacher:
    """A frozen network. Deliberately not a module: no optimizer, `train()` or checkpoint can reach it.

    Args:
        compiled: what compiles the function that is called in training.
    """

    network: FeatureNetwork

    def __init__(self, network: nn.Module, *, compiled: Callable[[Ask], Ask] = lambda ask: ask) -> None:
        self.network = cast("FeatureNetwork", network.eval().requires_grad_(requires_grad=False))
        self.ask = compiled(self.network.forward_with_features)

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
