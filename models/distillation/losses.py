"""Loss functions between two tensors of one shape, each the mean over all elements."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def charbonnier(x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    """mean(sqrt((x - y)^2 + eps)): L1 that is smooth at zero (Lai et al., CVPR 2017, section 3.3, squares eps)."""
    return torch.sqrt((x - y).square() + eps).mean()


def define_loss(name: str, *, charbonnier_eps: float) -> Loss:
    """The loss function of an option file's `..._lossfn_type`."""
    losses: dict[str, Loss] = {
        "l1": F.l1_loss,
        "l2": F.mse_loss,
        "charbonnier": partial(charbonnier, eps=charbonnier_eps),
    }
    return losses[name]
