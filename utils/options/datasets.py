"""The option file's section `datasets`. Names are KAIR's."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from utils.options.types import Count, Name, PathTexts, Section


class Folders(NamedTuple):
    """A folder of HR images, and that of their LR images if they are not made."""

    H: Path
    L: Path | None


class ImageSet(Section):
    """One or several folders of images, and what is to be restored in them."""

    name: Name
    """Name in the log; of a test set, in metrics.jsonl and of the folder of restored images, too."""
    dataset_type: Literal["sr", "dncnn", "jpeg"] = "sr"
    """What is to be restored: sr: LR images, from `dataroot_L` or made by bicubic; dncnn: Gaussian noise; jpeg: JPEG
    artefacts. Noise and artefacts are made as images are read, at scale 1, and kept in no file."""
    dataroot_H: PathTexts
    """Folder of HR images, or a list of folders that are one dataset."""
    dataroot_L: PathTexts | None = None
    """Folder of LR images, paired by name with or without `x<scale>` or an affix that all share, or a list with one for
    each of `dataroot_H`; null: made by MATLAB-compatible bicubic. Only for "sr"."""
    sigma: Annotated[float, Field(ge=0, le=255)] = 25.0
    """Standard deviation of the noise, for "dncnn"."""
    quality_factor: Annotated[int, Field(ge=1, le=100)] = 40
    """JPEG quality, for "jpeg"."""

    @property
    def folders(self) -> list[Folders]:
        """The folders of images in the order of the file."""
        folders_H = paths(self.dataroot_H)
        folders_L = [None] * len(folders_H) if self.dataroot_L is None else paths(self.dataroot_L)
        return [Folders(*pair) for pair in zip(folders_H, folders_L, strict=True)]

    @property
    def place(self) -> str:
        """Where the HR images are, for people to read."""
        return ", ".join(map(str, paths(self.dataroot_H)))

    @field_validator("dataroot_L")
    @classmethod
    def _check_as_many(cls, dataroot_L: str | list[str] | None, info: ValidationInfo) -> str | list[str] | None:
        if dataroot_L is not None and "dataroot_H" in info.data:  # which is missing there if it is wrong
            count, expected = len(paths(dataroot_L)), len(paths(info.data["dataroot_H"]))
            if count != expected:
                raise ValueError(f"should name as many folders as dataroot_H, {expected}, but names {count}")
        return dataroot_L


def paths(root: str | list[str]) -> list[Path]:
    """The folders of one of the two keys."""
    return [Path(root)] if isinstance(root, str) else list(map(Path, root))


class TestSet(ImageSet):
    """A dataset for validation, used whole."""

    __test__ = False  # not a test class, whatever pytest thinks of its name


class TrainSet(ImageSet):
    """The dataset for training, of which random crops are used."""

    H_size: Count = 192
    """Height and width of the HR crop, in pixels; a multiple of the scale."""
    cache: Literal["auto", "device", "memmap", "none"] = "auto"
    """memmap: decode every image once into a file, of which crops are slices; device, for
    dataset_type "sr": copy that file into the memory of the device, and gather batches there, without loading
    processes; auto: device on a GPU that has twice the memory free, else memmap; none: decode for each crop. The crops
    are the same, but for the rounding of zoomed inputs that are halved on a GPU."""
    dataloader_shuffle: bool = True
    """Whether each epoch goes through the images in a new random order."""
    dataloader_num_workers: Annotated[int, Field(ge=0, le=256)] = 4
    """Processes that load data, over all training processes together; each has its share, rounded up, and at most
    one for each of its cores."""
    dataloader_batch_size: Annotated[int, Field(gt=0, le=65_536)] = 32
    """Crops of one iteration, over all training processes together."""


def test_sets_by_pattern(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema which other keys than `train` there may be."""
    schema["patternProperties"] = {"^test": schema["additionalProperties"]}
    schema["additionalProperties"] = False


class Datasets(Section):
    """The training set, and any number of test sets whose keys begin with `test`; one that is null is left out."""

    model_config = ConfigDict(extra="allow", json_schema_extra=test_sets_by_pattern)
    __pydantic_extra__: dict[str, TestSet]

    train: TrainSet
    """The training set."""

    def by_key(self) -> dict[str, ImageSet]:
        """All sets by their keys in the file."""
        return {"train": self.train, **self.__pydantic_extra__}

    @property
    def tests(self) -> list[TestSet]:
        """The test sets, in the order of the file."""
        return list(self.__pydantic_extra__.values())

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        unknown = [key for key in raw if key != "train" and not key.startswith("test")]
        if unknown:
            (nearest,) = difflib.get_close_matches(unknown[0], ["train", "test"], n=1, cutoff=0.0)
            raise ValueError(
                f"unknown key {unknown[0]!r}; did you mean {nearest!r}? Test sets have keys that begin with 'test'"
            )
        return {key: value for key, value in raw.items() if key == "train" or value is not None}

    @model_validator(mode="after")
    def _check_names(self) -> "Datasets":
        names = [test.name for test in self.tests]
        if len(set(names)) < len(names):
            raise ValueError(f"two test sets have the same name ({', '.join(names)})")
        return self
