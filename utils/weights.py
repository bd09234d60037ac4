"""Reading files of weights, ours and others': the one place that knows how other tools wrap a network's."""

import io
import json
import pickle
import re
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from utils.process.errors import UserError, printable

WRAPPERS = ("params_ema", "params", "state_dict")  # BasicSR's and KAIR's, the better weights first
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
FIRST_LAYER = "conv_first.weight"  # of SwinIR and its relatives; what stands before it is another tool's
WHOLE_NETWORK = "of a whole network, save its weights where it was made: torch.save(network.state_dict(), path)"


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, a pickle or safetensors by its suffix, on the CPU; nothing in it is executed.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such checkpoint")
    if is_torchscript(path):
        raise UserError(
            f"{path}: not a readable checkpoint: a TorchScript program, which could run code; {WHOLE_NETWORK}"
        )
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load(path.read_bytes())
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a readable checkpoint (damaged, or with objects that could run code; {WHOLE_NETWORK})"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path}: not a readable checkpoint ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dictionary of weights, found {type(content).__name__}")
    return content


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive with a program in it, whatever its suffix says."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(re.search(r"(^|/)(code/|constants\.pkl$)", name) for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError):  # damaged: whoever reads it will say so
        return False


def serialized(content: Mapping[str, Any]) -> bytes:
    """What `read` reads back: the content of a `.pth` file."""
    file = io.BytesIO()
    torch.save(dict(content), file)
    return file.getvalue()


def first_line(error: Exception) -> str:
    """What went wrong, without PyTorch's advice to load the file unsafely."""
    return (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]


def read_weights(path: Path) -> dict[str, Tensor]:
    """A network's weights from a file of KAIR, BasicSR, SwinIR's releases, Lightning or this project.

    Raises:
        UserError: as `read`, or the file holds no weights.
    """
    content = read(path)
    while wrapped := next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None):
        content = wrapped
    weights = unwrapped({str(name): value for name, value in content.items()})
    if not weights or not all(isinstance(value, Tensor) and is_plain(value) for value in weights.values()):
        raise UserError(f"{path}: holds no weights of a network")
    return weights


def unwrapped(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights by the names that the network itself gave them, without what other tools put before these.

    Of several networks in one file, the averaged one is taken, or else the first.
    """
    owners = sorted({name.removesuffix(FIRST_LAYER) for name in weights if name.endswith("." + FIRST_LAYER)})
    if FIRST_LAYER not in weights and owners:
        owner = next((name for name in owners if "ema" in name), owners[0])
        return {name.removeprefix(owner): value for name, value in weights.items() if name.startswith(owner)}
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
        if not weights:
            break
    return dict(weights)


def is_plain(value: Tensor) -> bool:
    """Whether a tensor is an array of real numbers in memory: neither nested, sparse, quantised nor complex."""
    return not (value.is_nested or value.is_quantized or value.is_complex()) and value.layout == torch.strided


def not_finite(weights: Mapping[str, Tensor]) -> list[str]:
    """The names of the weights that hold infinite numbers or NaN."""
    return [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]


def read_finite_weights(path: Path) -> dict[str, Tensor]:
    """As `read_weights`, for a network that is to train or to teach: all weights must be finite.

    Raises:
        UserError: as `read_weights`, or they hold infinite numbers or NaN.
    """
    weights = read_weights(path)
    if names := not_finite(weights):
        raise UserError(f"{path}: {describe_not_finite(names)}")
    return weights


def describe_not_finite(names: Sequence[str]) -> str:
    """A sentence about the weights that `not_finite` has found."""
    return f"{len(names)} of its weights hold infinite numbers or NaN, the first of them {printable(names[0])}"


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
    wrong = [name for name, own in module.state_dict().items() if name in weights and is_other_kind(weights[name], own)]
    if wrong:
        raise UserError(f"{source}: {wrong[0]} is of type {weights[wrong[0]].dtype}{advice}")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        differences = [line.strip() for line in str(error).splitlines()[1:]]
        shown = "; ".join(textwrap.shorten(line, 200, placeholder=" ...") for line in differences[:3])
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UserError(f"{source}: these weights do not fit the network: {shown}{more}{advice}") from error


def is_other_kind(value: Tensor, own: Tensor) -> bool:
    """Whether one of two tensors holds integers and the other one does not."""
    return value.is_floating_point() != own.is_floating_point()


def misfits(module: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """The weights that are not the module's, by name and shape, and those of the module that are missing."""
    own = module.state_dict()
    shared = own.keys() & weights.keys()
    fitting = {name for name in shared if own[name].shape == weights[name].shape or name.endswith("attn_mask")}
    return sorted((own.keys() | weights.keys()) - fitting)
