"""The forms in which other programs read a network: safetensors, the published `.pth` layout and ONNX."""

import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import safetensors.torch
import torch
from torch import Tensor

from models.network_swinir import SwinIR
from models.select_network import arguments_from_weights
from utils.options.schema import Options
from utils.weights import serialized

# Heights and widths at which the ONNX file has to agree with PyTorch; the last is a multiple of windows of 7 and 8.
CHECKED_SIZES = ((37, 53), (5, 9), (61, 19), (56, 56))


TOLERANCE = 1e-4  # of images in [0, 1]


def arguments_of(network: SwinIR, options: Options | None) -> dict[str, Any]:
    """The constructor arguments of a network as JSON holds them: what its weights show, and what its options set."""
    shown = arguments_from_weights(network.state_dict()) | {"img_range": network.img_range}
    return shown | (options.netG.arguments() if options else {})


def to_safetensors(weights: Mapping[str, Tensor], arguments: Mapping[str, Any], *, half: bool) -> bytes:
    """The weights, in float16 if `half`, with `architecture` and `arguments` (JSON) in the metadata."""
    metadata = {"format": "pt", "architecture": "SwinIR", "arguments": json.dumps(arguments)}
    stored = {name: value.half() if half and value.is_floating_point() else value for name, value in weights.items()}
    return safetensors.torch.save(stored, metadata)


def to_published(weights: Mapping[str, Tensor]) -> bytes:
    """The weights as SwinIR's releases and BasicSR hold them."""
    return serialized({"params": dict(weights)})


@torch.enable_grad()  # as in training, all windows and rows at once: a trace would fix the number of their parts
def to_onnx(network: SwinIR) -> bytes:
    """The network as ONNX: `image` (B, C, H, W) -> `restored` (B, C, s*H, s*W), float32, any B, H and W.

    By TorchScript's exporter: the newer one reasons about every size as a symbol, which takes minutes for a student.
    """
    height, width = CHECKED_SIZES[0]  # no multiple of a window, so that the trace includes the reflection
    axes = {0: "batch", 2: "height", 3: "width"}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # They tell that the exporter is old, and that a trace fixes Python's decisions; `onnx_difference` judges those.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        file = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            (torch.zeros(1, network.in_chans, height, width),),
            file,
            dynamo=False,
            input_names=["image"],
            output_names=["restored"],
            dynamic_axes={"image": axes, "restored": axes},
        )
        return file.read_bytes()


@torch.no_grad()
def onnx_difference(model: bytes, network: SwinIR) -> float:
    """The largest difference between onnxruntime's output and PyTorch's over `CHECKED_SIZES`, on random images."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    differences = []
    for height, width in CHECKED_SIZES:
        image = torch.rand(1, network.in_chans, height, width, generator=generator)
        restored = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        differences.append((restored - network(image)).abs().max())
    return torch.stack(differences).max().item()  # NaN, if one is
