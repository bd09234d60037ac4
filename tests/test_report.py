"""The report of finished and running tasks, from what real runs leave, in a real browser."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from playwright.sync_api import Page, sync_playwright

from models.distillation.translators import Translators
from models.inspect.summary import count_parameters
from models.select_network import define_G, define_teacher
from tests.conftest import make_image
from tests.reports import TASKS, last_psnr_y, make_report, plain, runs, tables, whole
from utils.evaluation.restorer import bicubic
from utils.imaging.io import read_image
from utils.imaging.metrics import luma, psnr
from utils.imaging.tensors import to_image, to_tensor, unit_range
from utils.options.load import load
from utils.report.pictures.crops import most_different_window
from utils.report.pictures.curves import COLOURS, logarithmic

__all__ = ["runs", "whole"]  # the fixtures
CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
def test_the_tables_hold_the_methods_their_spread_and_the_differences(runs: Path, whole: Path) -> None:
    figures, differences, differs, cost = tables((whole / "table.md").read_text())
    values = np.array([last_psnr_y(runs / task) for task in TASKS])
    means = values.mean(axis=1)
    assert [(row["method"], row["manual_seed"]) for row in figures] == [
        ("bicubic", "-"), ("alone_seed*", "0, 1"), ("feature", "0"), ("teacher", "-"),
    ]  # fmt: skip
    assert plain(figures[0]["PSNR_Y"]) == f"{bicubic_psnr_y(runs.parent / 'HR'):.2f}"
    assert plain(figures[1]["PSNR_Y"]) == f"{means[:2].mean():.2f} ± {abs(means[0] - means[1]) / 2**0.5:.3f}"
    assert plain(figures[2]["PSNR_Y"]) == f"{means[2]:.2f}"
    (row,) = differences
    assert (row["method"], row["over"]) == ("feature", "6 images, 1 and 2 runs")
    assert {row["option"]: (row["alone_seed*"], row["feature"]) for row in differs}.items() >= {
        "train.distillation_type": ("none", "feature"), "train.manual_seed": ("0, 1", "0"),
        "netTeacher.embed_dim": ("-", "24"),
    }.items()  # fmt: skip
    numbers = [float(number) for number in re.findall(r"[+-][\d.]+", row["PSNR_Y"])]
    difference, low, high = numbers
    assert difference == pytest.approx(means[2] - means[:2].mean(), abs=1e-3)
    assert low <= difference <= high
    assert [row["task"] for row in cost] == list(TASKS)
    assert [row["teacher's"] for row in cost] == ["-", "-", "51,896"]


def psnr_y(image: np.ndarray, reference: np.ndarray, *, border: int) -> float:
    return psnr(luma(to_tensor(image)), luma(to_tensor(reference)), border=border).item()


def bicubic_psnr_y(folder_H: Path) -> float:
    """The baseline, worked out once more from the images."""
    values = []
    for path in folder_H.iterdir():
        lr = read_image(folder_H.parent / "HR_LR_bicubic" / "X4" / f"{path.stem}x4.png", channels=3)
        image = to_image(bicubic(4)(unit_range(to_tensor(lr))[None])[0])
        values.append(psnr_y(image, read_image(path, channels=3), border=4))
    return float(np.mean(values))


def test_the_window_is_where_the_errors_differ_most() -> None:
    hr = make_image(200, 300, seed=0)
    first, second = hr.copy(), hr.copy()
    first[:60, :60] = second[:60, :60] = 0  # both are wrong there
    second[120:180, 210:290] //= 2
    rows, columns = most_different_window([first, second], hr)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (96, 96)
    assert rows.start <= 120
    assert rows.stop >= 180
    assert columns.start <= 210
    assert columns.stop >= 290


@pytest.mark.slow
def test_the_windows_show_their_own_psnr(runs: Path, whole: Path) -> None:
    page = (whole / "index.html").read_text()
    (path, *others) = sorted((whole / "figures").glob("toy_test_*_feature.png"))
    assert len(others) == 2
    name = path.stem.split("_")[2]
    restored = read_image(runs / "feature" / "images" / "toy_test" / f"{name}.png", channels=3)  # all of it, 48x64
    assert np.array_equal(read_image(path, channels=3), restored)
    value = psnr_y(restored, read_image(runs.parent / "HR" / f"{name}.png", channels=3), border=0)
    assert f"window: feature, {value:.2f} dB" in page


@pytest.mark.parametrize(
    ("lowest", "highest", "shown"), [(0.018, 0.042, {"0.02", "0.03", "0.04"}), (5e-4, 200, {"0.001", "0.1", "100"})]
)
def test_losses_are_shown_on_a_logarithmic_scale_of_plain_numbers(
    lowest: float, highest: float, shown: set[str]
) -> None:
    figure = Figure()
    axes: Axes = figure.subplots()
    logarithmic(axes)
    axes.set_ylim(lowest, highest)
    figure.draw_without_rendering()
    labels = {tick.label1.get_text() for tick in axes.yaxis.get_major_ticks() + axes.yaxis.get_minor_ticks()}
    assert labels >= shown
    assert all(re.fullmatch(r"[\d.]*", label) for label in labels)


def test_curves_go_from_the_first_iteration_to_the_last(whole: Path) -> None:
    first = COLOURS[0][1:].lower()
    any_method = f"(?:{'|'.join(COLOURS)})".replace(
        "#", ""
    ).lower()  # which takes the most time is the machine's affair
    curves = {"l_g_L1": first, "psnr_y_toy_test": first, "l_g_L1_time": any_method, "psnr_y_toy_test_time": any_method}
    for name, colour in curves.items():
        svg = (whole / "figures" / f"{name}.svg").read_text()
        lines = re.findall(rf'<path d="([ML\d. \n-]+)"[^>]*stroke: #{colour}; stroke-width: 1.5', svg)
        places = [[float(x) for x in re.findall(r"[ML] ([\d.]+) ", line)] for line in lines]
        widest = max(places, key=np.ptp)
        assert np.ptp(widest) > 396 / 6, "of the figure's width in points; the line in the legend is short"


def test_feature_maps_are_those_of_the_last_checkpoint(runs: Path) -> None:
    options = load(runs / "feature" / "options.json")
    student, teacher = define_G(options), define_teacher(options).eval()
    translators = Translators([[0, 0], [1, 2]], student=student, teacher=teacher)
    folder = runs / "feature" / "models"
    student.load_state_dict(torch.load(folder / "10_G.pth"))
    translators.load_state_dict(torch.load(folder / "10_P.pth"))
    teacher.load_state_dict(torch.load(runs.parent / "teacher.pth"))
    lr_image = unit_range(to_tensor(read_image(runs.parent / "HR_LR_bicubic" / "X4" / "0000x4.png", channels=3)))[None]
    with torch.no_grad():
        features = (network.eval().forward_with_features(lr_image)[1] for network in (student, teacher))
        compared = translators(*features)
    with np.load(runs / "feature" / "feature_maps.npz") as maps:
        assert (maps["iter"], maps["name"], maps["pairs"].tolist()) == (10, "0000", [[0, 0], [1, 2]])
        assert maps["student"].dtype == np.float16
        for ours, expected in zip((maps["student"], maps["teacher"]), compared, strict=True):
            np.testing.assert_allclose(ours[1], expected[1].abs().mean(dim=2).reshape(12, 16), rtol=2e-3)
    assert not (runs / "alone_seed0" / "feature_maps.npz").exists()


def test_the_cost_is_that_of_the_networks(runs: Path) -> None:
    options = load(runs / "feature" / "options.json")
    cost = json.loads((runs / "feature" / "cost.json").read_text())
    assert cost["student"]["parameters"] == count_parameters(define_G(options))
    assert cost["teacher"]["parameters"] == count_parameters(define_teacher(options))
    assert cost["latency"] > 0
    assert "teacher" not in json.loads((runs / "alone_seed0" / "cost.json").read_text())


def copy_task(runs: Path, target: Path, *, lines: int, old: str = "", new: str = "") -> Path:
    """A copy of a task whose metrics end after some lines and the beginning of another."""
    shutil.copytree(runs / "alone_seed0", target)
    kept = (target / "metrics.jsonl").read_text().replace(old, new).splitlines()
    (target / "metrics.jsonl").write_text("\n".join([*kept[:lines], kept[lines][:20]]))
    return target


@pytest.mark.slow
def test_a_task_before_its_first_validation_is_reported_beside_others(runs: Path, tmp_path: Path) -> None:
    running = copy_task(runs, tmp_path / "running", lines=3)
    options = json.loads((running / "options.json").read_text())
    (running / "options.json").write_text(json.dumps(options | {"task": "running", "n_channels": 3}))
    page, text = make_report(tmp_path / "report", running, runs / "feature", running)
    figures, _, cost = tables(text)
    assert [row["method"] for row in figures] == ["bicubic", "feature", "teacher"]
    assert [row["iterations"] for row in cost] == ["3 of 10", "10"]
    assert "running: iteration 3 of 10" in page
    page, text = make_report(tmp_path / "report", running)
    assert text.startswith("No task has been validated yet.")
    assert "No task has been validated yet." in page


def test_a_run_that_is_behind_is_judged_where_all_runs_are(runs: Path, tmp_path: Path) -> None:
    behind = copy_task(runs, tmp_path / "behind", lines=9)
    _, text = make_report(tmp_path / "report", behind, runs / "alone_seed1")
    row = tables(text)[0][1]
    assert (row["method"], row["manual_seed"], row["iterations"]) == ("alone_seed*", "0, 1", "5 of 10")


def test_a_run_with_the_options_and_the_seed_of_another_is_no_repetition(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "alone_seed0", tmp_path / "recoded")
    options = (tmp_path / "recoded" / "options.json").read_text()
    (tmp_path / "recoded" / "options.json").write_text(options.replace("alone_seed0", "recoded"))
    _, text = make_report(tmp_path / "report", runs / "alone_seed0", runs / "alone_seed1", tmp_path / "recoded")
    assert [row["method"] for row in tables(text)[0]] == ["bicubic", "alone_seed*", "recoded"]


@pytest.mark.slow
def test_tasks_of_one_name_are_told_apart_by_their_folders(runs: Path, tmp_path: Path) -> None:
    after, before = runs / "feature", tmp_path / "before"
    shutil.copytree(after, before)
    page, text = make_report(tmp_path / "report", after, before)
    names = [f"feature ({folder})" for folder in (after, before)]
    figures, _, cost = tables(text)
    assert [row["method"] for row in figures] == ["bicubic", *names, "teacher"]
    assert [row["task"] for row in cost] == names
    assert all(f"<summary>{name}: iteration 10</summary>" in page for name in names)
    files = {path.name for path in (tmp_path / "report" / "figures").glob("*_before*.png")}
    assert len(files) == 3 + 2 * 2 + 1  # images, both maps of two pairs, and their LR window


def test_runs_that_were_never_judged_at_the_same_iteration_have_no_figures(runs: Path, tmp_path: Path) -> None:
    behind = copy_task(runs, tmp_path / "behind", lines=9, old='"iter": 5', new='"iter": 4')
    _, text = make_report(tmp_path / "report", behind, runs / "alone_seed1")
    assert text.startswith("No task has been validated yet.")


def test_images_that_are_elsewhere_are_named(runs: Path, tmp_path: Path) -> None:
    elsewhere = copy_task(runs, tmp_path / "elsewhere", lines=13, old="/HR/", new="/gone/")
    page, text = make_report(tmp_path / "report", elsewhere)
    assert [row["method"] for row in tables(text)[0]] == ["alone_seed0"]
    assert re.search(r"^No bicubic on toy_test: \S+/gone/0000.png is not there\.$", text, re.MULTILINE)
    assert len(re.findall(r"no images: \S+/gone/000\d.png is not there", page)) == 1
    shutil.rmtree(elsewhere)
    bare = copy_task(runs, elsewhere, lines=13)
    shutil.rmtree(bare / "images")
    for name in ("cost.json", "environment.jsonl", "timing.jsonl"):
        (bare / name).unlink()
    page, _ = make_report(tmp_path / "report", bare)
    assert "no images: no task kept its restored image" in page
    assert "Its environment was not recorded." in page


def test_a_folder_without_a_task_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        make_report(tmp_path / "report", tmp_path)
    assert exit_code.value.code == 2
    assert f"error: {tmp_path / 'options.json'}: the option file cannot be read" in capsys.readouterr().err


@pytest.fixture(scope="module")
def page(whole: Path) -> Iterator[tuple[Page, list[str]]]:
    """The report in a browser, and what went wrong or left the page as it was opened."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: the page is not opened in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()
        complaints: list[str] = []
        address = (whole / "index.html").as_uri()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: complaints.append(request.url) if not own(request.url, address) else None)
        tab.goto(address)
        yield tab, complaints
        browser.close()


def own(url: str, address: str) -> bool:
    """Whether a request stays within the page."""
    return url == address or url.startswith("data:")


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_shows_every_picture(page: tuple[Page, list[str]], whole: Path) -> None:
    tab, complaints = page
    tab.evaluate("Promise.all([...document.images].map(image => image.decode()))")
    widths: list[Any] = tab.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == len(list((whole / "figures").iterdir()))
    assert min(widths) > 0
    assert all(tab.evaluate("[...document.images].map(image => image.alt)"))
    assert complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_the_screen(width: int, page: tuple[Page, list[str]]) -> None:
    tab, _ = page
    tab.set_viewport_size({"width": width, "height": 800})
    tab.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    smallest = tab.evaluate("Math.min(...[...document.querySelectorAll('td, span, p, pre, dd')]"
                            ".map(element => parseFloat(getComputedStyle(element).fontSize)))")  # fmt: skip
    assert smallest >= 13


@pytest.mark.slow
def test_the_first_column_stands_while_the_rest_scrolls(page: tuple[Page, list[str]]) -> None:
    tab, _ = page
    tab.set_viewport_size({"width": 400, "height": 800})
    places: list[list[float]] = tab.evaluate("""[...document.querySelectorAll('.scroll')].map(box => {
        const lefts = () => [...box.querySelectorAll('tr')].find(row => row.querySelector('td')).children;
        const before = lefts()[1].getBoundingClientRect().left;
        box.scrollLeft = 60;
        return [lefts()[0].getBoundingClientRect().left - box.getBoundingClientRect().left,
                before - lefts()[1].getBoundingClientRect().left];
    })""")
    assert places[0] == [0, 60]
    assert all(first == 0 for first, _ in places)
