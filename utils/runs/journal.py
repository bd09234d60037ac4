"""Figures of a run that programs can read: one JSON object a line."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.process.errors import UserError
from utils.process.files import write_whole


class Journal:
    """A file of JSON objects, one a line, each of them with the iteration (`iter`) that it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, figures: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            UserError: the disk is full or cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error

    def read(self) -> list[dict[str, Any]]:
        """All lines; none where there is no file. A last line that was cut off is left out.

        Raises:
            UserError: another line is damaged.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [self._parse(line, number) for number, line in enumerate(lines, start=1)]

    def _parse(self, line: str, number: int) -> dict[str, Any]:
        try:
            return json.loads(line)
        except ValueError as error:
            raise UserError(f"{self.path}: line {number} is damaged; without that line the task goes on") from error

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Forget the other lines: those of iterations that a resumed run is about to repeat."""
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in self.read() if wanted(line)).encode())
