"""ModelPlain: the student, what it learns from, and everything that changes while it does.

Shapes: B batch, C image channels, H W height and width of the LR crop, s scale. Images are [0, 1].
"""

import copy
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import record_function

from models.distillation.features import TeacherSignal
from models.distillation.select import define_objective, define_pairs, define_translators
from models.distillation.spandrel_teacher import SpandrelTeacher
from models.distillation.teacher import Teacher
from models.distillation.translators import Trainable
from models.memory import peak_bytes
from models.network_swinir import SwinIR
from models.optimization import Outcome, Skipped, Update, learning_rate, split
from models.select_network import define_G, define_teacher, load_network
from utils.evaluation.evaluate import Dataset, ImageResult, OnImage, OnResult, comparing_threads, evaluate
from utils.evaluation.restorer import Restore, Restorer
from utils.imaging.metrics import judged_border
from utils.imaging.tensors import unit_range
from utils.options.networks import SpandrelNetwork
from utils.options.schema import Options
from utils.process import dist
from utils.weights import misfits, read_finite_weights

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

VALIDATION_PIXELS = 8 * 128**2  # LR pixels of test images of one size that a GPU restores at once; a CPU gains nothing
OTHER_NETWORK = "; this task was begun with another network: give the task another name"
OTHER_TEACHER = "; netTeacher should describe the teacher, or be left out: its weights then decide"
TEACHER_TILE = 256  # LR pixels; bounds the memory that a stored teacher needs for a 2K image


class ModelPlain:
    """One training run: KAIR's plain model, with a teacher.

    Attributes:
        student: the network that is trained, G.
        ema: its exponential moving average, E.
        trainable: student and translators as one module.
        step: iterations done.
        bad_steps: how many iterations were skipped in a row, up to the last one whose outcome is known.
        skipped: the iterations that were skipped since `take_skipped` was last called.
        timed: makes a context for each named part of a step, so that profilers see it.

    Raises:
        UserError: networks and options do not go together, or the teacher cannot be loaded.
    """

    def __init__(self, options: Options, *, device: torch.device) -> None:
        self.options = options = options.for_device(device.type)
        self.device = device
        self.step = self.bad_steps = 0
        self.skipped: list[Skipped] = []
        self.pending: Outcome | None = None

        if options.train.amp == "bf16" and not knows_bfloat16(device):
            logger.warning("train.amp: this GPU has no bfloat16 instructions, and will be slower than in float32")
        torch.set_float32_matmul_precision(options.train.matmul_precision if device.type == "cuda" else "highest")
        if options.train.compile:
            torch.compiler.reset()  # what was compiled for earlier tasks counts against PyTorch's limit
        torch.manual_seed(options.train.manual_seed)
        self.student = define_G(options)
        teacher = None if options.train.distillation_type == "none" else define_teacher(options)
        if isinstance(teacher, SpandrelTeacher) and not isinstance(options.netTeacher, SpandrelNetwork):
            self.options = options = options.model_copy(update={"netTeacher": SpandrelNetwork(net_type="spandrel")})
        self.objective = define_objective(options.train)
        pairs = define_pairs(options, self.objective, self.student, teacher)
        self.translators = define_translators(options, self.objective, pairs, self.student, teacher)
        self.teacher = None if teacher is None else load_teacher(options, teacher, device)
        self.ema = copy.deepcopy(self.student).eval().requires_grad_(False).to(device)
        self.trainable = Trainable(self.student, self.translators, pairs=pairs).to(device)
        self.answer = compiler(options.train.compile)(self.trainable)
        self.update = Update(self.trainable, self.student, self.ema, options.train)
        self.optimizer = self.update.optimizer
        self.timed: Callable[[str], AbstractContextManager[Any]] = record_function

    def train_step(self, batch: Mapping[str, Any], *, agree: Callable[[], None] = lambda: None) -> dict[str, Tensor]:
        """One iteration on this process's part of a batch; `L` and, if any, `Z` (B, C, H, W), `H` (B, C, s*H, s*W).

        If loss or gradient are not finite on one of the processes, all of them leave weights, average and optimizer as
        they were. On a GPU, this is known one iteration later, or after `settle`.

        Args:
            agree: is called after the backward passes were launched, before any weight changes; if it raises, the model
                stays as it was before the iteration.

        Returns:
            The losses that were active and `G_loss`, scalars on the device, of this process's part.
        """
        step = self.step + 1
        self._seed(step)
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.options.train, step)
        self.optimizer.zero_grad(set_to_none=True)
        if self.options.train.compile:
            torch.compiler.cudagraph_mark_step_begin()  # else it takes each part of a batch for a step of its own
        parts = list(split(batch, self.options.train.gradient_accumulation_steps))
        losses, finite = zip(*(self._learn(part, step, share=share) for part, share in parts), strict=True)
        means = {name: torch.stack([of_part[name] for of_part in losses]).sum(0) for name in losses[0]}
        agree()
        with self.timed("optimizer and EMA"):
            counts = self.update(means["G_loss"])
        names = [f"{path} {window}" for path, window in zip(batch["H_path"], batch["window"], strict=True)]
        self.step = step
        earlier, self.pending = self.pending, Outcome(step, counts, torch.cat(finite), names)
        if self.update.waits:
            self.settle()
        elif earlier:
            self._judge(earlier)
        return means

    def _learn(self, batch: Mapping[str, Any], step: int, *, share: float) -> tuple[dict[str, Tensor], Tensor]:
        """Add the gradient of a part of a batch; return its share of the losses, and which images are finite, (B,).

        Args:
            share: the part's crops over those of the batch.
        """
        with self.timed("batch to device"):
            lr_image, hr_image = self._on_device(batch["L"]), self._on_device(batch["H"])
            if "Z" in batch and self.objective.needs_teacher(step):
                lr_image = torch.cat([lr_image, self._on_device(batch["Z"])])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.train.amp == "bf16"):
            with self.timed("teacher"):
                taught = self._ask_teacher(batch, lr_image, step) if self.objective.needs_teacher(step) else None
            with self.timed("student"):
                features = taught.features if taught and self.objective.needs_features(step) else None
                answered = self.answer(lr_image, features)
        with self.timed("losses"):
            losses = {name: share * loss for name, loss in self.objective(answered, taught, hr_image, step).items()}
            finite = (answered.image[: len(hr_image)].detach() - hr_image).flatten(1).isfinite().all(1)
        with self.timed("backward"):
            losses["G_loss"].backward()
        return {name: loss.detach() for name, loss in losses.items()}, finite

    def settle(self) -> None:
        """Wait until it is known whether the last iteration counted."""
        if self.pending:
            self._judge(self.pending)
            self.pending = None

    def _judge(self, outcome: Outcome) -> None:
        crops = outcome.faults()
        self.bad_steps = 0 if crops is None else self.bad_steps + 1
        if crops is not None:
            self.skipped.append(Skipped(outcome.step, self.bad_steps, crops))

    def take_skipped(self) -> list[Skipped]:
        """The iterations that are known to have been skipped since this was asked last."""
        taken, self.skipped = self.skipped, []
        return taken

    def _on_device(self, image: Tensor) -> Tensor:
        return unit_range(image.to(self.device, non_blocking=True))

    def _ask_teacher(self, batch: Mapping[str, Any], lr_image: Tensor, step: int) -> TeacherSignal:
        """The teacher's answer: images from the batch (`T`), where they were stored, and the rest now.

        Without the features that no loss compares: they would be kept until the backward pass.
        """
        assert self.teacher is not None
        compares = self.objective.needs_features(step)
        stored = [self._on_device(batch["T"])] if "T" in batch else []
        known = sum(map(len, stored))
        unknown = lr_image if compares else lr_image[known:]
        if len(unknown) == 0:
            return TeacherSignal(stored[0], [])
        answer = self.teacher(unknown)
        made = answer.image[len(unknown) - len(lr_image) + known :]
        return TeacherSignal(torch.cat([*stored, made]), answer.features if compares else [])

    def teacher_restore(self) -> Restore:
        """The teacher as a function (B, C, H, W) -> (B, C, s*H, s*W) on images of any size, in tiles."""
        teacher = self.teacher
        assert teacher is not None
        return Restorer(
            lambda lr_image: teacher.of_any_size(lr_image).image,
            scale=self.options.scale,
            window_size=teacher.network.window_size,
            tile=TEACHER_TILE,
            self_ensemble=self.options.train.teacher_ensemble,
            name=f"the teacher ({self.options.path.pretrained_netTeacher})",
        )

    def _seed(self, step: int) -> None:
        """Make the step's randomness, stochastic depth, a function of (seed, step, rank): resuming stores none."""
        entropy = [self.options.train.manual_seed, step, dist.rank()]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def validate(self, dataset: Dataset, *, on_image: OnImage) -> dict[str, list[ImageResult]]:
        """Evaluate both weights, G and E, on one dataset; `on_image` gets E's images, several at once.

        Returns:
            The results of "G" and of "E".
        """
        results = {}
        for label, network in (("G", self.student), ("E", self.ema)):
            network.eval()
            restore = Restorer(
                network,
                scale=self.options.scale,
                window_size=network.window_size,
                peak_bytes=partial(peak_bytes, network),
                name=f"the student ({label})",
            )
            results[label] = self._evaluate(restore, dataset, on_image=on_image if label == "E" else None)
        self.student.train()
        return results

    def validate_teacher(self, dataset: Dataset, *, on_result: OnResult) -> list[ImageResult]:
        """Evaluate the teacher, as it restores whole images, on one dataset; `on_result` as for `evaluate`."""
        return self._evaluate(self.teacher_restore(), dataset, on_result=on_result)

    def _evaluate(
        self,
        restore: Restore,
        dataset: Dataset,
        *,
        on_image: OnImage | None = None,
        on_result: OnResult | None = None,
    ) -> list[ImageResult]:
        return evaluate(
            restore,
            dataset,
            border=judged_border(self.options.scale),
            device=self.device,
            batch_pixels=VALIDATION_PIXELS if self.device.type == "cuda" else 0,
            threads=comparing_threads(self.device),
            on_image=on_image,
            on_result=on_result,
        )

    def parts(self) -> dict[str, nn.Module]:
        """The modules of a checkpoint, by KAIR's letters."""
        parts: dict[str, nn.Module] = {"G": self.student, "E": self.ema}
        if self.translators is not None:
            parts["P"] = self.translators
        return parts


def check_networks(options: Options) -> None:
    """Raise the errors of `ModelPlain` about networks, losses and the teacher's weights, at a fraction of its cost.

    What depends on weights that are not there yet, since an earlier task will train them, is left to `ModelPlain`.
    """
    path = options.path.pretrained_netTeacher
    weights = Path(path) if path is not None and Path(path).is_file() else None
    with torch.device("meta"):
        objective, student = define_objective(options.train), define_G(options)
        if options.train.distillation_type == "none" or (weights is None and options.netTeacher.net_type == "spandrel"):
            return
        teacher = define_teacher(options)
        define_pairs(options, objective, student, teacher)
    if weights is not None and isinstance(teacher, SwinIR):
        shapes = {name: value.to("meta") for name, value in read_finite_weights(weights).items()}
        load_network(teacher, shapes, source=weights, advice=OTHER_TEACHER)


def load_teacher(options: Options, network: SwinIR | SpandrelTeacher, device: torch.device) -> Teacher:
    """The frozen teacher with its weights; a network that spandrel has read already has them."""
    path = options.path.pretrained_netTeacher
    if not isinstance(network, SwinIR):
        return Teacher(network.to(device))
    load_pretrained(network, path, advice=OTHER_TEACHER)
    return Teacher(network.to(device), compiled=compiler(options.train.compile))


def load_pretrained(network: nn.Module, path: str | None, *, advice: str = "", strict: bool = True) -> None:
    """Load weights, if there is a file to load; if not `strict`, those that fit.

    Raises:
        UserError: as `load_network`, or the file cannot be read.
    """
    if path is not None:
        weights = read_finite_weights(Path(path))
        left_out = [] if strict else misfits(network, weights)
        if left_out:
            weights = {**network.state_dict(), **{k: value for k, value in weights.items() if k not in left_out}}
            logger.warning("%s: what does not fit the student is left out: %s", path, ", ".join(left_out))
        load_network(network, weights, source=Path(path), advice=advice)


def compiler(how: bool | str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """The function that `train.compile` asks for: torch.compile, in its mode if it names one, or the identity."""
    if not how:
        return lambda function: function
    return partial(torch.compile, mode=how if isinstance(how, str) else None)


def knows_bfloat16(device: torch.device) -> bool:
    """Whether the device has bfloat16; false for a GPU that only emulates it."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
