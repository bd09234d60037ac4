"""Going on from a checkpoint that KAIR wrote: `<step>_G.pth`, `<step>_E.pth` and `<step>_optimizerG.pth`."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from utils.process.errors import UserError
from utils.runs.checkpoints import part_path
from utils.weights import load_weights, misfits, read, read_finite_weights

logger = logging.getLogger(__name__)

NAMES = {"G": "weights", "E": "average", "P": "translators"}
MOMENTS = ("exp_avg", "exp_avg_sq")


def load_kair(folder: Path, step: int, *, parts: Mapping[str, nn.Module], optimizer: Optimizer, advice: str) -> None:
    """Load what KAIR kept of an iteration, and say what that is; what it did not keep, or does not fit, begins anew.

    Args:
        parts: the modules by KAIR's letters; where there is no average `E`, it begins with the weights `G`.
        optimizer: Adam, of the parameters of `G` and then those of `P`.
        advice: the end of the sentence where the weights are another network's.

    Raises:
        UserError: a file is damaged, or the weights are another network's.
    """
    path = folder / f"{step}_optimizerG.pth"
    try:
        kept = {label: weights for label in parts if (weights := load_part(folder, step, label, parts[label], advice))}
        has_moments = path.exists() and load_moments(read(path), kept, parts=parts, optimizer=optimizer)
    except UserError as error:
        other = f"with KAIR's files of iteration {step:,} moved elsewhere, the ones before them count"
        raise UserError(f"{error}; {other}") from error
    if "E" not in kept:
        parts["E"].load_state_dict(parts["G"].state_dict())
    loaded = [NAMES[label] for label in kept] + ["Adam's state"] * has_moments
    anew = [NAMES[label] for label in parts if label not in kept] + ["Adam's state"] * (not has_moments)
    logger.info(
        "%s: KAIR's checkpoint of iteration %s: %s%s; this resume is not exact, since the crops to come are not KAIR's",
        folder,
        f"{step:,}",
        ", ".join(loaded),
        f" (anew: {', '.join(anew)})" if anew else "",
    )


def load_part(folder: Path, step: int, label: str, module: nn.Module, advice: str) -> dict[str, Tensor]:
    """Load one module's weights, and return them; none where KAIR has none, or translators of another kind."""
    path = part_path(folder, step, label)
    weights = read_finite_weights(path) if path.exists() else {}
    if label == "P" and misfits(module, weights):
        return {}
    if weights:
        load_weights(module, weights, source=path, advice=advice)
    return weights


def load_moments(
    content: Mapping[str, Any],
    kept: Mapping[str, Mapping[str, Tensor]],
    *,
    parts: Mapping[str, nn.Module],
    optimizer: Optimizer,
) -> bool:
    """Load Adam's state of the modules that were `kept`; whether it is theirs, by number and shapes.

    KAIR numbers its parameters in the order in which they stand in the files of weights.
    """
    own = [(label, name) for label in ("G", "P") if label in parts for name, _ in parts[label].named_parameters()]
    theirs = [(label, name) for label in ("G", "P") for name in kept.get(label, {}) if (label, name) in own]
    try:
        numbers = [number for group in content["param_groups"] for number in group["params"]]
        moments = {
            own.index((label, name)): converted(content["state"][number], parts[label].get_parameter(name))
            for (label, name), number in zip(theirs, numbers, strict=True)
        }
    except (LookupError, TypeError, ValueError):
        return False
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return True


def converted(state: Mapping[str, Any], parameter: Tensor) -> dict[str, Tensor]:
    """One parameter's state, as a fused Adam has it.

    Raises:
        ValueError: it is not a parameter's of this shape, or not finite.
        LookupError: it is not Adam's.
    """
    moments = {name: torch.as_tensor(state[name]) for name in MOMENTS}
    if any(value.shape != parameter.shape or not value.isfinite().all() for value in moments.values()):
        raise ValueError
    return {"step": torch.tensor(float(state["step"])), **moments}
