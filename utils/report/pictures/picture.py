"""A picture of the report: a file for papers, and the same bytes inside the page."""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BETWEEN_WORDS = re.compile(r"[^\w.+-]+")
MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        file: its name, whose suffix tells the format.
        alt: what it shows, for those who cannot see it.
        caption: the lines under it.
    """

    file: str
    content: bytes
    alt: str
    caption: Sequence[str] = ()

    @property
    def uri(self) -> str:
        """The picture as a `data:` URI, so that a page needs no other file."""
        return f"data:{MEDIA_TYPES[Path(self.file).suffix]};base64,{b64encode(self.content).decode()}"


def file_name(*words: str, suffix: str = ".png") -> str:
    """A name for a file that needs no quotes in a shell."""
    return "_".join(BETWEEN_WORDS.sub("_", word).strip("_") for word in words) + suffix


@dataclass(frozen=True)
class Strip:
    """Pictures to be compared with each other, or the reason why there are none."""

    title: str
    pictures: Sequence[Picture] = ()
    note: str = ""
