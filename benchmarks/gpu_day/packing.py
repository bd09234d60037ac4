"""Phase 5: the run in a few small files, from which another machine goes on.

`run.json` names the parts with their SHA-256; `run.tar.gz.0` and so on are one archive, cut. The masks, which are most
of a checkpoint's bytes and all alike, all but vanish in it.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.gpu_day.phases import Check, Day, Row
from utils.options.load import load
from utils.process.errors import UserError
from utils.process.files import write_whole
from utils.runs import checkpoints
from utils.runs.checkpoints import checksum

PART_BYTES = 15 * 2**20
MOST_PARTS = 6  # beside run.json and results.json
MANIFEST = "run.json"


def packing(day: Day, _: float) -> Iterator[Check]:
    """The only check of this phase."""
    yield "packing", partial(packed, day)


def packed(day: Day) -> Row:
    """Pack the newest checkpoint and the records of the day's run."""
    files = pack(day.work / "runs" / load(day.options).task, day.out)
    return {"files": {path.name: path.stat().st_size for path in files}}


def pack(task: Path, out: Path) -> list[Path]:
    """Write a task, with its newest intact checkpoint alone, into `out`.

    Raises:
        UserError: there is no checkpoint, or the files would be too many.
    """
    step = checkpoints.newest(task / "models")
    if step is None:
        raise UserError(f"{task / 'models'}: there is no checkpoint to pack")
    members = [path for path in sorted(task.iterdir()) if path.is_file()]
    members += checkpoints.members(task / "models")[step]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=6) as file:
        for path in members:
            file.add(path, arcname=path.relative_to(task.parent).as_posix())
    data = archive.getvalue()
    parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    if len(parts) > MOST_PARTS:
        raise UserError(f"{task}: {len(data) / 2**20:.0f} MiB are more than {MOST_PARTS} parts of 15 MiB")
    contents = {f"run.tar.gz.{index}": part for index, part in enumerate(parts)}
    manifest = {"task": task.name, "iter": step, "sha256": {name: checksum(part) for name, part in contents.items()}}
    for name, content in {**contents, MANIFEST: json.dumps(manifest, indent=1).encode()}.items():
        write_whole(out / name, content)
    return [out / name for name in (*contents, MANIFEST)]


def unpack(files: Sequence[Path], root: Path) -> Path:
    """Put a packed task below `root`; returns its folder.

    Raises:
        UserError: a file is missing or is not what was packed.
    """
    by_name = {path.name: path for path in files}
    if MANIFEST not in by_name:
        raise UserError(f"--resume: {MANIFEST} is not among the files")
    manifest = json.loads(by_name[MANIFEST].read_bytes())
    data = b""
    for name, expected in manifest["sha256"].items():
        if name not in by_name:
            raise UserError(f"--resume: {name} is not among the files")
        part = by_name[name].read_bytes()
        if checksum(part) != expected:
            raise UserError(f"{by_name[name]}: damaged, its checksum is not that of {MANIFEST}")
        data += part
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as file:
        file.extractall(root, filter="data")
    return root / str(manifest["task"])
