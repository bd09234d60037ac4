"""Downloads against a real HTTP server on this machine, with the faults that real ones show."""

import dataclasses
import hashlib
import http.server
import json
import logging
import re
import shutil
import socket
import stat
import sys
import threading
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

import data.download
import main_test_swinir
import model_zoo.download
from models.network_swinir import SwinIR
from utils.download import CHUNK, extract_zip, fetch
from utils.errors import UserError
from utils.images import read_image, write_image

BODY = np.random.default_rng(0).bytes(4 * CHUNK + 123)
HALF = len(BODY) // 2
MANIFEST = Path(__file__).parents[2] / "shared" / "manifest.json"


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `fault` chooses how it misbehaves; `requests` records (path, Range) and `sent` the body bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/body": BODY}
        self.fault = ""
        self.requests: list[tuple[str, str | None]] = []
        self.sent = 0

    def url(self, path: str = "/body") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    """GET with Range, and the faults of `Server.fault`."""

    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        fault = self.server.fault
        body = self.server.files.get(self.path)
        if body is None or fault == "404":
            self.send_error(404)
            return
        if fault.startswith("redirect "):
            self.send_response(302)
            self.send_header("Location", fault.removeprefix("redirect "))
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and fault != "no range" else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if fault != "no length":
            self.send_header("Content-Length", "many" if fault == "garbage length" else str(len(body) - start))
        self.end_headers()
        rest = body[start : HALF if fault == "truncated" else None]
        self.server.sent += len(rest)  # before the client, in its thread, can have read it all
        self.wfile.write(rest)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


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


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


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


def png(tmp_path: Path, seed: int) -> bytes:
    path = tmp_path / "one.png"
    write_image(path, np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    content = path.read_bytes()
    path.unlink()
    return content


def publish(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: dict[str, list[dict]]) -> None:
    """Put the files of `sets` on the server, their entries in the table of `data.download`, and work in `tmp_path`."""
    table: dict[str, list[dict]] = {}
    for name, entries in sets.items():
        for entry in entries:
            body = entry.pop("body")
            server.files[f"/{entry['path']}"] = body
            found = {"url": server.url(f"/{entry['path']}"), "size": len(body), "sha256": sha256(body)}
            table.setdefault(name, []).append(entry | found)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    monkeypatch.setattr(data.download, "TABLE", path)
    monkeypatch.chdir(tmp_path)


def small_div2k(images: int) -> list[dict]:
    """The archives of a DIV2K with `images` HR images and two scales."""
    folders = {"DIV2K_train_HR": "", "DIV2K_train_LR_bicubic/X2": "x2", "DIV2K_train_LR_bicubic/X4": "x4"}
    return [
        {
            "path": folder.replace("/", "_") + ".zip",
            "archive": "zip",
            "folder": folder,
            "images": images,
            "body": zip_of({f"{folder}/{number:04}{suffix}.png": b"pixels" for number in (1, 2)}),
        }
        for folder, suffix in folders.items()
    ]


def test_archives_of_a_training_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(server, tmp_path, monkeypatch, {"DIV2K": small_div2k(images=2)})
    data.download.main(["DIV2K"])
    root = tmp_path / "trainsets" / "DIV2K"
    expected = ["DIV2K_train_HR/0001.png", "DIV2K_train_HR/0002.png"]
    expected += ["DIV2K_train_LR_bicubic/X4/0001x4.png", "DIV2K_train_LR_bicubic/X4/0002x4.png"]
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) == expected
    assert capsys.readouterr().out == "DIV2K: complete in trainsets/DIV2K\n"

    asked = len(server.requests)
    data.download.main(["DIV2K", "--scale", "4"])
    assert len(server.requests) == asked
    (root / "DIV2K_train_HR" / "0002.png").unlink()
    data.download.main(["DIV2K", "--scale", "2"])
    assert [path for path, _ in server.requests[asked:]] == ["/DIV2K_train_HR.zip", "/DIV2K_train_LR_bicubic_X2.zip"]
    assert len(list(root.rglob("*.png"))) == 6
    assert not list(root.glob("*.zip"))


def test_archive_that_holds_too_few_images(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(server, tmp_path, monkeypatch, {"DIV2K": small_div2k(images=3)})
    with pytest.raises(SystemExit, match="2"):
        data.download.main(["DIV2K"])
    assert "DIV2K_train_HR: expected 3 images from" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../evil.png", "/tmp/evil.png"])
def test_an_archive_that_reaches_outside_is_refused(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (hr, *others) = small_div2k(images=2)
    publish(server, tmp_path, monkeypatch, {"DIV2K": [hr | {"body": zip_of({name: b"evil"})}, *others]})
    with pytest.raises(SystemExit, match="2"):
        data.download.main(["DIV2K"])
    assert f"DIV2K_train_HR.zip: member {name!r} would be extracted outside the folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*.*")] == ["table.json", "DIV2K_train_HR.zip"]


def test_scale_that_a_training_set_lacks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(server, tmp_path, monkeypatch, {"DIV2K": small_div2k(images=2)})
    with pytest.raises(SystemExit, match="2"):
        data.download.main(["DIV2K", "--scale", "8"])
    assert "no LR images of scale 8 are published, the choices are 2, 4" in capsys.readouterr().err
    assert server.requests == []


def test_loose_files_and_the_lr_images_that_are_not_published(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {
        "Set14": [{"path": f"Set14/HR/{seed}.png", "body": png(tmp_path, seed)} for seed in range(3)],
        "Set5": [
            {"path": "Set5/HR/baby.png", "body": png(tmp_path, 3)},
            {"path": "Set5/LR_bicubic/X4/babyx4.png", "body": b"published"},
        ],
        "BSD400": [{"path": "BSD400/1.jpg", "body": b"jpeg"}],
    }
    publish(server, tmp_path, monkeypatch, sets)
    data.download.main(["Set14", "Set5", "BSD400"])
    for seed in range(3):
        assert read_image(tmp_path / f"testsets/Set14/LR_bicubic/X4/{seed}x4.png", channels=3).shape == (4, 6, 3)
    assert (tmp_path / "testsets/Set5/LR_bicubic/X4/babyx4.png").read_bytes() == b"published"
    assert (tmp_path / "trainsets/BSD400/1.jpg").read_bytes() == b"jpeg"
    assert len(server.requests) == 6
    assert not list(tmp_path.rglob("*.part"))


def test_failing_loose_file_exits_2_with_one_line(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(server, tmp_path, monkeypatch, {"Set12": [{"path": "Set12/01.png", "body": b"pixels"}]})
    del server.files["/Set12/01.png"]
    with pytest.raises(SystemExit, match="2"):
        data.download.main(["Set12"])
    assert not (tmp_path / "testsets").exists()
    assert capsys.readouterr().err.endswith(
        f"error: {server.url('/Set12/01.png')}: expected the file, found HTTP status 404 Not Found\n"
    )


def test_name_that_is_no_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        data.download.main(["Set6"])
    assert "'Set5'" in capsys.readouterr().err


@pytest.fixture
def official_x4(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> model_zoo.download.Weights:
    """SwinIR-M_x4 with the body of the server as its file, and `tmp_path` as the folder that weights go to."""
    real = model_zoo.download.find(task="classical_sr", scale=4, training_patch_size=64)
    weights = dataclasses.replace(real, url=server.url(), size=len(BODY), sha256=sha256(BODY))
    monkeypatch.setattr(model_zoo.download, "official", lambda: [weights])
    monkeypatch.setattr(model_zoo.download, "FOLDER", tmp_path)
    return weights


def test_official_weights_by_name(official_x4: model_zoo.download.Weights, tmp_path: Path) -> None:
    model_zoo.download.main([official_x4.name])
    assert only_file_in(tmp_path).name == official_x4.file
    assert only_file_in(tmp_path).read_bytes() == BODY


def test_ensure_downloads_official_names_only(
    official_x4: model_zoo.download.Weights, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "teachers" / official_x4.file
    assert model_zoo.download.ensure(path) == path
    assert path.read_bytes() == BODY
    path.write_bytes(b"my own")
    assert model_zoo.download.ensure(path).read_bytes() == b"my own"
    assert len(server.requests) == 1
    with pytest.raises(UserError, match=r"mine\.pth does not exist and is not one of the official weights"):
        model_zoo.download.ensure(tmp_path / "mine.pth")


def test_the_test_script_downloads_the_weights_that_it_lacks(
    official_x4: model_zoo.download.Weights, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = SwinIR(
        img_size=16, embed_dim=12, depths=[2], num_heads=[2], window_size=8, upscale=4, upsampler="pixelshuffle"
    )
    buffer = BytesIO()
    torch.save({"params": network.state_dict()}, buffer)
    server.files["/weights"] = buffer.getvalue()
    published = dataclasses.replace(
        official_x4, url=server.url("/weights"), size=len(buffer.getvalue()), sha256=sha256(buffer.getvalue())
    )
    monkeypatch.setattr(model_zoo.download, "official", lambda: [published])
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "Clean" / "a.png", np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))
    arguments = ["main_test_swinir.py", "--task", "classical_sr", "--scale", "4", "--folder_gt", "Clean"]
    monkeypatch.setattr(sys, "argv", arguments)
    main_test_swinir.main()
    assert (tmp_path / "model_zoo" / published.file).read_bytes() == buffer.getvalue()
    assert (tmp_path / "results" / "swinir_classical_sr_x4" / "Clean" / "a_SwinIR.png").exists()

    (tmp_path / "model_zoo" / published.file).unlink()
    server.files["/weights"] = buffer.getvalue()[:-1] + b"?"
    with pytest.raises(SystemExit):
        main_test_swinir.main()
    assert not (tmp_path / "model_zoo" / published.file).exists()


def test_every_official_weight_is_found_by_its_selectors() -> None:
    official = model_zoo.download.official()
    assert len({weights.name for weights in official}) == len({weights.file for weights in official}) == 28
    for weights in official:
        assert model_zoo.download.find(**weights.selectors()) == weights
    ignored = model_zoo.download.find(task="color_dn", noise=25, jpeg=40, training_patch_size=128)
    assert ignored.name == "SwinIR-M_color_noise25"


def test_find_lists_the_choices() -> None:
    with pytest.raises(UserError, match=r"none for task='gray_dn', scale=1, noise=20, .*noise=15.*noise=25.*noise=50"):
        model_zoo.download.find(task="gray_dn", noise=20)
    with pytest.raises(UserError, match="none for task 'sr', the choices are classical_sr, color_dn"):
        model_zoo.download.find(task="sr")


def test_readme_lists_the_official_weights() -> None:
    readme = Path(model_zoo.download.TABLE).with_name("README.md").read_text(encoding="utf-8")
    expected = [
        [weights.name, ", ".join(f"{k}={v}" for k, v in selectors.items()), weights.file, str(weights.size or "-")]
        for weights in model_zoo.download.official()
        for selectors in [{k: str(v).lower() if v is True or v is False else v for k, v in weights.selectors().items()}]
    ]
    rows = [line.strip("| ").split(" | ") for line in readme.splitlines() if line.startswith("| SwinIR")]
    assert rows == expected


def test_tables_equal_the_manifest() -> None:
    if not MANIFEST.exists():
        pytest.skip(f"{MANIFEST} is not here")
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    published = [(entry["path"], entry["url"], entry["size"], entry["sha256"]) for entry in manifest["SwinIR_weights"]]
    assert [(w.file, w.url, w.size, w.sha256) for w in model_zoo.download.official()] == published
    del manifest["SwinIR_weights"]
    fields = ("path", "url", "size", "sha256", "archive")
    table = {
        name: [{k: v for k in fields if (v := getattr(entry, k))} for entry in entries]
        for name, entries in data.download.load_table().items()
    }
    assert table == manifest
