"""Ours against the published implementation, side by side: `python -m benchmarks [--device cuda] [--rounds N]`.

Prints a Markdown table and writes `benchmarks/results/<machine>.json`. Rows in bfloat16 are left out where the
processor only emulates it.
"""

import argparse
import json
import re
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.tables import markdown

if TYPE_CHECKING:  # PyTorch takes seconds to import, and help should not have to wait for it
    import torch

    from benchmarks.cases import Case
    from benchmarks.timing import Sides

RESULTS = Path(__file__).parent / "results"


def define_cases(device: "torch.device", folder: Path, *, tiny: bool) -> "list[Case]":
    """The rows of the table; `tiny` shapes only show that they run."""
    from benchmarks import cases

    batch = 1 if tiny else 4 if device.type == "cpu" else 32
    student, teacher = cases.STUDENT, cases.TEACHER
    if tiny:
        student = student | {"depths": [1] * 4, "img_size": 16}
        teacher = teacher | {"depths": [1] * 4, "num_heads": [6] * 4, "img_size": 16}
    small, baby, large = [(1, 3, size, size) for size in ((16, 24, 32) if tiny else (64, 128, 256))]
    png = (256, 320) if tiny else (1356, 2040)
    forward = partial(cases.forward_case, device=device)
    step = partial(cases.step_case, student_arguments=student, batch=batch, device=device)
    fast = "bf16" if device.type == "cpu" else "bf16, compiled"
    crop = student["img_size"]
    return [
        cases.crops_case(f"data: {cases.CROPS_A_RUN} crops of 192x192 from 2040x1356 PNGs", folder, size=png),
        forward("student, 64x64", student, small),
        forward("student, 128x128 (Set5's baby)", student, baby),
        forward("SwinIR-M, 64x64", teacher, small),
        forward("SwinIR-M, 128x128", teacher, baby),
        forward("SwinIR-M, 64x64, bf16", teacher, small, amp=True),
        forward("SwinIR-M, 256x256, peak memory", teacher, large, measure="peak_bytes"),
        step(f"A, {batch} of {crop}x{crop}", teacher_arguments=None, kind="none"),
        step(f"A, {fast}", teacher_arguments=None, kind="none", fast=True),
        step("B, ours with a stored teacher, peer's online", teacher_arguments=teacher, kind="response"),
        step(f"B, {fast}", teacher_arguments=teacher, kind="response", fast=True),
        step("C", teacher_arguments=teacher, kind="feature"),
        step(f"C, {fast}", teacher_arguments=teacher, kind="feature", fast=True),
    ]


def measured(case: "Case", sides: "Sides", *, rounds: int, rate: float) -> dict[str, Any]:
    """One row: seconds or bytes of both sides, their ratio, and our share of the machine's matmul rate."""
    ours, peer = sides.compare(case.ours, case.peer, rounds=rounds, measure=case.measure)
    row = {"work": case.name, "measure": case.measure, "ours": ours, "peer": peer, "ratio": peer / ours}
    return row | {"share_of_matmul": None if case.flops is None else case.flops / ours / rate}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved runs of each case (default: 5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure the rows that contain TEXT, keep no file")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, which measure nothing, and no result file")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds} should be at least 1")
    import torch

    from benchmarks.timing import Sides, matmul_rate
    from utils.process.machine import machine_name

    device = torch.device(arguments.device)
    size = 64 if arguments.tiny else 1536 if device.type == "cpu" else 8192
    rates = {dtype: matmul_rate(device, dtype, size=size) for dtype in (torch.float32, torch.bfloat16)}
    rows = []
    sides = Sides(device)
    with tempfile.TemporaryDirectory() as folder:
        for case in define_cases(device, Path(folder), tiny=arguments.tiny):
            emulated = rates[case.dtype] < rates[torch.float32] / 2 and not arguments.tiny
            if arguments.only in case.name and not emulated:
                rows.append(measured(case, sides, rounds=arguments.rounds, rate=rates[case.dtype]))
                sys.stderr.write(f"{rows[-1]['work']}: {rows[-1]['ratio']:.2f}\n")
    if not rows:
        parser.error(f"--only {arguments.only}: there is no such row, or only one whose type this machine emulates")
    named_rates = {str(dtype).removeprefix("torch."): rate for dtype, rate in rates.items()}
    sys.stdout.write(
        f"{markdown([readable(row) for row in rows])}\n\n{machine_name(device)}, torch {torch.__version__}; matmul: "
        + ", ".join(f"{name} {rate / 1e9:,.0f} GFLOP/s" for name, rate in named_rates.items())
        + "\n"
    )
    if not arguments.tiny and not arguments.only:
        write({"machine": machine_name(device), "torch": torch.__version__, "matmul_flops": named_rates, "rows": rows})


def write(content: dict[str, Any]) -> None:
    """Keep the result under the machine's name."""
    RESULTS.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "-", content["machine"]).strip("-")
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def readable(row: dict[str, Any]) -> dict[str, str]:
    """A row with rounded figures."""
    unit, factor = {"seconds": ("ms", 1e3), "peak_bytes": ("MB", 1e-6)}[row["measure"]]
    share = row["share_of_matmul"]
    return {
        "work": row["work"],
        "ours": f"{factor * row['ours']:.1f} {unit}",
        "peer": f"{factor * row['peer']:.1f} {unit}",
        "peer/ours": f"{row['ratio']:.2f}",
        "of matmul rate": "-" if share is None else f"{share:.0%}",
    }


if __name__ == "__main__":
    main()
