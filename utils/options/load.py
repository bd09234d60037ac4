"""Reading option files: JSON with comments and overrides, and one clear sentence for whatever is wrong in them."""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import json5
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from utils.options import kair
from utils.options.datasets import TestSet
from utils.options.networks import TEACHERS
from utils.options.schema import Options
from utils.options.types import Section
from utils.process.errors import LONGEST, UserError, printable

# Options that are also arguments of the networks: what is wrong with one of them is found there, too.
HANDED_ON: dict[int | str, tuple[str]] = {"scale": ("upscale",), "n_channels": ("in_chans",)}
MOST = 30  # problems of one file that a message lists

# Pydantic's wording where it would puzzle a reader of JSON.
EXPECTED = {
    "model_type": "should be a section in braces",
    "model_attributes_type": "should be a section in braces",
    "string_pattern_mismatch": "should consist of letters, digits, '_', '.', '+' and '-'",
    "string_too_short": "should not be empty",
    "string_too_long": "should have at most {max_length} characters",
    "too_short": "should have at least {min_length} entries",
    "too_long": "should have at most {max_length} entries",
}

BACKSLASH = r"JSON drops single backslashes: it wants / or \\ for each \ of a path"


def load(path: Path, overrides: Sequence[str] = ()) -> Options:
    """Read and check an option file, JSON with comments, ours or KAIR's; `overrides` are `key.key=value`.

    Raises:
        UserError: the file or an override cannot be read, or a key or value is not valid.
    """
    try:
        return read(path, overrides)
    except OSError as error:
        raise UserError(f"{path}: the option file cannot be read ({error.strerror})") from error
    except kair.UnsupportedError as error:
        raise UserError(f"{path}: {printable(str(error))}") from error
    except ValidationError as error:
        given = {override.partition("=")[0].rpartition(".")[2] for override in overrides}
        of_override = any(problem["loc"] and problem["loc"][-1] in given for problem in error.errors())
        place = f"{path} with --set" if of_override else path
        raise UserError(*f"{place}: {describe(error)}".split("\n")) from error
    except RecursionError as error:
        raise UserError(f"{path}: the brackets are nested too deeply") from error


def read(path: Path, overrides: Sequence[str]) -> Options:
    """As `load`, but keys and values that are not valid raise pydantic's `ValidationError`."""
    try:
        raw = parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        hint = f"; {BACKSLASH}" if has_single_backslash(path) else ""
        raise UserError(f"{path}: cannot be read as JSON: {printable(str(error))}{hint}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: the file should hold one JSON object")
    notes = kair.translate(raw)
    for override in overrides:
        apply_override(raw, override)
    return Options.from_file(raw, notes + kair.complete(raw))


def has_single_backslash(path: Path) -> bool:
    """Whether an option file may have lost backslashes of its paths, since JSON drops those before most letters."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return re.search(r'\\[^\\"/]', text.replace(r"\\", "")) is not None


def parse(text: str) -> Any:
    """JSON with comments.

    Raises:
        ValueError: the text is not JSON, keys occur twice, or a number has more than `LONGEST` digits.
    """
    return json5.loads(text, allow_duplicate_keys=False, parse_int=whole_number)


def whole_number(digits: str, base: int = 10) -> int:
    """An integer of at most `LONGEST` digits; Python refuses to write much longer ones."""
    if len(digits) > LONGEST:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits, base)


def load_beside(checkpoint: Path) -> Options | None:
    """The options of the task whose folder a checkpoint lies in; None for a checkpoint that training did not leave.

    Raises:
        UserError: as `load`.
    """
    path = checkpoint.resolve().parent.parent / "options.json"
    return load(path) if path.is_file() else None


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set `train.total_iter=200` in the raw options; the value is JSON, or else a string.

    Raises:
        UserError: there is no `=`, or a section of the key is none.
    """
    dotted, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"--set {printable(override)}: expected key=value, for example train.total_iter=200")
    try:
        value = parse(text)
    except ValueError:
        value = text
    except RecursionError as error:
        raise UserError(f"--set {printable(override)}: the brackets are nested too deeply") from error
    *sections, key = dotted.split(".")
    for name in sections:
        raw = raw.setdefault(name, {})
        if not isinstance(raw, dict):
            raise UserError(f"--set {printable(override)}: {printable(name)} is not a section")
    raw[key] = value


def describe(error: ValidationError) -> str:
    """A single problem in one sentence; several each on a line of its own, below their number."""
    found = error.errors(include_url=False)
    top = ((problem["loc"][0], problem["input"]) for problem in found if len(problem["loc"]) == 1)
    repeated = [(HANDED_ON[key], value) for key, value in top if key in HANDED_ON]
    own = (problem for problem in found if (problem["loc"][-1:], problem["input"]) not in repeated)
    problems = [describe_problem(problem) for problem in own]
    if len(problems) == 1:
        return problems[0]
    more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
    return "\n  ".join([f"{len(problems)} problems:", *problems[:MOST], *more])


def describe_problem(problem: ErrorDetails) -> str:
    """One problem in one sentence that names the key, what was found and what was expected."""
    key = printable(dotted(problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {suggest(problem['loc'])}"
    if problem["type"] == "missing":
        return f"{key}: this key is missing"
    if problem["type"] == "union_tag_invalid":
        return f"{key}.net_type: should be {' or '.join(map(repr, TEACHERS))}, but is {problem['ctx']['tag']!r}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}".removeprefix(": ")
    expected = EXPECTED.get(problem["type"], problem["msg"].removeprefix("Input ")).format(**problem.get("ctx", {}))
    return f"{key}: {expected}, but is {printable(json.dumps(problem['input'], default=repr))}"


def suggest(loc: tuple[int | str, ...]) -> str:
    """A hint at the key that was probably meant."""
    *parents, key = (str(part) for part in loc)
    section: type[Section] = Options
    for parent in parents:
        section = TEACHERS.get(parent) or subsections(section).get(parent, [TestSet])[0]
    siblings = list(section.model_fields)
    close = difflib.get_close_matches(key, siblings, n=1, cutoff=0.7)
    elsewhere = [other for other in dotted_keys(Options) if other.rpartition(".")[2] == key]
    if not close and elsewhere:
        return f"did you mean {elsewhere[0]}?"
    (nearest,) = close or difflib.get_close_matches(key, siblings, n=1, cutoff=0.0)
    return f"did you mean {dotted((*parents, nearest))}?"


def dotted(loc: tuple[int | str, ...]) -> str:
    """`section.key`, without the `net_type` that pydantic inserts after netTeacher for the kind of section it read."""
    parts = loc[:1] + loc[2:] if loc[:1] == ("netTeacher",) else loc
    return ".".join(map(str, parts))


def subsections(section: type[Section]) -> dict[str, list[type[Section]]]:
    """The keys of a section whose values are sections, each with the classes that these may have."""
    fields = {key: field.annotation for key, field in section.model_fields.items()}
    kinds = {
        key: [kind for kind in get_args(annotation) or [annotation] if isinstance(kind, type(Section))]
        for key, annotation in fields.items()
    }
    return {key: sections for key, sections in kinds.items() if sections}


def dotted_keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Every key below `section`, written `section.key`."""
    for key in section.model_fields:
        yield prefix + key
        for kind in subsections(section).get(key, []):
            yield from dotted_keys(kind, f"{prefix}{key}.")
