"""Where iterations were made, and by which teacher.

`environment.jsonl` has a line for each start of a run whose iterations were kept. A report reads it, perhaps on another
machine and much later.
"""

import logging
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from utils.process import dist
from utils.process.machine import machine_name
from utils.runs.checkpoints import checksum
from utils.runs.journal import Journal

logger = logging.getLogger(__name__)

CODE = Path(__file__).parents[2]
LIBRARIES = ("torch", "timm", "numpy", "opencv-python")  # those that decide the figures


def git(*arguments: str) -> str | None:
    """What git says of the code; None without git, or where the code is no clone."""
    if not (CODE / ".git").exists():  # a repository further up is another project's
        return None
    try:
        done = subprocess.run(["git", "-C", CODE, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def library_version(name: str) -> str | None:
    """The version of an installed distribution, if it is one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def environment(device: torch.device) -> dict[str, Any]:
    """Code, command, libraries and machine of this process; `dirty` tells of changes that are in no commit."""
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        "versions": {"python": platform.python_version(), **{name: library_version(name) for name in LIBRARIES}},
        "platform": platform.platform(),
        "device": machine_name(device),
        "processes": dist.world_size(),
    }


def record_environment(folder: Path, *, step: int, device: torch.device, teacher: str | None) -> None:
    """Note in a task folder that the iterations after `step` are made here; starts whose work was lost go.

    Args:
        teacher: the file of its weights, if there is one; the log says so where it is not what it was before.
    """
    journal = Journal(folder / "environment.jsonl")
    journal.keep(lambda record: record["iter"] < step)
    sha256 = checksum(Path(teacher).read_bytes()) if teacher else None
    earlier = [record["teacher_sha256"] for record in journal.read() if record.get("teacher_sha256")]
    if sha256 and earlier and earlier[-1] != sha256:
        logger.warning("%s: the teacher's weights are not those of the iterations up to %s", teacher, f"{step:,}")
    journal.write({"iter": step, **environment(device), "teacher_sha256": sha256})
