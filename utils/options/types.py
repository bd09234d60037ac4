"""What the sections of an option file have in common: how they are checked, and the types of their values."""

import json
import re
import reprlib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def not_a_boolean(value: Any) -> Any:
    """Keep `true` from being taken for 1, as Python would."""
    if isinstance(value, bool):
        raise ValueError(f"should be a number, but is {json.dumps(value)}")
    return value


def without_control_characters(value: str) -> str:
    """Refuse what no file system takes, and what would break the lines of the log."""
    if any(ord(character) < 32 for character in value):
        escaped = " (JSON wants / or \\\\ for each \\)" if ESCAPED.search(value) else ""
        raise ValueError(f"should be a path without control characters, but is {json.dumps(value)}{escaped}")
    return value


def one_path_or_several(value: Any) -> Any:
    """Refuse what is neither, in one sentence, where a union would speak of each of its types."""
    paths = value if isinstance(value, list) else [value]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"should be a path or a list of paths, but is {reprlib.repr(value)}")
    if len(set(paths)) < len(paths):
        raise ValueError("names a folder twice")
    for path in paths:
        without_control_characters(path)
    return value


ESCAPED = re.compile(r"[\b\t\n\f\r]")  # what becomes of the backslashes of D:\train and D:\bsd
LARGEST = 10**9  # no count in an option file comes near it, and what is computed from counts stays in 64 bits
Count = Annotated[int, Field(gt=0, le=LARGEST)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(without_control_characters)]
PathTexts = Annotated[PathText | Annotated[list[PathText], Field(min_length=1)], BeforeValidator(one_path_or_several)]
Channels = Annotated[Literal[1, 3], BeforeValidator(not_a_boolean)]
Scale = Annotated[Literal[1, 2, 3, 4, 8], BeforeValidator(not_a_boolean)]
Rate = Annotated[float, Field(ge=0, lt=1)]
PerRSTB = Annotated[list[Count], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=100)]  # of a folder: no slashes, no leading dots
LossFunction = Literal["l1", "l2", "charbonnier"]  # models/distillation/losses.py has them
RSTBPair = Annotated[list[Whole], Field(min_length=2, max_length=2)]


class Section(BaseModel):
    """A part of the option file: unknown keys are errors, values keep their JSON type, nothing changes afterwards."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
