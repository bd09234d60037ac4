"""The decoded-image store: the pixels of the files, kept, rebuilt when they change, and built by one process only."""

import fcntl
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from data.stores import mapped
from data.stores.mapped import ImageStore, decoded, locked
from tests.conftest import ROOT, make_image
from utils.imaging.io import read_image, write_image
from utils.process import terminal
from utils.process.errors import UserError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Images of different sizes."""
    paths = [tmp_path / "HR" / f"{index}.png" for index in range(5)]
    for index, path in enumerate(paths):
        write_image(path, make_image(20 + index, 30 - index, seed=index))
    return paths


def open_store(files: list[Path], folder: Path, channels: int = 3) -> ImageStore:
    return decoded(files, channels=channels, folder=folder, label="HR-x4")


@pytest.mark.parametrize("channels", [1, 3])
def test_it_holds_the_pixels_of_the_files(channels: int, files: list[Path], tmp_path: Path) -> None:
    store = open_store(files, tmp_path / "stores", channels)
    assert len(store) == 5
    for index, path in enumerate(files):
        np.testing.assert_array_equal(store[index], read_image(path, channels=channels))
    assert store.path.stat().st_size == sum((20 + i) * (30 - i) * channels for i in range(5))


def test_it_is_built_once_and_again_when_a_file_changes(files: list[Path], tmp_path: Path) -> None:
    first = open_store(files, tmp_path / "stores")
    built = first.path.stat().st_mtime_ns
    again = open_store(files, tmp_path / "stores")
    assert (again.path, again.path.stat().st_mtime_ns) == (first.path, built)
    write_image(files[2], make_image(22, 28, seed=99))
    changed = open_store(files, tmp_path / "stores")
    np.testing.assert_array_equal(changed[2], read_image(files[2], channels=3))
    assert [path.name for path in (tmp_path / "stores").iterdir()] == [changed.path.name]


@pytest.mark.parametrize(("seconds", "lines"), [(0, 6), (3600, 0)])
def test_without_a_terminal_the_log_says_from_time_to_time_how_far_it_is(  # noqa: PLR0917
    seconds: int, lines: int, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(terminal, "EVERY", seconds)
    caplog.set_level(logging.INFO)
    open_store(files, tmp_path / "stores")
    said = [record.getMessage() for record in caplog.records if "making" not in record.getMessage()]
    expected = [f"HR-x4: {count} of 5 images, about 0:00:00 to go" for count in range(1, 6)]
    assert said == [*expected, "HR-x4: 5 images in 0:00:00"][:lines]


def test_stores_of_other_labels_are_left_alone(files: list[Path], tmp_path: Path) -> None:
    labels = ["HR-x4", "HR", "HR-x4-ensemble"]
    stores = [decoded(files, channels=3, folder=tmp_path / "stores", label=label) for label in labels]
    decoded(files[:2], channels=3, folder=tmp_path / "stores", label="HR-x4")
    assert [store.path.exists() for store in stores] == [False, True, True]


def test_what_a_killed_build_left_of_files_that_changed_goes_unless_it_is_being_built(
    files: list[Path], tmp_path: Path
) -> None:
    left, building = (tmp_path / "stores" / f"HR-x4-{digit * 16}.partial" for digit in "01")
    with locked(left):
        pass
    with locked(building):
        open_store(files, tmp_path / "stores")
        assert [left.exists(), building.exists()] == [False, True]


def test_space_can_be_reserved_where_the_file_system_does_not_know_how(tmp_path: Path) -> None:
    """The C library then writes into each block, which it refuses to do in append mode (posix_fallocate(3))."""
    with locked(tmp_path / "store.partial") as file:
        assert file is not None
        assert not fcntl.fcntl(file, fcntl.F_GETFL) & os.O_APPEND


@pytest.mark.slow
def test_it_travels_to_other_processes_without_its_pixels(files: list[Path], tmp_path: Path) -> None:
    store = open_store(files, tmp_path / "stores")
    expected = store[3].copy()
    assert len(pickle.dumps(store)) < 2000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (pixels,) = pool.map(store.__getitem__, [3])
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("named", [1, 2])
def test_damaged_images_are_named_and_nothing_is_kept(
    named: int, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "NAMED", named)
    for path in files[1:3]:
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError) as error:
        open_store(files, tmp_path / "stores")
    lines = [f"{path}: cannot be read as an image" for path in files[1:3]]
    assert str(error.value).splitlines() == [*lines[:named], "  and 1 more"][:2]
    assert list((tmp_path / "stores").iterdir()) == []


def test_a_disk_that_is_too_small_is_reported_before_anything_is_decoded(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.stores.mapped.free_bytes", lambda _: 100)
    with pytest.raises(
        UserError, match=r"set path\.cache to a folder elsewhere, or do without: datasets\.train\.cache"
    ):
        open_store(files, tmp_path / "stores")
    assert list((tmp_path / "stores").iterdir()) == []


BUILD = """
import sys
from pathlib import Path
from data.stores.mapped import decoded
folder = Path(sys.argv[1])
store = decoded(sorted((folder / "HR").iterdir()), channels=3, folder=folder / "stores", label="HR-x4")
print(sum(int(store[index].sum()) for index in range(len(store))))
"""


def start_building(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_build_that_is_killed_leaves_no_store_and_no_waste(tmp_path: Path) -> None:
    files = [tmp_path / "HR" / f"{index:02d}.png" for index in range(12)]
    for index, path in enumerate(files):
        write_image(path, make_image(600, 800, seed=index))
    expected = sum(int(read_image(path, channels=3).sum()) for path in files)
    process = start_building(tmp_path)
    while not list(tmp_path.glob("stores/*.partial")):
        assert process.poll() is None
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(tmp_path.glob("stores/*.u8")) == []
    both = [start_building(tmp_path) for _ in range(2)]
    for builder in both:
        printed, errors = builder.communicate()
        assert builder.returncode == 0, errors
        assert int(printed) == expected
    assert [path.suffix for path in (tmp_path / "stores").iterdir()] == [".u8"]


def build_slowly(folder: Path) -> None:
    """Build a store of 60 images, and note which of them this process made."""
    with (folder / f"{os.getpid()}.made").open("a", buffering=1) as made:

        def make(index: int) -> np.ndarray:
            time.sleep(0.05)
            made.write(f"{index}\n")
            return np.full((40, 50, 3), index, np.uint8)

        ImageStore(folder / "outputs.u8", [(40, 50, 3)] * 60).build(make, threads=1, title="outputs")


def wait_for_images(builder: BaseProcess, folder: Path) -> None:
    """Wait until a process has made three of the images."""
    made = folder / f"{builder.pid}.made"
    while not made.exists() or len(made.read_text().split()) < 3:
        assert builder.is_alive()
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["none", "first", "last"])
def test_processes_share_the_work_and_that_of_one_that_is_killed(killed: str, tmp_path: Path) -> None:
    builders = []
    for _ in range(3):
        builder = multiprocessing.get_context("fork").Process(target=build_slowly, args=[tmp_path])
        builder.start()
        wait_for_images(builder, tmp_path)  # so the first one leads
        builders.append(builder)
    dies = {"first": builders[0], "last": builders[-1]}.get(killed)
    if dies:
        dies.kill()
    for builder in builders:
        builder.join()
        assert builder.exitcode == (-signal.SIGKILL if builder is dies else 0)
    store = ImageStore(tmp_path / "outputs.u8", [(40, 50, 3)] * 60)
    assert all((store[index] == index).all() for index in range(60))
    made = {path: path.read_text().split() for path in tmp_path.glob("*.made")}
    assert len(made) == 3
    assert min(map(len, made.values())) >= 3
    assert 60 <= sum(map(len, made.values())) <= 66  # a killed one's last image, and images that two began at once
    assert {path.suffix for path in tmp_path.iterdir()} == {".made", ".u8"}


@pytest.mark.slow
def test_a_process_of_another_machine_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = multiprocessing.get_context("fork").Process(target=build_slowly, args=[tmp_path])
    builder.start()
    wait_for_images(builder, tmp_path)
    monkeypatch.setattr("data.stores.mapped.HERE", b"elsewhere")
    build_slowly(tmp_path)
    assert (tmp_path / "outputs.u8").exists()
    assert (tmp_path / f"{os.getpid()}.made").read_text() == ""
    builder.join()
    assert builder.exitcode == 0


def test_a_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    shapes = [(4, 5, 3)] * 6
    images = [make_image(4, 5, seed=index) for index in range(6)]
    made: list[int] = []

    def make(index: int) -> np.ndarray:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(index)
        return images[index]

    store = ImageStore(tmp_path / "outputs.u8", shapes)
    with pytest.raises(KeyboardInterrupt):
        store.build(make, threads=1, title="outputs")
    assert not store.path.exists()
    made.clear()
    store.build(make, threads=1, title="outputs")
    assert made == [4, 5]
    for index, image in enumerate(images):
        np.testing.assert_array_equal(store[index], image)
