"""What tasks came to, finished or running: one HTML page, a Markdown table and figures, from their folders alone.

`python -m utils.report superresolution/TASK [superresolution/TASK ...] [results/MODEL ...] [--out report]`

The first task is what the others are compared with. Tasks whose options differ only in `task` and
`train.manual_seed` are repetitions of one method. A folder of the test script's results, or one `results.json`, is a
row beside them. What was measured otherwise (degradation, images, border, channels) stands in tables of its own.
"""

import argparse
import sys
from pathlib import Path

from utils.process.errors import exit_on_user_error


def main(*, prog: str = "python -m utils.report") -> None:
    """Read the tasks, write the report, and print its tables."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", type=Path, nargs="+", help="task folders, or results of the test script")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: report)")
    arguments = parser.parse_args()
    # Only now: figures take seconds to import, and help should not have to wait for them.
    from utils.report import page
    from utils.report.tasks import read_methods

    with exit_on_user_error():
        tables = page.write(read_methods(arguments.tasks), arguments.out)
    sys.stdout.write(f"{tables}\nThe page is {arguments.out / 'index.html'}; figures for papers are beside it.\n")


if __name__ == "__main__":
    main()
