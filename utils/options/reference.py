"""What is written about option keys, made from the schema.

`python -m utils.options.reference` writes `docs/options.md` for people and `docs/options.schema.json` for editors.
"""

import argparse
import json
import types
import typing
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from utils.options import kair
from utils.options.datasets import TestSet, TrainSet
from utils.options.load import subsections
from utils.options.networks import Network, SpandrelNetwork
from utils.options.schema import Options, PathOptions, TrainOptions
from utils.options.types import Section

DOCS = Path(__file__).parents[2] / "docs"
TARGET = DOCS / "options.md"
SCHEMA_TARGET = DOCS / "options.schema.json"
UNITS = {
    "sigma": "grey levels of 255",
    "quality_factor": "1 to 100",
    "H_size": "HR pixels",
    "dataloader_num_workers": "processes",
    "dataloader_batch_size": "crops",
    "img_size": "LR pixels",
    "window_size": "LR pixels",
    **dict.fromkeys(("embed_dim", "in_chans", "n_channels"), "channels"),
    "depths": "blocks",
    **dict.fromkeys(("start_distill_iter", "end_distill_iter", "start_feature_iter", "end_feature_iter"), "iterations"),
    "G_scheduler_milestones": "iterations",
    **dict.fromkeys(("warmup_iter", "total_iter", "max_bad_steps"), "iterations"),
    **dict.fromkeys(("checkpoint_test", "checkpoint_save", "checkpoint_print"), "iterations"),
    "checkpoint_keep_last": "checkpoints",
}
BASICSR_KEYS = {"warmup_iter"}
HEAD = """# Option keys

Written by `python -m utils.options.reference` from `utils/options/schema.py`; a test keeps it current. Files are JSON
with `//` comments. `--set section.key=value` overrides any key. "from" says who named the key: KAIR's option files,
BasicSR's, the published constructor of SwinIR, or this project. What becomes of KAIR's other keys is in
`utils/options/kair.py`.

[options.schema.json](options.schema.json) lets editors complete and check option files; in VS Code's `settings.json`:

    "json.schemas": [{"fileMatch": ["options/**/*.json"], "url": "./docs/options.schema.json"}],
    "files.associations": {"options/**/*.json": "jsonc"}
"""


NETWORK_NOTE = """
Keys left out of `netTeacher` are those of SwinIR-M for the file's scale instead: `embed_dim` 180, six RSTBs of depth 6
and 6 heads, `window_size` 8, `mlp_ratio` 2, pixelshuffle, but at scale 1 no upsampler. In both sections, those left out
beside `net_type` "swinir_student" are the student's: `embed_dim` 60, 4 RSTBs of depth 4 and 6 heads, `window_size` 8.
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


def origin(section: type[Section], key: str) -> str:
    """Who named a key."""
    if key in kair.KEYS:
        return "KAIR"
    if key in BASICSR_KEYS:
        return "BasicSR"
    return "SwinIR" if section is Network else "ours"


def table(section: type[Section]) -> str:
    """The keys of one section that are no sections themselves."""
    rows = ["| key | type | default | unit | from | meaning |", "|---|---|---|---|---|---|"]
    for key, field in section.model_fields.items():
        if key not in subsections(section):
            default = "required" if field.default is PydanticUndefined else f"`{json.dumps(field.default)}`"
            meaning = " ".join((field.description or "").split())
            facts = f"{type_name(field.annotation)} | {default} | {UNITS.get(key, '')} | {origin(section, key)}"
            rows.append(f"| `{key}` | {facts} | {meaning} |")
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


def schema() -> str:
    """The JSON Schema of an option file."""
    return json.dumps(Options.model_json_schema(), indent=1) + "\n"


def main() -> None:
    """Write both files."""
    argparse.ArgumentParser(prog="python -m utils.options.reference", description=__doc__).parse_args()
    TARGET.write_text(reference(), encoding="utf-8")
    SCHEMA_TARGET.write_text(schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
