"""Whatever stands in the way of a command, it says so in one sentence that steers no terminal, with exit code 2."""

import json
import logging
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import main_test_swinir
from tests.conftest import ROOT, train_here
from tests.runs import Disk, Run, errors
from utils.process.errors import UserError, exit_on_user_error
from utils.process.files import write_whole
from utils.process.terminal import log_to_terminal, say
from utils.runs.log import log_to_file, stop_log_file

Refused = Callable[..., str]
ESCAPE = "\x1b[31m"


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run the training script with these arguments; its only line of error."""

    def run(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit, match="2"):
            train_here(monkeypatch, *arguments)
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


@pytest.fixture
def write(raw_options: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """Write the toy option file, with a piece of its text replaced."""

    def file(old: str = "", new: str = "") -> Path:
        path = tmp_path / "toy.json"
        text = json.dumps(raw_options)
        assert old in text
        path.write_text(text.replace(old, new) if old else text)
        return path

    return file


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "9" * 5000, "-0x" + "f" * 5000])
def test_a_number_without_end_is_refused(number: str, write: Callable[..., Path], refused: Refused) -> None:
    file = write('"scale": 4', f'"scale": {number}')
    line = refused("--opt", file)
    assert line.startswith(f"error: {file}: cannot be read as JSON: a number of 5,00")
    assert len(line) < 1000


@pytest.mark.parametrize("value", ["[" * 3000, "[" * 3000 + "]" * 3000, "0x" + "f" * 5000, "x" * 5000])
def test_a_value_without_end_is_refused(value: str, write: Callable[..., Path], refused: Refused) -> None:
    line = refused("--opt", write(), "--set", f"scale={value}")
    assert line.startswith("error: ")
    assert "scale" in line
    assert len(line) < 1000


@pytest.mark.parametrize("override", [ESCAPE, f"{ESCAPE}=1", f"task.{ESCAPE}=1", f"task={ESCAPE}"])
def test_control_characters_of_keys_and_values_are_escaped(
    override: str, write: Callable[..., Path], refused: Refused
) -> None:
    line = refused("--opt", write(), "--set", override)
    assert r"\x1b[31m" in line or r"\u001b[31m" in line
    assert "\x1b" not in line


def test_control_characters_of_file_names_are_escaped(
    write: Callable[..., Path], refused: Refused, hr_folder: Path, tmp_path: Path
) -> None:
    line = refused("--opt", tmp_path / f"{ESCAPE}.json")
    assert line == rf"error: {tmp_path}/\x1b[31m.json: the option file cannot be read (No such file or directory)"
    (hr_folder / f"{ESCAPE}\n.png").write_text("no image")
    assert refused("--opt", write()) == rf"error: {hr_folder}/\x1b[31m\n.png: cannot be read as an image"


def test_control_characters_are_escaped_in_the_log_and_in_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_terminal(quiet=False)
    file = log_to_file(tmp_path / "train.log")
    logging.getLogger("toy").info("first %s\nsecond", ESCAPE)
    stop_log_file(file)
    say(f"{ESCAPE}\nthird")
    output = capsys.readouterr().out
    assert "\x1b" not in output + (tmp_path / "train.log").read_text()
    assert output.splitlines()[1:] == ["second", r"\x1b[31m", "third"]


def test_lines_of_one_error_stay_apart_and_line_ends_from_outside_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"), exit_on_user_error():
        raise UserError("a\nb: missing", "c\x1b: missing")
    assert capsys.readouterr().err == "error: a\\nb: missing\nerror: c\\x1b: missing\n"


def error_of_full(folder: Path, run: Run, *, kilobytes: int) -> str:
    """What a run says, once, that ends since a disk of this size at a folder of its task is full."""
    folder.mkdir(parents=True)
    try:
        with Disk(folder, kilobytes=kilobytes):
            process = run.start()
            process.join()
    except OSError as fault:
        pytest.skip(f"mounting a small disk: {fault}")
    assert process.exitcode == 2
    (error,) = errors(run)
    return error


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [4, 8])
def test_a_disk_that_tensorboard_fills_is_named_once(kilobytes: int, tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 40, "checkpoint_test": 100, "checkpoint_save": 100})
    board = run.task / "tensorboard"
    error = error_of_full(board, run, kilobytes=kilobytes)
    assert error.startswith(f"error: {board}/events.out.tfevents.")
    assert error.endswith(": cannot be written (No space left on device)")


def test_a_disk_that_the_images_of_a_validation_fill_is_named_once(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 2, "checkpoint_test": 2})
    images = run.task / "images"
    error = error_of_full(images, run, kilobytes=16)
    assert re.fullmatch(rf"error: {images}/toy_test/\d+\.png: cannot be written \(No space left on device\)", error)


def limit_memory(space: int) -> None:
    """Let this process have some bytes of address space more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE") + space
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


# In between, a thread may get its stack and no memory for more, and Python's Thread.start then waits for it for ever.
@pytest.mark.parametrize("megabytes", [4, 60])
def test_a_run_that_memory_is_too_small_for_says_so(megabytes: int, tmp_path: Path) -> None:
    run = Run(tmp_path, datasets={"train": {"dataloader_num_workers": 1, "dataloader_batch_size": 512}})
    process = run.start(prepare=partial(limit_memory, megabytes * 10**6))
    process.join()
    assert process.exitcode == 2, run.output.read_text()
    (error,) = errors(run)
    assert ". Training needs less with " in error or "lack of memory; lower datasets.train" in error


@pytest.mark.parametrize("kilobytes", [10**5, 15 * 10**5])
def test_a_limit_below_what_pytorch_needs_is_told_before_or_while_it_is_imported(
    kilobytes: int, tmp_path: Path
) -> None:
    run = Run(tmp_path)
    command = f"ulimit -v {kilobytes}; exec {sys.executable} main_train_student.py --opt {run.options}"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "ulimit -v" in line


FLAGS = [
    (["--local-rank=0"], "--local-rank: not needed, and one process runs"),
    (["--local_rank", "0"], "--local-rank: not needed, and one process runs"),
    (["--dist", "True"], "--dist: not needed, and one process runs"),
    (["--dist", "True", "--local-rank=0"], "--local-rank and --dist: not needed, and one process runs"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "sentence"), FLAGS)
def test_flags_of_other_launchers_are_taken_and_explained(
    flags: list[str], sentence: str, write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train_here(monkeypatch, "--opt", write(), *flags, "--set", "train.total_iter=1")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "not needed" in line]
    assert line == f"{sentence}; for N of them: torchrun --nproc_per_node=N SCRIPT.py ..."


@pytest.mark.slow
def test_the_forerunner_of_torchrun_starts_the_processes_and_its_flag_is_explained_once(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"total_iter": 2})
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.launch", "--standalone", "--nproc_per_node=2",
            "main_train_student.py", "--opt", str(run.options), "--dist", "True",
        ],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 processes on" in done.stdout
    assert done.stderr.count("--local-rank and --dist: not needed; each process is told its number by ") == 1
    assert "usage:" not in done.stderr


@pytest.mark.parametrize("script", ["train", "test"])
def test_srun_without_torchrun_is_told_to_use_it(
    script: str, write: Callable[..., Path], refused: Refused,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if script == "train":
        line = refused("--opt", write())
    else:
        monkeypatch.setattr(sys, "argv", ["main_test_swinir.py", "--folder_lq", "."])
        with pytest.raises(SystemExit, match="2"):
            main_test_swinir.main()
        (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: srun: 4 processes are started that do not know of each other; let srun start one ")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(SystemExit, match="2"):
        train_here(monkeypatch, "--opt", write())
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_torchrun_shows_each_sentence_once_and_none_is_lost(shared: bool, tmp_path: Path) -> None:
    """Of two processes, whose option files have the same fault, or of which only the second's has one."""
    run = Run(tmp_path)
    torchrun = run.torchrun(2, "train.total_iter=many" if shared else "train.total_iter={rank}")
    assert torchrun.wait() == 1
    (line,) = [line for line in run.output.read_text().splitlines() if line.startswith("error: ")]
    assert "total_iter" in line


def test_what_cannot_be_written_names_its_file(tmp_path: Path) -> None:
    try:
        with Disk(tmp_path / "disk", kilobytes=4):
            with pytest.raises(OSError, match="No space left") as caught:
                write_whole(tmp_path / "disk" / "large", bytes(10**6))
            assert caught.value.filename == str(tmp_path / "disk" / "large")
    except OSError as error:
        pytest.skip(f"mounting a small disk: {error}")
