"""Test sets that stay decoded between the validations of a run."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from utils.evaluation.evaluate import Dataset
from utils.process.machine import free_bytes, processes_here

SHARE = 1 / 8  # of the free memory, for all test sets of a run and all of its processes on a machine


class Room:
    """What the kept items of a run take, in bytes, against what they may take."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, item: Mapping[str, Any]) -> bool:
        """Whether there is room for the tensors of an item, which then count as kept."""
        size = sum(value.nbytes for value in item.values() if isinstance(value, Tensor))
        free = free_bytes(torch.device("cpu")) + self.taken * processes_here()  # as if nothing were kept
        fits = (self.taken + size) * processes_here() <= SHARE * free
        self.taken += size if fits else 0
        return fits


class Kept:
    """A dataset whose items are kept once they were read, as long as there is room for more.

    A process reads, and so keeps, its own share of the images only.
    """

    def __init__(self, dataset: Dataset, room: Room) -> None:
        self.dataset = dataset
        self.room = room
        self.items: dict[int, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if index in self.items:
            return self.items[index]
        item = self.dataset[index]
        if self.room.take(item):
            self.items[index] = item
        return item
