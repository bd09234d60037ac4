"""What the networks of an option file cost."""

import sys

import pytest
import torch
from torch import nn

from models.inspect import summary
from models.inspect.summary import count, count_flops
from models.network_swinir import SwinIR
from tests.conftest import ROOT


def test_the_summary_shows_the_counts_of_the_option_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["summary", "--opt", str(ROOT / "options" / "train_swinir_student.json")])
    summary.main()
    student, teacher = capsys.readouterr().out.splitlines()[1:]
    assert student.split()[:3] == ["student", "988,959", "8.31%"]
    assert teacher.split()[:3] == ["teacher", "11,900,199", "100.00%"]
    assert float(student.split()[3]) == pytest.approx(12.67, abs=0.02)


@pytest.mark.slow
def test_a_denoiser_has_a_summary(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["summary", "--opt", str(ROOT / "tests" / "kair" / "color_dn.json")])
    summary.main()
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["student", "teacher"]
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--set", "netTeacher.upsampler=pixelshuffle"])
    summary.main()
    (student,) = capsys.readouterr().out.splitlines()[1:]
    assert student.split()[0::2] == ["student", "-", "-"]
    sys.argv += ["train.distillation_type=response", "path.pretrained_netTeacher=x"]
    with pytest.raises(SystemExit):
        summary.main()
    assert "upsampler 'pixelshuffle' makes upscale" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_network_is_counted_where_it_is(device: str) -> None:
    network = nn.Conv2d(3, 8, 3, padding=1, device=device)
    assert count(network, channels=3) == {"parameters": 8 * (3 * 9 + 1), "flops": 2 * 64 * 64 * 8 * 3 * 9}
    assert network.weight.device.type == device


def test_attention_is_counted_on_every_device() -> None:
    network = SwinIR(img_size=8, embed_dim=12, depths=[2], num_heads=[2], window_size=4).eval()
    with torch.no_grad():
        on_cpu = count_flops(network, channels=3, size=8)
    assert on_cpu == count_flops(network.to("meta"), channels=3, size=8) > 0
