"""The tables of a report, as rows of text for Markdown and HTML alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from utils.evaluation.evaluate import average, compare
from utils.imaging.tensors import to_tensor
from utils.report.bootstrap import MIN_IMAGES, interval, run_means
from utils.report.problems import Problem, Setting, baseline_image, hr_image, missing_image
from utils.report.tasks import Judged, Method, all_tasks
from utils.report.tested import NONE
from utils.tables import LABELS, formatted

Rows = list[dict[str, str]]
Row = tuple[str, dict[str, np.ndarray], dict[str, str]]  # a method's name, its figures by run, and what the runs were
Landmark = Literal["start", "teacher"]  # an attribute of `Task`
FIGURES = {"psnr_y": 3, "ssim_y": 4, "psnr": 3, "ssim": 4}  # each with the decimals that its differences are shown with


@dataclass(frozen=True)
class Comparison:
    """Test sets that were degraded and judged alike, and the methods that were judged on any of them.

    Attributes:
        problems: by the names of the test sets.
        apart: what tells these problems from others of the same setting and names; empty where there are none.
    """

    setting: Setting
    problems: dict[str, Problem]
    methods: list[Method]
    apart: str = ""

    @property
    def title(self) -> str:
        """What the figures are of."""
        return f"{self.setting}{self.apart}"

    def scopes(self) -> Iterator[tuple[str, list[Problem]]]:
        """What figures are means over, by name: each test set, and where there are several, all of them as equals."""
        for name, problem in self.problems.items():
            yield name, [problem]
        if len(self.problems) > 1:
            yield f"mean of {len(self.problems)} sets", list(self.problems.values())

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """By test set, the figures of the images before they are restored; none where they are not all there."""
        return {name: baseline_figures(problem, self.first_judged(problem)) for name, problem in self.problems.items()}

    def first_judged(self, problem: Problem) -> Judged | None:
        """The results of the first method that has any."""
        return next((judged for method in self.methods if (judged := method.judge(problem))), None)

    def judgements(self, problems: Sequence[Problem]) -> list[tuple[Method, list[Judged]]]:
        """The methods that were judged on each of some test sets, by the same runs at the same iteration."""
        shown = []
        for method in self.methods:
            judged = [of_set for problem in problems if (of_set := method.judge(problem))]
            same = all((of_set.runs, of_set.iteration) == (judged[0].runs, judged[0].iteration) for of_set in judged)
            if len(judged) == len(problems) and same:
                shown.append((method, judged))
        return shown


def comparisons(methods: Sequence[Method]) -> list[Comparison]:
    """A comparison for each setting; test sets of the same name but with different images are in separate ones."""
    tables: list[tuple[Setting, dict[str, Problem]]] = []
    for problem in judged_problems(methods):
        alike = (of_table for setting, of_table in tables if setting == problem.setting)
        problems = next((of_table for of_table in alike if problem.dataset not in of_table), None)
        if problems is None:
            problems = {}
            tables.append((problem.setting, problems))
        problems[problem.dataset] = problem
    found = []
    for setting, problems in tables:
        judged = [method for method in methods if any(method.judge(problem) for problem in problems.values())]
        twice = [other for other, _ in tables].count(setting) > 1
        apart = f"; images of {', '.join(str(p.folder) for p in problems.values())}" if twice else ""
        found.append(Comparison(setting, problems, judged, apart))
    return found


def judged_problems(methods: Sequence[Method]) -> list[Problem]:
    """The problems that any method was judged on, in the order in which they were met."""
    met = {v.problem: None for method in methods for run in method.runs for v in run.validations}
    return [problem for problem in met if any(method.judge(problem) for method in methods)]


def baseline_figures(problem: Problem, judged: Judged | None) -> dict[str, float]:
    """The figures of a problem's images before they are restored; none where they are not all there."""
    if judged is None or missing_image(judged.results):
        return {}
    results = []
    for result in judged.results:
        image = baseline_image(result, problem.setting)
        hr = to_tensor(hr_image(result, problem.setting, image.shape))
        results.append(compare(to_tensor(image), {"H": hr, **asdict(result)}, border=problem.setting.border))
    return average(results)


def cautions(of: Comparison) -> list[str]:
    """Warnings about the figures: averaged weights that are still in part the start, and missing baselines."""
    return [*unfinished_averages(of), *missing_baselines(of)]


def unfinished_averages(of: Comparison) -> Iterator[str]:
    """A sentence for each task whose averaged weights, the ones that are judged, are still in part the start."""
    for method in of.methods:
        iterations = [judged.iteration for problem in of.problems.values() if (judged := method.judge(problem))]
        for task in all_tasks([method]):
            if share := task.options.train.start_in_average(min(iterations)):
                yield (
                    f"{task.name}: after {min(iterations):,} iterations with train.E_decay "
                    f"{task.options.train.E_decay:g}, {share:.0%} of the averaged weights are still the start."
                )


def missing_baselines(of: Comparison) -> Iterator[str]:
    """A sentence for each test set without its baseline."""
    for name, problem in of.problems.items():
        judged = of.first_judged(problem)
        missing = missing_image(judged.results) if judged else None
        if missing:
            yield f"No {of.setting.baseline} on {name}: {missing} is not there."


def figure_rows(of: Comparison) -> Rows:
    """PSNR in dB and SSIM, on Y and in RGB, of baseline, start, methods with the spread of their runs, and teacher.

    The best of each column and test set is in Markdown's bold; a teacher does not compete.
    """
    rows: Rows = []
    for scope, problems in of.scopes():
        shown = of.judgements(problems)
        if not shown:
            continue
        values = fixed_rows(of, problems)
        for method, judged in shown:
            of_runs = {key: run_means([of_set.figures[key] for of_set in judged]) for key in FIGURES}
            first = judged[0]
            runs = {
                "manual_seed": ", ".join(run.seed for run in first.runs),
                "iterations": first.runs[0].progress(first.iteration),
            }
            values.append((method.name, of_runs, runs))
        cells = marked([figure_cells(of_runs) for _, of_runs, _ in values])
        for (name, _, runs), of_row in zip(values, cells, strict=True):
            rows.append({"test set": scope, "method": name, **of_row, **runs})
        rows += [
            {"test set": scope, "method": name, **figure_cells(figures), **runs}
            for name, figures, runs in landmark_rows(of, problems, "teacher")
        ]
    return rows


def fixed_rows(of: Comparison, problems: Sequence[Problem]) -> list[Row]:
    """What the methods are measured by: the baseline, and the weights that they began with."""
    means = baseline_means(of, problems)
    baseline = [(of.setting.baseline, one_run(means), {"manual_seed": NONE, "iterations": NONE})] if means else []
    return [*baseline, *landmark_rows(of, problems, "start")]


def landmark_rows(of: Comparison, problems: Sequence[Problem], kind: Landmark) -> list[Row]:
    """The starts or the teachers of the methods on some test sets, equal ones once, named where they are several."""
    found: dict[tuple[float, ...], list[str]] = {}
    for method in of.methods:
        for task in all_tasks([method]):
            judged = [v for problem in problems for v in getattr(task, kind) if v.problem == problem]
            if len(judged) == len(problems):
                means = [average(of_set.results) for of_set in judged]
                names = found.setdefault(tuple(float(np.mean([m[key] for m in means])) for key in FIGURES), [])
                names += [] if method.name in names else [method.name]
    runs = {"manual_seed": NONE, "iterations": "0" if kind == "start" else NONE}
    return [
        (
            kind if len(found) == 1 else f"{kind} of {', '.join(names)}",
            one_run(dict(zip(FIGURES, means, strict=True))),
            runs,
        )
        for means, names in found.items()
    ]


def one_run(means: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Figures as those of a method's only run."""
    return {key: np.array([means[key]]) for key in FIGURES}


def baseline_means(of: Comparison, problems: Sequence[Problem]) -> dict[str, float]:
    """The figures of the baseline over test sets; none where any has none."""
    baselines = [of.baselines[name] for name, problem in of.problems.items() if problem in problems]
    return {key: float(np.mean([b[key] for b in baselines])) for key in FIGURES} if all(baselines) else {}


def figure_cells(of_runs: dict[str, np.ndarray]) -> dict[str, str]:
    """`28.43 ± 0.012` by column: the mean of some runs, and where there are several, their standard deviation."""
    texts = formatted({key: float(of_runs[key].mean()) for key in FIGURES})
    return {LABELS[key]: texts[LABELS[key]] + spread(key, of_runs[key]) for key in FIGURES}


def spread(key: str, runs: np.ndarray) -> str:
    """` ± 0.012`, the sample standard deviation of several runs."""
    return f" ± {runs.std(ddof=1):.{FIGURES[key]}f}" if len(runs) > 1 else ""


def marked(rows: Sequence[dict[str, str]]) -> Rows:
    """The rows with the largest value of each column in bold, all that look alike; a single row has none to beat."""
    if len(rows) < 2:
        return list(rows)
    best = {column: max(float(row[column].split()[0]) for row in rows) for column in rows[0]}
    return [
        {column: f"**{text}**" if float(text.split()[0]) == best[column] else text for column, text in row.items()}
        for row in rows
    ]


def difference_rows(of: Comparison) -> Rows:
    """Each method minus the first on each test set, with intervals where they tell something."""
    rows = []
    for scope, problems in of.scopes():
        shown = of.judgements(problems)
        if shown and shown[0][0] is of.methods[0]:
            reference = shown[0][1]
            for method, judged in shown[1:]:
                cells = {LABELS[key]: difference(key, judged, reference) for key in FIGURES}
                rows.append({"test set": scope, "method": method.name, "over": basis(judged, reference), **cells})
    return rows


def basis(method: Sequence[Judged], reference: Sequence[Judged]) -> str:
    """`14 images, 3 and 1 runs`, and `no interval` where there are too few images for one."""
    counts = [len(of_set.results) for of_set in method]
    ours, theirs = len(method[0].runs), len(reference[0].runs)
    runs = f"{ours} and {theirs} runs" if ours != theirs else "one run" if ours == 1 else f"{ours} runs"
    images = f"{sum(counts)} image{'s' if sum(counts) > 1 else ''}"
    return f"{images}, {runs}{': no interval' if min(counts) < MIN_IMAGES else ''}"


def difference(key: str, method: Sequence[Judged], reference: Sequence[Judged]) -> str:
    """`+0.031 [+0.010, +0.050]`: the difference of the means over test sets, and its interval."""
    mean, ends = with_interval(key, method, reference)
    text, *limits = (f"{value:+.{FIGURES[key]}f}" for value in (mean, *ends))
    return f"{text} [{', '.join(limits)}]" if limits else text


def with_interval(key: str, method: Sequence[Judged], reference: Sequence[Judged]) -> tuple[float, tuple[float, ...]]:
    """The difference of the means over test sets, and both ends of its interval, if there is one."""
    ours, theirs = ([of_set.figures[key] for of_set in judged] for judged in (method, reference))
    mean = float(np.mean([a.mean() - b.mean() for a, b in zip(ours, theirs, strict=True)]))
    return mean, interval(ours, theirs) or ()
