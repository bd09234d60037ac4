"""Restore and judge images: the published SwinIR test script's command line, for official models and students.

python main_test_swinir.py --task classical_sr --scale 4 --folder_lq testsets/Set5/LR_bicubic/X4 \
        --folder_gt testsets/Set5/HR [--model_path X.pth | --opt options/x.json --model_path X.pth]
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from data.dataset_test import TASKS, LRImages, TaskImages, define_task_images
from model_zoo.download import ensure, find
from models.network_swinir import SwinIR
from models.select_network import define_G, network_from_weights
from utils import checkpoint, dist
from utils.errors import UserError, exit_on_user_error
from utils.evaluate import ImageResult, Restore, average, evaluate, restore_all, restorer
from utils.images import write_image
from utils.logger import log_to_terminal
from utils.option_file import load
from utils.tables import describe, formatted, markdown

LAYOUT = re.compile(r"HR|LR|GT|LQ|LR_bicubic|[xX]\d")  # folders inside a test set


def parse_arguments() -> argparse.Namespace:
    """The published flags, several folders where it took one, and ours at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="color_dn", help="default: color_dn")
    parser.add_argument("--scale", type=int, choices=(1, 2, 3, 4, 8), default=1, help="1 for denoising and JPEG")
    parser.add_argument("--noise", type=int, default=15, help="noise level, in grey levels of 255 (15, 25, 50)")
    parser.add_argument("--jpeg", type=int, default=40, help="JPEG quality (10, 20, 30, 40)")
    parser.add_argument("--training_patch_size", type=int, help="48 or 64: which official classical SR model")
    parser.add_argument("--large_model", action="store_true", help="the official large real-world SR model")
    parser.add_argument("--model_path", type=Path, help="weights; without it, the official ones of the task")
    parser.add_argument("--folder_lq", type=Path, nargs="+", default=[], help="folders of low-quality images")
    parser.add_argument("--folder_gt", type=Path, nargs="+", default=[], help="folders of ground truth, in this order")
    parser.add_argument("--tile", type=int, help="restore in tiles of this height and width, in LR pixels")
    parser.add_argument("--tile_overlap", type=int, default=32, help="LR pixels that tiles share")
    parser.add_argument("--opt", type=Path, help="option file of a student; without it, the weights tell the network")
    parser.add_argument("--self_ensemble", action="store_true", help="mean over the eight flips and rotations (x8)")
    arguments = parser.parse_args()
    if arguments.noise < 0 or not 0 <= arguments.jpeg <= 100:
        parser.error(f"--noise {arguments.noise} should not be negative, and --jpeg {arguments.jpeg} from 0 to 100")
    if arguments.tile is not None and not 0 <= arguments.tile_overlap < arguments.tile:
        parser.error(f"--tile_overlap {arguments.tile_overlap} should be from 0 to less than --tile {arguments.tile}")
    return arguments


def load_network(arguments: argparse.Namespace) -> tuple[SwinIR, Path]:
    """The network with its weights, and their file; official weights that are missing are downloaded.

    Raises:
        UserError: the weights cannot be had, or are not those of a network for this task and scale.
    """
    path = arguments.model_path
    if path is None:
        patch_size = arguments.training_patch_size or 64
        path = (
            Path("model_zoo")
            / find(
                task=arguments.task,
                scale=arguments.scale,
                training_patch_size=patch_size,
                noise=arguments.noise,
                jpeg=arguments.jpeg,
                large_model=arguments.large_model,
            ).file
        )
    with dist.main_first():
        weights = checkpoint.read_weights(ensure(path))
    beside = path.parent.parent / "options.json"  # where our training leaves it
    options = arguments.opt or (beside if beside.is_file() else None)
    network = define_G(load(options)) if options else network_from_weights(weights, source=path)
    checkpoint.load_weights(network, weights, source=path)
    channels = TASKS[arguments.task].channels
    if (network.upscale, network.in_chans) != (arguments.scale, channels):
        raise UserError(
            f"{path}: a network of scale {network.upscale} and {network.in_chans} channels, but task "
            f"{arguments.task} with --scale {arguments.scale} needs {arguments.scale} and {channels}"
        )
    return network.eval(), path


def pair_folders(arguments: argparse.Namespace) -> list[tuple[str, Path | None, Path | None]]:
    """(name, folder_lq, folder_gt) of each test set.

    Raises:
        UserError: there are no folders, or not as many of one kind as of the other.
    """
    lq, gt = arguments.folder_lq, arguments.folder_gt
    if not lq and not gt:
        raise UserError("neither --folder_lq nor --folder_gt is given")
    if lq and gt and len(lq) != len(gt):
        raise UserError(f"{len(lq)} folders in --folder_lq, but {len(gt)} in --folder_gt")
    names = [set_name(folder) for folder in gt or lq]
    names = [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names, start=1)]
    return list(zip(names, lq or [None] * len(gt), gt or [None] * len(lq), strict=True))


def set_name(folder: Path) -> str:
    """`Set5` for `testsets/Set5`, `testsets/Set5/HR` and `testsets/Set5/LR_bicubic/X4`."""
    parts = [part for part in folder.resolve().parts if not LAYOUT.fullmatch(part)]
    return parts[-1]


def run_set(
    restore: Restore, dataset: TaskImages, *, folder: Path, border: int, jpeg: bool, device: torch.device
) -> list[ImageResult]:
    """Restore the images of one set into `folder`, and judge those that have a ground truth."""

    def keep(image: np.ndarray, result: ImageResult) -> None:
        write_image(folder / f"{result.name}_SwinIR.png", image)
        say(describe(result.name, result.figures()))

    if not isinstance(dataset, LRImages):
        return evaluate(restore, dataset, border=border, device=device, jpeg=jpeg, on_image=keep)
    for _, item, image in restore_all(restore, dataset, device=device):
        name = Path(item["L_path"]).stem
        write_image(folder / f"{name}_SwinIR.png", image)
        say(describe(name, {}))
    return []


def report(
    results: Mapping[str, Sequence[ImageResult]], folder: Path, arguments: argparse.Namespace, model: Path
) -> None:
    """Print the table of the sets that have a ground truth, and write `results.json`."""
    means = {name: average(of_set) for name, of_set in results.items() if of_set}
    if means:
        say(markdown([{"test set": name, **formatted(figures)} for name, figures in means.items()]))
    settings = {
        key: getattr(arguments, key)
        for key in ("task", "scale", "noise", "jpeg", "tile", "tile_overlap", "self_ensemble")
    }
    images = {name: {result.name: result.figures() for result in of_set} for name, of_set in results.items()}
    content = {"model_path": str(model), **settings, "average": means, "images": images}
    (folder / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    say(f"restored images and results.json are in {folder}")


def results_folder(arguments: argparse.Namespace) -> Path:
    """The published script's folder name, which tells the task and its degree."""
    kind = TASKS[arguments.task].kind
    degree = {"sr": f"x{arguments.scale}", "noise": f"noise{arguments.noise}", "jpeg": f"jpeg{arguments.jpeg}"}[kind]
    return Path("results") / f"swinir_{arguments.task}_{degree}"


def say(line: str) -> None:
    """One line of the program's answer."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Folders, network, then one test set after another."""
    arguments = parse_arguments()
    with exit_on_user_error():
        device = dist.start()
        log_to_terminal(quiet=True)
        datasets = {
            name: define_task_images(
                arguments.task,
                folder_lq=folder_lq,
                folder_gt=folder_gt,
                scale=arguments.scale,
                noise=arguments.noise,
                quality=arguments.jpeg,
            )
            for name, folder_lq, folder_gt in pair_folders(arguments)
        }
        network, model = load_network(arguments)
        restore = restorer(
            network.to(device),
            scale=arguments.scale,
            window_size=network.window_size,
            tile=arguments.tile,
            tile_overlap=arguments.tile_overlap,
            self_ensemble=arguments.self_ensemble,
        )
        kind = TASKS[arguments.task].kind
        folder = results_folder(arguments)
        (folder / "results.json").unlink(missing_ok=True)  # an older one should not stand beside half a new result
        results = {
            name: run_set(
                restore,
                dataset,
                folder=folder / name,
                border=arguments.scale if kind == "sr" else 0,
                jpeg=kind == "jpeg",
                device=device,
            )
            for name, dataset in datasets.items()
        }
        if dist.is_main():
            report(results, folder, arguments, model)
        dist.stop()


if __name__ == "__main__":
    main()
