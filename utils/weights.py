"""Reading files of weights, ours and others': the one place that knows how other tools wrap a network's."""

import io
import json
import pickle
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from utils.process.errors import UserError

WRAPPERS = ("params_ema", "params", "state_dict")  # BasicSR's and KAIR's, the better weights first


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, a pickle or safetensors by its suffix, on the CPU; nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load(path.read_bytes())
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: not a readable checkpoint (damaged, or with objects that could run code)") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path}: not a readable checkpoint ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dictionary of weights, found {type(content).__name__}")
    return content


def serialized(content: Mapping[str, Any]) -> bytes:
    """What `read` reads back: the content of a `.pth` file."""
    file = io.BytesIO()
    torch.save(dict(content), file)
    return file.getvalue()


def first_line(error: Exception) -> str:
    """What went wrong, without PyTorch's advice to load the file unsafely."""
    return (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]


def read_weights(path: Path) -> dict[str, Tensor]:
    """A network's weights from a file of KAIR, BasicSR, SwinIR's releases or this project.

    Raises:
        UserError: as `read`, or the file holds no weights.
    """
    content = read(path)
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    weights = {str(name).removeprefix("module."): value for name, value in content.items()}
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path}: holds no weights of a network")
    return weights


def stated_arguments(path: Path) -> dict[str, Any]:
    """The constructor's arguments in the metadata of a safetensors file of `models.export`; none of other files.

    Raises:
        UserError: the file is missing or damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    try:
        with safetensors.safe_open(path, "pt") as file:
            return dict(json.loads((file.metadata() or {}).get("arguments", "{}")))
    except Exception as error:  # as in `read`
        raise UserError(f"{path}: not a readable checkpoint ({first_line(error)})") from error


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], *, source: Path, advice: str = "") -> None:
    """Load `weights`, which must be exactly the module's.

    Raises:
        UserError: names or shapes differ; the sentence gives the first differences of each kind, and the advice.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        differences = [line.strip() for line in str(error).splitlines()[1:]]
        shown = "; ".join(textwrap.shorten(line, 200, placeholder=" ...") for line in differences[:3])
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UserError(f"{source}: these weights do not fit the network: {shown}{more}{advice}") from error
