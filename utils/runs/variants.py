"""Several runs of one option file: seeds, and grids of values, each a task named by what varies."""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from utils.process.errors import UserError

NOT_IN_NAMES = re.compile(r"[^\w.+]+")


class Variant(NamedTuple):
    """One run: what it overrides, as `key.key=value`, and what its task's name ends in."""

    overrides: tuple[str, ...] = ()
    suffix: str = ""


def variants(seeds: Sequence[int], grid: Sequence[str]) -> list[Variant]:
    """Every combination of the values of a grid, `key.key=value,value`, and of the seeds.

    If neither is given, this is one variant that changes nothing.

    Raises:
        UserError: a grid has no values, or two of its runs would have one name.
    """
    axes = [list(of_key(text)) for text in grid]
    if seeds:
        axes.append([Variant((f"train.manual_seed={seed}",), f"_seed{seed}") for seed in dict.fromkeys(seeds)])
    combined = [
        Variant(sum((part.overrides for part in parts), ()), "".join(part.suffix for part in parts))
        for parts in product(*axes)
    ]
    suffixes = [variant.suffix for variant in combined]
    for suffix in suffixes:
        if suffixes.count(suffix) > 1:
            raise UserError(
                f"--grid: two of its runs would be called ...{suffix}; give them apart, with --set task=..."
            )
    return combined


def of_key(text: str) -> Iterator[Variant]:
    """The runs of one axis of a grid, `key.key=value,value`.

    Raises:
        UserError: there is no value, or an empty one.
    """
    key, _, joined = text.partition("=")
    values = list(split(joined))
    if not all(values):
        raise UserError(
            f"--grid {text}: expected key=value,value, for example train.feature_translator=teacher,student"
        )
    for value in values:
        name = NOT_IN_NAMES.sub("-", value).strip("-")
        yield Variant((f"{key}={value}",), f"_{key.rpartition('.')[2]}-{name}")


def split(values: str) -> Iterator[str]:
    """The parts of a text between commas; commas inside brackets belong to a list of JSON."""
    part, depth = "", 0
    for character in values:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            yield part
            part = ""
        else:
            part += character
    yield part
