"""Exported networks: each form opens where it is meant to, and restores as ours does."""

import base64
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors
import torch
from huggingface_hub import ModelCard
from spandrel import ModelLoader

from models.export import __main__ as export
from models.export import forms
from models.export.hub import push
from models.network_swinir import SwinIR
from models.network_swinir_student import SwinIR_Student
from models.select_network import network_with_weights
from tests.conftest import ROOT, make_image
from tests.golden.fill import fill_
from utils.evaluation.restorer import Restorer
from utils.imaging.io import read_image, write_image
from utils.imaging.tensors import to_image, to_tensor, unit_range
from utils.process.errors import UserError
from utils.runs import checkpoints
from utils.runs.history import Change
from utils.weights import read_weights, serialized

TINY: dict[str, Any] = {
    "img_size": 16,
    "embed_dim": 12,
    "depths": [2],
    "num_heads": [2],
    "window_size": 8,
    "mlp_ratio": 2,
    "upscale": 2,
    "upsampler": "pixelshuffle",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "classical": {},
    "lightweight": {"upsampler": "pixelshuffledirect", "upscale": 3},
    "real-world": {"upsampler": "nearest+conv", "upscale": 4, "resi_connection": "3conv"},
    "gray denoising": {"upsampler": "", "upscale": 1, "in_chans": 1},
    "JPEG": {"upsampler": "", "upscale": 1, "img_size": 14, "window_size": 7, "img_range": 255.0},
}
# Height and width of what is restored: smaller than a window, odd, multiples of windows of 7 and 8, one pixel.
SIZES = ((5, 9), (37, 53), (61, 19), (56, 56), (1, 1))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The command; returns what it prints."""

    def command(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        capsys.readouterr()
        export.main()
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return command


def saved(arguments: dict[str, Any], path: Path) -> SwinIR:
    """A network, whose weights are in the file."""
    network = fill_(SwinIR(**arguments), seed=1).eval()
    torch.save({"params": network.state_dict()}, path)
    return network


def onnx_restored(path: Path, image: torch.Tensor) -> torch.Tensor:
    (restored,) = onnxruntime.InferenceSession(path).run(None, {"image": image.numpy()})
    return torch.from_numpy(restored)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_form_restores_as_the_network_does(variant: str, run: Callable[..., str], tmp_path: Path) -> None:
    network = saved(TINY | VARIANTS[variant], tmp_path / "net.pth")
    out = tmp_path / "out"
    assert str(out) in run(tmp_path / "net.pth", "--out", out)
    assert {path.name for path in out.iterdir()} == {"net.safetensors", "net.pth", "net.onnx", "README.md"}

    for height, width in SIZES:
        image = torch.rand(2, network.in_chans, height, width, generator=torch.Generator().manual_seed(height))
        torch.testing.assert_close(onnx_restored(out / "net.onnx", image), network(image), rtol=0, atol=1e-4)

    lr_image = torch.rand(1, network.in_chans, 56, 56)  # multiples, since spandrel's padding is its own
    for form in ("net.safetensors", "net.pth"):
        opened = ModelLoader(device="cpu").load_from_file(out / form).eval()
        assert opened.scale == network.upscale
        torch.testing.assert_close(opened.model(lr_image), network(lr_image), rtol=0, atol=1e-5)

    published = importlib.import_module("spandrel.architectures.SwinIR.__arch.SwinIR").SwinIR(
        **TINY | VARIANTS[variant]
    )
    published.load_state_dict(torch.load(out / "net.pth", weights_only=True)["params"], strict=True)
    with safetensors.safe_open(out / "net.safetensors", "pt") as file:
        rebuilt = SwinIR(**json.loads(file.metadata()["arguments"])).eval()
        rebuilt.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 -- no mapping
    assert torch.equal(rebuilt(lr_image), network(lr_image))


@torch.no_grad()
def test_half_the_size_restores_nearly_the_same(run: Callable[..., str], tmp_path: Path) -> None:
    network = saved(TINY, tmp_path / "net.pth")
    for form in ("whole", "half"):
        run(tmp_path / "net.pth", "--out", tmp_path / form, *(["--half"] if form == "half" else []))
    whole, half = (tmp_path / form / "net.safetensors" for form in ("whole", "half"))
    assert half.stat().st_size < 0.7 * whole.stat().st_size  # names and shapes take the rest
    halved = network_with_weights(read_weights(half), source=half, options=None)
    image = torch.rand(1, 3, 24, 24)
    difference = (halved(image) - network(image)).abs().max()
    assert 0 < difference < 2e-3
    opened = ModelLoader(device="cpu").load_from_file(half).eval()
    torch.testing.assert_close(opened.model(image), halved(image), rtol=0, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_a_student_of_the_study_is_exported() -> None:
    network = fill_(SwinIR_Student(upscale=4, upsampler="pixelshuffle", mlp_ratio=2), seed=1).eval()
    assert forms.onnx_difference(forms.to_onnx(network), network) < 1e-4


@torch.no_grad()
def test_what_training_alone_needs_does_not_disturb_onnx() -> None:
    network = fill_(SwinIR(**TINY, ape=True, use_checkpoint=True, drop_path_rate=0.5), seed=1).eval()
    assert forms.onnx_difference(forms.to_onnx(network), network) < 1e-4


@torch.no_grad()
def test_onnx_is_not_bound_to_the_parts_in_which_pytorch_restores_large_images(tmp_path: Path) -> None:
    network = saved(TINY | {"upsampler": "pixelshuffledirect"}, tmp_path / "net.pth")
    (tmp_path / "net.onnx").write_bytes(forms.to_onnx(network))
    image = torch.rand(1, 3, 137, 133)
    torch.testing.assert_close(onnx_restored(tmp_path / "net.onnx", image), network(image), rtol=0, atol=1e-4)


@pytest.fixture
def task_checkpoint(raw_options: dict[str, Any], tmp_path: Path) -> Path:
    """A checkpoint in its task folder, with two validations on record."""
    folder = tmp_path / "runs" / "toy"
    options = raw_options | {"path": {"root": str(folder.parent), "pretrained_netTeacher": "teacher.pth"}}
    options["train"] = raw_options["train"] | {"distillation_type": "response"}
    options["netG"] = raw_options["netG"] | {"depths": [2, 1]}  # spandrel wants two blocks in the first RSTB
    network = fill_(SwinIR(**options["netG"], upscale=4), seed=1)
    checkpoints.save(folder / "models", 10, {"E": serialized(network.state_dict()), "state": b""})
    (folder / "options.json").write_text(json.dumps(options))
    means = {"psnr": 26.25, "ssim": 0.75, "psnr_y": 28.123, "ssim_y": 0.8125}
    records: list[dict[str, Any]] = [
        {"kind": "test", "iter": iteration, "dataset": "Set5", "weights": weights, "images": []}
        | {key: value + iteration + (weights == "E") for key, value in means.items()}
        for iteration in (5, 10)
        for weights in ("G", "E")
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder / "models" / "10_E.pth"


def test_the_card_tells_what_is_measured(task_checkpoint: Path, run: Callable[..., str], tmp_path: Path) -> None:
    run(task_checkpoint, "--out", tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    text, data = card.text, card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "pytorch", "image-to-image")
    assert "knowledge-distillation" in data.tags
    assert data.model_name == "toy_x4"
    assert {result.dataset_name for result in data.eval_results} == {"Set5"}
    values = {result.metric_name: result.metric_value for result in data.eval_results}
    assert values == {"PSNR": 37.25, "SSIM": 11.75, "PSNR_Y": 39.123, "SSIM_Y": 11.8125}
    assert "39.12" in text
    assert "response distillation from\n`teacher.pth`" in text
    stored = read_weights(task_checkpoint)
    learnt = [value.numel() for name, value in stored.items() if "index" not in name and "mask" not in name]
    assert f"{sum(learnt):,} parameters" in text
    (option_file,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert json.loads(option_file)["train"]["total_iter"] == 10


def test_the_files_name_no_folder_of_the_machine_and_the_card_what_was_changed_in_the_run(
    task_checkpoint: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    file = task_checkpoint.parent.parent / "options.json"
    options = json.loads(file.read_text())
    options["path"]["pretrained_netTeacher"] = "C:\\Users\\me\\teacher.pth"
    file.write_text(json.dumps(options))
    change = Change(5, "datasets.train.dataroot_H", f"{tmp_path}/earlier", f"{tmp_path}/HR")
    (file.parent / "train.log").write_text(f"26-01-01 00:00:00.000 : {change}\n")
    run(task_checkpoint, "--out", tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert [place for place in (str(tmp_path), str(ROOT), "Users") if place.encode() in content] == []
    text = (tmp_path / "out" / "README.md").read_text()
    assert "response distillation from\n`teacher.pth`" in text
    assert re.search(r"^\| 5 +\| datasets.train.dataroot_H \| earlier \| HR +\|$", text, re.MULTILINE)


def test_the_option_file_tells_the_range_that_the_weights_do_not_show(
    raw_options: dict[str, Any], run: Callable[..., str], tmp_path: Path
) -> None:
    """A denoiser with windows of 7, whose weights are like those of a JPEG network, which works on 255."""
    raw_options |= {"scale": 1, "netG": raw_options["netG"] | {"window_size": 7, "img_size": 14, "upsampler": ""}}
    for dataset in raw_options["datasets"].values():
        dataset |= {"dataset_type": "dncnn", "sigma": 25}
    network = fill_(SwinIR(**raw_options["netG"], upscale=1), seed=1)
    folder = tmp_path / "runs" / "toy"
    checkpoints.save(folder / "models", 10, {"E": serialized(network.state_dict()), "state": b""})
    (folder / "options.json").write_text(json.dumps(raw_options))
    run(folder / "models" / "10_E.pth", "--out", tmp_path / "out")
    (exported,) = (tmp_path / "out").glob("*.safetensors")
    alone = exported.rename(tmp_path / "alone.safetensors")
    opened = network_with_weights(read_weights(alone), source=alone, options=None)
    lr_image = torch.rand(1, 3, 14, 14)
    assert torch.equal(opened(lr_image), network.eval()(lr_image))


@pytest.mark.slow
def test_the_commands_of_the_card_work(
    task_checkpoint: Path, run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(task_checkpoint, "--out", out)
    write_image(out / "image.png", make_image(16, 32, seed=1))
    write_image(out / "images" / "image.png", make_image(16, 32, seed=1))
    (out / "main_test_swinir.py").symlink_to(ROOT / "main_test_swinir.py")
    monkeypatch.chdir(out)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    shell, *python = re.findall(r"```(?:sh|python)\n(.*?)```", Path("README.md").read_text(), re.DOTALL)

    network = network_with_weights(read_weights(task_checkpoint), source=task_checkpoint, options=None)
    lr_image = unit_range(to_tensor(make_image(16, 32, seed=1)))[None]
    with torch.no_grad():
        alone = to_image(network(lr_image)[0]).astype(int)
        by_script = to_image(Restorer(network, scale=4, window_size=4)(lr_image)[0]).astype(int)  # it pads

    subprocess.run(shell, shell=True, check=True, capture_output=True)
    (written,) = out.glob("results/*/images/image_SwinIR.png")
    assert np.abs(read_image(written, channels=3) - by_script).max() <= 1
    assert len(python) == 2
    for snippet in python:
        exec(snippet, {})
        assert np.abs(read_image(out / "restored.png", channels=3) - alone).max() <= 1
        (out / "restored.png").unlink()


class Hub(BaseHTTPRequestHandler):
    """The few answers of the Hugging Face hub that an upload needs; keeps what was committed, and by which token."""

    commits: dict[str, dict[str, bytes]] = {}
    tokens: set[str | None] = set()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.tokens.add(self.headers["Authorization"])
        answer: dict[str, Any] = {"warnings": [], "errors": []}
        if self.path == "/api/repos/create":
            answer = {"url": f"http://{self.headers['Host']}/me/{json.loads(body)['name']}"}
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            answer = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.commits[self.path] = {file["path"]: base64.b64decode(file["content"]) for file in files}
            answer = {"commitUrl": f"http://{self.headers['Host']}/me/toy/commit/0", "commitOid": "0" * 40}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_exactly_the_files_of_the_export_are_uploaded(hub: str, run: Callable[..., str], tmp_path: Path) -> None:
    saved(TINY, tmp_path / "net.pth")
    out = tmp_path / "out"
    run(tmp_path / "net.pth", "--out", out)
    files = {path.name for path in out.iterdir()}
    (out / "notes.txt").write_text("not for the public")
    done = subprocess.run(
        [sys.executable, "-m", "models.export", tmp_path / "net.pth", "--out", out, "--push", "me/toy"],
        cwd=ROOT,
        env=os.environ | {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.endswith(f"uploaded to {hub}/me/toy\n")
    assert Hub.commits == {"/api/models/me/toy/commit/main": {name: (out / name).read_bytes() for name in files}}
    assert Hub.tokens == {"Bearer hf_test"}


def refusal(run: Callable[..., str], capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as exit_code:
        run(*arguments)
    assert exit_code.value.code == 2
    return capsys.readouterr().err


def test_without_a_token_nothing_is_made(
    run: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))  # of `hf auth login`
    saved(TINY, tmp_path / "net.pth")
    error = refusal(run, capsys, tmp_path / "net.pth", "--out", tmp_path / "out", "--push", "me/toy")
    assert error == "error: --push: there is no Hugging Face token; run `hf auth login`, or set HF_TOKEN\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("repo", "problem"), [("me/toy", "Connection refused"), ("me/a/b", "Repo id must be")])
def test_an_upload_that_fails_is_one_sentence(
    repo: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(UserError, match=f"^--push {repo}: .*{problem}.*$"):
        push(tmp_path, [], repo=repo, token="hf_test")


def test_a_folder_with_other_files_is_left_alone(
    run: Callable[..., str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved(TINY, tmp_path / "net.pth")
    before = (tmp_path / "net.pth").read_bytes()
    assert "there are other files in this folder" in refusal(run, capsys, tmp_path / "net.pth", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]
    assert (tmp_path / "net.pth").read_bytes() == before
    run(tmp_path / "net.pth", "--out", tmp_path / "out")
    run(tmp_path / "net.pth", "--out", tmp_path / "out")  # its own files are replaced


def test_the_card_leaves_out_spandrel_where_it_would_guess_wrongly(run: Callable[..., str], tmp_path: Path) -> None:
    saved(TINY | {"window_size": 7, "img_size": 14}, tmp_path / "net.pth")  # spandrel takes its img_range for 255
    run(tmp_path / "net.pth", "--out", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "spandrel" not in card
    assert "No validation of these weights is on record." in card
