"""From crops to the batches of a run, in worker processes, whatever is to be restored.

Items are dictionaries with `L` (C, H, W) and `H` (C, scale*H, scale*W), uint8 (the device makes them [0, 1]) or, where
a dataset says so, float32 in [0, 1], and their files `L_path` and `H_path`.
"""

from collections.abc import Callable, Generator, Mapping, Sequence, Sized
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import NotRequired, TypedDict

from data.sampler import Draw, StepSampler
from data.workers import Guarded, prepare_worker, shared, supply
from utils.options.schema import Options
from utils.process import dist
from utils.process.errors import UserError
from utils.process.machine import cores


class Item(TypedDict):
    """One pair of images or crops; of a crop also where it lies in HR, and, if any, what only distillation needs.

    That is the stored teacher's output `T`, and a second LR crop `Z`. A whole image has a `label` where its file's name
    does not tell its results apart.
    """

    L: Tensor
    H: Tensor
    L_path: str
    H_path: str
    T: NotRequired[Tensor]
    Z: NotRequired[Tensor]
    window: NotRequired[str]
    label: NotRequired[str]


Batch = dict[str, Any]  # an `Item` whose tensors have a batch dimension and whose paths are lists


class Crops(Dataset["Item | UserError"]):
    """Random training crops, indexed by a `Draw`: each is a pure function of (seed, draw)."""

    def __init__(self, images: Sized, *, seed: int) -> None:
        self.images = images
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def on_device(self, _device: torch.device, *, cache: str) -> Callable[[Sequence[Draw]], Batch] | None:
        """What makes the batch of some draws on the device; None where crops come from a loader.

        Args:
            cache: the option `datasets.train.cache`.

        Raises:
            UserError: the device has no room for what is asked to lie there.
        """
        assert cache != "device", "the options have been checked"
        return None


def collate(items: Sequence[Item | UserError]) -> Batch | UserError:
    """Stack the items of a batch, channels last in memory, or hand on the first error among them."""
    whole: list[Mapping[str, Any]] = []
    for item in items:
        if isinstance(item, UserError):
            return item
        whole.append(item)
    return shared({key: gathered([item[key] for item in whole]) for key in whole[0]})


def gathered(values: list[Any]) -> Tensor | list[Any]:
    """(C, H, W) tensors as one (B, C, H, W), channels last in memory; other values as they are."""
    if not isinstance(values[0], Tensor):
        return values
    return torch.stack([value.movedim(0, -1) for value in values]).movedim(-1, 1)


def training_batches(crops: Crops, options: Options, *, first_step: int, device: torch.device) -> Generator[Batch]:
    """This process's part of each training batch, from `first_step` on; closing it ends the worker processes.

    Raises:
        UserError: as `Crops.on_device`.
        NoBatchError: as `supply`, for example since an image cannot be read.
    """
    train = options.datasets.train
    sampler = StepSampler(
        len(crops),
        batch_size=train.dataloader_batch_size,
        seed=options.train.manual_seed,
        shuffle=train.dataloader_shuffle,
        first_step=first_step,
        total_steps=options.train.total_iter,
        rank=dist.rank(),
        world_size=dist.world_size(),
    )
    take = crops.on_device(device, cache=train.cache)
    if take is not None:
        return (take(draws) for draws in sampler)
    loader: DataLoader[Any] = DataLoader(
        Guarded(crops),
        batch_sampler=sampler,
        num_workers=min(ceil(train.dataloader_num_workers / dist.world_size()), cores()),
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # the loader seeds its workers from it, and leaves the global generator alone
    )
    return supply(loader, seconds=options.train.data_timeout)
