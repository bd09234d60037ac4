"""What translators have learnt: `python -m models.inspect.translator_study superresolution/TASK [...] [--out report]`.

For each pair of features of a task of `distillation_type` "feature", on the LR images of its first test set and at the
raw weights (G) that were trained with the translators: how large its translator is and of what rank, how much of the
teacher it lets through, and what the student makes of that.
"""

import argparse
import sys
from pathlib import Path

from utils.process.errors import UserError, exit_on_user_error

FILES = ("translators.md", "translators.svg")


def main() -> None:
    """Print the table, and write it and the figure."""
    parser = argparse.ArgumentParser(
        prog="python -m models.inspect.translator_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tasks", type=Path, nargs="+", help="task folders")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of table and figure (default: report)")
    arguments = parser.parse_args()
    # Only now: PyTorch takes seconds to import, and help should not have to wait for it.
    from models.inspect.study import LEGEND, draw, rows, study
    from utils.process.files import write_whole
    from utils.report.pictures.curves import COLOURS
    from utils.report.tasks import Task
    from utils.tables import markdown

    if len(arguments.tasks) > len(COLOURS):
        parser.error(f"the figure has colours for {len(COLOURS)} tasks")
    with exit_on_user_error():
        tasks = [Task.read(folder) for folder in arguments.tasks]
        if len({task.name for task in tasks}) < len(tasks):
            raise UserError("two of the tasks have the same name, which stands for them in the table")
        studied = {task.name: study(task) for task in tasks}
        table = markdown(rows(studied)) + "\n" + LEGEND
        arguments.out.mkdir(parents=True, exist_ok=True)
        for file, content in zip(FILES, (table.encode(), draw(studied)), strict=True):
            write_whole(arguments.out / file, content)
    sys.stdout.write(table)


if __name__ == "__main__":
    main()
