"""The commands that `pip install .` makes.

In `site-packages` the whole code lies in one package, `swinir_student`. It still imports `utils`, `models` and `data`
by these names, as in a clone, so the package's own folder is searched before all others.
"""

import importlib
import sys
from functools import partial
from pathlib import Path


def run(module: str, **arguments: str) -> None:
    """Call `main` of a module of this folder."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    importlib.import_module(module).main(**arguments)


# As main_train_student.py, main_test_swinir.py, `python -m utils.report` and `python -m models.export`.
train = partial(run, "main_train_student")
test = partial(run, "main_test_swinir")
report = partial(run, "utils.report.__main__", prog="swinir-report")
export = partial(run, "models.export.__main__", prog="swinir-export")
