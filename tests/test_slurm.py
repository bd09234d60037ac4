"""The job scripts: a job that is to end saves its iteration and asks for its own restart."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.runs import Run

# What a cluster provides, for one node: srun runs a command, scontrol names the node and notes what it is asked.
SRUN = '#!/bin/sh\nexec "$@"\n'
SCONTROL = '#!/bin/sh\nif [ "$1" = show ]; then echo localhost; else echo "$@" >> "$REQUEUED"; fi\n'
TORCHRUN = f'#!/bin/sh\nexec {sys.executable} -m torch.distributed.run "$@"\n'
JOB = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "localhost"}


@pytest.mark.slow
@pytest.mark.parametrize("script", ["one_node.sh", "several_nodes.sh"])
def test_a_preempted_job_is_saved_and_asks_to_go_on(script: str, tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 100_000, "checkpoint_test": 100_000, "checkpoint_save": 100_000})
    commands = {"srun": SRUN, "scontrol": SCONTROL, "torchrun": TORCHRUN}
    (tmp_path / "bin").mkdir()
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    clone = tmp_path / "clone"
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/activate").touch()
    for path in ("main_train_student.py", "models", "data", "utils"):
        (clone / path).symlink_to(ROOT / path)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, **JOB, "PATH": path, "REQUEUED": str(tmp_path / "said"), "OMP_NUM_THREADS": "1"}
    with run.output.open("wb") as output:
        process = subprocess.Popen(
            ["bash", ROOT / "docs/slurm" / script, run.options],
            cwd=clone,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    while "iter:       5" not in run.output.read_text():
        assert process.poll() is None, run.output.read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0, run.output.read_text()
    assert list(run.models.glob("*_checkpoint.json"))
    assert (tmp_path / "said").read_text() == "requeue 7\n"
