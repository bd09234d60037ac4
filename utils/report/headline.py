"""The first sentence of a report: which method is best, by how much, how certain that is, and how long it took."""

from collections.abc import Sequence

from utils.report.bootstrap import LEVEL, run_means
from utils.report.problems import Problem
from utils.report.results import FIGURES, Comparison, baseline_means, basis, landmark_rows, with_interval
from utils.report.tasks import Judged, Method
from utils.tables import formatted

KEY = "psnr_y"
Scored = tuple[float, Method, list[Judged]]


def headline(of: Comparison) -> str:
    """One sentence about the test set on which most methods were judged; the mean of all sets comes first in a tie."""
    counted = [(len(of.judgements(problems)), number) for number, (_, problems) in enumerate(of.scopes())]
    scope, problems = list(of.scopes())[max(counted)[1]]
    where = f"the {scope}" if len(problems) > 1 else scope
    scored: list[Scored] = [
        (float(run_means([of_set.figures[KEY] for of_set in judged]).mean()), method, judged)
        for method, judged in of.judgements(problems)
    ]
    scored.sort(key=lambda of_method: of_method[0], reverse=True)
    (value, method, _), *others = scored
    text = formatted({KEY: value})
    (label, figure), *_ = text.items()
    start = higher_start(of, problems, value)
    if others:
        lead = lead_sentence(scored[0], others[0], reference=of.methods[0])
        return f"{method.name} has the best {label}, {figure} dB on {where}: {lead} {taken(scored[:2])}.{start}"
    means = baseline_means(of, problems)
    lead = ""
    if means:
        gain = value - means[KEY]
        lead = f", {abs(gain):.{FIGURES[KEY]}f} dB {'below' if gain < 0 else 'above'} {of.setting.baseline}"
    return f"{method.name} has a {label} of {figure} dB on {where}{lead} {taken(scored)}.{start}"


def higher_start(of: Comparison, problems: Sequence[Problem], best: float) -> str:
    """` The start has more, 31.63 dB.`, where no method comes up to weights that one of them began with."""
    starts = [float(figures[KEY].item()) for _, figures, _ in landmark_rows(of, problems, "start")]
    (text,) = formatted({KEY: max(starts, default=best)}).values()
    return f" The start has more, {text} dB." if max(starts, default=best) > best else ""


def lead_sentence(first: Scored, second: Scored, *, reference: Method) -> str:
    """`0.016 dB above A_*, the next (...)`, with the interval and what it means, or that there is none.

    Args:
        reference: the method whose differences to the others the report's table shows; the interval is the same.
    """
    (_, best, judged), (_, method, others) = first, second
    if best is reference:
        mean, ends = with_interval(KEY, others, judged)
        mean, ends = -mean, tuple(-end for end in reversed(ends))
    else:
        mean, ends = with_interval(KEY, judged, others)
    of = basis(judged, others)
    if ends:
        low, high = (f"{value:+.{FIGURES[KEY]}f}" for value in ends)
        sure = "" if ends[0] > 0 else ", which holds zero: not shown to be better"
        alone = " over images alone" if len(judged[0].runs) == len(others[0].runs) == 1 else ""
        of = f"{of}: {LEVEL:.0%} interval{alone} {low} to {high} dB{sure}"
    return f"{mean:.{FIGURES[KEY]}f} dB above {method.name}, the next ({of}),"


def taken(scored: Sequence[Scored]) -> str:
    """What the methods took to get there: `after 3,000 iterations in 18 min of training; A_*: 3,000 in 16 min`."""
    first, *others = [(method.name, effort(judged[0])) for _, method, judged in scored]
    return "; ".join([first[1], *(f"{name} {text}" for name, text in others)])


def effort(judged: Judged) -> str:
    """Iterations of a method, and the time of training, the mean over its runs."""
    iterations = judged.runs[0].progress(judged.iteration)
    seconds = [run.seconds(judged.iteration) for run in judged.runs]
    known = [value for value in seconds if value is not None]
    if not judged.iteration:
        return "as the test script found it"
    time = f" in {duration(sum(known) / len(known))} of training" if len(known) == len(seconds) else ""
    return f"after {iterations} iterations{time}"


def duration(seconds: float) -> str:
    """`42 s`, `18 min` or `5.2 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
