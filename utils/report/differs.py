"""The table of what differs between methods: options, and changes of them in the middle of a run."""

import json
from collections.abc import Sequence
from typing import Any

from utils.report.tasks import Method, Task
from utils.report.tested import NONE
from utils.runs.history import Change, flat

SPELLED = {"None": "null", "True": "true", "False": "false"}  # Python's words, as option files have them


def differing_options(methods: Sequence[Method]) -> list[dict[str, str]]:
    """A row for each option that is not the same for all methods, or was changed in a run; a column for each method.

    Methods that were only tested have no options. An option that some methods do not have at all, such as those of the
    teacher's network, has a row only if an option file names it or its values differ.
    """
    trained = {method.name: [run for run in method.runs if isinstance(run, Task)] for method in methods}
    values = {name: option_values(tasks) for name, tasks in trained.items() if tasks}
    tasks = [task for of_method in trained.values() for task in of_method]
    named = {key for task in tasks for key in flat(task.options.model_dump(exclude_unset=True, exclude=unused(task)))}
    changed = {change.key for task in tasks for change in task.changes}
    rows = []
    for key in dict.fromkeys(key for of_method in values.values() for key in of_method):
        of_methods = [of_method[key] for of_method in values.values() if key in of_method]
        absent = key in named and len(of_methods) < len(values)
        if key in changed or absent or len(set(of_methods)) > 1:
            rows.append({"option": key, **{name: of_method.get(key, NONE) for name, of_method in values.items()}})
    return rows


def unused(task: Task) -> set[str]:
    """The options that say nothing of how a task was trained."""
    return {"task", "netTeacher"} if task.options.train.distillation_type == "none" else {"task"}


def option_values(tasks: Sequence[Task]) -> dict[str, str]:
    """The options of a method as text, by key: what its runs had, one after the other where they differ."""
    texts: dict[str, dict[str, None]] = {}
    for task in tasks:
        for key, value in flat(task.options.model_dump(exclude=unused(task))).items():
            texts.setdefault(key, {})[history(spelled(value), [c for c in task.changes if c.key == key])] = None
    return {key: ", ".join(of_key) for key, of_key in texts.items()}


def spelled(value: Any) -> str:
    """A value as option files have it, text without its quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def history(now: str, changes: Sequence[Change]) -> str:
    """`10 until iteration 5, then 20`."""
    earlier = [f"{SPELLED.get(c.before, c.before)} until iteration {c.iteration:,}" for c in changes]
    return ", then ".join([*earlier, now])
