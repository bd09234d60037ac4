"""Which network an option file or a checkpoint asks for."""

from collections.abc import Mapping
from contextlib import suppress
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.distillation.spandrel_teacher import SpandrelTeacher, read_descriptor, read_teacher
from models.network_swinir import SwinIR
from models.network_swinir_student import STUDENT, SwinIR_Student
from utils.options.networks import Network, SpandrelNetwork
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.weights import load_weights, misfits, read_finite_weights, stated_arguments

FIRST_BLOCK = "residual_group.blocks.0"  # of each RSTB
FIRST_TABLE = f"layers.0.{FIRST_BLOCK}.attn.relative_position_bias_table"  # which every SwinIR has
NETWORKS = {"swinir": SwinIR, "swinir_student": SwinIR_Student}

TRACELESS = ("img_range", "qk_scale")  # arguments that leave no mark on a state dict

# The paper's, the teacher unless an option file says otherwise; at scale 1, which needs none, without its upsampler.
SWINIR_M = {
    "img_size": 64,
    "embed_dim": 180,
    "depths": [6] * 6,
    "num_heads": [6] * 6,
    "window_size": 8,
    "mlp_ratio": 2,
    "upsampler": "pixelshuffle",
}


def define_G(options: Options, *, frozen: bool = False) -> SwinIR:  # noqa: N802 -- KAIR's name
    """The student of an option file.

    Raises:
        UserError: as `build`.
    """
    return build("netG", options.netG, defaults={}, scale=options.scale, frozen=frozen)


def define_teacher(options: Options) -> SwinIR | SpandrelTeacher:
    """The teacher of an option file: a SwinIR without its weights, or a network that spandrel reads from its weights.

    Without `netTeacher`, the file of weights decides which network it is, if the file exists. Keys that `netTeacher`
    leaves out are those of SwinIR-M; with the `net_type` "swinir_student", widths and depths are the student's.

    Raises:
        UserError: as `build`, or as `read_teacher`.
    """
    path = options.path.pretrained_netTeacher
    if "netTeacher" not in options.model_fields_set and path is not None and Path(path).is_file():
        return teacher_from_weights(Path(path), options)
    if isinstance(options.netTeacher, SpandrelNetwork):
        assert options.path.pretrained_netTeacher is not None
        with torch.device("cpu"):  # wherever the caller makes networks: spandrel's must have their weights
            return read_teacher(
                Path(options.path.pretrained_netTeacher),
                scale=options.scale,
                channels=options.n_channels,
                features=options.netTeacher.features,
                crop=options.datasets.train.H_size // options.scale,
            )
    others = STUDENT if options.netTeacher.net_type == "swinir_student" else {}
    others = others | ({"upsampler": ""} if options.scale == 1 else {})
    defaults = SWINIR_M | others | {"upscale": options.scale, "in_chans": options.n_channels}
    return build("netTeacher", options.netTeacher, defaults=defaults, scale=options.scale, frozen=True)


def teacher_from_weights(path: Path, options: Options) -> SwinIR | SpandrelTeacher:
    """The teacher that a file of weights shows: a SwinIR, without its weights, or else what spandrel finds.

    Raises:
        UserError: it is for another scale or other channels, or as `read_teacher`.
    """
    weights = read_finite_weights(path)
    scale, channels = options.scale, options.n_channels
    if FIRST_TABLE not in weights:
        crop = options.datasets.train.H_size // scale
        with torch.device("cpu"):
            return read_teacher(path, scale=scale, channels=channels, features=[], crop=crop)
    network = network_from_weights(weights, source=path)
    if (network.upscale, network.in_chans) != (scale, channels):
        raise UserError(
            f"{path}: this teacher is a {describe_weights(weights)}, but the option file asks for scale {scale} and "
            f"{'RGB' if channels == 3 else 'gray'} images"
        )
    return network


def describe(network: nn.Module) -> str:
    """`x2 SwinIR, gray, embed_dim 24, depths [6, 6], 123,456 parameters`; of spandrel's networks, the architecture."""
    size = f"{sum(parameter.numel() for parameter in network.parameters()):,} parameters"
    if isinstance(network, SpandrelTeacher):
        return f"{network.descriptor.architecture.name}, {size}"
    return f"{describe_weights(network.state_dict())}, {size}"


def describe_weights(weights: Mapping[str, Tensor]) -> str:
    """`x2 SwinIR, gray, embed_dim 24, depths [6, 6]`.

    Raises:
        LookupError, ArithmeticError, ValueError: they are not those of a SwinIR.
    """
    found = arguments_from_weights(weights)
    colours = "RGB" if found["in_chans"] == 3 else "gray"
    return f"x{found['upscale']} SwinIR, {colours}, embed_dim {found['embed_dim']}, depths {found['depths']}"


def load_network(network: nn.Module, weights: Mapping[str, Tensor], *, source: Path, advice: str = "") -> None:
    """As `load_weights`, but if the weights are those of another SwinIR, the error describes both networks.

    Raises:
        UserError: the weights are not the network's.
    """
    if misfits(network, weights):
        with suppress(LookupError, ArithmeticError, ValueError):  # no SwinIR
            found, wanted = describe_weights(weights), describe_weights(network.state_dict())
            if found != wanted:
                raise UserError(
                    f"{source}: these weights do not fit the network: they are of a {found}, it is a {wanted}{advice}"
                )
    load_weights(network, weights, source=source, advice=advice)


def build(key: str, network: Network, *, defaults: Mapping[str, Any], scale: int, frozen: bool) -> SwinIR:
    """The network of one section of the option file.

    Args:
        defaults: what the section leaves out, where that is not what the constructor has.
        frozen: whether it is never trained; it then has no stochastic depth.

    Raises:
        UserError: its arguments make no network, or one that does not do the file's scale.
    """
    arguments = {**defaults, **network.arguments(), **({"drop_path_rate": 0.0} if frozen else {})}
    try:
        built = NETWORKS[network.net_type](**arguments)
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error
    if built.upscale != scale:
        raise UserError(f"{key}.upsampler: {built.upsampler!r} does not do scale {scale}")
    return built


def network_to_test(
    weights: Mapping[str, Tensor], *, source: Path, options: Options | None
) -> SwinIR | SpandrelTeacher:
    """A checkpoint's network with its weights, a SwinIR or, without an option file, what spandrel finds in the file.

    Raises:
        UserError: as `network_with_weights`, or as `read_descriptor`.
    """
    if options or FIRST_TABLE in weights:
        return network_with_weights(weights, source=source, options=options)
    return SpandrelTeacher(read_descriptor(weights, source=source), features=[], crop=0).eval()


def network_with_weights(weights: Mapping[str, Tensor], *, source: Path, options: Options | None) -> SwinIR:
    """A checkpoint's network with its weights: as its option file says, or, without one, as the file shows.

    Raises:
        UserError: the weights are not those of the option file's network, or of no SwinIR.
    """
    network = define_G(options, frozen=True) if options else network_from_weights(weights, source=source)
    load_network(network, weights, source=source)
    return network.eval()


def network_from_weights(weights: Mapping[str, Tensor], *, source: Path) -> SwinIR:
    """A SwinIR of the architecture that its weights show, without them.

    `TRACELESS` arguments are those that the file states; where it does not, windows of 7 without an upsampler are taken
    for JPEG's networks, whose `img_range` is 255.

    Raises:
        UserError: these are not the weights of a SwinIR.
    """
    stated = stated_arguments(source)
    traceless = {key: stated[key] for key in TRACELESS if isinstance(stated.get(key), int | float)}
    try:
        return SwinIR(**arguments_from_weights(weights) | traceless, drop_path_rate=0.0)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise UserError(f"{source}: these are not the weights of a SwinIR ({error})") from error


def arguments_from_weights(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor arguments that leave their mark on a state dict."""
    embed_dim, in_chans = weights["conv_first.weight"].shape[:2]
    depths = count_children(weights, "layers.")
    blocks = [count_children(weights, f"layers.{i}.residual_group.blocks.") for i in range(depths)]
    first = f"layers.0.{FIRST_BLOCK}"
    window_size = (isqrt(weights[FIRST_TABLE].shape[0]) + 1) // 2
    mask = next((value for name, value in weights.items() if name.endswith("attn_mask")), None)
    # A file without any buffers does not show whether windows are shifted; all published networks shift them.
    shifted = 1 if f"{first}.attn.relative_position_index" in weights else 2
    upsampler, upscale = upsampler_from_weights(weights, in_chans)
    return {
        "img_size": window_size * (shifted if mask is None else isqrt(mask.shape[0])),
        "in_chans": in_chans,
        "embed_dim": embed_dim,
        "depths": blocks,
        "num_heads": [
            weights[f"layers.{i}.{FIRST_BLOCK}.attn.relative_position_bias_table"].shape[1] for i in range(depths)
        ],
        "window_size": window_size,
        "mlp_ratio": (weights[f"{first}.mlp.fc1.weight"].shape[0] + 0.5) / embed_dim,  # it is rounded down again
        "qkv_bias": f"{first}.attn.qkv.bias" in weights,
        "ape": "absolute_pos_embed" in weights,
        "patch_norm": "patch_embed.norm.weight" in weights,
        "upscale": upscale,
        "img_range": 255.0 if window_size == 7 and not upsampler else 1.0,
        "upsampler": upsampler,
        "resi_connection": "1conv" if "conv_after_body.weight" in weights else "3conv",
    }


def count_children(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered children a module list has."""
    return len({name[len(prefix) :].split(".")[0] for name in weights if name.startswith(prefix)})


def upsampler_from_weights(weights: Mapping[str, Tensor], in_chans: int) -> tuple[str, int]:
    """The reconstruction and its factor."""
    if "conv_up1.weight" in weights:
        return "nearest+conv", 4 if "conv_up2.weight" in weights else 2
    if "conv_before_upsample.0.weight" in weights:
        steps = [weights[name].shape[0] for name in weights if name.startswith("upsample.") and name.endswith("weight")]
        return "pixelshuffle", 3 if steps == [9 * 64] else 2 ** len(steps)
    if "upsample.0.weight" in weights:
        return "pixelshuffledirect", isqrt(weights["upsample.0.weight"].shape[0] // in_chans)
    return "", 1
