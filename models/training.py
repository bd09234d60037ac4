"""The training loop: steps, and what happens every so many of them."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.inspect.cost import record_cost
from models.inspect.feature_maps import record_feature_maps
from models.inspect.panels import Panels
from models.inspect.plan import doubts, plan
from models.model_plain import ModelPlain
from models.optimization import learning_rate
from models.resume import save
from utils.evaluation.evaluate import Dataset, ImageResult, own_share
from utils.evaluation.kept import Kept, Room
from utils.imaging.io import write_image
from utils.process import dist
from utils.process.errors import NoBatchError, UserError
from utils.process.interrupt import Interrupt, Interrupted
from utils.process.terminal import Bar
from utils.runs import checkpoints
from utils.runs.environment import record_environment
from utils.runs.progress import Progress
from utils.runs.record import Record

logger = logging.getLogger(__name__)


class Training:
    """One experiment from the model's current step to `train.total_iter`, recorded in its task folder.

    Args:
        batches: this process's part of each batch, from the model's step on.
        tests: the test sets by name; their items are kept from one validation to the next, where there is room.
        n_images: training images, of which an epoch consists.
        interrupt: what may ask the run to end.
    """

    def __init__(
        self,
        model: ModelPlain,
        *,
        batches: Iterator[Mapping[str, Any]],
        tests: Mapping[str, Dataset],
        n_images: int,
        interrupt: Interrupt,
    ) -> None:
        self.model = model
        self.options = model.options
        self.batches = batches
        room = Room()
        self.tests = {name: Kept(dataset, room) for name, dataset in tests.items()}
        self.n_images = n_images
        self.interrupt = interrupt
        self.saved = self.timed = model.step
        self.record: Record | None = None  # the main process's, while it runs
        self.progress: Progress | None = None
        self.overwhelming: set[str] = set()  # losses of which this has been said
        self.seconds = self.data_seconds = 0.0

    def run(self) -> None:
        """Train, validate, log and save until the end, or until the run is asked to end.

        Raises:
            NoBatchError: a training image cannot be read, or batches do not come; the last iteration is saved.
            UserError: a file cannot be written, or too many iterations had to be skipped.
            Interrupted: the run was asked to end; its last iteration is saved.
        """
        if dist.is_main():
            self.record = self._start_record()
            self.progress = Progress(
                self.options,
                step=self.model.step,
                seconds=self.seconds,
                data_seconds=self.data_seconds,
                device=self.model.device,
            )
        try:
            with self.interrupt.deferred():
                self._iterate()
        finally:
            if self.record:
                self.record.close()
            if self.progress:
                self.progress.close()

    def _iterate(self) -> None:
        train = self.options.train
        try:
            self._log_start()
            if self.model.step == 0:
                self._judge_start()
            elif self._validation_was_cut_off():
                self._validate()
            while self.model.step < train.total_iter:
                self._step()
                if self._due(train.checkpoint_save):
                    self._save()  # before the validation, whose error would cost the iterations so far
                if self._due(train.checkpoint_test):
                    self._validate()
        except (Interrupted, NoBatchError):
            self._save()
            if step := self.model.step:
                logger.info("stopped after iteration %s of %s, which is saved", f"{step:,}", self.options.task)
            raise
        logger.info("done: iteration %s of %s", f"{self.model.step:,}", self.options.task)

    def _start_record(self) -> Record:
        """The record, with where the iterations to come are made and what the student costs there."""
        record = Record(self.options, step=self.model.step)
        self.seconds, self.data_seconds = record.seconds()
        if self.model.step < self.options.train.total_iter:
            teacher = self.options.path.pretrained_netTeacher if self.model.teacher else None
            record_environment(
                self.options.task_folder, step=self.model.step, device=self.model.device, teacher=teacher
            )
            record_cost(self.model)
        return record

    def _validation_was_cut_off(self) -> bool:
        """Whether the run ended between saving this iteration and validating it."""
        if not self._due(self.options.train.checkpoint_test):
            return False
        cut_off = self.record and self.record.forget_partial_validation(self.model.step, datasets=self.tests.keys())
        return bool(dist.gather([cut_off])[0])

    def _log_start(self) -> None:
        options, model = self.options, self.model
        for note in options.notes:
            logger.info("%s", note)
        for name, text in plan(model, self.tests, n_images=self.n_images).items():
            logger.info("%-8s: %s", name, text)
        for doubt in doubts(model):
            logger.info("%s", doubt)
        if model.step >= options.train.total_iter:
            total = f"{options.train.total_iter:,}"
            logger.info("nothing to train: iteration %s is reached, train.total_iter is %s", f"{model.step:,}", total)
        elif model.step:
            logger.info("continuing after iteration %s", f"{model.step:,}")

    def _judge_start(self) -> None:
        """Validate what the iterations to come are to be compared with: the teacher, and weights that are given."""
        if self.model.teacher and self.tests:
            name, dataset = min(self.tests.items(), key=lambda test: len(test[1]))  # a large teacher takes its time
            bar = Bar(f"{name}: the teacher", total=len(own_share(dataset)), shown=dist.is_main())
            with self.interrupt.immediate(), bar:
                results = self.model.validate_teacher(dataset, on_result=lambda _: bar.update())
            if self.record:
                self.record.teacher(name, results)
        if self.options.path.pretrained_netG:
            self._validate()
        if self.record and (sentence := self.record.poor_teacher()):
            logger.warning("%s", sentence)

    def _due(self, every: int) -> bool:
        return self.model.step % every == 0 or self.model.step == self.options.train.total_iter

    def _step(self) -> None:
        """One iteration, recorded."""
        losses = self._timed_step()
        skipped = self._report_skipped()
        if self._due(self.options.train.checkpoint_print) and self.model.step not in skipped:
            self._log_losses(losses)

    def _timed_step(self) -> dict[str, Tensor]:
        start = time.perf_counter()
        batch, agree = self._next_batch()
        loaded = time.perf_counter()
        losses = self.model.train_step(batch, agree=agree)
        train = self.options.train
        if any(map(self._due, (train.checkpoint_print, train.checkpoint_save, train.checkpoint_test))):
            self.model.settle()
        self.data_seconds += loaded - start
        if self.progress:
            self.progress.advance(self.model.step)
        self.seconds += time.perf_counter() - start
        return losses

    def _next_batch(self) -> tuple[Mapping[str, Any], Callable[[], None]]:
        """This process's part of the next batch, and a function that raises if a process has no batch or is to end.

        The function takes half a millisecond, in which a GPU works on the batch. On a CPU it is called here, too, since
        an iteration is too long to be computed for nothing.
        """
        batch, failure = None, ""
        try:
            batch = next(self.batches)
        except NoBatchError as error:
            failure = str(error)
        must_end = dist.any_process(batch is None or self.interrupt.requested)

        def agree() -> None:
            if must_end():
                failures = list(filter(None, dist.gather([failure])))
                raise NoBatchError(failures[0]) if failures else Interrupted

        if batch is None or self.model.update.waits:
            agree()
        assert batch is not None
        return batch, agree

    def _epoch(self, step: int) -> int:
        return max(step - 1, 0) * self.options.datasets.train.dataloader_batch_size // self.n_images

    def _log_losses(self, losses: Mapping[str, Tensor]) -> None:
        """Record the means over the processes."""
        means = dist.mean(torch.stack(list(losses.values()))).tolist()
        if self.record:
            step = self.model.step
            named = dict(zip(losses, means, strict=True))
            lr = learning_rate(self.options.train, step)
            times = {"seconds": self.seconds, "data_seconds": self.data_seconds}
            pace = self.progress.tell(step=step, **times) if self.progress else ""
            self._tell_of_overwhelming(named)
            self.record.losses(named, epoch=self._epoch(step), step=step, lr=lr, beside=pace)
            self.record.time(step=step, **times)
            self.timed = step

    def _tell_of_overwhelming(self, losses: Mapping[str, float]) -> None:
        """Say once of each loss that it counts far more than the ground truth."""
        for name, times in self.model.objective.overwhelming(losses, self.model.step).items():
            if name not in self.overwhelming:
                self.overwhelming.add(name)
                logger.warning(
                    "%s counts %s times as much as l_g_L1: lower its weight, or set train.balance_losses",
                    name,
                    f"{times:,.0f}",
                )

    def _report_skipped(self) -> list[int]:
        """Record the iterations that are known by now to have been skipped; which they are.

        Raises:
            UserError: too many in a row.
        """
        limit, skipped = self.options.train.max_bad_steps, self.model.take_skipped()
        for step, in_a_row, crops in skipped:
            if self.record:
                self.record.skipped(crops, epoch=self._epoch(step), step=step, in_a_row=in_a_row)
            if in_a_row > limit:
                raise UserError(
                    f"iteration {step:,}: loss or gradient was infinite or NaN in {in_a_row} iterations in a row, more "
                    f"than train.max_bad_steps ({limit}); checkpoints are intact: lower train.G_optimizer_lr, or set "
                    "train.G_optimizer_clipgrad"
                )
        return [step for step, _, _ in skipped]

    def _validate(self) -> None:
        with self.interrupt.immediate():
            for name, dataset in self.tests.items():
                self._validate_on(name, dataset)
            if self.record:
                record_feature_maps(self.model, self.tests)
                self.record.pictures(self._panels.pictures(), step=self.model.step)
        if self._best() == self.model.step:
            self._save()

    @cached_property
    def _panels(self) -> Panels:
        return Panels(self.model, self.tests)

    def _validate_on(self, name: str, dataset: Dataset) -> None:
        def keep(image: np.ndarray, result: ImageResult) -> None:
            write_image(self.options.task_folder / "images" / name / f"{result.name}.png", image)

        results = self.model.validate(dataset, on_image=keep)
        if self.record:
            self.record.validation(name, results, epoch=self._epoch(self.model.step), step=self.model.step)

    def _best(self) -> int | None:
        """The best iteration, as the option file judges, of those saved and the present one."""
        figure = self.options.train.checkpoint_keep_best
        if self.record is None or figure is None:
            return None
        saved = checkpoints.complete(self.options.models_folder)
        return self.record.best(next(iter(self.tests)), figure, among={*saved, self.model.step})

    def _save(self) -> None:
        """Save the present iteration, unless that is done, and delete the checkpoints that are no longer wanted."""
        self.model.settle()  # all processes together
        self._report_skipped()
        if self.record is None or self.saved == self.model.step:
            return
        if self.timed != self.model.step:  # its losses were not logged
            self.record.time(step=self.model.step, seconds=self.seconds, data_seconds=self.data_seconds)
        self.record.sync()
        save(self.model)
        self.saved = self.model.step
        self._delete_unwanted()

    def _delete_unwanted(self) -> None:
        folder, count = self.options.models_folder, self.options.train.checkpoint_keep_last
        if count is not None:  # none after this iteration counts: they were passed over when the run was resumed
            saved = [step for step in checkpoints.complete(folder) if step <= self.model.step]
            checkpoints.delete_others(folder, {*saved[-count:], self._best()})
