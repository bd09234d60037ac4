"""Restore images, and judge them where there is a ground truth: the published SwinIR test script's command line.

python main_test_swinir.py --model_path X.pth --folder_lq DIR
python main_test_swinir.py --task classical_sr --scale 4 --folder_lq testsets/Set5/LR_bicubic/X4 \
        --folder_gt testsets/Set5/HR [--model_path X.pth | --opt options/x.json --model_path X.pth]
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from data.folders.test_sets import SetFolders, pair_folders
from model_zoo.download import ensure, find, official
from utils.evaluation.tasks import DATASET_KINDS, TASKS, Degradation, Kind, task_of_network
from utils.options.load import load, load_beside
from utils.options.schema import Options
from utils.process.errors import UserError, errors_about, exit_on_user_error
from utils.process.launch import add_launch_flags, check_launch
from utils.process.terminal import say
from utils.tables import describe

if TYPE_CHECKING:  # PyTorch takes seconds to import; wrong arguments are told before
    import numpy as np
    import torch

    from data.dataset_test import TaskImages
    from models.distillation.spandrel_teacher import SpandrelTeacher
    from models.network_swinir import SwinIR
    from utils.evaluation.evaluate import ImageResult
    from utils.evaluation.restorer import Restore

STRENGTH = "default: that of the student's option file, or "
NOISE, JPEG = 15, 40


def parse_arguments() -> argparse.Namespace:
    """The published flags, several folders where it took one, and ours at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, help="default: that of the network; without --model_path, color_dn")
    parser.add_argument(
        "--scale", type=int, choices=(1, 2, 3, 4, 8), help="default: that of the network; without --model_path, 1"
    )
    parser.add_argument("--noise", type=int, help=f"noise level, in grey levels of 255 (15, 25, 50); {STRENGTH}{NOISE}")
    parser.add_argument("--jpeg", type=int, help=f"JPEG quality (10, 20, 30, 40); {STRENGTH}{JPEG}")
    parser.add_argument("--training_patch_size", type=int, help="48 or 64: which official classical SR model")
    parser.add_argument("--large_model", action="store_true", help="the official large real-world SR model")
    parser.add_argument("--model_path", type=Path, help="weights; without it, the official ones of the task")
    parser.add_argument("--folder_lq", type=Path, nargs="+", default=[], help="folders of low-quality images")
    parser.add_argument("--folder_gt", type=Path, nargs="+", default=[], help="folders of ground truth, in this order")
    parser.add_argument("--tile", type=int, help="size of tiles, in LR pixels; default: whole images where they fit")
    parser.add_argument("--tile_overlap", type=int, default=32, help="LR pixels that tiles share")
    parser.add_argument("--opt", type=Path, help="option file of a student; without it, the weights tell the network")
    parser.add_argument("--self_ensemble", action="store_true", help="mean over the eight flips and rotations (x8)")
    add_launch_flags(parser)
    arguments = parser.parse_args()
    if arguments.noise is not None and arguments.noise < 0:
        parser.error(f"--noise {arguments.noise} should not be negative")
    if arguments.jpeg is not None and not 0 <= arguments.jpeg <= 100:
        parser.error(f"--jpeg {arguments.jpeg} should be from 0 to 100")
    if not 0 <= arguments.tile_overlap < (math.inf if arguments.tile is None else arguments.tile):
        parser.error(f"--tile_overlap {arguments.tile_overlap} should not be negative, and be less than --tile")
    return arguments


def model_file(arguments: argparse.Namespace) -> Path:
    """The file of weights that is asked for, or the official one of the task; it may have to be downloaded.

    Raises:
        UserError: there are no official weights for this task.
    """
    if arguments.model_path is not None:
        return arguments.model_path
    weights = find(
        task=arguments.task or "color_dn",
        scale=arguments.scale or 1,
        training_patch_size=arguments.training_patch_size or 64,
        noise=NOISE if arguments.noise is None else arguments.noise,
        jpeg=JPEG if arguments.jpeg is None else arguments.jpeg,
        large_model=arguments.large_model,
    )
    return Path("model_zoo") / weights.file


def choose_degradation(
    arguments: argparse.Namespace, network: "SwinIR | SpandrelTeacher", model: Path, options: Options | None
) -> Degradation:
    """What the arguments ask for, and where they say nothing, what the network was trained for.

    Raises:
        UserError: the network is for another scale or other images.
    """
    kind: Kind = "jpeg" if network.img_range == 255 else "noise"  # which tells the published networks apart
    if options:
        kind = DATASET_KINDS[options.datasets.train.dataset_type]
    name = arguments.task or task_of_network(upsampler=network.upsampler, channels=network.in_chans, kind=kind)
    task = TASKS[name]
    scale = (arguments.scale or network.upscale) if task.kind == "sr" else 1
    if network.upscale != scale:
        raise UserError(
            f"{model}: this network is for scale {network.upscale}, but task {name} is asked for scale {scale}"
        )
    if network.in_chans not in task.channels:
        expected = " or ".join(map(str, task.channels))
        raise UserError(f"{model}: this network is for {network.in_chans} channels, but task {name} needs {expected}")
    noise, jpeg = arguments.noise, arguments.jpeg
    if noise is None:
        noise = options.datasets.train.sigma if options and kind == "noise" else NOISE
    if jpeg is None:
        jpeg = options.datasets.train.quality_factor if options and kind == "jpeg" else JPEG
    return Degradation(task=name, channels=network.in_chans, scale=scale, noise=noise, jpeg=jpeg)


def run_set(
    restore: "Restore",
    images: "TaskImages",
    degradation: Degradation,
    *,
    names: Mapping[str, str],
    folder: Path,
    device: "torch.device",
) -> "dict[str, ImageResult]":
    """Restore the images of one set into `folder`: by name, the results of those that have a ground truth.

    Args:
        names: of the results, by the path of the ground truth, or of the image where there is none.
    """
    from tqdm.contrib.logging import logging_redirect_tqdm

    from data.dataset_test import LRImages
    from utils.evaluation.evaluate import comparing_threads, evaluate, own_share
    from utils.evaluation.restorer import restore_alike
    from utils.imaging.io import write_image
    from utils.imaging.metrics import judged_border
    from utils.process import dist

    bar = tqdm(total=len(own_share(images)), desc=folder.name, unit="image", disable=None if dist.is_main() else True)

    def keep(image: "np.ndarray", name: str) -> None:
        write_image(folder / f"{name}_SwinIR.png", image)

    def tell(name: str, figures: Mapping[str, float]) -> None:
        say(describe(name, figures))
        bar.update()

    with bar, logging_redirect_tqdm():
        if isinstance(images, LRImages):
            for index in own_share(images):
                with errors_about(images.files[index]):
                    restored = restore_alike(
                        restore, images[index], scale=degradation.scale, channels=degradation.channels, device=device
                    )
                name = names[str(images.files[index])]
                keep(restored, name)
                tell(name, {})
            return {}
        results = evaluate(
            restore,
            images,
            border=judged_border(degradation.scale),
            device=device,
            jpeg=degradation.kind == "jpeg",
            threads=comparing_threads(device),
            on_image=lambda image, result: keep(image, names[result.H_path]),
            on_result=lambda result: tell(names[result.H_path], result.figures()),
        )
    return {names[result.H_path]: result for result in results}


def results_folder(degradation: Degradation, model: Path) -> Path:
    """The folder of results: for official weights the published script's, `swinir_<task>_<degree>`.

    For other weights, their name stands in place of `swinir`: the file's name, with the name of its experiment or
    folder in front, unless the file's name begins with it.
    """
    ending = f"{degradation.task}_{degradation.degree}"
    for weights in official():
        if weights.file == model.name:
            variant = "_large" if weights.large_model else "_s48" if weights.training_patch_size == 48 else ""
            return Path("results") / f"swinir_{ending}{variant}"
    parent = model.resolve().parent
    experiment = (parent.parent if parent.name == "models" else parent).name
    name = model.stem if model.stem.startswith(experiment) else f"{experiment}_{model.stem}"
    return Path("results") / f"{name}_{ending}"


def folders_of(pair: SetFolders) -> dict[str, str | None]:
    """The folders of one test set, by the arguments that name them."""
    return {key: None if path is None else str(path) for key, path in (("folder_lq", pair.lq), ("folder_gt", pair.gt))}


def main() -> None:
    """Arguments and folders, and then the work."""
    arguments = parse_arguments()
    with exit_on_user_error():
        check_launch(arguments)
        sets = pair_folders(arguments.folder_lq, arguments.folder_gt)
        model = model_file(arguments)
        options = load(arguments.opt) if arguments.opt else load_beside(model)
        test(arguments, sets, model, options)


def test(arguments: argparse.Namespace, sets: Sequence[SetFolders], model: Path, options: Options | None) -> None:
    """Restore, and where there is a ground truth judge, one set after another.

    Raises:
        UserError: weights or images cannot be had, or do not go together.
    """
    from data.dataset_test import define_task_images
    from models.memory import peak_bytes
    from models.network_swinir import SwinIR
    from models.select_network import network_to_test
    from utils.evaluation.restorer import Restorer
    from utils.evaluation.results import begin_results, results_table, write_results
    from utils.imaging.metrics import judged_border
    from utils.process import dist
    from utils.process.terminal import log_to_terminal
    from utils.weights import describe_not_finite, not_finite, read_weights

    with dist.processes() as device:
        log_to_terminal(quiet=True)
        with dist.main_first():
            weights = read_weights(ensure(model))
        damaged = not_finite(weights)
        if damaged and dist.is_main():
            say(f"{model}: {describe_not_finite(damaged)}")
        network = network_to_test(weights, source=model, options=options)
        degradation = choose_degradation(arguments, network, model, options)
        images = [define_task_images(degradation, folder_lq=pair.lq, folder_gt=pair.gt) for pair in sets]
        restore = Restorer(
            network.to(device),
            scale=degradation.scale,
            window_size=network.window_size,
            tile=arguments.tile,
            tile_overlap=arguments.tile_overlap,
            peak_bytes=partial(peak_bytes, network) if isinstance(network, SwinIR) else None,
            self_ensemble=arguments.self_ensemble,
            name=str(model),
        )
        folder = results_folder(degradation, model)
        settings: dict[str, Any] = {
            "model_path": str(model),
            **degradation.settings(),
            "border": judged_border(degradation.scale),
        }
        settings |= {key: getattr(arguments, key) for key in ("tile", "tile_overlap", "self_ensemble")}
        settings |= {"not_finite": damaged} if damaged else {}
        places = {folder / pair.name: settings | folders_of(pair) for pair in sets}
        begin_results(places)
        results = {}
        for pair, of_set, (place, of_place) in zip(sets, images, places.items(), strict=True):
            restore.automatic_tiles.clear()
            began = time.perf_counter()
            names = pair.result_names()
            results[pair.name] = run_set(restore, of_set, degradation, names=names, folder=place, device=device)
            tiles = sorted(set(dist.gather(list(restore.automatic_tiles))))
            measured = {"automatic_tiles": tiles, "seconds": time.perf_counter() - began}
            if dist.is_main():
                write_results(results[pair.name], place, settings=of_place | measured)
        if dist.is_main():
            say(f"{results_table(results)}restored images and results.json of each set are in {folder}")


if __name__ == "__main__":
    main()
