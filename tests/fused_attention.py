"""Window attention by kernels, which Triton's interpreter runs on the CPU, beside the plain one.

`TRITON_INTERPRET=1 python -m tests.fused_attention` prints the largest differences, a case each line, as JSON.
"""

import itertools
import json
import sys

import torch
from torch import Tensor

from models.attention.fused import GROUP, fused_attention
from models.swin_transformer import WindowAttention, shifted_window_mask

HEADS, IMAGES, GRID = 2, 3, (2, 3)  # windows of an image


def difference(window_size: int, channels: int, shifted: bool) -> dict[str, float]:
    """Of output and gradients, for random values."""
    torch.manual_seed(0)
    tokens, windows, dim = window_size**2, IMAGES * GRID[0] * GRID[1], HEADS * channels
    assert windows % GROUP > 0 < windows // GROUP, "one group is full, and one is not"
    module = WindowAttention(
        dim, window_size=window_size, num_heads=HEADS, qkv_bias=True, qk_scale=None, attn_drop=0.0, proj_drop=0.0
    )
    height, width = (window_size * count for count in GRID)
    mask = shifted_window_mask(height, width, window_size, window_size // 2) if shifted else None
    qkv, bias = torch.randn(windows, tokens, 3 * dim), torch.randn(HEADS, tokens, tokens)
    grad_out = torch.randn(windows, tokens, dim)

    def plain(qkv: Tensor, bias: Tensor) -> Tensor:
        return module._attend_parts(qkv, bias, mask)

    def fused(qkv: Tensor, bias: Tensor) -> Tensor:
        return fused_attention(qkv, bias, mask, heads=HEADS, scale=module.scale)

    found = []
    for attend in (plain, fused):
        leaves = [qkv.clone().requires_grad_(), bias.clone().requires_grad_()]
        out = attend(*leaves)
        found.append([out.detach(), *torch.autograd.grad(out, leaves, grad_out)])
    differences = [float((theirs - ours).abs().max()) for theirs, ours in zip(*found, strict=True)]
    return dict(zip(("output", "of qkv", "of the bias"), differences, strict=True))


if __name__ == "__main__":
    for case in itertools.product((7, 8), (10, 30), (False, True)):
        sys.stdout.write(f"{json.dumps([case, difference(*case)])}\n")
