"""What a report knows: the records in task folders, of finished and of running tasks, and which are repetitions.

Results of the test script stand beside them, as rows that were not trained here.
Shapes: R runs of one method, N images of one test set.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from utils.evaluation.evaluate import ImageResult
from utils.evaluation.results import FILE
from utils.options.load import load
from utils.options.schema import Options
from utils.report.problems import Problem, problem_of, setting_of_task
from utils.report.tested import Tested, Validation
from utils.runs.history import Change, read_changes
from utils.runs.journal import Journal

Points = list[tuple[float, float]]  # iterations or seconds, and values


@dataclass(frozen=True, kw_only=True)
class Task:
    """The records of one task folder; those that are not there yet are empty.

    Attributes:
        name: by which no other task of the report goes.
        changes: of its options in the middle of the run.
    """

    name: str
    folder: Path
    options: Options
    changes: list[Change]
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
            changes=read_changes(folder / "train.log"),
            metrics=metrics,
            timing=timing,
            starts=starts,
            cost=json.loads(cost.read_text()) if cost.exists() else {},
        )

    @property
    def iterations(self) -> int:
        """The last iteration that is recorded; 0 if there is none."""
        return max((record["iter"] for record in self.metrics), default=0)

    @property
    def seed(self) -> str:
        """Its `train.manual_seed`."""
        return str(self.options.train.manual_seed)

    def progress(self, iteration: int | None = None) -> str:
        """`160`, or `40 of 160` where `train.total_iter` is not reached; by default of all that is recorded."""
        reached, total = self.iterations if iteration is None else iteration, self.options.train.total_iter
        return f"{reached:,}" if reached >= total else f"{reached:,} of {total:,}"

    def seconds(self, iteration: int) -> float | None:
        """How long training had taken at an iteration, validation left out; None where that was not recorded."""
        if not self.timing or iteration > self.timing[-1]["iter"]:
            return None
        iterations, seconds = ([0, *(record[key] for record in self.timing)] for key in ("iter", "seconds"))
        return float(np.interp(iteration, iterations, seconds))

    def losses(self, name: str) -> Points:
        """One loss over the iterations."""
        return [(record["iter"], record[name]) for record in self.metrics if name in record]

    @cached_property
    def validations(self) -> list[Validation]:
        """The validations of the averaged weights, E, after the start, in the order of the iterations."""
        return self._validations(lambda record: record.get("weights") == "E" and record["iter"] > 0)

    @cached_property
    def start(self) -> list[Validation]:
        """The validations of the weights that the task began with; none if it began with random weights."""
        return self._validations(lambda record: record.get("weights") == "E" and record["iter"] == 0)

    @cached_property
    def teacher(self) -> list[Validation]:
        """The validation of the teacher; none if the task has no teacher."""
        return self._validations(lambda record: record["kind"] == "teacher")

    def _validations(self, wanted: Callable[[dict[str, Any]], bool]) -> list[Validation]:
        validations = []
        for record in filter(wanted, self.metrics):
            results = [ImageResult(**image) for image in record["images"]]
            problem = problem_of(setting_of_task(self.options, record["dataset"]), record["dataset"], results)
            validations.append(Validation(record["iter"], problem, results, record["psnr_y"]))
        return validations

    def psnr_y(self, problem: Problem) -> Points:
        """PSNR on Y in dB over the iterations."""
        judged = [of_it for of_it in [*self.start, *self.validations] if of_it.problem == problem]
        return [(of_it.iteration, of_it.psnr_y) for of_it in judged]

    def over_time(self, points: Points) -> Points:
        """Points over iterations as points over seconds of training; those whose time is not recorded are left out."""
        timed = [(self.seconds(int(iteration)), value) for iteration, value in points]
        return [(seconds, value) for seconds, value in timed if seconds is not None]

    def image_path(self, dataset: str, result: ImageResult) -> Path:
        """Where training left its image of the last validation."""
        return self.folder / "images" / dataset / f"{result.name}.png"


Run = Task | Tested


@dataclass(frozen=True)
class Judged:
    """The results of the runs of one method on one problem, of the same images in each."""

    runs: Sequence[Run]
    validations: Sequence[Validation]

    @property
    def iteration(self) -> int:
        """The iteration of all the validations."""
        return self.validations[0].iteration

    @property
    def results(self) -> Sequence[ImageResult]:
        """The results of the first run, one for each image."""
        return self.validations[0].results

    @cached_property
    def figures(self) -> dict[str, np.ndarray]:
        """Each figure, PSNR in dB or SSIM, as (R, N)."""
        rows = [[result.figures() for result in of_run.results] for of_run in self.validations]
        return {key: np.array([[image[key] for image in run] for run in rows]) for key in rows[0][0]}


@dataclass(frozen=True)
class Method:
    """The runs of one method: tasks whose options differ only in `task` and `train.manual_seed`, or one test.

    Attributes:
        name: by which no other method of the report goes.
    """

    name: str
    runs: Sequence[Run]

    def judge(self, problem: Problem) -> Judged | None:
        """The last validation that the runs have in common, leaving out those that have none at all."""
        of_runs = [(run, {v.iteration: v for v in run.validations if v.problem == problem}) for run in self.runs]
        of_runs = [(run, validations) for run, validations in of_runs if validations]
        common = set.intersection(*(set(validations) for _, validations in of_runs)) if of_runs else set()
        if not common:
            return None
        last = max(common)
        return Judged([run for run, _ in of_runs], [validations[last] for _, validations in of_runs])


def all_tasks(methods: Sequence[Method]) -> Iterator[Task]:
    """The tasks of all methods."""
    for method in methods:
        yield from (run for run in method.runs if isinstance(run, Task))


def read_methods(paths: Sequence[Path]) -> list[Method]:
    """Read task folders and results of the test script, each once however often it is named; repetitions are one.

    A task with the seed of an earlier one is no repetition of it: they differ in what options do not say, as in code.

    Raises:
        UserError: a folder holds neither, or a file cannot be read.
    """
    methods: dict[tuple[str, int], list[Run]] = {}
    seen: Counter[str] = Counter()
    for run in read_runs(paths):
        if isinstance(run, Tested):
            methods[run.name, 0] = [run]
            continue
        with_seed = run.options.model_dump_json(exclude={"task"})
        same = run.options.model_dump_json(exclude={"task": True, "train": {"manual_seed"}})
        methods.setdefault((same, seen[with_seed]), []).append(run)
        seen[with_seed] += 1
    names = [method_name(runs) for runs in methods.values()]
    return [
        Method(name if names.count(name) == 1 else f"{name} ({runs[0].folder})", runs)
        for name, runs in zip(names, methods.values(), strict=True)
    ]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read task folders and results of the test script; runs of the same name get their folder added to the name.

    Raises:
        UserError: a folder holds neither, or a file cannot be read.
    """
    tests: dict[Path, list[Path]] = {}  # the files of each model
    sources: dict[Path, Path] = {}  # of each run, in the order in which they are named
    for path in paths:
        files = [] if (path / "options.json").exists() else result_files(path)
        for file in files:
            model = file.resolve().parent.parent
            sources.setdefault(model, file.parent.parent)
            if file.resolve() not in tests.setdefault(model, []):
                tests[model].append(file.resolve())
        if not files:
            sources.setdefault(path.resolve(), path)
    runs: list[Run] = [
        Tested.read(source, tests[key]) if key in tests else Task.read(source) for key, source in sources.items()
    ]
    count = Counter(run.name for run in runs)
    return [run if count[run.name] == 1 else replace(run, name=f"{run.name} ({run.folder})") for run in runs]


def result_files(path: Path) -> list[Path]:
    """The results of the test script at a path: the file, that of the folder, or those of its test sets."""
    return [path] if path.name == FILE else sorted(path.glob(FILE)) or sorted(path.glob(f"*/{FILE}"))


def method_name(runs: Sequence[Run]) -> str:
    """The name of a single run, or what the names of several tasks begin with and a `*`."""
    if len(runs) == 1:
        return runs[0].name
    names = [task.options.task for task in runs if isinstance(task, Task)]
    return os.path.commonprefix(names) + "*"  # noqa: RUF071 -- of names, by character
