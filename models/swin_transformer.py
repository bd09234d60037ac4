"""Swin Transformer layers: attention inside the windows of an image, plain and shifted (SwinIR, section 3.2).

Shapes: B batch, C channels, H W height and width, M = window_size**2 tokens of a window, N windows of an image,
h heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

# Windows that a block processes at once in inference. With more, the temporaries of a large image take more memory than
# its features; with fewer, a GPU has too little work and waits.
WINDOWS_AT_ONCE = {"cpu": 128, "cuda": 8192}
BYTES_OF_WINDOW = 2**19  # of SwinIR-M in float32: queries, keys and values, the MLP's, and the bias with its mask
CHANNELS_OF_KERNELS = 8  # heads of a multiple of these have fused kernels on a GPU, in any precision
FUSED_TRAINING = False  # whether networks train on a GPU with kernels of Triton, which no card has tried yet
MASKED = -100.0  # added to the logits of tokens that are not neighbours; the published value, not -inf


@cache
def free_at_first(device: torch.device) -> int:
    """Bytes of a GPU that were free when this was asked first: asking in every layer would take time."""
    return torch.cuda.mem_get_info(device)[0]


def at_once(most: Mapping[str, int], bytes_of_one: int, device: torch.device) -> int:
    """How many parts of an image are worked on at once: on a GPU, what fits into an eighth of its free memory."""
    if device.type != "cuda":
        return most["cpu"]
    return max(most["cpu"], min(most["cuda"], free_at_first(device) // 8 // bytes_of_one))


def window_partition(x: Tensor, window_size: int) -> Tensor:
    """(B, H, W, C) -> (B*N, M, C); H and W are multiples of `window_size`."""
    b, h, w, c = x.shape
    x = x.view(b, h // window_size, window_size, w // window_size, window_size, c)
    return x.transpose(2, 3).reshape(-1, window_size**2, c)


def window_reverse(windows: Tensor, window_size: int, height: int, width: int) -> Tensor:
    """(B*N, M, C) -> (B, H, W, C): the inverse of `window_partition`."""
    x = windows.view(-1, height // window_size, width // window_size, window_size, window_size, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def shifted_window_mask(
    height: int, width: int, window_size: int, shift: int, device: torch.device | None = None
) -> Tensor:
    """(N, M, M) float32: 0 between tokens that were neighbours before the cyclic shift, `MASKED` elsewhere."""

    def band(size: int) -> Tensor:
        position = torch.arange(size, device=device)
        return (position >= size - window_size).long() + (position >= size - shift).long()

    region = 3 * band(height)[:, None] + band(width)[None, :]
    region = window_partition(region[None, :, :, None], window_size).squeeze(-1)  # (N, M)
    return (region[:, None, :] != region[:, :, None]).float() * MASKED


def relative_position_index(window_size: int) -> Tensor:
    """(M, M) int64: the row of the bias table that belongs to each pair of tokens."""
    position = torch.arange(window_size)
    y, x = (p.flatten() for p in torch.meshgrid(position, position, indexing="ij"))
    dy, dx = (p[:, None] - p[None, :] + window_size - 1 for p in (y, x))
    return dy * (2 * window_size - 1) + dx


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window, with a relative position bias (section 3.2)."""

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        *,
        window_size: int,
        num_heads: int,
        qkv_bias: bool,
        qk_scale: float | None,
        attn_drop: float,
        proj_drop: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", relative_position_index(window_size))
        self.register_load_state_dict_pre_hook(keep_own_index)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.fused_training = FUSED_TRAINING and attn_drop == 0 and find_spec("triton") is not None
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B*N, M, C) and, for shifted windows, the (N, M, M) mask -> (B*N, M, C)."""
        qkv = self.qkv(x)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # (h, M, M)
        if self.fused_training and qkv.device.type == "cuda" and torch.is_grad_enabled():
            from models.attention.fused import fused_attention  # Triton takes a second to import

            attended = fused_attention(qkv, bias, mask, heads=self.num_heads, scale=self.scale)
        else:
            attended = self._attend_parts(qkv, bias, mask)
        return self.proj_drop(self.proj(attended))

    def _attend_parts(self, qkv: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        """(B*N, M, 3*C) and (h, M, M) -> (B*N, M, C)."""
        windows, m, _ = qkv.shape
        q, k, v = qkv.view(windows, m, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # each (B*N, h, M, C/h)
        if mask is not None:
            bias = bias + mask[:, None]  # (N, h, M, M)
        bias = bias.to(q.dtype)
        attend = self._attend
        if not torch.is_grad_enabled():
            # These kernels are faster and never hold the (B*N, h, M, M) attention. On a CPU they give the bias no
            # gradient; on a GPU it is one for each window.
            attend = {"cpu": self._attend_fused, "cuda": self._attend_padded}.get(q.device.type, self._attend)
        return attend(q, k, v, bias).transpose(1, 2).reshape(windows, m, -1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        logits = ((q * self.scale) @ k.transpose(-2, -1)).view(-1, *bias.shape) + bias
        attention = logits.softmax(dim=-1, dtype=logits.dtype)  # named, or autocast on a GPU keeps it in float32
        return self.attn_drop(attention).view(*q.shape[:3], -1) @ v

    def _attend_fused(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        bias = bias[None] if bias.dim() == 3 else bias.expand(len(q) // len(bias), *bias.shape).flatten(0, 1)
        dropout = self.attn_drop.p if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=self.scale)

    def _attend_padded(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """The same on a GPU, which has no kernels for the 10 and 30 channels of published heads: zeros fill them up.

        cuDNN's kernel is left out: it takes tens of milliseconds to prepare for each new number of windows.
        """
        channels = q.shape[-1]
        q, k, v = (F.pad(part, (0, -channels % CHANNELS_OF_KERNELS)) for part in (q, k, v))
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            return self._attend_fused(q, k, v, bias.contiguous())[..., :channels]


@dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """What all Swin Transformer blocks of one network share."""

    dim: int
    grid: int  # height and width, in tokens, that the stored masks are written for
    window_size: int
    mlp_ratio: float
    qkv_bias: bool
    qk_scale: float | None
    drop: float
    attn_drop: float
    norm_layer: type[nn.Module]


class Mlp(nn.Module):
    """Two linear layers with a GELU between, over the last dimension."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        hidden_dim = int(config.dim * config.mlp_ratio)
        self.fc1 = nn.Linear(config.dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, config.dim)
        self.drop = nn.Dropout(config.drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class SwinTransformerBlock(nn.Module):
    """Window attention and MLP, each behind a normalisation and inside a skip (section 3.2)."""

    attn_mask: Tensor

    def __init__(self, config: BlockConfig, *, num_heads: int, shift_size: int, drop_path: float) -> None:
        super().__init__()
        self.window_size = config.window_size
        self.shift_size = shift_size
        self.norm1 = config.norm_layer(config.dim)
        self.attn = WindowAttention(
            config.dim,
            window_size=config.window_size,
            num_heads=num_heads,
            qkv_bias=config.qkv_bias,
            qk_scale=config.qk_scale,
            attn_drop=config.attn_drop,
            proj_drop=config.drop,
        )
        self.drop_path = stochastic_depth(drop_path)
        self.norm2 = config.norm_layer(config.dim)
        self.mlp = Mlp(config)
        if shift_size:
            # Never read here: the published code wants this buffer, in the shape that belongs to its img_size.
            mask = shifted_window_mask(config.grid, config.grid, config.window_size, shift_size)
            self.register_buffer("attn_mask", mask)
            self.register_load_state_dict_pre_hook(keep_own_mask)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C); `mask` is that of the shifted windows for this H and W."""
        batch, height, width, channels = x.shape
        shift = self.shift_size
        windows = window_partition(x.roll((-shift, -shift), dims=(1, 2)) if shift else x, self.window_size)
        windows = windows.view(batch, -1, self.window_size**2, channels)
        windows = self._transform(windows, mask if shift else None)
        x = window_reverse(windows, self.window_size, height, width)
        return x.roll((shift, shift), dims=(1, 2)) if shift else x

    def _transform(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, M, C) -> (B, N, M, C); where no gradient is asked for, a part of the windows at a time."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._attend_and_mix(windows, mask)
        count = at_once(WINDOWS_AT_ONCE, BYTES_OF_WINDOW, windows.device)
        if windows.shape[1] <= count:
            return self._attend_and_mix(windows, mask)
        transformed = torch.empty_like(windows)
        for start in range(0, windows.shape[1], count):
            part = slice(start, start + count)
            transformed[:, part] = self._attend_and_mix(windows[:, part], None if mask is None else mask[part])
        return transformed

    def _attend_and_mix(self, x: Tensor, mask: Tensor | None) -> Tensor:
        attended = self.attn(self.norm1(x).flatten(0, 1), mask).view_as(x)
        x = x + self.drop_path(attended)
        return x + self.drop_path(self.mlp(self.norm2(x)))


def stochastic_depth(rate: float) -> nn.Module:
    """What drops a residual branch of some images at this rate in training (Huang et al., ECCV 2016)."""
    if rate == 0:
        return nn.Identity()
    from timm.layers import DropPath  # it takes a second to import

    return DropPath(rate)


def keep_own_mask(block: SwinTransformerBlock, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Let a checkpoint load with masks for any `img_size`, or without masks: they are derived, never learnt."""
    state_dict[f"{prefix}attn_mask"] = block.attn_mask


def keep_own_index(attention: WindowAttention, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Let a checkpoint load without the index of the bias table, or with a damaged one: it is derived, never learnt."""
    index = state_dict.get(f"{prefix}relative_position_index")
    if index is None or index.shape == attention.relative_position_index.shape:
        state_dict[f"{prefix}relative_position_index"] = attention.relative_position_index


class BasicLayer(nn.Module):
    """The Swin Transformer blocks of one RSTB; every second one shifts its windows by `shift_size`."""

    def __init__(
        self, config: BlockConfig, *, num_heads: int, shift_size: int, drop_paths: Sequence[float], use_checkpoint: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinTransformerBlock(config, num_heads=num_heads, shift_size=shift_size * (i % 2), drop_path=drop_path)
            for i, drop_path in enumerate(drop_paths)
        )
        self.use_checkpoint = use_checkpoint

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, mask, use_reentrant=False) if self.use_checkpoint else block(x, mask)
        return x
