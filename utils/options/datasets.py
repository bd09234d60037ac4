"""The option file's section `datasets`. Names are KAIR's."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from utils.options.types import Count, Name, PathText, Section


class ImageSet(Section):
    """A folder of images, and what is to be restored in them."""

    name: Name
    """Name in the log; of a test set, in metrics.jsonl and of the folder of restored images, too."""
    dataset_type: Literal["sr", "dncnn", "jpeg"] = "sr"
    """What is to be restored: sr: LR images, from `dataroot_L` or made by bicubic; dncnn: Gaussian noise; jpeg: JPEG
    artefacts. Noise and artefacts are made as images are read, at scale 1, and kept in no file."""
    dataroot_H: PathText
    """Folder of HR images."""
    dataroot_L: PathText | None = None
    """Folder of LR images, paired by name with or without `x<scale>`; null: made by MATLAB-compatible bicubic. Only for
    "sr"."""
    sigma: Annotated[float, Field(ge=0, le=255)] = 25.0
    """Standard deviation of the noise, for "dncnn"."""
    quality_factor: Annotated[int, Field(ge=1, le=100)] = 40
    """JPEG quality, for "jpeg"."""


class TestSet(ImageSet):
    """A dataset for validation, used whole."""

    __test__ = False  # not a test class, whatever pytest thinks of its name


class TrainSet(ImageSet):
    """The dataset for training, of which random crops are used."""

    H_size: Count = 192
    """Height and width of the HR crop, in pixels; a multiple of the scale."""
    cache: Literal["memmap", "none"] = "memmap"
    """memmap: decode every image once into a file, of which crops are slices; none: decode for each crop."""
    dataloader_shuffle: bool = True
    """Whether each epoch goes through the images in a new random order."""
    dataloader_num_workers: Annotated[int, Field(ge=0, le=256)] = 4
    """Processes that load data, over all training processes together; each has its share, rounded up."""
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
