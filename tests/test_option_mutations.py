"""Whatever is done to an option file, it is accepted and makes networks, or refused in one sentence.

`OPTION_MUTATIONS=2000 pytest tests/test_option_mutations.py` tries more of them than the 200 of `make test`.
"""

import contextlib
import copy
import json
import os
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.folders.check import check_experiments
from models.model_plain import check_networks
from models.select_network import define_teacher
from tests.conftest import toy_options, write_images
from utils.options.load import dotted_keys
from utils.options.schema import Options
from utils.process.errors import exit_on_user_error
from utils.runs.inputs import load_all

EXAMPLES = int(os.environ.get("OPTION_MUTATIONS", "200"))
HOSTILE: list[Any] = [
    *(None, True, [], {}, [[]], "", " ", "\0", "\n", "\ud800", "\u202e", "x" * 5000, "2e-4", "feature", "stored"),
    *(0, -1, 1, 2, 3, 7, 64, 1000, 10**6, 10**9, 10**18, 10**400, 0.5, -0.0, 1e-320, 1e308, -1e308),
    *(float("nan"), float("inf"), [0, 0], [[0, 0]] * 500, [1], [1] * 500, [60, 60], [10**9] * 2, [[10**9, 0]]),
]
ODD_KEYS = {"test", "test2", "", "netG.depths", "__class__", "a\nb"}
KEYS = sorted({key.rpartition(".")[2] for key in dotted_keys(Options)} | ODD_KEYS)
TEXT = st.text(st.characters(exclude_characters="/.\\"), max_size=12)  # no way out of the empty working folder
VALUES = st.one_of(
    st.sampled_from(HOSTILE), st.integers(), st.floats(), TEXT, st.lists(st.integers(-2, 300), max_size=5)
)  # fmt: skip


def places(section: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every key of an option file, with the section that holds it."""
    for key, value in section.items():
        yield section, key
        if isinstance(value, dict):
            yield from places(value)


@st.composite
def mutated(draw: st.DrawFn, base: dict[str, Any]) -> bytes:
    """An option file with one to three changes of its content, and maybe one of its characters."""
    raw = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, 3))):
        section, key = draw(st.sampled_from(list(places(raw)) or [(raw, "task")]))
        value = section.pop(key, None)
        kind = draw(st.sampled_from(["delete", "rename", "replace", "replace", "replace", "nest", "list", "hoist"]))
        if kind == "rename":
            section[draw(st.sampled_from(KEYS) | TEXT)] = value
        elif kind == "replace":
            section[key] = draw(VALUES)
        elif kind == "nest":
            section[key] = {key: value}
        elif kind == "list":
            section[key] = [value]
        elif kind == "hoist":
            raw |= value if isinstance(value, dict) else {key: value}
    text = json.dumps(raw, indent=draw(st.sampled_from([None, 1])), ensure_ascii=draw(st.booleans()))
    spoil = draw(st.sampled_from(SPOILERS))
    return spoil(text, draw(st.integers(0, len(text)))).encode(errors="surrogatepass")


def unchanged(text: str, _: int) -> str:
    return text


def repeat_a_line(text: str, position: int) -> str:
    """Duplicate keys, where each stands on a line of its own."""
    lines = text.splitlines()
    return "\n".join([*lines[: position % len(lines) + 1], *lines[position % len(lines) :]])


SPOILERS: list[Callable[[str, int], str]] = [
    *[unchanged] * 6,
    repeat_a_line,
    lambda text, position: text[:position],
    lambda text, position: text[:position] + text[position + 1 :],
    lambda text, position: text[:position] + "{" + text[position:],
    lambda text, position: text[:position] + "\ufeff\0é" + text[position:],
]


def refusal(file: Path) -> str:
    """What the training script says about an option file before it makes anything; empty if it accepts it."""
    errors = StringIO()
    try:
        with contextlib.redirect_stderr(errors), exit_on_user_error():
            experiments = load_all([file])
            for options in experiments:
                check_networks(options)
            check_experiments(experiments)
    except SystemExit as end:
        assert end.code == 2
        return errors.getvalue()
    return ""


def check_mutations(folder: Path, *, examples: int) -> None:
    """Try mutations of the toy option file in an empty folder; fail for any that is neither accepted nor refused."""
    raw = toy_options(write_images(folder / "HR"), root=folder / "runs")
    torch.save(define_teacher(Options.model_validate(raw)).state_dict(), folder / "teacher.pth")
    raw["path"] |= {"pretrained_netG": None, "pretrained_netTeacher": str(folder / "teacher.pth"), "cache": None}
    raw["train"] |= {"distillation_type": "feature", "teacher": "online", "manual_seed": 0, "G_scheduler_gamma": 0.5}
    file, work = folder / "mutated.json", folder / "work"
    file.write_text(json.dumps(raw))
    work.mkdir()
    assert refusal(file) == "", "the file is refused before it is mutated"
    there = sorted(folder.rglob("*"))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(raw))
    def accepted_or_refused(content: bytes) -> None:
        file.write_bytes(content)
        message = refusal(file)
        if message:
            first, *problems = message.splitlines()
            assert first.startswith("error: ")
            assert all(problem.startswith("  ") for problem in problems)
            assert all(len(line) < 1000 for line in (first, *problems))
        assert sorted(folder.rglob("*")) == there

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        accepted_or_refused()


@pytest.mark.slow
def test_a_mutated_file_is_accepted_or_refused_by_one_sentence_for_each_problem(tmp_path: Path) -> None:
    check_mutations(tmp_path, examples=EXAMPLES)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"embed_dim": 10**8}, "netG: embed_dim, depths, img_size and window_size make 2e+17"),
        ({"embed_dim": 10**12}, "netG.embed_dim: should be less than or equal to 1000000000"),
        ({"depths": [10**6, 1]}, "netG: depths of 1000001 blocks in all are more than 1,000"),
        ({"img_size": 10**6, "window_size": 8}, "netG: embed_dim, depths, img_size and window_size make"),
        ({"mlp_ratio": 1e300}, "netG: embed_dim, depths, img_size and window_size make"),
        ({"mlp_ratio": 0.01}, "netG: mlp_ratio 0.01 leaves no hidden channel"),
    ],
)
def test_a_network_that_fits_no_memory_is_refused(
    changes: dict[str, Any], sentence: str, raw_options: dict[str, Any], tmp_path: Path
) -> None:
    raw_options["netG"] |= changes
    file = tmp_path / "options.json"
    file.write_text(json.dumps(raw_options))
    assert sentence in refusal(file)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"a\nb": 1}, r"a\nb: unknown key"),
        ({"x" * 10_000: 1}, "xxx...: unknown key"),
        ({"task": "x" * 10_000}, "task: should have at most 100 characters"),
        ({"scale": "x" * 10_000}, "xxx..."),
        ({"path": {"root": "a\0b"}}, r'path.root: should be a path without control characters, but is "a\u0000b"'),
        ({"path": {"root": ""}}, 'path.root: should not be empty, but is ""'),
    ],
)
def test_odd_text_is_refused_in_one_short_line(
    changes: dict[str, Any], sentence: str, raw_options: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "options.json"
    file.write_text(json.dumps(raw_options | changes))
    (line,) = refusal(file).splitlines()
    assert sentence in line
    assert len(line) < 1000


def test_brackets_without_end_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text("[" * 100_000)
    assert refusal(file) == f"error: {file}: the brackets are nested too deeply\n"
