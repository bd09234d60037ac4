"""The training loop: steps, and what happens every so many of them."""

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.model_plain import ModelPlain, learning_rate
from models.summary import count_parameters
from utils import dist
from utils.evaluate import Dataset, ImageResult, average
from utils.images import write_image
from utils.logger import Journal, kair_position, log_to_file, stop_log_file

logger = logging.getLogger(__name__)


class Training:
    """One experiment from the model's current step to `train.total_iter`, written down in its task folder.

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
        self.folder = self.options.task_folder
        self.metrics = Journal(self.folder / "metrics.jsonl")
        self.timing = Journal(self.folder / "timing.jsonl")
        self.seconds = self.data_seconds = 0.0

    def run(self) -> None:
        """Train, validate, log and save until the end.

        Raises:
            UserError: an image cannot be read, a loss is not finite, or a file cannot be written.
        """
        log_file = self._open_task_folder()
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
            if log_file:
                stop_log_file(log_file)

    def _open_task_folder(self) -> logging.Handler | None:
        if not dist.is_main():
            return None
        self.options.models_folder.mkdir(parents=True, exist_ok=True)
        if self.model.step < self.options.train.total_iter:  # a run that adds nothing leaves what it finds
            self.options.save(self.folder / "options.json")
        for journal in (self.metrics, self.timing):
            journal.keep(lambda record: record["iter"] <= self.model.step)
        if earlier := self.timing.read():
            self.seconds, self.data_seconds = earlier[-1]["seconds"], earlier[-1]["data_seconds"]
        return log_to_file(self.folder / "train.log")

    def _validation_was_cut_off(self) -> bool:
        """Whether the run ended between saving this iteration and validating it; forgets a part that was written."""
        if self.model.step == 0 or not self._due(self.options.train.checkpoint_test):
            return False
        return dist.gather([self._forget_partial_validation()])[0]

    def _forget_partial_validation(self) -> bool:
        if not dist.is_main():
            return False
        tests = [
            record for record in self.metrics.read() if (record["kind"], record["iter"]) == ("test", self.model.step)
        ]
        if len(tests) == 2 * len(self.tests):
            return False
        self.metrics.keep(lambda record: record not in tests)
        return True

    def _log_start(self) -> None:
        options, model = self.options, self.model
        logger.info("task %s in %s, %s", options.task, self.folder, describe_device(model.device))
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
        """One line in KAIR's form and the same figures for programs: the means over the processes."""
        means = dist.mean(torch.stack(list(losses.values()))).tolist()
        if not dist.is_main():
            return
        step, lr = self.model.step, learning_rate(self.options.train, self.model.step)
        named = dict(zip(losses, means, strict=True))
        terms = " ".join(f"{name}: {value:.3e}" for name, value in named.items())
        logger.info("<%s, lr:%.3e> %s", kair_position(epoch=self._epoch, step=step), lr, terms)
        self.metrics.write({"kind": "train", "epoch": self._epoch, "iter": step, "lr": lr, **named})
        self.timing.write({"iter": step, "seconds": self.seconds, "data_seconds": self.data_seconds})

    def _validate(self) -> None:
        for name, dataset in self.tests.items():

            def keep(image: np.ndarray, result: ImageResult, folder: str = name) -> None:
                write_image(self.folder / "images" / folder / f"{result.name}.png", image)

            results = self.model.validate(dataset, on_image=keep)
            if dist.is_main():
                self._log_validation(name, results)

    def _log_validation(self, name: str, results: Mapping[str, list[ImageResult]]) -> None:
        """KAIR's line with the PSNR in RGB of E, the weights to be used, and beside it the other figures."""
        means = {label: average(of_label) for label, of_label in results.items()}
        position = kair_position(epoch=self._epoch, step=self.model.step)
        details = ", ".join(
            f"{label} {m['psnr']:.2f}dB/{m['ssim']:.4f} (Y {m['psnr_y']:.2f}dB/{m['ssim_y']:.4f})"
            for label, m in means.items()
        )
        logger.info("<%s, Average PSNR : %.2fdB> %s: %s", position, means["E"]["psnr"], name, details)
        for label, of_label in results.items():
            record = {"kind": "test", "iter": self.model.step, "dataset": name, "weights": label}
            self.metrics.write(record | means[label] | {"images": [asdict(result) for result in of_label]})

    def _save(self) -> None:
        if dist.is_main():
            self.model.save()
        dist.barrier()


def describe_device(device: torch.device) -> str:
    """`2 processes on NVIDIA H100`, `1 process on cpu with 2 threads`."""
    count = dist.world_size()
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu with {torch.get_num_threads()} threads"
    )
    return f"{count} process{'es' if count > 1 else ''} on {name}"
