"""Attention on GPUs: its function against the plain one, on the CPU; its choice, with tensors that only have shapes."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from models import swin_transformer
from models.memory import peak_bytes
from models.network_swinir import SwinIR
from models.swin_transformer import WindowAttention, shifted_window_mask
from tests.conftest import ROOT

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def attention(heads: int, channels: int, window_size: int) -> WindowAttention:
    """One with a bias that matters."""
    torch.manual_seed(0)
    module = WindowAttention(
        heads * channels,
        window_size=window_size,
        num_heads=heads,
        qkv_bias=True,
        qk_scale=None,
        attn_drop=0.0,
        proj_drop=0.0,
    )
    nn.init.normal_(module.relative_position_bias_table)
    return module


@pytest.mark.parametrize("window_size", [7, 8])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("channels", [10, 16, 30])
def test_attention_with_padded_heads_is_the_plain_one(channels: int, shifted: bool, window_size: int) -> None:
    heads, tokens = 3, window_size**2
    module = attention(heads, channels, window_size)
    q, k, v = torch.randn(3, 2 * 6, heads, tokens, channels)
    bias = module.relative_position_bias_table[module.relative_position_index].permute(2, 0, 1)
    if shifted:
        bias = bias + shifted_window_mask(2 * window_size, 3 * window_size, window_size, 3)[:, None]
    with torch.no_grad():
        padded, plain = module._attend_padded(q, k, v, bias), module._attend(q, k, v, bias)
    assert padded.shape == (2 * 6, heads, tokens, channels)
    torch.testing.assert_close(padded, plain, rtol=0, atol=2e-6)


class Asked(TorchFunctionMode):
    """Writes down the calls of PyTorch's fused attention, those of ours, and the rows of what is up-sampled."""

    def __init__(self) -> None:
        super().__init__()
        self.attention: list[tuple[Tensor, Tensor]] = []
        self.ours: list[tuple[Any, ...]] = []
        self.strips: list[int] = []

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self.attention.append((args[0], given["attn_mask"]))
        if "swinir_student" in str(func):
            self.ours.append(tuple(args))
        if func is F.pixel_shuffle:
            self.strips.append(args[0].shape[2])
        return func(*args, **given)


def to_shapes(network: nn.Module) -> None:
    """Make the parameters and buffers those of a GPU that has only shapes; for a block of `FakeTensorMode`."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty_like(parameter, device="cuda")))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty_like(buffer, device="cuda"))


def test_a_gpu_takes_more_at_once_through_its_own_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swin_transformer, "free_at_first", lambda _: 80 * 2**30)
    network = SwinIR(64, embed_dim=20, depths=[2], num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffle")
    on_cpu = {size: peak_bytes(network, size**2) for size in (800, 64)}
    with FakeTensorMode(allow_non_fake_inputs=True):
        to_shapes(network)
        with torch.no_grad(), Asked() as asked:
            restored = network(torch.empty(1, 3, 800, 800, device="cuda"))
    assert restored.shape == (1, 3, 1600, 1600)
    assert [len(q) for q, _ in asked.attention] == [8192, 1808] * 2  # of 100 x 100 windows
    for q, bias in asked.attention:
        assert q.shape[1:] == (2, 64, 16), "10 channels have no kernel"
        assert bias.stride()[1:] == (64 * 64, 64, 1), "the kernel reads rows"
    assert [len(bias) for _, bias in asked.attention] == [1, 1, 8192, 1808]  # those of shifted windows have masks
    assert asked.strips == [327 + 3, 327 + 2 * 3, 146 + 3]
    assert peak_bytes(network, 800**2) > 2 * on_cpu[800], "the choice of tiles knows nothing of it"
    assert peak_bytes(network, 64**2) == on_cpu[64], "what is restored at once on both takes the same"


def trained_on_shapes() -> Asked:
    """What a forward pass with gradients asks for on a GPU."""
    network = SwinIR(16, embed_dim=20, depths=[2], num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffle")
    with FakeTensorMode(allow_non_fake_inputs=True), Asked() as asked:
        to_shapes(network)
        restored = network(torch.empty(3, 3, 16, 16, device="cuda"))
    assert restored.requires_grad
    assert restored.shape == (3, 3, 32, 32)
    return asked


def test_a_gpu_trains_with_the_plain_attention() -> None:
    asked = trained_on_shapes()
    assert asked.attention == asked.ours == []


@needs_triton
def test_a_gpu_can_be_told_to_train_with_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swin_transformer, "FUSED_TRAINING", True)
    asked = trained_on_shapes()
    assert asked.attention == []
    plain, shifted = asked.ours
    assert plain[0].shape == shifted[0].shape == (3 * 4, 64, 60)
    assert (plain[2], shifted[2].shape) == (None, (4, 64, 64))


@needs_triton
@pytest.mark.slow
def test_kernels_give_the_plain_output_and_gradients() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fused_attention"],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == 8
    for case, differences in cases:
        assert len(differences) == 3
        assert max(differences.values()) < 1e-5, case
