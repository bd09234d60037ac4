"""The model card of an exported network, in the form that the Hugging Face hub reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from utils.evaluation.tasks import SR_TASKS
from utils.imaging.metrics import judged_border
from utils.options.schema import Options
from utils.runs.history import read_changes
from utils.runs.journal import Journal
from utils.tables import LABELS, formatted, markdown

TEMPLATE = Path(__file__).with_suffix(".md")


def validations(checkpoint: Path) -> list[dict[str, Any]]:
    """The records in its task's metrics.jsonl of the checkpoint `<iter>_<G or E>`, one a test set."""
    iteration, _, weights = checkpoint.stem.partition("_")
    return [
        record
        for record in Journal(checkpoint.resolve().parent.parent / "metrics.jsonl").read()
        if record["kind"] == "test" and (str(record["iter"]), record["weights"]) == (iteration, weights)
    ]


def change_rows(checkpoint: Path) -> list[dict[str, str]]:
    """The options that were changed in the middle of the run of a checkpoint, before it or after."""
    return [
        {
            "after iteration": f"{change.iteration:,}",
            "option": change.key,
            "before": without_folders(change.before),
            "then": without_folders(change.now),
        }
        for change in read_changes(checkpoint.resolve().parent.parent / "train.log")
    ]


def without_folders(text: str) -> str:
    """The last name of an absolute path, of whichever system: where a file was on a machine is nobody's business."""
    absolute = text.startswith("~") or PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return PureWindowsPath(text).name if absolute else text


def portable(values: Any) -> Any:
    """The values of an option file, its absolute paths cut to their last names."""
    if isinstance(values, Mapping):
        return {key: portable(value) for key, value in values.items()}
    if isinstance(values, list):
        return [portable(value) for value in values]
    return without_folders(values) if isinstance(values, str) else values


def figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The mean figures of one validation by name."""
    return {key: record[key] for key in LABELS if record.get(key) is not None}


def evaluations(records: Sequence[Mapping[str, Any]]) -> list[EvalResult]:
    """The figures of validations as the hub's `model-index` holds them."""
    return [
        EvalResult(
            task_type="image-to-image",
            dataset_type=record["dataset"],
            dataset_name=record["dataset"],
            metric_type=key.removesuffix("_y"),
            metric_name=LABELS[key],
            metric_value=round(value, 4),
        )
        for record in records
        for key, value in figures_of(record).items()
    ]


def opens_in_spandrel(arguments: Mapping[str, Any]) -> bool:
    """Whether spandrel, which sees only the weights, takes them for the network with these arguments."""
    assumed = {
        "img_range": 255 if arguments["window_size"] == 7 else 1,  # windows of 7 are those of the JPEG networks
        "qk_scale": None,
        "qkv_bias": True,
        "ape": False,
        "patch_norm": True,
    }
    shows_img_size = arguments["depths"][0] > 1  # in the mask of the second block
    return shows_img_size and all(arguments.get(key, value) == value for key, value in assumed.items())


def model_card(
    name: str,
    *,
    arguments: Mapping[str, Any],
    parameters: int,
    onnx_difference: float,
    checkpoint: Path,
    options: Options | None,
    half: bool,
) -> str:
    """The card as Markdown with YAML in front.

    Args:
        name: of the exported files, without suffix.
        arguments: those of the network's constructor.
        parameters: how many numbers it has learnt.
        onnx_difference: largest difference between the outputs of onnxruntime and PyTorch.
        checkpoint: the file that was exported, whose task folder holds its validations.
        options: what it was trained with, where that is known.
        half: whether the safetensors file is in float16.
    """
    records = validations(checkpoint)
    changed = change_rows(checkpoint) if options else []
    iteration = checkpoint.stem.partition("_")[0]
    scale, channels, upsampler = arguments["upscale"], arguments["in_chans"], arguments["upsampler"]
    distilled = options is not None and options.train.distillation_type != "none"
    data = ModelCardData(
        license="apache-2.0",
        library_name="pytorch",
        pipeline_tag="image-to-image",
        tags=[
            "swinir",
            "super-resolution" if scale > 1 else "image-restoration",
            *(["knowledge-distillation"] if distilled else []),
            "onnx",
        ],
        model_name=name if records else None,
        eval_results=evaluations(records) or None,
    )
    rows = [{"test set": record["dataset"], **formatted(figures_of(record))} for record in records]
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=name,
        parameters=parameters,
        scale=scale,
        border=judged_border(scale),
        channels=channels,
        mode="RGB" if channels == 3 else "L",
        iteration=f"{int(iteration):,}" if iteration.isdecimal() else "",
        options=portable(options.model_dump()) if options else None,
        option_text=json.dumps(portable(options.model_dump(exclude_unset=True)), indent=2) if options else "",
        changes=markdown(changed) if changed else "",
        figures=markdown(rows) if rows else "",
        onnx_difference=onnx_difference,
        half=half,
        task=SR_TASKS.get(upsampler) if channels == 3 else None,  # the others make their own low-quality images
        opens_in_spandrel=opens_in_spandrel(arguments),
    )
    return card.content
