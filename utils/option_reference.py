"""The table of option keys, made from the schema: `python -m utils.option_reference` writes `docs/options.md`."""

import json
import types
import typing
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from utils.option_file import subsections
from utils.options import Network, Options, PathOptions, Section, SpandrelNetwork, TestSet, TrainOptions, TrainSet

TARGET = Path(__file__).parents[1] / "docs" / "options.md"
HEAD = """# Option keys

Written by `python -m utils.option_reference` from `utils/options.py`; a test keeps it current. Files are JSON with
`//` comments. `--set section.key=value` overrides any key. Names are KAIR's where KAIR has them.
"""


NETWORK_NOTE = """
Keys left out of `netTeacher` are those of SwinIR-M for the file's scale instead: `embed_dim` 180, six RSTBs of depth 6
and 6 heads, `window_size` 8, `mlp_ratio` 2, pixelshuffle. Those left out beside `net_type` "swinir_student" are the
student's: `embed_dim` 60, four RSTBs of depth 4 and 6 heads, `window_size` 8.
"""


def type_name(annotation: Any) -> str:
    """A type as a reader of JSON would call it: `number`, `"l1" or "l2"`, `list of integer`."""
    if annotation is None or annotation is types.NoneType:
        return "null"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin is typing.Literal:
        return " or ".join(json.dumps(choice) for choice in arguments)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(type_name(argument) for argument in arguments)
    if origin is list:
        return f"list of {type_name(arguments[0])}"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[annotation]


def table(section: type[Section]) -> str:
    """The keys of one section that are no sections themselves."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in section.model_fields.items():
        if key not in subsections(section):
            default = "required" if field.default is PydanticUndefined else f"`{json.dumps(field.default)}`"
            meaning = " ".join((field.description or "").split())
            rows.append(f"| `{key}` | {type_name(field.annotation)} | {default} | {meaning} |")
    return "\n".join(rows)


def reference() -> str:
    """The whole document."""
    titles: dict[str, type[Section]] = {
        "The file": Options,
        "`path`": PathOptions,
        "`datasets.train`": TrainSet,
        "`datasets.test`, `datasets.test_...`": TestSet,
        "`netG`, the student, and `netTeacher`": Network,
        '`netTeacher` with `net_type` "spandrel"': SpandrelNetwork,
        "`train`": TrainOptions,
    }
    parts = []
    for title, section in titles.items():
        note = NETWORK_NOTE if section is Network else ""
        parts.append(f"## {title}\n\n{section.__doc__}\n{note}\n{table(section)}\n")
    return "\n".join([HEAD, *parts])


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
