"""`python -m data.download`, against a real HTTP server on this machine."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import data.download
from tests.server import Server, sha256, zip_of
from utils.imaging.io import read_image, write_image


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


def test_the_table_is_that_of_the_manifest(shared: Callable[[str], Path]) -> None:
    manifest = json.loads(shared("manifest.json").read_text(encoding="utf-8"))
    del manifest["SwinIR_weights"]
    fields = ("path", "url", "size", "sha256", "archive")
    table = {
        name: [{k: v for k in fields if (v := getattr(entry, k))} for entry in entries]
        for name, entries in data.download.load_table().items()
    }
    assert table == manifest
