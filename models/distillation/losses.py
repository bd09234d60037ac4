"""Loss functions between what student and teacher, or the ground truth, have to say.

Shapes: B batch, L tokens, D_s and D_t channels of a feature of student and teacher.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def charbonnier(x: Tensor, y: Tensor, *, eps: float) -> Tensor:
    """mean(sqrt((x - y)^2 + eps)): L1 that is smooth at zero (Lai et al., CVPR 2017, section 3.3, squares eps)."""
    return torch.sqrt((x - y).square() + eps).mean()


def frequency(x: Tensor, y: Tensor) -> Tensor:
    """The L1 loss between the Fourier transforms of two images (B, C, H, W), over real and imaginary parts.

    The loss of MIMO-UNet (Cho et al., ICCV 2021, eq. 8), of its largest scale alone. Its authors add it to an L1 loss
    with a weight of 0.1. The transform is not normalised: the loss grows with the side of the crop.
    """
    return torch.view_as_real(torch.fft.fft2(x - y)).abs().mean()


def attention(x: Tensor, y: Tensor) -> Tensor:
    """The mean squared difference of attention maps: where in the image features (B, L, D_s) and (B, L, D_t) are large.

    Attention transfer (Zagoruyko and Komodakis, ICLR 2017, section 3.1, eq. 2, with p = 2), as its authors' code has
    it: the mean over images and tokens instead of the norm, with a weight of 1,000 before it. A factor before all of an
    image's features does not change it, nor does a rotation of their channels.
    """
    return F.mse_loss(attention_map(x), attention_map(y))


def attention_map(feature: Tensor) -> Tensor:
    """(B, L, D) -> the squares' mean over the channels, as a vector of norm 1 for each image, (B, L)."""
    return F.normalize(feature.square().mean(-1), dim=1)


def affinity(x: Tensor, y: Tensor) -> Tensor:
    """The L1 loss between affinity matrices: which tokens of features (B, L, D_s) and (B, L, D_t) are alike.

    The spatial affinity of FAKD (He et al., ICIP 2020, eq. 1 to 3). A factor before a token's feature does not change
    it, nor does a rotation of the channels. Until the backward pass it keeps two matrices of L*L float32 for each
    image: 42 MB for a crop of 48x48 pixels.
    """
    return F.l1_loss(affinity_matrix(x), affinity_matrix(y))


def affinity_matrix(feature: Tensor) -> Tensor:
    """(B, L, D) -> the cosine of the angle between each two tokens' features, (B, L, L)."""
    directions = F.normalize(feature, dim=-1)
    return directions @ directions.mT


def define_loss(name: str, *, charbonnier_eps: float) -> Loss:
    """The loss function of an option file's `..._lossfn_type`, or of a term that has one of its own."""
    losses: dict[str, Loss] = {
        "l1": F.l1_loss,
        "l2": F.mse_loss,
        "charbonnier": partial(charbonnier, eps=charbonnier_eps),
        "frequency": frequency,
        "attention": attention,
        "affinity": affinity,
    }
    return losses[name]
