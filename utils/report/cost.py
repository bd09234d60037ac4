"""The table of what training cost, and what the students cost to run."""

from collections.abc import Sequence

from utils.report.tasks import Method, Task, all_tasks
from utils.report.tested import NONE

NETWORK_COLUMNS = ("parameters", "teacher's", "GFLOPs", "teacher's GFLOPs", "latency [ms]", "device")


def cost_rows(methods: Sequence[Method]) -> list[dict[str, str]]:
    """What each task's training cost so far, and what its student costs to run; columns that tell something."""
    rows = [{"task": task.name, **training_cells(task), **network_cells(task)} for task in all_tasks(methods)]
    telling = [column for column in rows[0] if any(row[column] != NONE for row in rows)] if rows else []
    return [{column: row[column] for column in telling} for row in rows]


def training_cells(task: Task) -> dict[str, str]:
    """Iterations and time of training, validation left out, and how much of that was waiting for data."""
    cells = {"iterations": task.progress()}
    if not task.timing or not task.timing[-1]["seconds"]:
        return cells | dict.fromkeys(("training [s]", "iteration [ms]", "waiting for data"), NONE)
    last = task.timing[-1]
    return cells | {
        "training [s]": f"{last['seconds']:,.0f}",
        "iteration [ms]": f"{1000 * last['seconds'] / last['iter']:,.0f}",
        "waiting for data": f"{last['data_seconds'] / last['seconds']:.1%}",
    }


def network_cells(task: Task) -> dict[str, str]:
    """Size and latency of the student, and the size of the teacher, where it has one."""
    cells = dict.fromkeys(NETWORK_COLUMNS, NONE)
    columns = {"student": ("parameters", "GFLOPs"), "teacher": ("teacher's", "teacher's GFLOPs")}
    for network, (parameters, gflops) in columns.items():
        if size := task.cost.get(network):
            cells |= {parameters: f"{size['parameters']:,}", gflops: f"{size['flops'] / 1e9:.2f}"}
    if task.cost:
        cells |= {"latency [ms]": f"{1000 * task.cost['latency']:.1f}", "device": task.cost["device"]}
    return cells
