"""Ours against the published implementation, side by side: `python -m benchmarks [--device cuda] [--rounds N]`.

Prints a Markdown table and writes `benchmarks/results/<machine>.json`. Needs spandrel (requirements-dev.txt).
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import cases
from benchmarks.timing import interleaved, machine_name, matmul_rate
from utils.tables import markdown

RESULTS = Path(__file__).parent / "results"


def build_cases(device: torch.device, folder: Path, *, tiny: bool) -> list[Callable[[], cases.Case]]:
    """The rows of the table, each built only when its turn comes; `tiny` shapes only show that they run."""
    on_cpu = device.type == "cpu"
    batch = 1 if tiny else 4 if on_cpu else 32
    student, teacher = cases.STUDENT, cases.TEACHER
    if tiny:
        student = student | {"depths": [1] * 4, "img_size": 16}
        teacher = teacher | {"depths": [1] * 4, "num_heads": [6] * 4, "img_size": 16}
    small, large = ((1, 3, 16, 16), (1, 3, 16, 24)) if tiny else ((1, 3, 64, 64), (1, 3, 128, 128))
    size = (256, 320) if tiny else (1356, 2040)
    step = partial(cases.step_case, student=student, batch=batch, device=device)
    crop = student["img_size"]
    return [
        partial(cases.crops_case, "data: 192x192 crops of 2040x1356 PNGs", folder, size=size, crops=4),
        partial(cases.forward_case, "student, 64x64", student, small, device),
        partial(cases.forward_case, "student, 128x128 (Set5 baby)", student, large, device),
        partial(cases.forward_case, "SwinIR-M, 64x64", teacher, small, device),
        partial(cases.forward_case, "SwinIR-M, 128x128 (Set5 baby)", teacher, large, device),
        partial(step, f"A, {batch} of {crop}x{crop}", teacher=None, kind="none"),
        partial(step, "B, ours with a stored teacher, peer's online", teacher=teacher, kind="response"),
        partial(step, "C", teacher=teacher, kind="feature"),
    ]


def measure(case: cases.Case, device: torch.device, *, rounds: int, rate: float) -> dict[str, Any]:
    """One row: seconds of ours and of the peer, their ratio, and our share of the machine's matmul rate."""
    ours, peer = interleaved([case.ours, case.peer], device=device, rounds=rounds)
    share = None if case.flops is None else case.flops / ours / rate
    return {"work": case.name, "ours_s": ours, "peer_s": peer, "ratio": peer / ours, "share_of_matmul": share}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved runs of each case (default: 5)")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, which measure nothing, and no result file")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    rate = matmul_rate(device, torch.float32, size=64 if arguments.tiny else 1536 if device.type == "cpu" else 8192)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for build in build_cases(device, Path(folder), tiny=arguments.tiny):
            rows.append(measure(build(), device, rounds=arguments.rounds, rate=rate))
            sys.stderr.write(f"{rows[-1]['work']}: {rows[-1]['ratio']:.2f}\n")
    machine = machine_name(device)
    sys.stdout.write(
        f"{markdown([readable(row) for row in rows])}\n\n"
        f"machine: {machine}, float32 matmul at {rate / 1e9:.0f} GFLOP/s, torch {torch.__version__}\n"
    )
    if not arguments.tiny:
        RESULTS.mkdir(exist_ok=True)
        content = {"machine": machine, "torch": torch.__version__, "matmul_flops": rate, "rows": rows}
        name = re.sub(r"\W+", "-", machine).strip("-")
        (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def readable(row: dict[str, Any]) -> dict[str, str]:
    """A row with rounded figures."""
    share = "-" if row["share_of_matmul"] is None else f"{row['share_of_matmul']:.0%}"
    times = {key: f"{1000 * row[f'{key}_s']:.1f}" for key in ("ours", "peer")}
    return {
        "work": row["work"],
        "ours [ms]": times["ours"],
        "peer [ms]": times["peer"],
        "peer/ours": f"{row['ratio']:.2f}",
        "of matmul rate": share,
    }


if __name__ == "__main__":
    main()
