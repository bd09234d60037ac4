"""The tables of a report, as rows of text for Markdown and HTML alike."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import Tensor

from utils.evaluation.evaluate import ImageResult, average, compare
from utils.evaluation.restorer import bicubic
from utils.imaging.degradations import of_test_set, reader
from utils.imaging.io import image_size, read_image
from utils.imaging.metrics import judged_border
from utils.imaging.tensors import to_image, to_tensor, unit_range
from utils.options.datasets import TestSet
from utils.options.schema import Options
from utils.report.bootstrap import interval, run_means
from utils.report.tasks import Judged, Method, Task, all_tasks, progress, test_sets
from utils.tables import LABELS, formatted

Rows = list[dict[str, str]]
NONE = "-"
FIGURES = {"psnr": 3, "ssim": 4, "psnr_y": 3, "ssim_y": 4}  # and the decimals of their differences
NETWORK_COLUMNS = ("parameters", "of teacher's", "GFLOPs", "of teacher's GFLOPs", "latency [ms]", "device")


def baseline_name(options: Options) -> str:
    """What an image is called before any network has seen it."""
    return "bicubic" if options.scale > 1 else "input"


def baseline_image(result: ImageResult, options: Options, dataset: str) -> np.ndarray:
    """The LR image of a result, up-sampled, or the degraded image, (H, W, C) uint8."""
    image = lr_image(result, options, dataset)
    return to_image(image if degraded_set(options, dataset) else bicubic(options.scale)(image[None])[0])


def lr_image(result: ImageResult, options: Options, dataset: str) -> Tensor:
    """What was restored, the LR or the degraded image, (C, H, W) in [0, 1], noise beyond."""
    test = degraded_set(options, dataset)
    if test:
        return unit_range(of_test_set(test)(clean_image(result, options, dataset)))
    height, width = (size // options.scale for size in image_size(Path(result.H_path)))
    return unit_range(to_tensor(read_image(Path(result.L_path), channels=options.n_channels)[:height, :width]))


def clean_image(result: ImageResult, options: Options, dataset: str) -> np.ndarray:
    """The whole ground truth of a result, (H, W, C) uint8."""
    test = degraded_set(options, dataset)
    read = reader(jpeg=test is not None and test.dataset_type == "jpeg", channels=options.n_channels)
    return read(Path(result.H_path))


def hr_image(result: ImageResult, options: Options, dataset: str, size: Sequence[int]) -> np.ndarray:
    """The ground truth of a result, (H, W, C) uint8, cut to the (H, W) of the restored image."""
    return clean_image(result, options, dataset)[: size[0], : size[1]]


def degraded_set(options: Options, name: str) -> TestSet | None:
    """The test set of that name, if it has clean images alone."""
    sets = (test for test in options.datasets.tests if test.name == name and test.dataset_type != "sr")
    return next(sets, None)


def missing_image(results: Sequence[ImageResult]) -> str | None:
    """The first LR or HR image that is not on this machine."""
    paths = [path for result in results for path in (result.L_path, result.H_path)]
    return next((path for path in paths if not Path(path).is_file()), None)


def scopes(methods: Sequence[Method]) -> Iterator[tuple[str, list[str]]]:
    """What figures are means over, by name: each test set, and where there are several, all of them as equals."""
    datasets = test_sets(methods)
    for dataset in datasets:
        yield dataset, [dataset]
    if len(datasets) > 1:
        yield f"mean of {len(datasets)} sets", datasets


def judgements(methods: Sequence[Method], datasets: Sequence[str]) -> list[tuple[Method, list[Judged]]]:
    """The methods that were judged on each of some test sets, by the same runs at the same iteration."""
    shown = []
    for method in methods:
        judged = [of_set for dataset in datasets if (of_set := method.judge(dataset))]
        same = all((of_set.tasks, of_set.iteration) == (judged[0].tasks, judged[0].iteration) for of_set in judged)
        if len(judged) == len(datasets) and same:
            shown.append((method, judged))
    return shown


def baseline_figures(methods: Sequence[Method], dataset: str) -> dict[str, float]:
    """The figures of the first judged method's images before they are restored; none where they are not all there."""
    shown = judgements(methods, [dataset])
    if not shown or missing_image(shown[0][1][0].results[0]):
        return {}
    options = shown[0][0].tasks[0].options
    judged = []
    for result in shown[0][1][0].results[0]:
        image = baseline_image(result, options, dataset)
        hr = to_tensor(hr_image(result, options, dataset, image.shape))
        judged.append(compare(image, {"H": hr, **asdict(result)}, border=judged_border(options.scale)))
    return average(judged)


def missing_baselines(methods: Sequence[Method]) -> list[str]:
    """A sentence for each test set without `baseline_figures`."""
    sentences = []
    for dataset in test_sets(methods):
        shown = judgements(methods, [dataset])
        missing = missing_image(shown[0][1][0].results[0]) if shown else None
        if missing:
            sentences.append(f"No {baseline_name(shown[0][0].tasks[0].options)} on {dataset}: {missing} is not there.")
    return sentences


def figure_rows(methods: Sequence[Method]) -> Rows:
    """PSNR in dB and SSIM, in RGB and on Y: baseline and each method on each test set, and the spread of its runs."""
    rows = []
    baselines = {dataset: baseline_figures(methods, dataset) for dataset in test_sets(methods)}
    for scope, datasets in scopes(methods):
        shown = judgements(methods, datasets)
        if shown and all(baselines[dataset] for dataset in datasets):
            name = baseline_name(shown[0][0].tasks[0].options)
            means = {key: float(np.mean([baselines[dataset][key] for dataset in datasets])) for key in FIGURES}
            runs = {"manual_seed": NONE, "iterations": NONE}
            rows.append({"test set": scope, "method": name, **formatted(means), **runs})
        for method, judged in shown:
            of_runs = {key: run_means([of_set.figures[key] for of_set in judged]) for key in FIGURES}
            texts = formatted({key: float(runs.mean()) for key, runs in of_runs.items()})
            seeds = ", ".join(str(task.options.train.manual_seed) for task in judged[0].tasks)
            iterations = progress(judged[0].iteration, method.tasks[0].options)
            cells = {LABELS[key]: texts[LABELS[key]] + spread(key, of_runs[key]) for key in FIGURES}
            runs = {"manual_seed": seeds, "iterations": iterations}
            rows.append({"test set": scope, "method": method.name, **cells, **runs})
    return rows


def spread(key: str, runs: np.ndarray) -> str:
    """` ± 0.012`, the sample standard deviation of several runs."""
    return f" ± {runs.std(ddof=1):.{FIGURES[key]}f}" if len(runs) > 1 else ""


def difference_rows(methods: Sequence[Method]) -> Rows:
    """Each method minus the first on each test set, with intervals; no figures where the images were not the same."""
    rows = []
    for scope, datasets in scopes(methods):
        first = judgements(methods[:1], datasets)
        for method, judged in judgements(methods[1:], datasets) if first else []:
            reference = first[0][1]
            same = [of_set.images for of_set in judged] == [of_set.images for of_set in reference]
            count = sum(len(of_set.images) for of_set in judged)
            row = {"test set": scope, "method": method.name}
            row["images"] = str(count) if same else f"{count}, other than the first's"
            cells = {LABELS[key]: difference(key, judged, reference) if same else NONE for key in FIGURES}
            rows.append(row | cells)
    return rows


def difference(key: str, method: Sequence[Judged], reference: Sequence[Judged]) -> str:
    """`+0.031 [+0.010, +0.050]`: the difference of the means over test sets, and its interval."""
    ours, theirs = ([of_set.figures[key] for of_set in judged] for judged in (method, reference))
    mean = np.mean([a.mean() - b.mean() for a, b in zip(ours, theirs, strict=True)])
    text, *ends = (f"{value:+.{FIGURES[key]}f}" for value in (mean, *(interval(ours, theirs) or ())))
    return f"{text} [{', '.join(ends)}]" if ends else text


def cost_rows(methods: Sequence[Method]) -> Rows:
    """What each task's training cost so far, and what its student costs to run."""
    return [{"task": task.name, **training_cells(task), **network_cells(task)} for task in all_tasks(methods)]


def training_cells(task: Task) -> dict[str, str]:
    """Iterations and time of training, validation left out, and how much of that was waiting for data."""
    cells = {"iterations": task.progress}
    if not task.timing or not task.timing[-1]["seconds"]:
        return cells | dict.fromkeys(("training [s]", "iteration [ms]", "waiting for data"), NONE)
    last = task.timing[-1]
    return cells | {
        "training [s]": f"{last['seconds']:,.0f}",
        "iteration [ms]": f"{1000 * last['seconds'] / last['iter']:,.0f}",
        "waiting for data": f"{last['data_seconds'] / last['seconds']:.1%}",
    }


def network_cells(task: Task) -> dict[str, str]:
    """Size and latency of the student, and its share of the teacher's size, where it has one."""
    if not task.cost:
        return dict.fromkeys(NETWORK_COLUMNS, NONE)
    student, teacher = task.cost["student"], task.cost.get("teacher")
    part = {key: f"{student[key] / teacher[key]:.2%}" if teacher else NONE for key in student}
    cells = (
        f"{student['parameters']:,}",
        part["parameters"],
        f"{student['flops'] / 1e9:.2f}",
        part["flops"],
        f"{1000 * task.cost['latency']:.1f}",
        task.cost["device"],
    )
    return dict(zip(NETWORK_COLUMNS, cells, strict=True))
