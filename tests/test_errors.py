"""What a user reads where a program cannot go on."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from utils.process.errors import exit_on_user_error


def test_a_full_gpu_is_one_line_that_says_what_needs_less(capsys: pytest.CaptureFixture[str]) -> None:
    """The text has the form of PyTorch's."""
    with pytest.raises(SystemExit) as exit_info, exit_on_user_error():
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.19 GiB of which 1.06 GiB "
            "is free. Including non-PyTorch memory, this process has 78.12 GiB memory in use."
        )
    assert exit_info.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: CUDA out of memory. Tried to allocate 2.00 GiB. Training needs less with a smaller ")


@pytest.mark.parametrize("ask", [lambda: torch.empty(10**15), lambda: np.empty(10**15)])
def test_a_request_that_this_machine_cannot_meet_is_one_sentence(
    ask: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info, exit_on_user_error():
        ask()
    assert exit_info.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: ([Cc]an't|Unable to) allocate .*\. Training needs less with a smaller ", line)


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="shape"), exit_on_user_error():
        raise RuntimeError("wrong shape. Here.")
