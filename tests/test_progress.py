"""What a person sees while a run goes on."""

import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.inspect.panels import Panels
from models.model_plain import ModelPlain
from tests.runs import FORKED, Run, run_script
from utils.options.schema import Options
from utils.runs.progress import Progress


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 4 iterations with a teacher, of which the first 2 are made by an earlier process."""
    run = Run(
        tmp_path_factory.mktemp("live"),
        train={"total_iter": 4, "checkpoint_test": 2, "checkpoint_save": 2, "checkpoint_print": 1},
    )
    run.finish("train.total_iter=2")
    run.finish()
    return run


@pytest.fixture(scope="module")
def board(run: Run) -> EventAccumulator:
    """What TensorBoard shows of it."""
    return EventAccumulator(str(run.task / "tensorboard")).Reload()


@pytest.mark.slow
def test_without_a_terminal_plain_lines_tell_speed_and_end_but_not_in_the_log_file(run: Run) -> None:
    line = r"iter: +4, .* G_loss: \S+ \| 100%, ETA 0:00:00, [\d.]+ images/s, data wait \d+%, peak memory \d+\.\d GB$"
    assert re.search(line, run.output.read_text(), re.MULTILINE)
    assert "ETA" not in (run.task / "train.log").read_text()


def test_the_speed_is_that_of_training_alone(raw_options: dict[str, Any]) -> None:
    options = Options.model_validate(raw_options)
    progress = Progress(options, step=10, seconds=100.0, data_seconds=1.0, device=torch.device("cpu"))
    pace = progress.tell(step=12, seconds=102.0, data_seconds=1.5)
    progress.close()
    assert f", {options.datasets.train.dataloader_batch_size:.1f} images/s, data wait 25%, " in pace


def test_on_a_terminal_there_is_a_bar_and_log_lines_with_the_losses_above_it(run: Run) -> None:
    arguments = ["--opt", str(run.options), "--set", "train.total_iter=5", "task=on_a_terminal"]
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 250, 0, 0))  # 40 lines of 250 characters
    process = FORKED.Process(target=run_script, args=(arguments, Path(os.ttyname(terminal))))
    process.start()
    shown = os.read(main, 4096)  # from now on the process holds the terminal open
    os.close(terminal)
    try:
        while chunk := os.read(main, 4096):
            shown += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    process.join()
    assert process.exitcode == 0
    text = shown.decode()
    assert re.search(r"on_a_terminal: 100%\|.*5/5 .*images/s, ", text)
    assert "ETA" not in text
    kair_lines = [part for part in re.split(r"[\r\n]+", text) if "G_loss: " in part]
    assert len(kair_lines) == 5
    assert all(re.match(r"(\x1b\[A)?\d\d-\d\d-\d\d \d\d:\d\d:\d\d", line) for line in kair_lines)


def test_tensorboard_has_the_figures_of_metrics_jsonl(run: Run, board: EventAccumulator) -> None:
    for name in ("lr", "l_g_L1", "l_g_distill", "l_g_feature", "G_loss"):
        shown = [(event.step, event.value) for event in board.Scalars(f"train/{name}")]
        assert shown == [(record["iter"], pytest.approx(record[name])) for record in run.records("train")]
    for weights in ("G", "E"):
        for name in ("psnr", "ssim", "psnr_y", "ssim_y"):
            shown = [(event.step, event.value) for event in board.Scalars(f"toy_test/{name} {weights}")]
            of_weights = [record for record in run.records("test") if record["weights"] == weights]
            assert shown == [(record["iter"], pytest.approx(record[name])) for record in of_weights]


def test_tensorboard_shows_lr_student_teacher_and_hr_side_by_side(run: Run, board: EventAccumulator) -> None:
    names = [path.stem for path in sorted((run.folder / "HR").iterdir())][:4]
    assert board.Tags()["images"] == [f"toy_test/{name}" for name in names]
    for name in names:
        pictures = board.Images(f"toy_test/{name}")
        assert [(picture.step, picture.height, picture.width) for picture in pictures] == [(2, 48, 256), (4, 48, 256)]


def test_iterations_that_are_made_again_replace_their_figures(run: Run) -> None:
    for path in run.models.glob("4_*"):
        path.unlink()
    run.finish()
    again = EventAccumulator(str(run.task / "tensorboard")).Reload()
    assert [event.step for event in again.Scalars("train/G_loss")] == [1, 2, 3, 4]


def test_a_panel_shows_the_same_place_at_both_scales(raw_options: dict[str, Any]) -> None:
    """The window of an image with an odd number of pixels around it: nearest-neighbour HR is the enlarged LR."""
    lr_image = torch.rand(3, 61, 53)
    hr_image = F.interpolate(lr_image[None], scale_factor=4)[0]
    model = ModelPlain(Options.model_validate(raw_options), device=torch.device("cpu"))
    panels = Panels(model, {"odd": [{"L": lr_image, "L_path": "a.png", "H": hr_image, "H_path": "a.png"}]})
    picture = panels.pictures()["odd/a"]
    assert picture.shape == (192, 3 * 192, 3)
    np.testing.assert_array_equal(picture[:, :192], picture[:, -192:])


@pytest.mark.slow
def test_the_start_says_in_lines_of_their_own_what_will_happen(tmp_path: Path) -> None:
    run = Run(tmp_path, train={"checkpoint_print": 10**6, "checkpoint_test": 10**6, "total_iter": 14})
    run.finish()
    said = re.findall(r"^\S+ \S+ : (\w+) *: (.*)$", run.output.read_text(), re.MULTILINE)
    lines = dict(said)
    assert list(lines)[-8:-1] == ["task", "student", "teacher", "losses", "data", "toy_test", "time"]
    assert lines["task"].startswith(f"toy in {run.task}, 1 process on ")
    assert re.fullmatch(
        r"x4 SwinIR, RGB, embed_dim 12, depths \[1, 2\], [\d,]+ parameters, from random weights", lines["student"]
    )
    assert lines["teacher"].endswith(f"parameters, {run.folder / 'teacher.pth'}, asked in each iteration")
    assert lines["losses"].startswith("G_loss = 1 * l_g_L1 [l1(student, H)] + ")
    assert lines["data"] == (
        f"toy_train: 6 training images in {run.folder / 'HR'}, 4 crops of 8x8 a step; tests: toy_test (6 test images)"
    )
    assert re.fullmatch(r"about 0:00:0\d to go, without validation", lines["time"])
    run.finish("train.total_iter=15")
    assert re.search(r" : student : .*, from iteration 14\n", run.output.read_text())
