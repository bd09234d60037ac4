"""How a command was started: what torchrun, its forerunner, KAIR's command line and Slurm say of several processes."""

import argparse
import os
import resource

from utils.process.errors import UserError, tell

SPACE = 10**9  # bytes of address space without which PyTorch cannot be imported


def add_launch_flags(parser: argparse.ArgumentParser) -> None:
    """Take the flags that `python -m torch.distributed.launch` and KAIR's users give, which nothing here needs."""
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dist", nargs="?", const="True", help=argparse.SUPPRESS)


def check_launch(arguments: argparse.Namespace) -> None:
    """Explain those flags in one line where they were given.

    Raises:
        UserError: srun has started several processes that do not know of each other, or memory is limited too much.
    """
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if 0 <= space < SPACE:  # numeric libraries end the process in their own ways where they find too little
        raise UserError(f"ulimit -v: {space:,} bytes are allowed, but PyTorch alone needs {SPACE:,}; raise the limit")
    environment = os.environ
    launched = "WORLD_SIZE" in environment
    tasks = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1"))
    if tasks.isdecimal() and int(tasks) > 1 and not launched:
        if environment.get("SLURM_PROCID", "0") != "0":
            raise SystemExit(2)  # the first of them says why
        raise UserError(
            f"srun: {tasks} processes are started that do not know of each other; let srun start one torchrun on each "
            "node (--ntasks-per-node=1), and torchrun --nproc_per_node=N the processes there"
        )
    given = {"--local-rank": arguments.local_rank is not None, "--dist": arguments.dist is not None}
    flags = " and ".join(flag for flag, is_given in given.items() if is_given)
    if flags and launched:
        tell(f"{flags}: not needed; each process is told its number by its environment, as torchrun sets it, too")
    elif flags:
        tell(f"{flags}: not needed, and one process runs; for N of them: torchrun --nproc_per_node=N SCRIPT.py ...")
