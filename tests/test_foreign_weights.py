"""Files of weights as other tools write them, and damaged ones, by the commands that a user types."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spandrel.architectures.ESRGAN import ESRGAN
from torch import nn

import main_test_swinir
from models.network_swinir import SwinIR
from tests.conftest import make_image, train_here
from tests.golden.fill import fill_
from utils.imaging.io import write_image
from utils.process.errors import UserError
from utils.weights import read_weights

TINY: dict[str, Any] = {
    "img_size": 8,
    "embed_dim": 12,
    "depths": [2],
    "num_heads": [2],
    "window_size": 4,
    "mlp_ratio": 2,
}
X4 = TINY | {"upscale": 4, "upsampler": "pixelshuffle"}


class Overwriter(nn.Module):
    """A module whose archive overwrites a file while it is opened."""

    def __init__(self, victim: str) -> None:
        super().__init__()
        self.victim = victim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.victim, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.victim = state[0]
        self.training = bool(torch.from_file(self.victim, True, 4).fill_(0.0).sum() > 0)


@pytest.fixture
def taught(raw_options: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """An option file with response distillation from a file of weights."""

    def write(teacher: Path, **network: Any) -> Path:
        raw_options["path"]["pretrained_netTeacher"] = str(teacher)
        raw_options["netTeacher"] = network
        raw_options["train"] |= {"distillation_type": "response", "teacher": "stored", "total_iter": 1}
        file = tmp_path / "taught.json"
        file.write_text(json.dumps(raw_options))
        return file

    return write


def refusal(capsys: pytest.CaptureFixture[str], run: Callable[[], object]) -> str:
    """The one sentence with which a command ends."""
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_program_in_the_place_of_a_teacher_is_not_run(
    suffix: str,
    taught: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    victim, program = tmp_path / "victim.txt", tmp_path / f"teacher{suffix}"
    victim.write_bytes(b"the user's text.")
    torch.jit.save(torch.jit.script(Overwriter(str(victim))), str(program))
    victim.write_bytes(b"the user's text.")
    file = taught(program, net_type="spandrel")
    line = refusal(capsys, lambda: train_here(monkeypatch, "--opt", file))
    assert line.startswith(f"error: {program}: not a readable checkpoint: a TorchScript program")
    assert victim.read_bytes() == b"the user's text."
    torch.jit.load(str(program))
    assert victim.read_bytes() != b"the user's text.", "the file was harmless, so the test shows nothing"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {f"module._orig_mod.{name}": value for name, value in weights.items()},
        lambda weights: {"params": {f"_orig_mod.{name}": value for name, value in weights.items()}},
        lambda weights: {
            "epoch": 3,
            "state_dict": {f"net_g.{name}": value for name, value in weights.items()} | {"loss.w": torch.ones(1)},
        },
        lambda weights: {
            "state_dict": {f"{owner}.{name}": value for name, value in weights.items() for owner in ("net", "net_ema")}
        },
        lambda weights: {
            name: value for name, value in weights.items() if not name.endswith(("attn_mask", "position_index"))
        },
        lambda weights: {
            name: value.clone().fill_(10**6) if name.endswith("position_index") else value
            for name, value in weights.items()
        },
    ],
    ids=["compiled DDP", "compiled, BasicSR", "Lightning", "two networks", "without buffers", "damaged index"],
)
def test_weights_are_found_however_they_are_wrapped(
    wrap: Callable[[dict[str, torch.Tensor]], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = fill_(SwinIR(**X4), seed=1).eval()
    write_image(tmp_path / "HR" / "a.png", make_image(32, 36, seed=0))
    figures = []
    for name, content in (("plain.pth", network.state_dict()), ("wrapped.pth", wrap(network.state_dict()))):
        torch.save(content, tmp_path / name)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["test", "--model_path", name, "--folder_gt", "HR"])
        main_test_swinir.main()
        (results,) = (tmp_path / "results").glob(f"*{Path(name).stem}*/*/results.json")
        figures.append(json.loads(results.read_text())["average"])
    assert figures[0] == figures[1]


def test_a_pickled_network_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(SwinIR(**TINY), tmp_path / "whole.pth")
    with pytest.raises(UserError, match=r"torch\.save\(network\.state_dict\(\), path\)"):
        read_weights(tmp_path / "whole.pth")


@pytest.mark.parametrize(
    "content",
    [
        {"params": {"layers": {"w": torch.ones(1)}}},
        {"w": torch.eye(2).to_sparse()},
        {"w": torch.ones(1, dtype=torch.complex64)},
    ],
)
def test_what_is_no_array_of_real_numbers_is_no_weight(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "strange.pth")
    with pytest.raises(UserError, match=r"strange\.pth: (holds no weights|not a readable checkpoint)"):
        read_weights(tmp_path / "strange.pth")


def test_weights_of_integers_are_refused_in_one_sentence(
    taught: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = SwinIR(**X4).state_dict()
    torch.save(weights | {"conv_first.bias": torch.ones(12, dtype=torch.int32)}, tmp_path / "teacher.pth")
    file = taught(tmp_path / "teacher.pth", **TINY)
    assert "conv_first.bias is of type torch.int32" in refusal(capsys, lambda: train_here(monkeypatch, "--opt", file))


@pytest.mark.parametrize("network", [TINY, {"net_type": "spandrel"}], ids=["SwinIR", "spandrel"])
def test_a_teacher_with_nan_teaches_nobody(
    network: dict[str, Any],
    taught: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = SwinIR(**X4).state_dict()
    weights["conv_last.bias"][0] = float("nan")
    torch.save(weights, tmp_path / "teacher.pth")
    file = taught(tmp_path / "teacher.pth", **network)
    line = refusal(capsys, lambda: train_here(monkeypatch, "--opt", file))
    assert line.endswith("teacher.pth: 1 of its weights hold infinite numbers or NaN, the first of them conv_last.bias")


def test_a_teacher_whose_answer_is_not_finite_leaves_no_black_images(
    taught: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = SwinIR(**X4).state_dict()
    weights["conv_last.weight"].fill_(3e38)
    weights["conv_before_upsample.0.bias"].fill_(3e38)
    torch.save(weights, tmp_path / "teacher.pth")
    file = taught(tmp_path / "teacher.pth", **TINY)
    with pytest.raises(SystemExit, match="2"):
        train_here(monkeypatch, "--opt", file)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 5
    for line in lines:
        assert "x4.png: the teacher" in line
        assert line.endswith("answers with numbers that are infinite or NaN")
    assert not list(tmp_path.rglob("*teacher*.u8"))


def test_nan_is_told_of_and_no_image_is_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = fill_(SwinIR(**X4), seed=1).state_dict()
    unused = weights["layers.0.residual_group.blocks.0.attn.relative_position_bias_table"]
    write_image(tmp_path / "HR" / "a.png", make_image(32, 36, seed=0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["test", "--model_path", "net.pth", "--folder_gt", "HR"])
    unused[0] = float("-inf")  # such logits give a weight of 0, so the images are finite
    torch.save(weights, "net.pth")
    main_test_swinir.main()
    assert "net.pth: 1 of its weights hold infinite numbers or NaN" in capsys.readouterr().out
    (results,) = (tmp_path / "results").rglob("results.json")
    assert len(json.loads(results.read_text())["not_finite"]) == 1
    weights["conv_last.bias"][0] = float("nan")
    torch.save(weights, "net.pth")
    line = refusal(capsys, main_test_swinir.main)
    assert line.endswith("net.pth answers with numbers that are infinite or NaN")
    assert "a" in line


def test_x4_starts_from_weights_of_x2_but_for_the_upsampler(
    raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw_options["netG"]["upsampler"] = "pixelshuffle"
    donor = fill_(SwinIR(**raw_options["netG"], upscale=2), seed=5).state_dict()
    torch.save(donor, tmp_path / "x2.pth")
    raw_options["path"]["pretrained_netG"] = str(tmp_path / "x2.pth")
    raw_options["train"] |= {"total_iter": 1, "G_optimizer_lr": 1e-12, "G_param_strict": False}
    file = tmp_path / "x4.json"
    file.write_text(json.dumps(raw_options))
    train_here(monkeypatch, "--opt", file)
    assert "left out: upsample.2.bias, upsample.2.weight\n" in capsys.readouterr().out
    trained = torch.load(tmp_path / "runs" / "toy" / "models" / "1_G.pth", weights_only=True)
    for name in ("conv_first.weight", "upsample.0.weight", "conv_last.weight"):
        torch.testing.assert_close(trained[name], donor[name])
    file.write_text(
        json.dumps(raw_options | {"task": "strict", "train": raw_options["train"] | {"G_param_strict": True}})
    )
    assert "they are of a x2 SwinIR, RGB, embed_dim 12, depths [1, 2], it is a x4 SwinIR, " in refusal(
        capsys, lambda: train_here(monkeypatch, "--opt", file)
    )


@pytest.mark.parametrize("kind", ["SwinIR", "ESRGAN"])
def test_a_teachers_architecture_is_read_from_its_weights(
    kind: str,
    raw_options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher = SwinIR(**X4 | {"embed_dim": 20}) if kind == "SwinIR" else ESRGAN(num_filters=8, num_blocks=1)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    del raw_options["netTeacher"]
    raw_options["path"]["pretrained_netTeacher"] = str(tmp_path / "teacher.pth")
    raw_options["train"] |= {"distillation_type": "response", "total_iter": 1}
    file = tmp_path / "taught.json"
    file.write_text(json.dumps(raw_options))
    train_here(monkeypatch, "--opt", file)
    found = {"SwinIR": "teacher : x4 SwinIR, RGB, embed_dim 20, depths [2], ", "ESRGAN": "teacher : ESRGAN, "}
    assert found[kind] in capsys.readouterr().out


def test_a_teacher_of_another_scale_is_named_as_such(
    raw_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(SwinIR(**X4 | {"upscale": 2, "in_chans": 1}).state_dict(), tmp_path / "teacher.pth")
    del raw_options["netTeacher"]
    raw_options["path"]["pretrained_netTeacher"] = str(tmp_path / "teacher.pth")
    raw_options["train"]["distillation_type"] = "response"
    file = tmp_path / "taught.json"
    file.write_text(json.dumps(raw_options))
    assert refusal(capsys, lambda: train_here(monkeypatch, "--opt", file)).endswith(
        "this teacher is a x2 SwinIR, gray, embed_dim 12, depths [2], but the option file asks for scale 4 and RGB "
        "images"
    )
