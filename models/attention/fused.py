"""Window attention that never holds the attention matrix, for training on GPUs: operators of PyTorch around kernels.

Shapes: W windows of all images, N of one image, M tokens of a window, h heads, C channels of all heads.
"""

from typing import Any

import torch
import triton
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton.runtime.jit import JITFunction

from models.attention import kernels

GROUP = 16  # windows of a program: the fewer, the more shares of the bias's gradient there are to sum
SMALLEST_BLOCK = 16  # of a matrix product in Triton


def fused_attention(qkv: Tensor, bias: Tensor, mask: Tensor | None, *, heads: int, scale: float) -> Tensor:
    """softmax(scale * q @ k^T + bias + mask) @ v of each window and head; `qkv` and `bias` get gradients.

    Args:
        qkv: (W, M, 3*C) on a GPU: q, k and v one after another, each head by head.
        bias: (h, M, M).
        mask: (N, M, M) of shifted windows, where W is a multiple of N.

    Returns:
        (W, M, C), in the type of `qkv`. Logits and softmax are computed in float32.
    """
    mask = None if mask is None else mask.contiguous()
    return _attend(qkv.contiguous(), bias.contiguous(), mask, heads, scale)[0]


def launch(kernel: Any, tensors: list[Tensor], *, mask: Tensor | None, heads: int, scale: float) -> None:
    """Run a kernel, given the tensors that its arguments begin with, of which `qkv` is the first."""
    qkv = tensors[0]
    windows, tokens, channels = qkv.shape[0], qkv.shape[1], qkv.shape[2] // (3 * heads)
    exact = qkv.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    run = wrap_triton(kernel) if isinstance(kernel, JITFunction) else kernel  # Triton's interpreter has no such
    run[(groups(windows), heads)](
        *tensors,
        windows,
        1 if mask is None else len(mask),
        scale,
        HEADS=heads,
        CHANNELS=channels,
        TOKENS=tokens,
        BLOCK_TOKENS=max(triton.next_power_of_2(tokens), SMALLEST_BLOCK),
        BLOCK_CHANNELS=max(triton.next_power_of_2(channels), SMALLEST_BLOCK),
        GROUP=GROUP,
        MASKED=mask is not None,
        PRECISION="ieee" if exact else "tf32",
    )


def groups(windows: int) -> int:
    """How many groups of windows there are."""
    return -(-windows // GROUP)


@triton_op("swinir_student::window_attention", mutates_args=())
def _attend(qkv: Tensor, bias: Tensor, mask: Tensor | None, heads: int, scale: float) -> tuple[Tensor, Tensor]:
    windows, tokens, channels = qkv.shape
    out = qkv.new_empty(windows, tokens, channels // 3)
    lse = qkv.new_empty(windows, heads, tokens, dtype=torch.float32)
    tensors = [qkv, bias, bias if mask is None else mask, out, lse]
    launch(kernels.attend, tensors, mask=mask, heads=heads, scale=scale)
    return out, lse


@triton_op("swinir_student::window_attention_backward", mutates_args=())
def _attend_backward(
    qkv: Tensor, bias: Tensor, mask: Tensor | None, lse: Tensor, grad_out: Tensor, *, heads: int, scale: float
) -> tuple[Tensor, Tensor]:
    grad_qkv = torch.empty_like(qkv)
    shares = bias.new_empty(groups(len(qkv)), *bias.shape, dtype=torch.float32)
    tensors = [qkv, bias, bias if mask is None else mask, lse, grad_out, grad_qkv, shares]
    launch(kernels.attend_backward, tensors, mask=mask, heads=heads, scale=scale)
    return grad_qkv, shares.sum(0).to(bias.dtype)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, bias, mask, ctx.heads, ctx.scale = inputs
    ctx.save_for_backward(qkv, bias, mask, output[1])


def _gradients(ctx: Any, grad_out: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
    """The gradients of `_attend`; its output `lse` is used only here, and has no gradient."""
    qkv, bias, mask, lse = ctx.saved_tensors
    grads = _attend_backward(qkv, bias, mask, lse, grad_out.contiguous(), heads=ctx.heads, scale=ctx.scale)
    return *grads, None, None, None


_attend.register_autograd(_gradients, setup_context=_keep)
