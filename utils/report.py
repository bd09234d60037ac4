"""What tasks came to: a table, curves and a comparison picture from the files in their folders.

`python -m utils.report superresolution/TASK [superresolution/TASK ...] [--out report]`
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from utils.errors import UserError, exit_on_user_error
from utils.evaluate import ImageResult, average, bicubic, compare
from utils.images import read_image, to_image, to_tensor, unit_range
from utils.logger import Journal
from utils.option_file import load
from utils.options import Options
from utils.tables import formatted, markdown

CROP = 96  # height and width of the pictures that are compared, in HR pixels
MAX_PICTURES = 3


@dataclass(frozen=True)
class Task:
    """The records of one task folder."""

    folder: Path
    options: Options
    metrics: list[dict[str, Any]]
    seconds: float

    @classmethod
    def read(cls, folder: Path) -> "Task":
        """Read a task folder.

        Raises:
            UserError: it holds no finished validation.
        """
        metrics = Journal(folder / "metrics.jsonl").read()
        if not any(record["kind"] == "test" for record in metrics):
            raise UserError(f"{folder}: there is no metrics.jsonl with a validation in this folder")
        timing = Journal(folder / "timing.jsonl").read()
        seconds = timing[-1]["seconds"] if timing else 0.0
        return cls(folder, load(folder / "options.json"), metrics, seconds)

    def validations(self) -> list[dict[str, Any]]:
        """The validations of the averaged weights, E, in the order of the iterations."""
        return [record for record in self.metrics if record["kind"] == "test" and record["weights"] == "E"]

    def last_validation(self, dataset: str) -> dict[str, Any] | None:
        """The last validation on one test set."""
        return next((record for record in reversed(self.validations()) if record["dataset"] == dataset), None)


def test_results(record: dict[str, Any]) -> list[ImageResult]:
    """The results by image of one validation."""
    return [ImageResult(**image) for image in record["images"]]


def bicubic_image(result: ImageResult, options: Options) -> np.ndarray:
    """The LR image of a result, up-sampled, (H, W, C) uint8."""
    lr_image = unit_range(to_tensor(read_image(Path(result.L_path), channels=options.n_channels)))
    return to_image(bicubic(options.scale)(lr_image[None])[0])


def hr_image(result: ImageResult, options: Options) -> np.ndarray:
    """The ground truth of a result, (H, W, C) uint8, before it is cut to the size of the restored image."""
    return read_image(Path(result.H_path), channels=options.n_channels)


def bicubic_results(results: Sequence[ImageResult], options: Options) -> list[ImageResult]:
    """The figures of bicubic interpolation on the same images."""
    judged = []
    for result in results:
        image = bicubic_image(result, options)
        hr = hr_image(result, options)[: image.shape[0], : image.shape[1]]
        item = {"H": to_tensor(hr), "L_path": result.L_path, "H_path": result.H_path}
        judged.append(compare(image, item, border=options.scale))
    return judged


def table(tasks: Sequence[Task]) -> str:
    """Mean PSNR in dB and SSIM of each task on each test set, bicubic first, and the seconds of training."""
    rows = []
    for dataset in dict.fromkeys(record["dataset"] for task in tasks for record in task.validations()):
        judged = [(task, record) for task in tasks if (record := task.last_validation(dataset))]
        first, record = judged[0]
        baseline = average(bicubic_results(test_results(record), first.options))
        rows.append(
            {"test set": dataset, "method": "bicubic", **formatted(baseline), "iterations": "-", "seconds": "-"}
        )
        for task, record in judged:
            figures = formatted(average(test_results(record)))
            cost = {"iterations": f"{record['iter']:,}", "seconds": f"{task.seconds:.0f}"}
            rows.append({"test set": dataset, "method": task.options.task, **figures, **cost})
    return markdown(rows)


def plot_curves(tasks: Sequence[Task], path: Path) -> None:
    """Training loss against the ground truth, and PSNR on the first test set, over the iterations."""
    dataset = tasks[0].validations()[0]["dataset"]
    figure, (loss_axis, psnr_axis) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for task in tasks:
        losses = [record for record in task.metrics if "l_g_L1" in record]
        loss_axis.plot([r["iter"] for r in losses], [r["l_g_L1"] for r in losses], label=task.options.task)
        tests = [record for record in task.validations() if record["dataset"] == dataset]
        psnr_axis.plot([r["iter"] for r in tests], [r["psnr_y"] for r in tests], marker="o", label=task.options.task)
    loss_axis.set(xlabel="iteration", ylabel="l_g_L1, images in [0, 1]", yscale="log", title="training loss")
    psnr_axis.set(xlabel="iteration", ylabel="PSNR on Y [dB]", title=f"{dataset}, averaged weights (E)")
    loss_axis.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def most_different_window(images: Sequence[np.ndarray]) -> tuple[slice, slice]:
    """Where the images, all (H, W, C), differ most from each other: a window of up to CROP x CROP pixels."""
    height, width = (min(CROP, size) for size in images[0].shape[:2])
    spread = np.std(np.stack(images).astype(np.float32), axis=0).mean(axis=2)
    mean = cv2.blur(spread, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = mean[: spread.shape[0] - height + 1, : spread.shape[1] - width + 1]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return slice(top, top + height), slice(left, left + width)


def plot_comparison(tasks: Sequence[Task], path: Path) -> None:
    """Bicubic, every task with its PSNR on Y of the whole image, and the ground truth, where the tasks differ most."""
    dataset = tasks[0].validations()[0]["dataset"]
    shown = [(task, test_results(record)) for task in tasks if (record := task.last_validation(dataset))]
    results = shown[0][1][:MAX_PICTURES]
    columns = ["bicubic", *(task.options.task for task, _ in shown), "ground truth"]
    figure, axes = plt.subplots(
        len(results),
        len(columns),
        figsize=(2.2 * len(columns), 2.5 * len(results)),
        layout="constrained",
        squeeze=False,
    )
    for row, result in zip(axes, results, strict=True):
        saved = [task.folder / "images" / dataset / f"{result.name}.png" for task, _ in shown]
        restored = [read_image(file, channels=tasks[0].options.n_channels) for file in saved]
        pictures = [bicubic_image(result, tasks[0].options), *restored, hr_image(result, tasks[0].options)]
        judged = [*bicubic_results([result], tasks[0].options), *(image for _, images in shown for image in images)]
        psnrs = [image.psnr_y for image in judged if image.H_path == result.H_path]
        titles = [f"{name}\n{value:.2f} dB" for name, value in zip(columns, psnrs, strict=False)]
        window = most_different_window(restored)
        for axis, title, picture in zip(row, [*titles, columns[-1]], pictures, strict=True):
            axis.imshow(picture[window], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_title(title, fontsize="small")
            axis.set_axis_off()
    figure.suptitle(f"{dataset}: PSNR on Y of the whole image; windows where the methods differ most", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Read the tasks, write `table.md`, `curves.png` and `comparison.png`, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, nargs="+", help="task folders")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: report)")
    arguments = parser.parse_args()
    mpl.use("Agg")
    with exit_on_user_error():
        tasks = [Task.read(folder) for folder in arguments.tasks]
        text = table(tasks)
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "table.md").write_text(text + "\n", encoding="utf-8")
        plot_curves(tasks, arguments.out / "curves.png")
        plot_comparison(tasks, arguments.out / "comparison.png")
    sys.stdout.write(f"{text}\n\nThe table and the pictures (curves.png, comparison.png) are in {arguments.out}.\n")


if __name__ == "__main__":
    main()
