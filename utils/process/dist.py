"""One process or many: what torchrun started, asked in one place."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed
from torch import Tensor
from torch.distributed import ProcessGroup

from utils.process.errors import LostProcessError, UserError
from utils.process.interrupt import killable

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=6)  # while the main process makes LR images or stores of a whole dataset
COMMUNICATION = re.compile(r"gloo|nccl|connection (closed|reset)", re.IGNORECASE)
OWN_FAULT = re.compile(r"unhandled cuda error|invalid usage", re.IGNORECASE)  # NCCL's, where no process is lost


@contextmanager
def processes() -> Iterator[torch.device]:
    """Give this process its device and, if torchrun started several processes, connect them inside the block.

    Raises:
        UserError: there are more processes than GPUs.
        LostProcessError: the others are not reached.
    """
    device = join()
    try:
        with lost_process_explained(rank()):
            yield device
    except BaseException:
        if device.type == "cpu":  # or gloo's threads may abort the process at its end; NCCL would wait for the others
            leave()
        raise
    leave()


@contextmanager
def lost_process_explained(rank: int) -> Iterator[None]:
    """Turn the error that PyTorch raises if process `rank` does not reach another one into a `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:
        if OWN_FAULT.search(str(error)) or not COMMUNICATION.search(str(error)):
            raise
        raise LostProcessError(
            f"process {rank} does not reach the others; if one has ended, torchrun's summary says which was first "
            f"({str(error).splitlines()[0]})"
        ) from error


def join() -> torch.device:
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
        with killable():
            meet(backend="cpu:gloo,cuda:nccl" if cuda else "gloo")
    return device


def meet(*, backend: str) -> None:
    """Wait for the other processes, and form groups with them."""
    store, own_rank, count = next(torch.distributed.rendezvous("env://", timeout=LONGEST_WAIT))
    # torchrun keeps the store when it starts all processes anew; gloo would read the addresses of those that died.
    fresh = torch.distributed.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    torch.distributed.init_process_group(backend, store=fresh, rank=own_rank, world_size=count)
    patient_group()  # made now, while all are here


@cache
def patient_group() -> ProcessGroup:
    """All processes once more, as a group that may wait for hours.

    The default group, which averages gradients, gives up within half an hour, which finds a process that hangs.
    """
    group = torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)
    assert isinstance(group, ProcessGroup)  # it is a number only for processes that are not of the group
    return group


def leave() -> None:
    """Leave the other processes."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        patient_group.cache_clear()


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
        torch.distributed.barrier(patient_group())


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
    torch.distributed.all_gather_object(parts, items, group=patient_group())
    return [item for part in parts for item in part]


def mean(values: Tensor) -> Tensor:
    """The element-wise mean of a tensor over the processes."""
    if world_size() == 1:
        return values
    total = values.clone()  # all_reduce writes into its argument
    torch.distributed.all_reduce(total)
    return total / world_size()


def average(tensors: Sequence[Tensor], flag: Tensor) -> Tensor:
    """Replace tensors on this device by their means over the processes, in one message.

    Returns:
        Whether the flag, a scalar that travels along, is set on any of the processes; on the device, too.
    """
    if world_size() == 1:
        return flag
    message = torch.cat([*(tensor.flatten() for tensor in tensors), flag.float().reshape(1)])
    torch.distributed.all_reduce(message)
    message /= world_size()
    *means, flags = message.split([*(tensor.numel() for tensor in tensors), 1])
    torch._foreach_copy_(list(tensors), [mean.view_as(tensor) for mean, tensor in zip(means, tensors, strict=True)])
    return flags[0] > 0


def from_main(tensors: Iterable[Tensor]) -> None:
    """Replace tensors on this device by those of the main process."""
    if world_size() > 1:
        for tensor in tensors:
            torch.distributed.broadcast(tensor.detach(), src=0)


def any_process(flag: bool) -> Callable[[], bool]:
    """Ask whether the flag is set on any of the processes, the same on all, without waiting for a GPU.

    Returns:
        What waits for the answer. Until it is called, no process may use the patient group for anything else.
    """
    if world_size() == 1:
        return lambda: flag
    flags = torch.tensor(int(flag))
    highest = torch.distributed.ReduceOp.MAX
    asked = torch.distributed.all_reduce(flags, highest, group=patient_group(), async_op=True)

    def answer() -> bool:
        asked.wait()
        return bool(flags)

    return answer


def check_same(what: str, seen: str) -> None:
    """See that something is the same for every process.

    Raises:
        UserError: it is not; raised by every process, with what the first two that differ have seen.
    """
    everyone = gather([seen])
    for other, theirs in enumerate(everyone):
        if theirs != everyone[0]:
            raise UserError(f"{what}: process 0 sees {everyone[0]}, but process {other} sees {theirs}")
