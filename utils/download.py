"""Verified, resumable downloads and safe extraction; an incomplete file never has its final name."""

import logging
import lzma
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import pooch
import requests
from tqdm import tqdm

from utils.process.errors import UserError

logger = logging.getLogger(__name__)

CHUNK = 64 * 1024
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
FAILURES = {
    requests.exceptions.InvalidSchema: "the address, or where it leads, is neither http nor https",
    requests.exceptions.InvalidURL: "the address is not valid",
    requests.exceptions.TooManyRedirects: "the server leads in a circle",
    requests.exceptions.SSLError: "the server's certificate is not valid",
    requests.exceptions.Timeout: "the server does not answer",
    requests.exceptions.ChunkedEncodingError: "the connection broke off",
    requests.exceptions.ConnectionError: "there is no connection to the server",
}  # the more special kinds first


def fetch(url: str, target: Path, *, size: int | None, sha256: str | None) -> Path:
    """Download `url` to `target` unless it is already there, continuing `<target>.part` where an earlier run broke off.

    A few published files come with no checksum: `size` and `sha256` are None for them, such a file is never resumed,
    and its hash is logged instead of verified.

    Raises:
        UserError: the transfer failed, or what arrived has another size or hash; `target` is then as it was before.
    """
    part = target.with_name(target.name + ".part")

    def download(url: str, output_file: str, _: object) -> None:
        _transfer(url, part, size=size)
        part.replace(output_file)

    pooch.get_logger().setLevel(logging.WARNING)
    known = target.exists()
    known_hash = sha256 and f"sha256:{sha256}"
    try:
        with folder_for(target.parent):
            pooch.retrieve(url, known_hash=known_hash, fname=target.name, path=target.parent, downloader=download)
    except ValueError as error:  # pooch's, about the hash; a sentence of advice follows
        raise UserError(f"{url}: {str(error).partition('. ')[0]}") from error
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror})") from error
    if sha256 is None and not known:
        logger.warning("%s: no checksum is published; the SHA-256 is %s", target, pooch.file_hash(target))
    return target


@contextmanager
def folder_for(folder: Path) -> Iterator[None]:
    """Make a folder for what the block writes; if that fails, the folders made for it go, if they are empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in made:
            with suppress(OSError):  # not empty: a part is kept, or another download is at work
                path.rmdir()
        raise


def _transfer(url: str, part: Path, *, size: int | None) -> None:
    """Bring `part` to `size` bytes, asking only for those that it lacks; a server may send the whole file anyway."""
    have = part.stat().st_size if part.exists() else 0
    if size is None or have > size:
        part.unlink(missing_ok=True)
        have = 0
    if have == size:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    expected = "the whole file" if size is None else f"{size} bytes"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            _receive(response, part, url=url, have=have, size=size)
    except requests.RequestException as error:
        received = part.stat().st_size if part.exists() else 0
        reason = next((text for kind, text in FAILURES.items() if isinstance(error, kind)), "the transfer failed")
        raise UserError(f"{url}: expected {expected}, found {received}, since {reason}") from error
    received = part.stat().st_size
    if size is not None and received != size:
        if received > size:
            part.unlink()
        raise UserError(f"{url}: expected {expected}, found {'at least ' if received > size else ''}{received}")


def _receive(response: requests.Response, part: Path, *, url: str, have: int, size: int | None) -> None:
    """Write the body to `part`: after the `have` bytes it holds if the server continues there, else from the start."""
    if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink(missing_ok=True)
        raise UserError(f"{url}: expected the file, found HTTP status {response.status_code} {response.reason}")
    start = have if response.status_code == requests.codes.partial_content else 0
    announced = response.headers.get("Content-Length", "")
    if size is not None and announced.isdecimal() and start + int(announced) != size:
        raise UserError(f"{url}: expected {size} bytes, found {start + int(announced)} on the server")
    with (
        part.open("ab" if start else "wb") as file,
        tqdm(
            total=size, initial=start, desc=part.stem, unit="B", unit_scale=True, delay=1, leave=False, disable=None
        ) as bar,
    ):
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
            if size is not None and file.tell() > size:
                break


def extract_zip(archive: Path, folder: Path) -> None:
    """Extract `archive` into `folder`; its files appear there only once all of them are out and intact.

    Raises:
        UserError: a member would land outside `folder` or is no plain file or folder, the archive is damaged, or the
            disk is too small for what it holds.
    """
    try:
        with zipfile.ZipFile(archive) as members, folder_for(folder):
            for member in members.infolist():
                _refuse_unsafe(archive, member)
            needed, free = sum(member.file_size for member in members.infolist()), shutil.disk_usage(folder).free
            if needed > free:
                raise UserError(f"{archive}: holds {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free")
            with tempfile.TemporaryDirectory(dir=folder, prefix=f".{archive.stem}-") as temporary:
                members.extractall(temporary)
                _move_into(Path(temporary), folder)
    # RuntimeError: encrypted or of an unknown compression; ValueError: names that are no text
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        raise UserError(f"{archive}: expected an intact zip archive, found a damaged or encrypted one") from error
    except OSError as error:
        raise UserError(f"{archive}: cannot be extracted to {folder} ({error.strerror})") from error


def _refuse_unsafe(archive: Path, member: zipfile.ZipInfo) -> None:
    """Raise UserError unless the member's names stay inside the folder on every system and it is a plain entry."""
    for name in (member.filename, member.orig_filename):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name):
            raise UserError(f"{archive}: member {name!r} would be extracted outside the folder")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UserError(f"{archive}: member {member.filename!r} is a link or special file, expected files and folders")


def _move_into(source: Path, folder: Path) -> None:
    """Move every entry of `source` to `folder`, descending only where a folder of that name already stands."""
    for item in source.iterdir():
        target = folder / item.name
        if item.is_dir() and target.is_dir():
            _move_into(item, target)
        else:
            item.replace(target)
