"""The files of an export, and their folder."""

from collections.abc import Mapping
from pathlib import Path

from models.export.card import model_card
from models.export.forms import TOLERANCE, arguments_of, onnx_difference, to_onnx, to_published, to_safetensors
from models.inspect.summary import count_parameters
from models.select_network import network_with_weights
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.weights import read_weights


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
