"""Saving where a run is, and going on from there."""

from typing import Any

from models.model_plain import OTHER_NETWORK, ModelPlain, load_pretrained
from utils.process import dist
from utils.process.errors import UserError
from utils.runs import checkpoints
from utils.runs.kair_checkpoints import load_kair
from utils.weights import read, serialized


def save(model: ModelPlain) -> None:
    """Write a checkpoint of the present iteration, which is settled.

    Raises:
        UserError: it cannot be written.
    """
    model.settle()
    modules = {  # on the CPU: the published code loads tensors to the device that they were saved from
        label: {name: value.cpu() for name, value in module.state_dict().items()}
        for label, module in model.parts().items()
    }
    state = {
        "compares": compared_options(model),
        "optimizer": model.optimizer.state_dict(),
        "bad_steps": model.bad_steps,
    }
    parts = {part: serialized(content) for part, content in {**modules, "state": state}.items()}
    checkpoints.save(model.options.models_folder, model.step, parts)


def resume(model: ModelPlain) -> None:
    """Continue from the newest intact checkpoint of the task, else from KAIR's; or start, with pretrained weights.

    Raises:
        UserError: no checkpoint is intact, the networks are others, or the processes see different folders.
    """
    folder = model.options.models_folder
    found = checkpoints.newest(folder)
    kair = checkpoints.of_kair(folder) if found is None else []
    found = kair[-1] if kair else found
    dist.check_same(str(folder), "no checkpoint" if found is None else f"a checkpoint of iteration {found:,}")
    if found is None:
        start(model)
        return
    model.step = found
    if kair:
        load_kair(folder, found, parts=model.parts(), optimizer=model.optimizer, advice=OTHER_NETWORK)
        return
    state = read(checkpoints.part_path(folder, found, "state"))
    model.bad_steps = state["bad_steps"]
    for key, value in compared_options(model).items():
        saved = state["compares"][key]
        if saved != value:
            raise UserError(
                f"train.{key}: {folder} holds a run with {saved!r}, not {value!r}; give the task another name"
            )
    for label, module in model.parts().items():
        load_pretrained(module, str(checkpoints.part_path(folder, found, label)), advice=OTHER_NETWORK)
    keys = ("betas", "weight_decay", "decoupled_weight_decay")
    options = {key: model.optimizer.param_groups[0][key] for key in keys}
    model.optimizer.load_state_dict(state["optimizer"])
    model.optimizer.param_groups[0].update(options)  # the option file's, should it have changed


def start(model: ModelPlain) -> None:
    """Load the pretrained weights, if there are any; without some of its own, E begins with those of G."""
    path, train = model.options.path, model.options.train
    load_pretrained(model.student, path.pretrained_netG, strict=train.G_param_strict)
    model.ema.load_state_dict(model.student.state_dict())
    load_pretrained(model.ema, path.pretrained_netE, strict=train.E_param_strict)


def compared_options(model: ModelPlain) -> dict[str, Any]:
    """The options that a task's checkpoints are bound to: what the student is compared with."""
    translators = model.translators
    return {
        "distillation_type": model.options.train.distillation_type,
        "feature_translator": translators.side if translators else None,
        "feature_pairs": [list(pair) for pair in translators.pairs] if translators else None,
    }
