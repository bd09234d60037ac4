"""Fetching files from a real HTTP server on this machine, with the faults that others show, and unpacking archives."""

import logging
import re
import shutil
import socket
import stat
import zipfile
from pathlib import Path

import pytest

from tests.server import BODY, HALF, Server, sha256, zip_of
from utils.download import CHUNK, extract_zip, fetch
from utils.process.errors import UserError


def fetch_body(server: Server, target: Path) -> Path:
    return fetch(server.url(), target, size=len(BODY), sha256=sha256(BODY))


def part_of(target: Path, content: bytes) -> Path:
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    return part


def only_file_in(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_full_download_then_nothing_is_asked_again(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "body.bin"
    assert fetch_body(server, target) == target
    assert target.read_bytes() == BODY
    assert fetch_body(server, target) == target
    assert server.requests == [("/body", None)]
    assert only_file_in(target.parent) == target


def test_resumes_a_part_file_and_receives_only_the_rest(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "body.bin"
    part_of(target, BODY[:HALF])
    fetch_body(server, target)
    assert target.read_bytes() == BODY
    assert server.requests == [("/body", f"bytes={HALF}-")]
    assert server.sent == len(BODY) - HALF
    assert only_file_in(tmp_path) == target


def test_server_that_ignores_range_restarts(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "body.bin"
    part_of(target, b"x" * HALF)
    server.fault = "no range"
    fetch_body(server, target)
    assert target.read_bytes() == BODY
    assert server.requests == [("/body", f"bytes={HALF}-")]
    assert server.sent == len(BODY)


def test_complete_part_file_is_used_without_a_request(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "body.bin"
    part_of(target, BODY)
    fetch_body(server, target)
    assert target.read_bytes() == BODY
    assert server.requests == []
    assert only_file_in(tmp_path) == target


def test_oversize_part_file_is_dropped(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "body.bin"
    part_of(target, BODY + b"more")
    fetch_body(server, target)
    assert target.read_bytes() == BODY
    assert server.requests == [("/body", None)]


def test_truncated_body_keeps_the_part_and_the_next_call_finishes(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "body.bin"
    server.fault = "truncated"
    with pytest.raises(
        UserError, match=rf"{server.url()}: expected {len(BODY)} bytes, found \d+, since the connection broke off$"
    ):
        fetch_body(server, target)
    part = only_file_in(tmp_path)
    kept = part.stat().st_size
    assert part.name == "body.bin.part"
    assert HALF - CHUNK < kept <= HALF
    assert part.read_bytes() == BODY[:kept]
    server.fault = ""
    fetch_body(server, target)
    assert target.read_bytes() == BODY
    assert server.requests[-1] == ("/body", f"bytes={kept}-")


@pytest.mark.parametrize("length", ["", "no length"])
def test_short_file_on_the_server(server: Server, tmp_path: Path, length: str) -> None:
    server.files["/body"] = BODY[:-1]
    server.fault = length
    with pytest.raises(UserError, match=f"{server.url()}: expected {len(BODY)} bytes, found {len(BODY) - 1}"):
        fetch_body(server, tmp_path / "body.bin")
    assert not (tmp_path / "body.bin").exists()


@pytest.mark.parametrize("length", ["", "no length"])
def test_long_file_on_the_server(server: Server, tmp_path: Path, length: str) -> None:
    server.files["/body"] = BODY + BODY
    server.fault = length
    with pytest.raises(UserError, match=f"{server.url()}: expected {len(BODY)} bytes, found"):
        fetch_body(server, tmp_path / "body.bin")
    assert list(tmp_path.iterdir()) == []


def test_part_longer_than_what_the_server_has_is_dropped(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "body.bin", BODY[:-1])
    server.files["/body"] = BODY[:HALF]
    with pytest.raises(UserError, match="found HTTP status 416"):
        fetch_body(server, tmp_path / "body.bin")
    assert list(tmp_path.iterdir()) == []


def test_wrong_hash_leaves_nothing_so_that_a_retry_can_succeed(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "body.bin"
    part_of(target, b"x" * HALF)
    expected, found = sha256(BODY), sha256(b"x" * HALF + BODY[HALF:])
    with pytest.raises(UserError, match=f"{server.url()}: .*expected sha256:{expected} but got {found}$"):
        fetch_body(server, target)
    assert list(tmp_path.iterdir()) == []
    fetch_body(server, target)
    assert target.read_bytes() == BODY


def test_existing_target_with_a_wrong_hash_is_replaced(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "body.bin"
    target.write_bytes(b"old")
    server.fault = "404"
    with pytest.raises(UserError):
        fetch_body(server, target)
    assert target.read_bytes() == b"old"
    server.fault = ""
    fetch_body(server, target)
    assert target.read_bytes() == BODY


def test_404_keeps_the_part(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "body.bin", BODY[:HALF])
    server.fault = "404"
    with pytest.raises(UserError, match=f"{server.url()}: expected the file, found HTTP status 404 Not Found$"):
        fetch_body(server, tmp_path / "body.bin")
    assert only_file_in(tmp_path).read_bytes() == BODY[:HALF]


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/body"])
def test_redirect_to_another_kind_of_address(server: Server, tmp_path: Path, location: str) -> None:
    server.fault = f"redirect {location}"
    with pytest.raises(UserError, match=f"^{server.url()}: .*, since the address, or where it leads, is neither http"):
        fetch_body(server, tmp_path / "body.bin")
    assert list(tmp_path.iterdir()) == []


def test_address_that_is_not_http(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BODY)
    with pytest.raises(UserError, match=r"is neither http nor https$"):
        fetch(source.as_uri(), tmp_path / "body.bin", size=len(BODY), sha256=sha256(BODY))
    assert only_file_in(tmp_path) == source


def test_connection_refused(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/body"
        with pytest.raises(
            UserError, match=f"^{url}: expected {len(BODY)} bytes, found 0, since there is no connection"
        ):
            fetch(url, tmp_path / "body.bin", size=len(BODY), sha256=sha256(BODY))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=rf"^{tmp_path}/file/body.bin: cannot be written \([\w ]+\)$"):
        fetch_body(server, tmp_path / "file" / "body.bin")


@pytest.mark.parametrize("fault", ["404", "redirect file:///etc/hostname", "redirect /body", "garbage length", "wrong"])
def test_a_download_that_brings_nothing_leaves_no_folder(server: Server, tmp_path: Path, fault: str) -> None:
    server.fault = fault
    expected = sha256(b"another") if fault in {"garbage length", "wrong"} else sha256(BODY)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError) as caught:
        fetch(server.url(), tmp_path / "mine" / "new" / "deep" / "body.bin", size=len(BODY), sha256=expected)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]
    assert not re.search(r"Errno|Error|object at|Exception|invalid literal", str(caught.value))


def test_a_part_that_can_be_continued_keeps_its_folder(server: Server, tmp_path: Path) -> None:
    server.fault = "truncated"
    with pytest.raises(UserError):
        fetch_body(server, tmp_path / "new" / "body.bin")
    assert only_file_in(tmp_path / "new").name == "body.bin.part"


def test_without_checksum_starts_afresh_and_logs_the_hash(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "body.bin"
    part_of(target, b"x" * HALF)
    with caplog.at_level(logging.WARNING):
        fetch(server.url(), target, size=None, sha256=None)
        fetch(server.url(), target, size=None, sha256=None)
    assert target.read_bytes() == BODY
    assert server.requests == [("/body", None)]
    assert [record.getMessage() for record in caplog.records if sha256(BODY) in record.getMessage()] == caplog.messages


def test_without_checksum_a_truncated_body_is_noticed(server: Server, tmp_path: Path) -> None:
    server.fault = "truncated"
    with pytest.raises(UserError, match="expected the whole file, found"):
        fetch(server.url(), tmp_path / "body.bin", size=None, sha256=None)
    assert not (tmp_path / "body.bin").exists()


def test_extract_zip_merges_into_standing_folders(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    folder = tmp_path / "out"
    for scale in ("X2", "X4"):
        archive.write_bytes(zip_of({"LR/": b"", f"LR/{scale}/1.png": scale.encode(), "LR/same": scale.encode()}))
        extract_zip(archive, folder)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {"LR/X2/1.png": b"X2", "LR/X4/1.png": b"X4", "LR/same": b"X4"}
    assert only_file_in(folder).name == "LR"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "a\\evil", "C:/evil", "C:evil"])
def test_extract_zip_refuses_names_that_lead_outside(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of({"good": b"good", name: b"evil"}))
    with pytest.raises(UserError, match=re.escape(f"{archive}: member {name!r}")):
        extract_zip(archive, tmp_path / "out")
    assert only_file_in(tmp_path) == archive


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_extract_zip_refuses_links_and_special_files(tmp_path: Path, kind: int) -> None:
    archive = tmp_path / "a.zip"
    member = zipfile.ZipInfo("link")
    member.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("good", "good")
        members.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match=f"{archive}: member 'link' is a link or special file"):
        extract_zip(archive, tmp_path / "out")
    assert only_file_in(tmp_path) == archive


def test_extract_zip_leaves_nothing_of_a_damaged_archive(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    whole = zip_of({"one": b"first", "two": b"second"})
    for damaged in (b"", whole[:-30], whole.replace(b"second", b"sECOND")):
        archive.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{archive}: expected an intact zip archive"):
            extract_zip(archive, tmp_path / "out")
        assert not list(tmp_path.glob("out/*"))


def test_extract_zip_refuses_more_than_the_disk_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of({"one": bytes(10**6)}))
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 1, 10**6 - 1))
    with pytest.raises(UserError, match=rf"^{archive}: holds 0\.0 GB, but {tmp_path}/out has 0\.0 GB free$"):
        extract_zip(archive, tmp_path / "out")
    assert only_file_in(tmp_path) == archive


def test_extract_zip_refuses_a_member_that_is_larger_than_it_says(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of({"one": b"x" * 5000}).replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UserError, match=f"^{archive}: expected an intact zip archive"):
        extract_zip(archive, tmp_path / "out")
    assert only_file_in(tmp_path) == archive


def test_extract_zip_of_a_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.zip: cannot be extracted"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")
