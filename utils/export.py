"""A trained network for other programs: safetensors, ONNX, the published `.pth` layout and a model card.

`python -m utils.export superresolution/TASK/models/100000_E.pth [--out FOLDER] [--half] [--push USER/NAME]`
"""

import argparse
import io
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import safetensors.torch
import torch
from httpx2 import HTTPError
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from torch import Tensor

from models.network_swinir import SwinIR
from models.select_network import arguments_from_weights, network_with_weights
from models.summary import count_parameters
from utils.checkpoint import read_weights
from utils.errors import UserError, exit_on_user_error
from utils.model_card import model_card
from utils.option_file import load_beside
from utils.options import Options

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
    file = io.BytesIO()
    torch.save({"params": dict(weights)}, file)
    return file.getvalue()


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


def export(checkpoint: Path, name: str, options: Options | None, *, half: bool) -> dict[str, bytes]:
    """The files of an exported checkpoint by their names; `half` is for its safetensors.

    Raises:
        UserError: the checkpoint cannot be read, is none of a SwinIR, or has no form that others read.
    """
    network = network_with_weights(read_weights(checkpoint), source=checkpoint, options=options)
    weights = network.state_dict()
    arguments = arguments_of(network, options)
    onnx = to_onnx(network)
    difference = onnx_difference(onnx, network)
    if not difference <= TOLERANCE:
        raise UserError(f"{checkpoint}: its ONNX form differs from PyTorch by {difference:.1e}, more than {TOLERANCE}")
    card = model_card(
        name,
        arguments=arguments,
        parameters=count_parameters(network),
        onnx_difference=difference,
        checkpoint=checkpoint,
        options=options,
        half=half,
    )
    return {
        f"{name}.safetensors": to_safetensors(weights, arguments, half=half),
        f"{name}.pth": to_published(weights),
        f"{name}.onnx": onnx,
        "README.md": card.encode(),
    }


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files into a folder that is new, empty, or holds an earlier export of the same name.

    Raises:
        UserError: the folder holds something else, which a file might replace.
    """
    if folder.is_dir() and any(folder.iterdir()) and not all((folder / name).is_file() for name in files):
        raise UserError(f"{folder}: there are other files in this folder; --out should name a new or an empty one")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def hub_token() -> str:
    """The user's token of the Hugging Face hub.

    Raises:
        UserError: there is none.
    """
    token = get_token()
    if token is None:
        raise UserError("--push: there is no Hugging Face token; run `hf auth login`, or set HF_TOKEN")
    return token


def push(folder: Path, names: list[str], *, repo: str, token: str) -> str:
    """Upload files of a folder to a repository on the Hugging Face hub, made where there is none; returns its address.

    Raises:
        UserError: the hub cannot be reached, or refuses.
    """
    hub = HfApi(token=token)
    try:
        address = hub.create_repo(repo, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=names)
    except (HTTPError, HFValidationError) as error:
        raise UserError(f"--push {repo}: {' '.join(str(error).split())}") from error
    return str(address)


def main() -> None:
    """Export a checkpoint, and upload it where that is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m utils.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="weights of a student (<iter>_E.pth) or of any SwinIR")
    parser.add_argument("--out", type=Path, help="folder of the files (default: export/<their name>)")
    parser.add_argument("--half", action="store_true", help="float16 in the safetensors file, which halves it")
    parser.add_argument("--push", metavar="REPO", help="upload the files to this repository of the Hugging Face hub")
    arguments = parser.parse_args()
    with exit_on_user_error():
        token = hub_token() if arguments.push else ""
        checkpoint = arguments.checkpoint
        options = load_beside(checkpoint)
        name = f"{options.task}_x{options.scale}" if options else checkpoint.stem
        folder = arguments.out or Path("export") / name
        files = export(checkpoint, name, options, half=arguments.half)
        write(folder, files)
        sys.stdout.write(f"{', '.join(files)} are in {folder}\n")
        if arguments.push:
            sys.stdout.write(f"uploaded to {push(folder, list(files), repo=arguments.push, token=token)}\n")


if __name__ == "__main__":
    main()
