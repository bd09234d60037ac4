"""What a report knows: the records in task folders, of finished and of running tasks, and which tasks are repetitions.

Shapes: R runs of one method, N images of one test set.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from utils.evaluation.evaluate import ImageResult
from utils.options.load import load
from utils.options.schema import Options
from utils.runs.journal import Journal

Points = list[tuple[int, float]]  # iterations and values


@dataclass(frozen=True, kw_only=True)
class Task:
    """The records of one task folder; those that are not there yet are empty.

    Attributes:
        name: by which no other task of the report goes.
    """

    name: str
    folder: Path
    options: Options
    metrics: list[dict[str, Any]]
    timing: list[dict[str, Any]]
    starts: list[dict[str, Any]]
    cost: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Task":
        """Read a task folder.

        Raises:
            UserError: it holds no option file, or one that cannot be read.
        """
        options = load(folder / "options.json")
        metrics, timing, starts = (
            Journal(folder / f"{name}.jsonl").read() for name in ("metrics", "timing", "environment")
        )
        cost = folder / "cost.json"
        return cls(
            name=options.task,
            folder=folder,
            options=options,
            metrics=metrics,
            timing=timing,
            starts=starts,
            cost=json.loads(cost.read_text()) if cost.exists() else {},
        )

    @property
    def iterations(self) -> int:
        """How many are recorded."""
        return max((record["iter"] for record in self.metrics), default=0)

    @property
    def progress(self) -> str:
        """`160`, or `40 of 160` of a task that is not finished."""
        return progress(self.iterations, self.options)

    def losses(self, name: str) -> Points:
        """One loss over the iterations."""
        return [(record["iter"], record[name]) for record in self.metrics if name in record]

    def validations(self, dataset: str) -> list[dict[str, Any]]:
        """The validations of the averaged weights, E, on one test set, in the order of the iterations."""
        return [record for record in self.metrics if record.get("dataset") == dataset and record["weights"] == "E"]

    def psnr_y(self, dataset: str) -> Points:
        """PSNR on Y in dB over the iterations."""
        return [(record["iter"], record["psnr_y"]) for record in self.validations(dataset)]

    def image_path(self, dataset: str, name: str) -> Path:
        """Where training left its image of the last validation."""
        return self.folder / "images" / dataset / f"{name}.png"


@dataclass(frozen=True)
class Judged:
    """The results of the runs of one method on one test set, of the same images in each."""

    iteration: int
    tasks: Sequence[Task]
    results: Sequence[Sequence[ImageResult]]

    @property
    def images(self) -> list[str]:
        """Their names."""
        return [result.name for result in self.results[0]]

    @cached_property
    def figures(self) -> dict[str, np.ndarray]:
        """Each figure, PSNR in dB or SSIM, as (R, N)."""
        rows = [[result.figures() for result in run] for run in self.results]
        return {key: np.array([[image[key] for image in run] for run in rows]) for key in rows[0][0]}


@dataclass(frozen=True)
class Method:
    """The runs of one method: tasks whose options differ only in `task` and `train.manual_seed`.

    Attributes:
        name: by which no other method of the report goes.
    """

    name: str
    tasks: Sequence[Task]

    def judge(self, dataset: str) -> Judged | None:
        """The last validation that the runs have in common, leaving out those that have none at all."""
        by_task = {task.folder: {record["iter"]: record for record in task.validations(dataset)} for task in self.tasks}
        tasks = [task for task in self.tasks if by_task[task.folder]]
        common = set.intersection(*(set(by_task[task.folder]) for task in tasks)) if tasks else set()
        if not common:
            return None
        records = [by_task[task.folder][max(common)] for task in tasks]
        runs = [{image["H_path"]: ImageResult(**image) for image in record["images"]} for record in records]
        shared = [path for path in runs[0] if all(path in run for run in runs)]
        return Judged(max(common), tasks, [[run[path] for path in shared] for run in runs])


def all_tasks(methods: Sequence[Method]) -> Iterator[Task]:
    """The tasks of all methods."""
    for method in methods:
        yield from method.tasks


def progress(iteration: int, options: Options) -> str:
    """`160`, or `40 of 160` where `train.total_iter` is not reached."""
    total = options.train.total_iter
    return f"{iteration:,}" if iteration >= total else f"{iteration:,} of {total:,}"


def read_methods(folders: Sequence[Path]) -> list[Method]:
    """Read task folders, each once however often it is named, and bring repetitions together.

    One with the seed of an earlier one is no repetition of it: they differ in what options do not say, as in code.

    Raises:
        UserError: a folder holds no task.
    """
    methods: dict[tuple[str, int], list[Task]] = {}
    seen: Counter[str] = Counter()
    for task in read_tasks({path.resolve(): path for path in folders}.values()):
        with_seed = task.options.model_dump_json(exclude={"task"})
        same = task.options.model_dump_json(exclude={"task": True, "train": {"manual_seed"}})
        methods.setdefault((same, seen[with_seed]), []).append(task)
        seen[with_seed] += 1
    names = [method_name(tasks) for tasks in methods.values()]
    return [
        Method(name if names.count(name) == 1 else f"{name} ({tasks[0].folder})", tasks)
        for name, tasks in zip(names, methods.values(), strict=True)
    ]


def read_tasks(folders: Collection[Path]) -> list[Task]:
    """Read task folders; tasks of one name get that of their folder with it.

    Raises:
        UserError: a folder holds no task.
    """
    tasks = [Task.read(folder) for folder in folders]
    count = Counter(task.name for task in tasks)
    return [task if count[task.name] == 1 else replace(task, name=f"{task.name} ({task.folder})") for task in tasks]


def method_name(tasks: Sequence[Task]) -> str:
    """The name of a single task, or what the names of several begin with and a `*`."""
    if len(tasks) == 1:
        return tasks[0].name
    return os.path.commonprefix([task.options.task for task in tasks]) + "*"  # noqa: RUF071 -- of names, by character


def test_sets(methods: Sequence[Method]) -> list[str]:
    """The names of the test sets that any task was judged on."""
    records = [record for task in all_tasks(methods) for record in task.metrics]
    return list(dict.fromkeys(record["dataset"] for record in records if record.get("weights") == "E"))
