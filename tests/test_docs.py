"""What is written about the project is what the project does."""

import re

from tests.conftest import ROOT
from utils.option_reference import TARGET, reference


def test_the_option_reference_is_current() -> None:
    assert TARGET.read_text() == reference(), "run python -m utils.option_reference"


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
