"""The option file's sections `netG` and `netTeacher`. Names are those of the published constructor."""

from typing import Any, Literal

from pydantic import PositiveFloat

from utils.options.types import Channels, Count, PerRSTB, Rate, Scale, Section


class Network(Section):
    """The arguments of `models.network_swinir.SwinIR`; the defaults shown are the published constructor's."""

    net_type: Literal["swinir", "swinir_student"] = "swinir"
    """SwinIR, or SwinIR with the student's widths and depths as defaults."""
    img_size: Count = 64
    """LR height and width that the saved `attn_mask` buffers are written for; any size can be restored."""
    patch_size: Count = 1
    """Divides `img_size`; tokens are always single pixels."""
    in_chans: Channels = 3
    """Channels of the image; follows `n_channels` where it is left out."""
    embed_dim: Count = 96
    """Channels of the features."""
    depths: PerRSTB = [6, 6, 6, 6]
    """Swin Transformer blocks of each RSTB."""
    num_heads: PerRSTB = [6, 6, 6, 6]
    """Attention heads of each RSTB; each divides `embed_dim`."""
    window_size: Count = 7
    """Height and width of the attention windows, in LR pixels."""
    mlp_ratio: PositiveFloat = 4.0
    """Hidden channels of the MLP over `embed_dim`."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    qk_scale: PositiveFloat | None = None
    """Factor of the attention logits; null: 1/sqrt(embed_dim/num_heads)."""
    drop_rate: Rate = 0.0
    """Dropout after embedding, projection and MLP."""
    attn_drop_rate: Rate = 0.0
    """Dropout of attention weights."""
    drop_path_rate: Rate = 0.1
    """Stochastic depth of the last block, rising linearly from 0 at the first."""
    ape: bool = False
    """Learnt absolute position embedding, of `img_size`; interpolated for inputs of other sizes."""
    patch_norm: bool = True
    """Whether the first tokens are normalised."""
    use_checkpoint: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    upscale: Scale = 2
    """Up-sampling factor; follows `scale` where it is left out."""
    img_range: PositiveFloat = 1.0
    """The network works on [0, 1] images times this number."""
    upsampler: Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv", ""] | None = ""
    """Reconstruction: classical SR, lightweight SR, real-world SR, or none."""
    resi_connection: Literal["1conv", "3conv"] = "1conv"
    """Convolution that closes each RSTB."""

    def arguments(self) -> dict[str, Any]:
        """The constructor arguments that the option file sets."""
        return self.model_dump(exclude_unset=True, exclude={"net_type"})


class SpandrelNetwork(Section):
    """A teacher of any architecture that the package spandrel reads, found out from `path.pretrained_netTeacher`."""

    net_type: Literal["spandrel"]
    """A network that spandrel reads."""
    features: list[str] = []
    """Modules whose outputs are the teacher's features, by their path in the network (`layers.0.blocks.5`), in the
    order in which `train.feature_pairs` counts them; each gives one vector for each LR pixel."""

    def arguments(self) -> dict[str, Any]:
        """None: its weights decide them."""
        return {}


# What `net_type` chooses for netTeacher.
TEACHERS: dict[str, type[Section]] = {"swinir": Network, "swinir_student": Network, "spandrel": SpandrelNetwork}
