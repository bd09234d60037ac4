"""The network against the published one: names, numbers, files, and the sizes that users feed it."""

import gzip
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spandrel import ModelLoader
from torch import Tensor, nn

from models.inspect.summary import count_parameters
from models.network_swinir import SwinIR
from models.network_swinir_student import SwinIR_Student
from models.select_network import define_teacher, network_from_weights
from tests.conftest import GOLDEN
from tests.golden.fill import fill_, image
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.runs import checkpoints
from utils.weights import load_weights, read_weights, serialized

TINY: dict[str, Any] = {
    "img_size": 16,
    "embed_dim": 12,
    "depths": [2, 2],
    "num_heads": [2, 3],
    "window_size": 8,
    "mlp_ratio": 2,
    "upscale": 4,
    "upsampler": "pixelshuffle",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "classical x4": {},
    "classical x3": {"upscale": 3},
    "lightweight x2": {"upscale": 2, "upsampler": "pixelshuffledirect"},
    "real-world x4 large": {"upsampler": "nearest+conv", "resi_connection": "3conv"},
    "real-world x2": {"upscale": 2, "upsampler": "nearest+conv"},
    "gray denoising": {"upscale": 1, "upsampler": "", "in_chans": 1},
    "colour JPEG": {"upscale": 1, "upsampler": "", "img_size": 14, "window_size": 7, "img_range": 255.0},
}
ODD = (1, 3, 19, 13)


def relative_error(ours: Tensor, golden: np.ndarray) -> float:
    return float(np.abs(ours.numpy() - golden).max() / np.abs(golden).max())


def published_class() -> type[nn.Module]:
    """The published network's code, as spandrel ships it."""
    return importlib.import_module("spandrel.architectures.SwinIR.__arch.SwinIR").SwinIR


@pytest.mark.slow
def test_parameters_and_buffers_are_the_published_ones() -> None:
    configurations = json.loads(gzip.decompress((GOLDEN / "swinir_state_dicts.json.gz").read_bytes()))
    assert len(configurations) >= 20
    for name, published in configurations.items():
        with torch.device("meta"):
            network = SwinIR(**published["config"])
        stored = network.state_dict()
        parameters = {key: list(value.shape) for key, value in network.named_parameters()}
        buffers = {
            key: [str(value.dtype).removeprefix("torch."), list(value.shape)]
            for key, value in network.named_buffers()
            if key in stored
        }
        assert parameters == published["parameters"], name
        assert buffers == published["buffers"], name
        assert count_parameters(network) == published["num_params"], name


def test_outputs_and_features_are_the_published_ones() -> None:
    golden = np.load(GOLDEN / "swinir_forward.npz")
    for name, case in json.loads((GOLDEN / "swinir_forward.json").read_text()).items():
        network = fill_(SwinIR(**case["config"]), case["seed"]).eval()
        with torch.no_grad():
            restored, features = network.forward_with_features(image(tuple(case["input_shape"]), case["seed"]).float())
        assert list(restored.shape) == case["output_shape"]
        assert relative_error(restored, golden[f"{name}/y"]) < 1e-5, name
        for index in range(case["features"]):
            assert relative_error(features[index], golden[f"{name}/rstb{index}"]) < 1e-5, (name, index)


def test_parameter_counts_of_the_research_log() -> None:
    body: dict[str, Any] = {"embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "window_size": 8}
    x4: dict[str, Any] = {"upscale": 4, "upsampler": "pixelshuffle", "mlp_ratio": 2}
    with torch.device("meta"):
        assert count_parameters(SwinIR_Student()) == 891_123
        assert count_parameters(SwinIR(**body)) == 16_182_723
        assert count_parameters(SwinIR_Student(**x4)) == 988_959
        assert count_parameters(SwinIR(**body, **x4)) == 11_900_199


@pytest.mark.parametrize(("net_type", "parameters"), [("swinir", 11_900_199), ("swinir_student", 988_959)])
def test_what_an_option_file_leaves_out_of_its_teacher(
    net_type: str, parameters: int, raw_options: dict[str, Any]
) -> None:
    raw_options["netTeacher"] = {"net_type": net_type}
    raw_options["path"]["pretrained_netTeacher"] = "teacher.pth"
    raw_options["train"] = {"distillation_type": "response", "total_iter": 1}
    with torch.device("meta"):
        assert count_parameters(define_teacher(Options.model_validate(raw_options))) == parameters


@pytest.mark.parametrize("variant", VARIANTS)
def test_checkpoints_load_in_the_published_code_and_in_spandrel(variant: str, tmp_path: Path) -> None:
    arguments = TINY | VARIANTS[variant]
    network = fill_(SwinIR(**arguments), seed=1).eval()
    lr_image = image((1, arguments.get("in_chans", 3), 16, 24), seed=2).float()
    if arguments["window_size"] == 7:
        lr_image = lr_image[:, :, :14, :21]  # a multiple of the window, since spandrel's padding is its own
    with torch.no_grad():
        expected = network(lr_image)
        published = published_class()(**arguments).eval()
        published.load_state_dict(network.state_dict(), strict=True)
        torch.testing.assert_close(published(lr_image), expected, rtol=0, atol=1e-5)

        checkpoints.save(tmp_path, 5, {"G": serialized(network.state_dict())})
        descriptor = ModelLoader(device="cpu").load_from_file(tmp_path / "5_G.pth").eval()
        assert descriptor.scale == network.upscale
        torch.testing.assert_close(descriptor.model(lr_image), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_architecture_is_read_off_the_weights(variant: str) -> None:
    network = fill_(SwinIR(**TINY | VARIANTS[variant]), seed=1).eval()
    rebuilt = network_from_weights(network.state_dict(), source=Path("x.pth")).eval()
    rebuilt.load_state_dict(network.state_dict())
    lr_image = image((1, network.in_chans, 14, 17), seed=2).float()
    with torch.no_grad():
        assert torch.equal(rebuilt(lr_image), network(lr_image))


@pytest.mark.parametrize("arguments", [{"mlp_ratio": 2.3}, {"img_size": 14, "window_size": 7}])
def test_a_students_odd_widths_and_windows_are_read_off_its_weights(arguments: dict[str, Any]) -> None:
    network = fill_(SwinIR(**TINY | arguments), seed=1).eval()
    rebuilt = network_from_weights(network.state_dict(), source=Path("x.pth")).eval()
    rebuilt.load_state_dict(network.state_dict())
    assert rebuilt.img_range == 1.0
    with torch.no_grad():
        assert torch.equal(rebuilt(torch.ones(1, 3, 14, 14)), network(torch.ones(1, 3, 14, 14)))


def test_foreign_weights_are_not_taken_for_a_swinir() -> None:
    with pytest.raises(UserError, match="not the weights of a SwinIR"):
        network_from_weights(nn.Conv2d(3, 3, 3).state_dict(), source=Path("x.pth"))


@pytest.mark.parametrize("wrapper", ["params", "params_ema", "state_dict", None])
def test_a_published_checkpoint_loads_whatever_its_img_size(wrapper: str | None, tmp_path: Path) -> None:
    released = fill_(published_class()(**TINY | {"img_size": 48}), seed=3).eval()
    weights = {f"module.{key}": value for key, value in released.state_dict().items()}
    torch.save(weights if wrapper is None else {wrapper: weights}, tmp_path / "released.pth")
    network = SwinIR(**TINY | {"img_size": 24}).eval()
    load_weights(network, read_weights(tmp_path / "released.pth"), source=tmp_path)
    lr_image = image((1, 3, 24, 40), seed=4).float()
    with torch.no_grad():
        torch.testing.assert_close(network(lr_image), released(lr_image), rtol=0, atol=1e-5)
    assert network.state_dict()["layers.0.residual_group.blocks.1.attn_mask"].shape == (9, 64, 64)


def test_better_weights_come_first_where_a_file_holds_two(tmp_path: Path) -> None:
    torch.save({"params": {"w": torch.zeros(1)}, "params_ema": {"w": torch.ones(1)}}, tmp_path / "two.pth")
    assert read_weights(tmp_path / "two.pth")["w"].item() == 1


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (8, 8), (9, 7), (16, 17)])
def test_any_height_and_width_is_restored(size: tuple[int, int]) -> None:
    network = SwinIR(**TINY).eval()
    with torch.no_grad():
        restored, features = network.forward_with_features(torch.rand(2, 3, *size))
    assert restored.shape == (2, 3, 4 * size[0], 4 * size[1])
    tokens = (-size[0] % 8 + size[0]) * (-size[1] % 8 + size[1])
    assert [tuple(f.shape) for f in features] == [(2, tokens, 12)] * 2


@pytest.mark.slow
def test_features_survive_compilation() -> None:
    torch.compiler.reset()  # else what other tests have compiled makes sizes symbolic, and this last half a minute
    network = SwinIR(**TINY | {"drop_path_rate": 0})
    compiled = torch.compile(network.forward_with_features, backend="aot_eager", fullgraph=True)
    lr_image = torch.rand(1, 3, 16, 16)
    for ours, plain in zip(compiled(lr_image)[1], network.forward_with_features(lr_image)[1], strict=True):
        torch.testing.assert_close(ours, plain)


def test_recomputing_activations_changes_no_gradient() -> None:
    lr_image = image((1, 3, 16, 16), seed=5).float()
    gradients = []
    for use_checkpoint in (False, True):
        network = fill_(SwinIR(**TINY, use_checkpoint=use_checkpoint, drop_path_rate=0), seed=6)
        network(lr_image).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_fused_attention_is_the_plain_one(precision: torch.dtype) -> None:
    network = fill_(SwinIR(**TINY).to(precision), seed=9).eval()
    lr_image = image((3, 3, 24, 40), seed=10).to(precision)  # several images, several shifted windows
    plain = network(lr_image)
    with torch.no_grad():
        fused = network(lr_image)
    assert plain.requires_grad
    torch.testing.assert_close(fused, plain.detach(), rtol=0, atol=1e-5 if precision == torch.float32 else 1e-12)


def test_stochastic_depth_is_active_in_training_only() -> None:
    torch.manual_seed(0)
    network = fill_(SwinIR(**TINY, drop_path_rate=0.5), seed=7)
    lr_image = image(ODD, seed=8).float()
    with torch.no_grad():
        assert not torch.equal(network(lr_image), network(lr_image))
        network.eval()
        assert torch.equal(network(lr_image), network(lr_image))


def test_absolute_positions_count_and_stretch() -> None:
    network = SwinIR(**TINY, ape=True).eval()
    with torch.no_grad():
        before = network(torch.rand(1, 3, 16, 16, generator=torch.manual_seed(0)))
        network.get_parameter("absolute_pos_embed").add_(1)
        after = network(torch.rand(1, 3, 16, 16, generator=torch.manual_seed(0)))
        assert not torch.allclose(before, after)
        assert network(torch.rand(1, 3, 24, 40)).shape == (1, 3, 96, 160)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"depths": [2]}, r"depths has 1 entries and num_heads 2"),
        ({"num_heads": [2, 5]}, r"embed_dim 12 is not a multiple of num_heads \[5\]"),
        ({"img_size": 5}, "img_size 5 is not a multiple of window_size 8"),
        ({"resi_connection": "2conv"}, "resi_connection '2conv' is neither"),
        ({"img_size": 20}, "img_size 20 is not a multiple of window_size 8"),
        ({"upsampler": "bicubic"}, "upsampler 'bicubic' is none of"),
        ({"upsampler": "nearest+conv", "upscale": 3}, r"makes upscale \(2, 4\), not 3"),
    ],
)
def test_arguments_that_make_no_network_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        SwinIR(**TINY | wrong)
