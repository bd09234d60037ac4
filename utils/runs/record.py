"""What an experiment writes into its task folder, apart from checkpoints: options, KAIR's log, figures.

`metrics.jsonl` holds what is the same however often a run was interrupted; `timing.jsonl` what is not.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from utils.evaluation.evaluate import ImageResult, average
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.process.files import sync
from utils.runs import checkpoints
from utils.runs.history import Change, changes
from utils.runs.journal import Journal
from utils.runs.log import kair_position, keep_log, log_to_file, stop_log_file
from utils.runs.progress import Board

logger = logging.getLogger(__name__)

KAIR_TEST = "Average PSNR"


class Record:
    """The open record of one experiment; only the main process keeps one.

    Args:
        step: the iteration that the run continues from; what was recorded of later ones is forgotten.

    Raises:
        UserError: the checkpoints are gone of which the records tell.
        OSError: the folder cannot be written.
    """

    def __init__(self, options: Options, *, step: int) -> None:
        self.folder = options.task_folder
        self.metrics = Journal(self.folder / "metrics.jsonl")
        self.timing = Journal(self.folder / "timing.jsonl")
        self.log_path = self.folder / "train.log"
        self.folder.mkdir(parents=True, exist_ok=True)
        if step == 0:
            self._check_that_nothing_is_lost(options)
        made: list[Change] = []
        if step < options.train.total_iter:  # a run that adds nothing leaves what it finds
            path = self.folder / "options.json"
            made = changes(path, options, step=step) if step and path.exists() else []
            checkpoints.list_kair(options.models_folder)
            options.save(path)
        last = step or -1  # one that begins anew judges its start anew, too
        for journal in (self.metrics, self.timing):
            journal.keep(lambda record: record["iter"] <= last)
        keep_log(self.log_path, lambda iteration, _: iteration <= last)
        self.log = log_to_file(self.log_path)
        for change in made:
            logger.info("%s", change)
        self.board = Board(self.folder / "tensorboard", step=step)

    def _check_that_nothing_is_lost(self, options: Options) -> None:
        """Refuse to begin anew where records tell of more iterations than a run without a checkpoint can have."""
        told = max((record["iter"] for record in self.metrics.read()), default=0)
        if told > options.train.checkpoint_save:
            raise UserError(
                f"{self.folder}: its records tell of {told:,} iterations, but {options.models_folder} has no "
                "checkpoint; put it back, give the task another name, or delete the folder"
            )

    def close(self) -> None:
        """End the log file and TensorBoard's."""
        stop_log_file(self.log)
        self.board.close()

    def sync(self) -> None:
        """Put what was recorded on the disk, before a checkpoint that will not have it recorded again."""
        for path in (self.metrics.path, self.timing.path, self.log_path):
            sync(path)

    def seconds(self) -> tuple[float, float]:
        """What the iterations so far have taken, and how much of it was waiting for data."""
        earlier = self.timing.read()
        return (earlier[-1]["seconds"], earlier[-1]["data_seconds"]) if earlier else (0.0, 0.0)

    def losses(self, losses: Mapping[str, float], *, epoch: int, step: int, lr: float, beside: str = "") -> None:
        """Write one line in KAIR's form, with what a terminal shows `beside` it, and the same figures for programs."""
        terms = " ".join(f"{name}: {value:.3e}" for name, value in losses.items())
        position = kair_position(epoch=epoch, step=step)
        logger.info("<%s, lr:%.3e> %s", position, lr, terms, extra={"beside": beside})
        self.metrics.write({"kind": "train", "epoch": epoch, "iter": step, "lr": lr, **losses})
        self.board.figures({"lr": lr, **losses}, group="train", step=step)

    def skipped(self, crops: Sequence[str], *, epoch: int, step: int, in_a_row: int) -> None:
        """Write which crops made an iteration's loss or gradient infinite or NaN, so that it was skipped."""
        logger.warning(
            "<%s> loss or gradient not finite: iteration skipped (%d in a row), crops: %s",
            kair_position(epoch=epoch, step=step),
            in_a_row,
            ", ".join(crops),
        )
        self.metrics.write({"kind": "skipped", "epoch": epoch, "iter": step, "crops": list(crops)})

    def time(self, *, step: int, seconds: float, data_seconds: float) -> None:
        """Write how long the iterations so far have taken."""
        self.timing.write({"iter": step, "seconds": seconds, "data_seconds": data_seconds})

    def validation(self, dataset: str, results: Mapping[str, list[ImageResult]], *, epoch: int, step: int) -> None:
        """Write KAIR's line with the PSNR in RGB of E, the weights to be used, and beside it the other figures."""
        means = {label: average(of_label) for label, of_label in results.items()}
        details = ", ".join(
            f"{label} {m['psnr']:.2f}dB/{m['ssim']:.4f} (Y {m['psnr_y']:.2f}dB/{m['ssim_y']:.4f})"
            for label, m in means.items()
        )
        position = kair_position(epoch=epoch, step=step)
        logger.info("<%s, %s : %.2fdB> %s: %s", position, KAIR_TEST, means["E"]["psnr"], dataset, details)
        for label, of_label in results.items():
            record = {"kind": "test", "iter": step, "dataset": dataset, "weights": label}
            self.metrics.write(record | means[label] | {"images": [asdict(result) for result in of_label]})
            named = {f"{name} {label}": mean for name, mean in means[label].items()}
            self.board.figures(named, group=dataset, step=step)

    def teacher(self, dataset: str, results: Sequence[ImageResult]) -> None:
        """Write what the teacher makes of a test set, which no iteration changes."""
        means = average(results)
        logger.info("%s: the teacher has %.2f dB, on Y %.2f dB", dataset, means["psnr"], means["psnr_y"])
        record = {"kind": "teacher", "iter": 0, "dataset": dataset}
        self.metrics.write(record | means | {"images": [asdict(result) for result in results]})

    def poor_teacher(self) -> str | None:
        """What to say if the student that a run starts from is better than its teacher."""
        records = self.metrics.read()
        teacher = next((record for record in records if record["kind"] == "teacher"), None)
        starts = [record for record in records if (record["iter"], record.get("weights")) == (0, "E")]
        for start in starts:
            if teacher and start["dataset"] == teacher["dataset"] and start["psnr_y"] > teacher["psnr_y"]:
                dataset, student_dB, teacher_dB = start["dataset"], start["psnr_y"], teacher["psnr_y"]
                return (
                    f"on {dataset}, the student starts with {student_dB:.2f} dB (Y) and its teacher has only "
                    f"{teacher_dB:.2f} dB: the student may lose by learning from it"
                )
        return None

    def pictures(self, pictures: Mapping[str, np.ndarray], *, step: int) -> None:
        """Show pictures, (H, W, 3) uint8, on TensorBoard."""
        for name, picture in pictures.items():
            self.board.picture(name, picture, step=step)

    def forget_partial_validation(self, step: int, *, datasets: Collection[str]) -> bool:
        """Whether the validation of `step` on these datasets was cut off; what was written of it is forgotten."""

        def of_it(record: Mapping[str, Any]) -> bool:
            return (record["kind"], record["iter"]) == ("test", step) and record["dataset"] in datasets

        def line_of_it(line: str) -> bool:
            return KAIR_TEST in line and any(f"> {name}: " in line for name in datasets)

        if sum(map(of_it, self.metrics.read())) == 2 * len(datasets):
            return False
        self.metrics.keep(lambda record: not of_it(record))
        keep_log(self.log_path, lambda iteration, line: iteration != step or not line_of_it(line))
        return True

    def best(self, dataset: str, figure: str, *, among: Collection[int]) -> int | None:
        """Which of the iterations `among` had the highest mean of a figure in E's validation; the first, if several."""
        tests = [
            record
            for record in self.metrics.read()
            if record["iter"] in among
            and (record["kind"], record.get("dataset"), record.get("weights")) == ("test", dataset, "E")
        ]
        return max(tests, key=lambda record: record[figure])["iter"] if tests else None
