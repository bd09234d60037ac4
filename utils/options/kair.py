"""Option files as KAIR's users have them: what each key means here that is not a key of ours.

`translate` and `complete` change the raw options, which hold whatever a file may hold, and return a line about each
key that they touched.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

# The keys that KAIR's files have and ours too.
KEYS = {
    *("task", "model", "scale", "n_channels", "path", "datasets", "netG", "train"),
    *("root", "pretrained_netG", "pretrained_netE"),
    *("name", "dataset_type", "dataroot_H", "dataroot_L", "sigma", "quality_factor"),
    *("H_size", "dataloader_shuffle", "dataloader_num_workers", "dataloader_batch_size"),
    *("net_type", "upscale", "in_chans", "img_size", "window_size", "img_range", "depths", "embed_dim"),
    *("num_heads", "mlp_ratio", "upsampler", "resi_connection"),
    *("G_lossfn_type", "G_lossfn_weight", "G_charbonnier_eps", "E_decay", "G_param_strict", "E_param_strict"),
    *("G_optimizer_type", "G_optimizer_lr", "G_optimizer_betas", "G_optimizer_wd", "G_optimizer_clipgrad"),
    *("G_scheduler_type", "G_scheduler_milestones", "G_scheduler_gamma"),
    *("checkpoint_test", "checkpoint_save", "checkpoint_print", "manual_seed"),
}


class Obsolete(NamedTuple):
    """A key of KAIR that is ignored.

    Attributes:
        reason: what happens instead.
        harmless: the values that can be ignored without changing the experiment; none given: all.
    """

    reason: str
    harmless: tuple[Any, ...] = ()


NO_BATCH_NORM = Obsolete("SwinIR has no batch normalisation")
NO_REGULARIZER = Obsolete("weights are not regularised", harmless=(None, 0, False))
NO_RESTARTS = Obsolete("no schedule has restarts")
TEST_SETS_OWN = Obsolete("each test set has its own")

OBSOLETE = {
    "": {
        "gpu_ids": Obsolete("devices are chosen by CUDA_VISIBLE_DEVICES and torchrun"),
        "dist": Obsolete("torchrun decides how many processes there are"),
        "find_unused_parameters": Obsolete("it follows from the losses"),
        "merge_bn": NO_BATCH_NORM,
        "merge_bn_startpoint": NO_BATCH_NORM,
    },
    "netG": {
        "init_type": Obsolete("SwinIR initialises itself, which is KAIR's 'default'", harmless=("default", "", None)),
        "init_bn_type": NO_BATCH_NORM,
        "init_gain": Obsolete("it belongs to other kinds of init_type than 'default'"),
    },
    "train": {
        "G_optimizer_reuse": Obsolete("a run that continues always has its optimizer's state"),
        "G_regularizer_orthstep": NO_REGULARIZER,
        "G_regularizer_clipstep": NO_REGULARIZER,
        "G_scheduler_periods": NO_RESTARTS,
        "G_scheduler_restart_weights": NO_RESTARTS,
    },
}
OBSOLETE_IN_DATASETS = {
    "phase": Obsolete("the key of the set, train or test..., decides"),
    "is_color": Obsolete("n_channels decides"),
}
OBSOLETE_IN_TRAIN_SET = OBSOLETE_IN_DATASETS | dict.fromkeys(
    ("sigma_test", "quality_factor_test", "quality_test"), TEST_SETS_OWN
)
# Of two keys that become one, the later counts.
RENAMED_IN_TRAIN_SET = {"quality": "quality_factor"}
RENAMED_IN_TEST_SETS = RENAMED_IN_TRAIN_SET | {
    "quality_test": "quality_factor",
    "quality_factor_test": "quality_factor",
    "sigma_test": "sigma",
}


class UnsupportedError(Exception):
    """A key of KAIR has a value that cannot be ignored without changing the experiment."""


def translate(raw: dict[str, Any]) -> list[str]:
    """Rename and remove KAIR's keys that are not ours.

    Raises:
        UnsupportedError: a key that is to be removed would have changed the experiment.
    """
    notes = []
    for name, obsolete in OBSOLETE.items():
        notes += list(drop(raw if name == "" else section(raw, name), obsolete, prefix=name and f"{name}."))
    for key in section(raw, "datasets"):
        dataset, prefix = section(raw, "datasets", key), f"datasets.{key}."
        train = key == "train"
        notes += list(rename(dataset, RENAMED_IN_TRAIN_SET if train else RENAMED_IN_TEST_SETS, prefix=prefix))
        notes += list(drop(dataset, OBSOLETE_IN_TRAIN_SET if train else OBSOLETE_IN_DATASETS, prefix=prefix))
        if dataset.get("dataset_type") == "deblocking":
            dataset["dataset_type"] = "jpeg"
            notes.append(f"{prefix}dataset_type: 'deblocking' is read as 'jpeg'")
    return notes


def complete(raw: dict[str, Any]) -> list[str]:
    """Add what KAIR's files may leave out: the scale where nothing is enlarged, and an end, which KAIR never has."""
    notes = []
    train = section(raw, "train")
    if "scale" not in raw and section(raw, "datasets", "train").get("dataset_type", "sr") != "sr":
        raw["scale"] = 1
        notes.append("scale: missing; it is 1")
    milestones = train.get("G_scheduler_milestones")
    if "total_iter" not in train and isinstance(milestones, list) and milestones:
        train["total_iter"] = milestones[-1]
        notes.append(f"train.total_iter: missing; training ends at the last milestone, {milestones[-1]}")
    return notes


def section(raw: dict[str, Any], *names: str) -> dict[str, Any]:
    """A section of the raw options; an empty one where a file has none, or something else in its place."""
    for name in names:
        found = raw.get(name)
        raw = found if isinstance(found, dict) else {}
    return raw


def drop(raw: dict[str, Any], obsolete: dict[str, Obsolete], *, prefix: str) -> Iterator[str]:
    """Remove the obsolete keys of a section, and say why.

    Raises:
        UnsupportedError: a key has a value that would change the results.
    """
    for key in [key for key in raw if key in obsolete]:
        value, (reason, harmless) = raw.pop(key), obsolete[key]
        if harmless and value not in harmless:
            raise UnsupportedError(f"{prefix}{key}: {value!r} is not supported, since {reason}; remove the key")
        yield f"{prefix}{key}: ignored; {reason}"


def rename(raw: dict[str, Any], renamed: dict[str, str], *, prefix: str) -> Iterator[str]:
    """Give keys of a section our names."""
    for old, new in renamed.items():
        if old in raw:
            raw[new] = raw.pop(old)
            yield f"{prefix}{old}: read as {prefix}{new}"
