"""The training loop: steps, and what happens every so many of them."""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.cost import record_cost
from models.feature_maps import record_feature_maps
from models.model_plain import ModelPlain, learning_rate
from models.summary import count_parameters
from utils import dist
from utils.environment import record_environment
from utils.evaluate import Dataset, ImageResult
from utils.images import write_image
from utils.machine import machine_name
from utils.record import Record

logger = logging.getLogger(__name__)


class Training:
    """One experiment from the model's current step to `train.total_iter`, recorded in its task folder.

    Args:
        batches: this process's part of each batch, from the model's step on.
        tests: the test sets by name.
        n_images: training images, of which an epoch consists.
    """

    def __init__(
        self, model: ModelPlain, *, batches: Iterator[Mapping[str, Any]], tests: Mapping[str, Dataset], n_images: int
    ) -> None:
        self.model = model
        self.options = model.options
        self.batches = batches
        self.tests = tests
        self.n_images = n_images
        self.record: Record | None = None  # the main process's, while it runs
        self.seconds = self.data_seconds = 0.0

    def run(self) -> None:
        """Train, validate, log and save until the end.

        Raises:
            UserError: an image cannot be read, a loss is not finite, or a file cannot be written.
        """
        if dist.is_main():
            self.record = self._start_record()
        try:
            self._log_start()
            train = self.options.train
            if self._validation_was_cut_off():
                self._validate()
            while self.model.step < train.total_iter:
                losses = self._timed_step()
                if self._due(train.checkpoint_print):
                    self._log_losses(losses)
                if self._due(train.checkpoint_save):
                    self._save()  # before the validation, lest a test image cost the iterations so far
                if self._due(train.checkpoint_test):
                    self._validate()
            logger.info("done: iteration %s of %s", f"{self.model.step:,}", self.options.task)
        finally:
            if self.record:
                self.record.close()

    def _start_record(self) -> Record:
        """The record, with where the iterations to come are made and what the student costs there."""
        record = Record(self.options, step=self.model.step)
        self.seconds, self.data_seconds = record.seconds()
        if self.model.step < self.options.train.total_iter:
            record_environment(self.options.task_folder, step=self.model.step, device=self.model.device)
            record_cost(self.model)
        return record

    def _validation_was_cut_off(self) -> bool:
        """Whether the run ended between saving this iteration and validating it."""
        step = self.model.step
        if step == 0 or not self._due(self.options.train.checkpoint_test):
            return False
        cut_off = self.record and self.record.forget_partial_validation(step, datasets=len(self.tests))
        return bool(dist.gather([cut_off])[0])

    def _log_start(self) -> None:
        options, model = self.options, self.model
        logger.info("task %s in %s, %s", options.task, options.task_folder, describe_device(model.device))
        logger.info("%s: %s training images", options.datasets.train.name, f"{self.n_images:,}")
        for name, dataset in self.tests.items():
            logger.info("%s: %s test images", name, f"{len(dataset):,}")
        logger.info("student: %s parameters", f"{count_parameters(model.student):,}")
        logger.info("%s", model.objective)
        if model.step >= options.train.total_iter:
            logger.info("nothing to do: iteration %s is reached", f"{options.train.total_iter:,}")
        elif model.step:
            logger.info("continuing after iteration %s", f"{model.step:,}")

    def _due(self, every: int) -> bool:
        return self.model.step % every == 0 or self.model.step == self.options.train.total_iter

    def _timed_step(self) -> dict[str, Tensor]:
        start = time.perf_counter()
        batch = next(self.batches)
        loaded = time.perf_counter()
        losses = self.model.train_step(batch)
        self.data_seconds += loaded - start
        self.seconds += time.perf_counter() - start
        return losses

    @property
    def _epoch(self) -> int:
        return (self.model.step - 1) * self.options.datasets.train.dataloader_batch_size // self.n_images

    def _log_losses(self, losses: Mapping[str, Tensor]) -> None:
        """Record the means over the processes."""
        means = dist.mean(torch.stack(list(losses.values()))).tolist()
        if self.record:
            step = self.model.step
            named = dict(zip(losses, means, strict=True))
            self.record.losses(named, epoch=self._epoch, step=step, lr=learning_rate(self.options.train, step))
            self.record.time(step=step, seconds=self.seconds, data_seconds=self.data_seconds)

    def _validate(self) -> None:
        for name, dataset in self.tests.items():

            def keep(image: np.ndarray, result: ImageResult, folder: str = name) -> None:
                write_image(self.options.task_folder / "images" / folder / f"{result.name}.png", image)

            results = self.model.validate(dataset, on_image=keep)
            if self.record:
                self.record.validation(name, results, epoch=self._epoch, step=self.model.step)
        if self.record:
            record_feature_maps(self.model, self.tests)

    def _save(self) -> None:
        if dist.is_main():
            self.model.save()
        dist.barrier()


def describe_device(device: torch.device) -> str:
    """`2 processes on NVIDIA H100`, `1 process on Intel Xeon, 2 threads`."""
    count = dist.world_size()
    return f"{count} process{'es' if count > 1 else ''} on {machine_name(device)}"
