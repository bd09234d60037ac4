"""The commands that `pip install .` makes.

In `site-packages` the whole code lies in one package, `swinir_student`. It still imports `utils`, `models` and `data`
by these names, as in a clone, so the package's own folder is searched before all others.
"""

import importlib
import sys
from pathlib import Path


def run(module: str, **arguments: str) -> None:
    """Call `main` of a module of this folder."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    importlib.import_module(module).main(**arguments)


def train() -> None:
    """`swinir-train`: as `main_train_student.py`."""
    run("main_train_student")


def test() -> None:
    """`swinir-test`: as `main_test_swinir.py`."""
    run("main_test_swinir")


def report() -> None:
    """`swinir-report`: as `python -m utils.report`."""
    run("utils.report.__main__", prog="swinir-report")


def export() -> None:
    """`swinir-export`: as `python -m models.export`."""
    run("models.export.__main__", prog="swinir-export")
