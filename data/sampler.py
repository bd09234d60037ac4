"""Which crops make up each training step, as a pure function of (seed, step, rank): resuming needs no stored state."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One crop of the endless training stream: which image, and the position that seeds its window and flips."""

    image: int
    position: int


class StepSampler(Sampler[list[Draw]]):
    """Yields, for each step from `first_step` up to but not including `total_steps`, this rank's part of the batch.

    Batch `s` is made of the stream's positions `s*batch_size` to `(s+1)*batch_size - 1`, split evenly over the
    ranks. The stream runs through one permutation of the images after another, without dropping any, so what a
    step sees does not depend on how many processes or workers there are.

    Raises:
        ValueError: `batch_size` cannot be split evenly.
    """

    def __init__(
        self,
        n_images: int,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        first_step: int,
        total_steps: int,
        rank: int,
        world_size: int,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(f"batch size {batch_size} cannot be split over {world_size} processes")
        self.n_images = n_images
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.steps = range(first_step, total_steps)
        self.rank = rank
        self.local_batch = batch_size // world_size

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, order = -1, np.arange(self.n_images)
        for step in self.steps:
            start = step * self.batch_size + self.rank * self.local_batch
            draws = []
            for position in range(start, start + self.local_batch):
                if position // self.n_images != epoch:
                    epoch = position // self.n_images
                    order = self.permutation(epoch)
                draws.append(Draw(int(order[position % self.n_images]), position))
            yield draws

    def permutation(self, epoch: int) -> np.ndarray:
        """The order of the images in one pass through the data."""
        if not self.shuffle:
            return np.arange(self.n_images)
        return np.random.default_rng([self.seed, epoch]).permutation(self.n_images)
