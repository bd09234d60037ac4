"""The results of a test: the file `results.json`, and the table that is printed."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from utils.evaluation.evaluate import ImageResult, average
from utils.process import dist
from utils.process.errors import UserError
from utils.tables import formatted, markdown

FILE = "results.json"
FOLDERS = ("folder_lq", "folder_gt")
IMAGES = "*_SwinIR.png"


def begin_results(places: Mapping[Path, Mapping[str, Any]]) -> None:
    """Make the folder of each test set ready: remove the images of an earlier test, and begin a new `results.json`.

    Args:
        places: the folders, and what the results in them depend on; `folder_lq` and `folder_gt` tell whose they are.

    Raises:
        UserError: as `check_place`; nothing is deleted then.
    """
    for folder, settings in places.items():
        check_place(folder, settings=settings)
    dist.barrier()
    for folder, settings in places.items() if dist.is_main() else ():
        for image in folder.rglob(IMAGES):
            image.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, settings)
    dist.barrier()


def check_place(folder: Path, *, settings: Mapping[str, Any]) -> None:
    """Keep the restored images of different folders apart; another test of the same images replaces them.

    Raises:
        UserError: the folder holds restored images of other folders, or does not tell of which.
    """
    path = folder / FILE
    if not path.exists() and not any(folder.rglob(IMAGES)):
        return
    earlier = folders(parsed(path)) if path.exists() else {}
    if not earlier.keys() & folders(settings).keys():
        of = " and ".join(earlier.values()) or "an earlier test, which does not say of which folder"
        raise UserError(f"{folder}: it holds the restored images of {of}; move or delete this folder first")


def folders(settings: Mapping[str, Any]) -> dict[Path, str]:
    """The folders of images that settings name, by their absolute paths."""
    return {Path(settings[key]).resolve(): settings[key] for key in FOLDERS if settings.get(key)}


def write_results(results: Mapping[str, ImageResult], folder: Path, *, settings: Mapping[str, Any]) -> None:
    """Write `results.json` of one test set into the folder of its images.

    Args:
        results: by image; none where there is no ground truth.
        settings: what the results depend on.
    """
    means = average(list(results.values())) if results else {}
    images = {name: without_none(asdict(result)) for name, result in results.items()}
    write(folder, {**settings, "average": means, "images": images})


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `results.json`."""
    (folder / FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that are not None; only JPEG tasks have PSNR-B."""
    return {key: value for key, value in values.items() if value is not None}


def read_results(path: Path) -> tuple[dict[str, Any], dict[str, ImageResult]]:
    """The content of a `results.json`, and the results of its images by their names.

    Older files hold no paths of images, and are given their names instead.

    Raises:
        UserError: it cannot be read, or is none.
    """
    content = parsed(path)
    try:
        images = {
            name: ImageResult(**({"L_path": name, "H_path": name} | figures))
            for name, figures in content.get("images", {}).items()
        }
    except (AttributeError, TypeError) as error:
        raise UserError(f"{path}: this is no {FILE} of the test script") from error
    return content, images


def parsed(path: Path) -> dict[str, Any]:
    """The content of a `results.json`.

    Raises:
        UserError: it cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as JSON") from error
    if not isinstance(content, dict) or not {"task", "channels", "scale"} <= content.keys():
        raise UserError(f"{path}: this is no {FILE} of the test script")
    return content


def results_table(results: Mapping[str, Mapping[str, ImageResult]]) -> str:
    """The table of the test sets that have a ground truth, and a line's end; empty where none has."""
    means = {name: average(list(of_set.values())) for name, of_set in results.items() if of_set}
    rows = [{"test set": name, **formatted(figures)} for name, figures in means.items()]
    return f"{markdown(rows)}\n" if rows else ""
