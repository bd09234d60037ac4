"""Paired features as pictures, the student's beside the teacher's, as they were compared."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np

from utils.imaging.io import encode
from utils.report.pictures.picture import Picture, Strip, file_name
from utils.report.tasks import Method, all_tasks

HOW = {"teacher": ("", ", translated"), "student": (", translated", ", normalised")}  # by who is translated
BRIGHTEST = 0.995  # share of the pixels below the brightest colour: borders are often far above the rest
COLOURS = "cividis"  # even in lightness, and the same to eyes that confuse colours


def feature_strips(methods: Sequence[Method]) -> list[Strip]:
    """One strip for each task that compared features in its last validation."""
    strips = []
    for task in all_tasks(methods):
        path = task.folder / "feature_maps.npz"
        if path.exists():
            with np.load(path) as maps:
                title = f"{task.name}: {maps['name']}, iteration {maps['iter']:,}"
                strips.append(Strip(title, map_pictures(task.name, dict(maps))))
    return strips


def map_pictures(task: str, maps: dict[str, np.ndarray]) -> list[Picture]:
    """Both maps of each pair in the same colours, from 0 to a value that few pixels exceed, and the LR image."""
    pictures = []
    of_student, of_teacher = HOW[str(maps["translator"])]
    for (s, t), student, teacher in zip(maps["pairs"], maps["student"], maps["teacher"], strict=True):
        largest = float(np.quantile([student, teacher], BRIGHTEST))
        roles = {f"student's feature {s}{of_student}": student, f"teacher's feature {t}{of_teacher}": teacher}
        for number, (role, values) in enumerate(roles.items()):
            file = file_name(task, f"pair_{s}_{t}", ("student", "teacher")[number])
            caption = [role, f"0 to {largest:.3g}"]
            pictures.append(Picture(file, encode(coloured(values, largest)), f"feature map of {role}", caption))
    return [*pictures, Picture(file_name(task, "lr"), encode(maps["image"]), "the LR window", ["LR image"])]


def coloured(values: np.ndarray, largest: float) -> np.ndarray:
    """(H, W) -> (H, W, 3) uint8 in colours; values above `largest` get the colour of `largest`."""
    scaled = values.astype(np.float32) / max(largest, 1e-30)
    return mpl.colormaps[COLOURS](scaled, bytes=True)[..., :3]
