"""Options that were changed in the middle of a run, as its log tells of them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from utils.options.schema import Options
from utils.process.errors import UserError

SENTENCE = re.compile(r"changed after iteration ([\d,]+): (\S+): (.*), now (.*)")
NOT_SET = "not set"


class Change(NamedTuple):
    """An option that a resumed run had other than before; the values are text, as Python writes them."""

    iteration: int
    key: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"changed after iteration {self.iteration:,}: {self.key}: {self.before}, now {self.now}"


def changes(path: Path, options: Options, *, step: int) -> list[Change]:
    """Which keys of the options differ from those in the option file that a task had until iteration `step`.

    Raises:
        UserError: the file is damaged.
    """
    try:
        before = flat(json.loads(path.read_bytes()))
    except (ValueError, RecursionError, AttributeError) as error:  # the last: it is no section
        raise UserError(f"{path}: damaged; without it the task goes on") from error
    now = flat(options.model_dump(exclude_unset=True))
    keys = [key for key in before | now if before.get(key) != now.get(key)]
    return [Change(step, key, str(before.get(key, NOT_SET)), str(now.get(key, NOT_SET))) for key in keys]


def read_changes(log: Path) -> list[Change]:
    """The changes that a task's log tells of, the first one first; none where there is no log."""
    if not log.exists():
        return []
    found = SENTENCE.finditer(log.read_text(encoding="utf-8", errors="replace"))
    return [Change(int(match[1].replace(",", "")), match[2], match[3], match[4]) for match in found]


def flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    values: dict[str, Any] = {}
    for key, value in section.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return values
