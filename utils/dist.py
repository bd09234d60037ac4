"""One process or many: what torchrun started, asked in one place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed
from torch import Tensor

from utils.errors import UserError

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=6)  # while the main process makes LR images or stores of a whole dataset


def start() -> torch.device:
    """Join the other processes where torchrun started this one, and choose its device.

    Raises:
        UserError: there are more processes than GPUs.
    """
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        if torch.cuda.device_count() <= (device.index or 0):
            raise UserError(f"torchrun: {device} is asked for, but there are {torch.cuda.device_count()} GPUs")
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group("nccl" if cuda else "gloo", timeout=LONGEST_WAIT)
    return device


def stop() -> None:
    """Leave the other processes."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def rank() -> int:
    """This process's number."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes the files and the log."""
    return rank() == 0


def barrier() -> None:
    """Wait for the other processes."""
    if world_size() > 1:
        torch.distributed.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the block before the others do, which then find its files made."""
    if not is_main():
        barrier()
    try:
        yield
    finally:
        if is_main():
            barrier()


def gather(items: list[T]) -> list[T]:
    """The items of all processes, on every process, in the order of the ranks."""
    if world_size() == 1:
        return items
    parts: list[list[T]] = [[] for _ in range(world_size())]
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def mean(values: Tensor) -> Tensor:
    """The element-wise mean of a tensor over the processes."""
    if world_size() > 1:
        torch.distributed.all_reduce(values)
        values = values / world_size()
    return values
