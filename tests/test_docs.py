"""What is written about the project is what the project does."""

import json
import re

from tests.conftest import ROOT
from utils.options import kair
from utils.options.load import dotted_keys
from utils.options.reference import SCHEMA_TARGET, TARGET, UNITS, reference, schema
from utils.options.schema import Options


def test_the_option_reference_is_current() -> None:
    assert TARGET.read_text() == reference(), "run python -m utils.options.reference"
    assert SCHEMA_TARGET.read_text() == schema(), "run python -m utils.options.reference"


def test_units_and_kairs_names_belong_to_keys_that_there_are() -> None:
    keys = {key.rpartition(".")[2] for key in dotted_keys(Options)}
    assert UNITS.keys() <= keys
    assert keys >= kair.KEYS


def test_editors_are_told_of_test_sets_and_refuse_other_keys() -> None:
    sections = json.loads(schema())["$defs"]
    assert sections["Datasets"]["patternProperties"] == {"^test": {"$ref": "#/$defs/TestSet"}}
    assert {name for name, section in sections.items() if section["additionalProperties"] is not False} == set()


def test_files_that_the_readme_names_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"\b(?:options|models|data|utils|docs|model_zoo|tests)/[\w/.]+\.(?:py|json|md)\b", text))
    assert len(named) >= 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    modules = set(re.findall(r"python -m ([\w.]+)", text))
    files = {name: ROOT / name.replace(".", "/") for name in modules}
    runnable = {
        name for name, path in files.items() if path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    }
    assert modules - runnable == set()
