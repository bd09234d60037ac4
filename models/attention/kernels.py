"""Window attention as kernels of Triton: a program for each head and group of windows, each window in registers.

Shapes: W windows of all images, N of one image, M tokens of a window, h heads, d channels of a head. The pointers are
to contiguous tensors: qkv (W, M, 3*h*d), out (W, M, h*d), bias (h, M, M), mask (N, M, M), lse (W, h, M). Blocks are
powers of two; what they have beyond M and d reads as 0, and no token attends to it. More than two stages of the loops
need more shared memory than the 99 KB of small cards.
"""

import triton
import triton.language as tl


@triton.jit
def places(
    window,
    head,
    PARTS: tl.constexpr,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
):
    """Where a head's part of a window lies in (W, M, PARTS*h*d)."""
    token = window * TOKENS + tl.arange(0, BLOCK_TOKENS).to(tl.int64)  # of many windows, qkv has over 2**31 values
    channel = head * CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    return token[:, None] * (PARTS * HEADS * CHANNELS) + channel[None, :]


@triton.jit
def pairs(TOKENS: tl.constexpr, BLOCK_TOKENS: tl.constexpr):
    """Where a pair of tokens lies in (M, M), and whether there is such a pair."""
    token = tl.arange(0, BLOCK_TOKENS)
    return token[:, None] * TOKENS + token[None, :], (token[:, None] < TOKENS) & (token[None, :] < TOKENS)


@triton.jit
def head_bias(bias, head, TOKENS: tl.constexpr, BLOCK_TOKENS: tl.constexpr):
    """The bias of a head, in float32; -inf towards what is no token."""
    pair, is_pair = pairs(TOKENS, BLOCK_TOKENS)
    values = tl.load(bias + head * TOKENS * TOKENS + pair, mask=is_pair, other=0.0).to(tl.float32)
    return tl.where(tl.arange(0, BLOCK_TOKENS)[None, :] < TOKENS, values, float("-inf"))


@triton.jit
def window_logits(
    q,
    k,
    biases,
    mask,
    window,
    masks,
    scale,
    MASKED: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The logits of one head and window, in float32."""
    logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale + biases
    if MASKED:
        pair, is_pair = pairs(TOKENS, BLOCK_TOKENS)
        logits += tl.load(mask + (window % masks) * TOKENS * TOKENS + pair, mask=is_pair, other=0.0)
    return logits


@triton.jit
def attend(
    qkv,
    bias,
    mask,
    out,
    lse,
    windows,
    masks,
    scale,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write out and lse; the grid is (groups of GROUP windows, heads)."""
    head = tl.program_id(1)
    token = tl.arange(0, BLOCK_TOKENS)
    is_value = (token[:, None] < TOKENS) & (tl.arange(0, BLOCK_CHANNELS)[None, :] < CHANNELS)
    biases = head_bias(bias, head, TOKENS, BLOCK_TOKENS)
    first = tl.program_id(0) * GROUP
    for window in tl.range(first, tl.minimum(first + GROUP, windows), num_stages=2):
        part = qkv + places(window, head, 3, HEADS, CHANNELS, TOKENS, BLOCK_TOKENS, BLOCK_CHANNELS)
        q = tl.load(part, mask=is_value, other=0.0)
        k = tl.load(part + HEADS * CHANNELS, mask=is_value, other=0.0)
        v = tl.load(part + 2 * HEADS * CHANNELS, mask=is_value, other=0.0)
        logits = window_logits(q, k, biases, mask, window, masks, scale, MASKED, TOKENS, BLOCK_TOKENS, PRECISION)
        peak = tl.max(logits, axis=1)
        weights = tl.exp(logits - peak[:, None])
        total = tl.sum(weights, axis=1)
        attended = tl.dot((weights / total[:, None]).to(v.dtype), v, input_precision=PRECISION)
        place = places(window, head, 1, HEADS, CHANNELS, TOKENS, BLOCK_TOKENS, BLOCK_CHANNELS)
        tl.store(out + place, attended.to(v.dtype), mask=is_value)
        row = (window * HEADS + head) * TOKENS + token
        tl.store(lse + row, peak + tl.log(total), mask=token < TOKENS)


@triton.jit
def attend_backward(
    qkv,
    bias,
    mask,
    lse,
    grad_out,
    grad_qkv,
    grad_bias,
    windows,
    masks,
    scale,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write grad_qkv, as qkv, and the share of each group of windows in the bias's gradient: (groups, h, M, M)."""
    head = tl.program_id(1)
    token = tl.arange(0, BLOCK_TOKENS)
    is_value = (token[:, None] < TOKENS) & (tl.arange(0, BLOCK_CHANNELS)[None, :] < CHANNELS)
    biases = head_bias(bias, head, TOKENS, BLOCK_TOKENS)
    of_bias = tl.zeros([BLOCK_TOKENS, BLOCK_TOKENS], dtype=tl.float32)
    first = tl.program_id(0) * GROUP
    for window in tl.range(first, tl.minimum(first + GROUP, windows), num_stages=2):
        place = places(window, head, 3, HEADS, CHANNELS, TOKENS, BLOCK_TOKENS, BLOCK_CHANNELS)
        q = tl.load(qkv + place, mask=is_value, other=0.0)
        k = tl.load(qkv + place + HEADS * CHANNELS, mask=is_value, other=0.0)
        v = tl.load(qkv + place + 2 * HEADS * CHANNELS, mask=is_value, other=0.0)
        logits = window_logits(q, k, biases, mask, window, masks, scale, MASKED, TOKENS, BLOCK_TOKENS, PRECISION)
        row = (window * HEADS + head) * TOKENS + token
        sums = tl.load(lse + row, mask=token < TOKENS, other=0.0)
        weights = tl.exp(logits - sums[:, None])
        from_out = places(window, head, 1, HEADS, CHANNELS, TOKENS, BLOCK_TOKENS, BLOCK_CHANNELS)
        of_out = tl.load(grad_out + from_out, mask=is_value, other=0.0)
        of_v = tl.dot(tl.trans(weights.to(v.dtype)), of_out, input_precision=PRECISION)
        of_weights = tl.dot(of_out, tl.trans(v), input_precision=PRECISION)
        of_logits = weights * (of_weights - tl.sum(weights * of_weights, axis=1)[:, None])
        of_bias += of_logits
        scaled = (of_logits * scale).to(q.dtype)
        of_q = tl.dot(scaled, k, input_precision=PRECISION)
        of_k = tl.dot(tl.trans(scaled), q, input_precision=PRECISION)
        tl.store(grad_qkv + place, of_q.to(q.dtype), mask=is_value)
        tl.store(grad_qkv + place + HEADS * CHANNELS, of_k.to(q.dtype), mask=is_value)
        tl.store(grad_qkv + place + 2 * HEADS * CHANNELS, of_v.to(q.dtype), mask=is_value)
    pair, is_pair = pairs(TOKENS, BLOCK_TOKENS)
    share = tl.program_id(0) * HEADS + head
    tl.store(grad_bias + share * TOKENS * TOKENS + pair, of_bias, mask=is_pair)
