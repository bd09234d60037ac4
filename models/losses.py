"""Loss functions between two tensors of one shape, each the mean over all elements."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CHARBONNIER_EPSILON = 1e-9


def charbonnier(x: Tensor, y: Tensor) -> Tensor:
    """mean(sqrt((x - y)^2 + eps)): L1 that is smooth at zero (Lai et al., CVPR 2017, section 3.3)."""
    return torch.sqrt((x - y).square() + CHARBONNIER_EPSILON).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "charbonnier": charbonnier,
}
