"""What the sections of an option file have in common: how they are checked, and the types of their values."""

import json
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
        raise ValueError(f"should be a path without control characters, but is {json.dumps(value)}")
    return value


LARGEST = 10**9  # no count in an option file comes near it, and what is computed from counts stays in 64 bits
Count = Annotated[int, Field(gt=0, le=LARGEST)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
PathText = Annotated[str, Field(min_length=1), AfterValidator(without_control_characters)]
Channels = Annotated[Literal[1, 3], BeforeValidator(not_a_boolean)]
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
