"""Commands that have a new name."""

import runpy
import sys


def run_in_new_place(new: str) -> None:
    """Say what a command is called now, and run it with the same arguments."""
    sys.stderr.write(f"this command is now python -m {new}\n")
    runpy.run_module(new, run_name="__main__", alter_sys=True)
