"""The option file's schema. Names are KAIR's; every key is checked, none is guessed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PrivateAttr, model_validator

from utils.options.datasets import Datasets
from utils.options.networks import Network, SpandrelNetwork
from utils.options.types import Channels, Count, LossFunction, Name, PathText, Rate, RSTBPair, Scale, Section, Whole
from utils.process.files import write_whole

NOTABLE = 0.05  # share of the start in an average


class PathOptions(Section):
    """Folders and files."""

    root: PathText = "superresolution"
    """Folder of the task folders."""
    pretrained_netG: PathText | None = None
    """Weights that the student starts from; ignored once the task has a checkpoint of its own."""
    pretrained_netE: PathText | None = None
    """Weights that the student's moving average starts from; without them, those of `pretrained_netG`."""
    pretrained_netTeacher: PathText | None = None
    """Weights of the frozen teacher."""
    cache: PathText | None = None
    """Folder for files derived from the datasets; without it, beside each dataset."""

    @property
    def cache_folder(self) -> Path | None:
        """`cache` as a path."""
        return None if self.cache is None else Path(self.cache)


class TrainOptions(Section):
    """Losses, optimizer, schedule and intervals; iterations are optimizer steps."""

    distillation_type: Literal["none", "response", "feature"] = "none"
    """none: l_g_L1; response: + l_g_distill; feature: + l_g_feature."""
    teacher: Literal["online", "stored"] = "online"
    """online: the teacher restores each LR crop. stored: it restores each whole training image once, and crops of that,
    8-bit, take the student's windows and flips: as fast as without a teacher. The two differ: a stored teacher sees
    beyond the crop, and sees no flipped images. Features and zoomed inputs are asked for online in either case."""
    teacher_ensemble: bool = False
    """Store the mean of the teacher's outputs for the eight flips and rotations, a better teacher."""
    G_lossfn_type: LossFunction = "l1"
    """Loss between the student's output and the ground truth."""
    G_lossfn_weight: NonNegativeFloat = 1.0
    """Weight of l_g_L1."""
    G_charbonnier_eps: PositiveFloat = 1e-9
    """The eps of every "charbonnier", sqrt(difference^2 + eps); as in KAIR, it is not squared."""
    distill_lossfn_type: LossFunction = "l1"
    """Loss between the student's output and the teacher's."""
    distill_lossfn_weight: NonNegativeFloat = 1.0
    """Weight of l_g_distill."""
    start_distill_iter: Whole = 0
    """Iterations before l_g_distill joins."""
    end_distill_iter: Count | None = None
    """Iteration by which the weight of l_g_distill has fallen to 0, linearly since it joined; null: it stays."""
    feature_lossfn_type: LossFunction = "l1"
    """Loss between the student's RSTB features and the teacher's features, one of them translated."""
    feature_lossfn_weight: NonNegativeFloat = 1.0
    """Weight of l_g_feature, the sum over the pairs."""
    start_feature_iter: Whole = 0
    """Iterations before l_g_feature joins."""
    end_feature_iter: Count | None = None
    """Iteration by which the weight of l_g_feature has fallen to 0, linearly since it joined; null: it stays."""
    feature_pairs: Annotated[list[RSTBPair], Field(min_length=1)] | None = [[0, 0], [1, 1], [2, 2], [3, 3]]
    """Which features are compared, counted from 0: [student's RSTB, teacher's RSTB or entry of `netTeacher.features`].
    null: by relative depth, each RSTB of the student with that of the teacher's features which lies as deep, counted in
    features, or the next deeper one."""
    feature_translator: Literal["teacher", "student"] = "teacher"
    """Whose features a learnt linear map makes as wide as the other's. teacher: the published design, whose loss can be
    met by maps that forget the teacher; student: the teacher's features are normalised over their channels and compared
    as they are."""
    attention_lossfn_weight: NonNegativeFloat = 0.0
    """Weight of l_g_attention (Zagoruyko and Komodakis, ICLR 2017: 1000), the sum over the pairs; for type feature."""
    affinity_lossfn_weight: NonNegativeFloat = 0.0
    """Weight of l_g_affinity (FAKD, He et al., ICIP 2020), as l_g_attention; takes 42 MB a pair and 48x48 LR crop."""
    frequency_lossfn_weight: NonNegativeFloat = 0.0
    """Weight of l_g_frequency, L1 between Fourier transforms of images (Cho et al., ICCV 2021, whose weight is 0.1)."""
    frequency_target: Literal["H", "teacher"] = "H"
    """What the student's output is compared with by l_g_frequency: the ground truth, or the teacher's output."""
    balance_losses: bool = False
    """Scale every other loss, in each iteration, to the size of l_g_L1 before they are weighted."""
    zoomed_inputs: bool = False
    """Add to each crop a second input of which only the teacher tells what it should become (after DUKD,
    arXiv:2309.14162): an equally large window of the HR image, or one twice as large of the LR image, halved. Doubles
    the batch."""
    amp: Literal["no", "bf16", "auto"] = "no"
    """Precision of student and teacher in training: float32, or bfloat16 where autocast allows it; auto: bf16 on GPUs
    only. Losses, weights and validation stay float32, and so does a teacher of which spandrel says that it does not
    support bfloat16; float16 is not offered, since SwinIR's features overflow it."""
    matmul_precision: Literal["highest", "high"] = "high"
    """Matrix products of float32 on GPUs. highest: exact; high: rounded to TF32, as convolutions are there."""
    compile: bool | Literal["auto", "reduce-overhead"] = False
    """Compile the student and an online SwinIR teacher with torch.compile, which takes some minutes at the start; auto:
    on GPUs only; reduce-overhead: in its mode of this name, whose CUDA graphs launch many kernels at once. Not yet
    measured on any GPU."""
    G_param_strict: bool = True
    """Whether `path.pretrained_netG` must be exactly the student's. false: what fits by name and shape is loaded, and
    the log names the rest; so x4 starts from weights of x2, all but the upsampler."""
    E_param_strict: bool = True
    """The same of `path.pretrained_netE`."""
    E_decay: Rate = 0.999
    """Decay of the student's exponential moving average, which is over about the last 1/(1-decay) iterations; 0: the
    average is the student itself."""
    G_optimizer_type: Literal["adam", "adamw"] = "adam"
    """Optimizer: Adam, or AdamW, which differs where `G_optimizer_wd` is not 0."""
    G_optimizer_lr: PositiveFloat = 2e-4
    """Learning rate at the start."""
    G_optimizer_betas: Annotated[list[Rate], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    """Adam's decay rates."""
    G_optimizer_wd: NonNegativeFloat = 0.0
    """Weight decay."""
    G_optimizer_clipgrad: PositiveFloat | None = None
    """Largest norm of the gradient of student and translators together; null: no limit."""
    G_scheduler_type: Literal["MultiStepLR", "CosineAnnealingLR"] = "MultiStepLR"
    """Learning-rate schedule: steps at the milestones, or half a cosine down to 0 after `total_iter`."""
    G_scheduler_milestones: list[Count] = []
    """Iterations from which the learning rate is multiplied once more by gamma."""
    G_scheduler_gamma: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Factor at each milestone."""
    warmup_iter: Whole = 0
    """Iterations over which the learning rate rises linearly from 0."""
    total_iter: Count
    """Iterations after which training stops."""
    checkpoint_test: Count = 5000
    """Iterations between validations."""
    checkpoint_save: Count = 5000
    """Iterations between checkpoints."""
    checkpoint_keep_last: Count | None = None
    """How many of the newest checkpoints stay; older ones are deleted. null: all stay. With 2 or more, a damaged
    checkpoint costs one interval."""
    checkpoint_keep_best: Literal["psnr", "ssim", "psnr_y", "ssim_y"] | None = None
    """Figure by which E's validation on the first test set finds the best checkpoint, which is then never deleted; an
    iteration that is the best so far is saved, also between the intervals."""
    checkpoint_print: Count = 200
    """Iterations between log lines."""
    gradient_accumulation_steps: Count = 1
    """Parts of a process's batch whose gradients are added up one after another: less memory for the same iteration."""
    max_bad_steps: Whole = 10
    """Iterations in a row that may be skipped because loss or gradient is infinite or NaN; one more ends the run."""
    data_timeout: Count = 600
    """Seconds after which the run ends, and saves its last iteration, if no further batch has come."""
    manual_seed: Whole = 0
    """Seed of weights, data order, crops and stochastic depth."""

    def start_in_average(self, iterations: int) -> float:
        """The share of the start in the averaged weights after some iterations; 0 where it is too small to matter."""
        share = self.E_decay**iterations
        return share if share > NOTABLE else 0.0


class Options(Section):
    """One experiment."""

    task: Name
    """Name of the experiment and of its folder below `path.root`."""
    model: Literal["plain"] = "plain"
    """Training step: `models.model_plain.ModelPlain`."""
    scale: Scale
    """Super-resolution factor; 1 for denoising and JPEG artefacts."""
    n_channels: Channels = 3
    """1: grayscale, 3: RGB."""
    path: PathOptions = PathOptions()
    """Folders and files."""
    datasets: Datasets
    """Training and test sets."""
    netG: Network
    """The student, which is the network that is trained."""
    netTeacher: Network | SpandrelNetwork = Field(default_factory=Network, discriminator="net_type")
    """The teacher, a SwinIR (keys left out are those of SwinIR-M for `scale`) or a network that spandrel reads."""
    train: TrainOptions
    """Losses, optimizer, schedule and intervals."""

    _notes: tuple[str, ...] = PrivateAttr(())

    @classmethod
    def from_file(cls, raw: dict[str, Any], notes: Sequence[str]) -> "Options":
        """Check what a file held, and keep what there is to say about its keys.

        Raises:
            ValidationError: a key or value is not valid.
        """
        options = cls.model_validate(raw)
        options._notes = tuple(notes)
        return options

    @property
    def notes(self) -> tuple[str, ...]:
        """What became of the file's keys that are KAIR's and not ours, in one line each."""
        return self._notes

    @property
    def task_folder(self) -> Path:
        """Where everything that this experiment writes goes."""
        return Path(self.path.root) / self.task

    @property
    def models_folder(self) -> Path:
        """Where its checkpoints go."""
        return self.task_folder / "models"

    def for_device(self, kind: str) -> "Options":
        """The options with each "auto" replaced by what suits a device: "cuda" or "cpu"."""
        cuda = kind == "cuda"
        suitable: dict[str, Any] = {"amp": "bf16" if cuda else "no", "compile": cuda}
        chosen = {key: value for key, value in suitable.items() if getattr(self.train, key) == "auto"}
        return self.model_copy(update={"train": self.train.model_copy(update=chosen)})

    @model_validator(mode="before")
    @classmethod
    def _complete_networks(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        passed = {
            key: raw[source] for key, source in (("upscale", "scale"), ("in_chans", "n_channels")) if source in raw
        }
        networks = {key: raw[key] for key in ("netG", "netTeacher") if isinstance(raw.get(key), dict)}
        if "features" in networks.get("netTeacher", {}):  # which only spandrel's networks have to name
            networks["netTeacher"] = {"net_type": "spandrel"} | networks["netTeacher"]
        swinirs = {key: network for key, network in networks.items() if network.get("net_type") != "spandrel"}
        return raw | networks | {key: {"net_type": "swinir"} | passed | network for key, network in swinirs.items()}

    @model_validator(mode="after")
    def _check_scale_and_channels(self) -> "Options":
        for key, network in (("netG", self.netG), ("netTeacher", self.netTeacher)):
            given = network.arguments()
            if given.get("upscale", self.scale) != self.scale:
                raise ValueError(f"{key}.upscale: {given['upscale']} does not fit scale {self.scale}")
            if given.get("in_chans", self.n_channels) != self.n_channels:
                raise ValueError(f"{key}.in_chans: {given['in_chans']} does not fit n_channels {self.n_channels}")
        if self.datasets.train.H_size % self.scale:
            raise ValueError(
                f"datasets.train.H_size: {self.datasets.train.H_size} is not a multiple of scale {self.scale}"
            )
        return self

    @model_validator(mode="after")
    def _check_degradations(self) -> "Options":
        for key, dataset in self.datasets.by_key().items():
            kind, folder_L = dataset.dataset_type, dataset.dataroot_L
            if kind != "sr" and self.scale != 1:
                raise ValueError(f"datasets.{key}.dataset_type: {kind!r} needs scale 1, but scale is {self.scale}")
            if kind != "sr" and folder_L is not None:
                raise ValueError(f"datasets.{key}.dataroot_L: {kind!r} degrades images of dataroot_H; set it to null")
            if kind == "sr" and self.scale == 1 and folder_L is None:
                raise ValueError(f"datasets.{key}.dataroot_L: missing; at scale 1, bicubic makes no LR images")
        if self.datasets.train.cache == "device" and self.datasets.train.dataset_type != "sr":
            raise ValueError("datasets.train.cache: 'device' needs images that stay the same, of dataset_type 'sr'")
        return self

    @model_validator(mode="after")
    def _check_teacher_and_judge(self) -> "Options":
        if self.train.teacher == "stored" and self.datasets.train.dataset_type != "sr":
            raise ValueError("train.teacher: 'stored' needs LR images that stay the same, of dataset_type 'sr'")
        if self.train.teacher_ensemble and self.train.teacher == "online":
            raise ValueError("train.teacher_ensemble: needs train.teacher 'stored'")
        if self.train.distillation_type != "none" and self.path.pretrained_netTeacher is None:
            raise ValueError(
                f"path.pretrained_netTeacher: missing, but distillation_type is {self.train.distillation_type!r}"
            )
        if isinstance(self.netTeacher, SpandrelNetwork) and self.path.pretrained_netTeacher is None:
            raise ValueError("path.pretrained_netTeacher: missing, but netTeacher.net_type is 'spandrel'")
        if self.train.checkpoint_keep_best is not None and not self.datasets.tests:
            raise ValueError("train.checkpoint_keep_best: there is no test set in datasets to judge by")
        return self

    @model_validator(mode="after")
    def _check_losses(self) -> "Options":
        train = self.train
        ends = ((train.start_distill_iter, train.end_distill_iter), (train.start_feature_iter, train.end_feature_iter))
        for name, (start, end) in zip(("distill", "feature"), ends, strict=True):
            if end is not None and end < start + 2:
                raise ValueError(
                    f"train.end_{name}_iter: {end} leaves no iteration after train.start_{name}_iter ({start})"
                )
        if train.balance_losses and train.gradient_accumulation_steps > 1:
            raise ValueError("train.balance_losses: needs whole batches, but gradient_accumulation_steps is above 1")
        if train.zoomed_inputs and train.distillation_type == "none":
            raise ValueError("train.zoomed_inputs: only a teacher can label them, but distillation_type is 'none'")
        if train.zoomed_inputs and self.scale == 1:
            raise ValueError("train.zoomed_inputs: images of scale 1 have no HR image to zoom into")
        if train.distillation_type != "feature" and (train.attention_lossfn_weight or train.affinity_lossfn_weight):
            raise ValueError(
                "train: attention_lossfn_weight and affinity_lossfn_weight need distillation_type 'feature'"
            )
        if train.frequency_target == "teacher" and train.distillation_type == "none":
            raise ValueError("train.frequency_target: there is no teacher, since distillation_type is 'none'")
        return self

    def renamed(self, task: str) -> "Options":
        """The same experiment under another name.

        Raises:
            ValidationError: it is no name for a folder.
        """
        return Options.from_file(self.model_dump(exclude_unset=True) | {"task": task}, self.notes)

    def save(self, path: Path) -> None:
        """Write what was set, overrides included, as JSON that `load` reads back to the same options."""
        write_whole(path, (json.dumps(self.model_dump(exclude_unset=True), indent=2) + "\n").encode())
