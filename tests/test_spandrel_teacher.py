"""Teachers that spandrel reads: a real DAT-light by its published figure, and an ESRGAN of random weights."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.ESRGAN import ESRGAN
from torch import Tensor, nn

import main_train_student
from data.dataset_sr import SRImages, sr_pairs
from models.distillation.spandrel_teacher import SpandrelTeacher, find_layout, read_teacher
from models.distillation.teacher import Teacher
from models.inspect.feature_maps import mean_activations
from models.model_plain import ModelPlain, check_networks
from models.network_swinir import SwinIR, reflect_to_multiple
from tests.conftest import ROOT, train_here
from utils.evaluation.evaluate import average, evaluate
from utils.evaluation.restorer import Restorer
from utils.options.networks import SpandrelNetwork
from utils.options.schema import Options
from utils.process.errors import UserError

CPU = torch.device("cpu")
DAT = "teachers/DAT_light_x4.pth"
BLOCKS = ["model.1.sub.0", "model.1.sub.1"]  # the two RRDBs of the ESRGAN


@pytest.fixture
def esrgan(tmp_path: Path) -> Path:
    """An ESRGAN x4 of two RRDBs and eight channels, as BasicSR saves it."""
    torch.manual_seed(0)
    torch.save({"params_ema": ESRGAN(num_filters=8, num_blocks=2).state_dict()}, tmp_path / "esrgan.pth")
    return tmp_path / "esrgan.pth"


def read(path: Path, *features: str, scale: int = 4, channels: int = 3, crop: int = 8) -> SpandrelTeacher:
    return read_teacher(path, scale=scale, channels=channels, features=features, crop=crop)


def tokens(image: Tensor) -> Tensor:
    """(B, D, H, W) -> (B, L, D)."""
    return image.flatten(2).transpose(1, 2)


def options(raw: dict[str, Any], weights: Path, *features: str, **train: Any) -> Options:
    """The toy options with a teacher that spandrel reads."""
    raw["path"]["pretrained_netTeacher"] = str(weights)
    raw["netTeacher"] = {"net_type": "spandrel", "features": list(features)}
    return Options.model_validate(raw | {"train": raw["train"] | train})


@pytest.mark.timeout(900)  # half a minute, where no one else wants the processor
@pytest.mark.slow
def test_dat_light_restores_set5_to_its_published_figure(shared: Callable[[str], Path]) -> None:
    teacher = Teacher(read(shared(DAT)))
    pairs = sr_pairs(shared("testsets/Set5/HR"), shared("testsets/Set5/LR_bicubic/X4"), scale=4, cache=None)
    restore = Restorer(lambda image: teacher(image).image, scale=4, window_size=teacher.network.window_size)
    results = evaluate(restore, SRImages(pairs, scale=4, channels=3), border=4, device=CPU)
    assert average(results)["psnr_y"] == pytest.approx(32.56, abs=0.01)


def test_features_of_dat_light_are_the_outputs_of_the_named_modules(shared: Callable[[str], Path]) -> None:
    teacher = read(shared(DAT), "before_RG", "conv_first", "layers.0.blocks.17", crop=16)
    assert teacher.feature_dims == [60, 60, 60]
    image = torch.rand(2, 3, 16, 32)
    restored, (normed, first, last) = teacher.forward_with_features(image)
    assert restored.shape == (2, 3, 64, 128)
    network = teacher.network
    shallow = network.get_submodule("conv_first")(image - torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1))
    torch.testing.assert_close(first, tokens(shallow))
    torch.testing.assert_close(normed, network.get_submodule("before_RG")(shallow))
    assert last.shape == (2, 16 * 32, 60)


def test_the_feature_loss_of_dat_light_reaches_the_student(
    raw_options: dict[str, Any], shared: Callable[[str], Path]
) -> None:
    alone = {"distillation_type": "feature", "G_lossfn_weight": 0.0, "distill_lossfn_weight": 0.0}
    raw_options["datasets"]["train"]["H_size"] = 64
    taught = options(raw_options, shared(DAT), "conv_first", "layers.0.blocks.5", **alone, feature_pairs=[[1, 1]])
    model = ModelPlain(taught, device=CPU)
    named = {"H_path": ["a", "b"], "window": ["", ""]}
    losses = model.train_step({"L": torch.rand(2, 3, 16, 16), "H": torch.rand(2, 3, 64, 64)} | named)
    assert losses.keys() == {"l_g_feature", "G_loss"}
    assert model.translators is not None
    for module in (model.student.layers, model.translators):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    assert isinstance(model.teacher, Teacher)
    assert isinstance(model.teacher.network, nn.Module)
    assert not any(p.requires_grad or p.grad is not None for p in model.teacher.network.parameters())


def test_features_are_kept_before_a_later_layer_changes_them_in_place(esrgan: Path) -> None:
    teacher = read(esrgan, "model.0", "model.1.sub.0.RDB1.conv1.0")  # the second goes through an in-place LeakyReLU
    image = torch.rand(1, 3, 8, 10)
    _, (first, before_activation) = teacher.forward_with_features(image)
    network = teacher.network
    shallow = network.get_submodule("model.0")(image)
    torch.testing.assert_close(first, tokens(shallow))
    expected = tokens(network.get_submodule("model.1.sub.0.RDB1.conv1.0")(shallow))
    torch.testing.assert_close(before_activation, expected)
    assert teacher.feature_dims == [8, 32]


def test_no_hook_outlives_the_call(esrgan: Path) -> None:
    teacher = read(esrgan, *BLOCKS)
    with pytest.raises(RuntimeError):
        teacher(torch.rand(1, 5, 8, 8))
    assert not any(module._forward_hooks for module in teacher.modules())


@pytest.mark.parametrize("shape", [(1, 5, 2, 4), (1, 2, 4, 5), (1, 8, 5)])
def test_the_layout_of_a_feature_is_found_from_its_shape(shape: tuple[int, ...]) -> None:
    pixels = torch.arange(8.0)
    positions = {
        (1, 5, 2, 4): pixels.view(1, 1, 2, 4),
        (1, 2, 4, 5): pixels.view(1, 2, 4, 1),
        (1, 8, 5): pixels.view(1, 8, 1),
    }
    output = positions[shape].expand(shape)
    to_tokens = find_layout(output, height=2, width=4)
    assert to_tokens is not None
    assert torch.equal(to_tokens(output), pixels.view(1, 8, 1).expand(1, 8, 5))


@pytest.mark.parametrize("shape", [(1, 5, 4, 8), (2, 4, 5), (1, 4, 2, 5), (1, 5), (1, 5, 8)])
def test_what_is_not_one_vector_for_each_pixel_has_no_layout(shape: tuple[int, ...]) -> None:
    assert find_layout(torch.zeros(shape), height=2, width=4) is None


def test_any_size_is_padded_to_what_the_network_needs(tmp_path: Path) -> None:
    """Real-ESRGAN's x2 network folds 2x2 pixels into channels, and wants multiples of 4."""
    torch.save(ESRGAN(in_nc=12, num_filters=8, num_blocks=1, shuffle_factor=2).state_dict(), tmp_path / "x2.pth")
    teacher = read(tmp_path / "x2.pth", scale=2)
    assert teacher.window_size == 4
    image = torch.rand(1, 3, 13, 18)
    restored = teacher(image)
    assert restored.shape == (1, 3, 26, 36)
    assert torch.equal(restored, teacher(reflect_to_multiple(image, 4))[..., :26, :36])


def test_a_network_without_bfloat16_stays_in_float32(esrgan: Path) -> None:
    teacher = read(esrgan, *BLOCKS)
    image = torch.rand(1, 3, 8, 8)
    exact = teacher(image)
    for supported in (True, False):
        teacher.descriptor.supports_bfloat16 = supported
        with torch.autocast("cpu", torch.bfloat16):
            restored, halves = teacher.forward_with_features(image)
        assert torch.equal(restored, exact) == (not supported)
        assert [half.dtype for half in halves] == [torch.bfloat16 if supported else torch.float32] * 2


def test_safetensors_are_read_too(esrgan: Path, tmp_path: Path) -> None:
    save_file(read(esrgan).network.state_dict(), tmp_path / "esrgan.safetensors")
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(read(tmp_path / "esrgan.safetensors")(image), read(esrgan)(image))


def test_a_stored_teacher_restores_large_images_in_tiles(raw_options: dict[str, Any], esrgan: Path) -> None:
    model = ModelPlain(options(raw_options, esrgan, distillation_type="response", teacher="stored"), device=CPU)
    assert isinstance(model.teacher, Teacher)
    network = model.teacher.network
    assert isinstance(network, SpandrelTeacher)
    image = torch.rand(1, 3, 9, 300)
    with torch.no_grad():
        tiled, whole = model.teacher_restore()(image), Restorer(network, scale=4, window_size=2)(image)
    assert tiled.shape == (1, 3, 36, 1200)
    torch.testing.assert_close(tiled[..., :160], whole[..., :160])  # the second tile begins at 46 of 302 LR pixels
    torch.testing.assert_close(tiled[..., -160:], whole[..., -160:])


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *experiments: Options) -> None:
    """The training script on these options."""
    files = [tmp_path / f"{experiment.task}.json" for experiment in experiments]
    for file, experiment in zip(files, experiments, strict=True):
        experiment.save(file)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["main_train_student.py", "--opt", *map(str, files)])
    main_train_student.main()


@pytest.mark.slow
def test_an_esrgan_teaches_online_and_stored_and_by_its_features(
    raw_options: dict[str, Any], esrgan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "online": {"distillation_type": "response"},
        "stored": {"distillation_type": "response", "teacher": "stored"},
        "feature": {"distillation_type": "feature", "feature_pairs": [[0, 0], [1, 1]]},
    }
    raw_options["train"]["total_iter"] = 2
    experiments = [options(raw_options | {"task": task}, esrgan, *BLOCKS, **train) for task, train in kinds.items()]
    run(monkeypatch, tmp_path, *experiments)
    for task in kinds:
        lines = map(json.loads, (tmp_path / "runs" / task / "metrics.jsonl").read_text().splitlines())
        last = [line for line in lines if line["kind"] == "train"][-1]
        terms = {"l_g_L1", "l_g_distill", "G_loss"} | ({"l_g_feature"} if task == "feature" else set())
        assert terms == {key for key in last if key.startswith(("l_g", "G_"))}
    assert len(list((tmp_path / "HR_stores").glob("*esrgan*.u8"))) == 1


def test_features_alone_say_that_spandrel_reads_the_teacher(raw_options: dict[str, Any], esrgan: Path) -> None:
    raw_options["netTeacher"] = {"features": BLOCKS}
    raw_options["path"]["pretrained_netTeacher"] = str(esrgan)
    assert Options.model_validate(raw_options).netTeacher == SpandrelNetwork(net_type="spandrel", features=BLOCKS)


@pytest.mark.slow
def test_a_teacher_that_its_weights_show_is_recorded_and_shares_the_store_of_one_that_is_named(
    raw_options: dict[str, Any], esrgan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: dict[str, Any] = {"teacher": "stored", "total_iter": 1, "feature_pairs": [[0, 0], [1, 1]]}
    named = options(raw_options | {"task": "named"}, esrgan, *BLOCKS, distillation_type="feature", **stored)
    found = options(raw_options | {"task": "found"}, esrgan, distillation_type="response", **stored)
    stores = []
    for experiment in (found, named, found.renamed("again")):
        raw = experiment.model_dump(exclude_unset=True)
        if experiment is not named:
            del raw["netTeacher"]
        (tmp_path / "toy.json").write_text(json.dumps(raw))
        train_here(monkeypatch, "--opt", tmp_path / "toy.json")
        (store,) = tmp_path.rglob("*esrgan*.u8")
        stores.append((store, store.stat().st_mtime_ns))
    assert len(set(stores)) == 1
    assert json.loads((tmp_path / "runs/found/options.json").read_text())["netTeacher"] == {"net_type": "spandrel"}


def test_what_is_wrong_with_the_second_file_is_said_before_the_first_runs(
    raw_options: dict[str, Any], esrgan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    first = options(raw_options | {"task": "first"}, esrgan, distillation_type="response")
    second = options(raw_options, esrgan, "model.1.subs.0", distillation_type="feature")
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path, first, second)
    assert "'model.1.subs.0' is none of the" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_teacher_that_an_earlier_task_will_train_is_not_asked_for(raw_options: dict[str, Any]) -> None:
    check_networks(options(raw_options, Path("runs/earlier/models/10_E.pth"), distillation_type="response"))


@pytest.mark.parametrize(
    ("feature", "sentence"),
    [
        ("model.1.sub.7", r"'model.1.sub.7' is none of the \d+ modules of RRDBNet; the nearest are model.1.sub.\d, "),
        (
            "model.2",
            r"'model.2' gives \(1, 8, 32, 48\) for an LR image of \(1, 3, 16, 24\); expected .* 16x24 pixels",
        ),
    ],
)
def test_a_feature_that_is_not_to_be_had_is_named(feature: str, sentence: str, esrgan: Path) -> None:
    with pytest.raises(UserError, match=f"^netTeacher.features: {sentence}"):
        read(esrgan, "model.1.sub.0", feature)


def test_a_module_that_never_runs_gives_no_feature(tmp_path: Path) -> None:
    swinir = SwinIR(8, embed_dim=12, depths=[2], num_heads=[2], window_size=4, upscale=4, upsampler="pixelshuffle")
    torch.save(swinir.state_dict(), tmp_path / "swinir.pth")
    assert read(tmp_path / "swinir.pth", "layers.0").feature_dims == [12]
    with pytest.raises(UserError, match=r"'layers\.0\.residual_group\.blocks' gives 0 tensors for one image, not one"):
        read(tmp_path / "swinir.pth", "layers.0.residual_group.blocks")


def test_features_of_crops_that_the_two_networks_extend_differently_are_of_the_same_pixels(
    raw_options: dict[str, Any], shared: Callable[[str], Path]
) -> None:
    taught = options(raw_options, shared(DAT), "conv_first", distillation_type="feature", feature_pairs=[[0, 0]])
    model = ModelPlain(taught, device=CPU)
    assert model.teacher is not None
    assert (model.student.window_size, model.teacher.network.window_size) == (4, 16)
    image = torch.rand(1, 3, 10, 18)
    features = model.teacher(image).features
    network = model.teacher.network
    assert isinstance(network, SpandrelTeacher)
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
    shallow = network.network.get_submodule("conv_first")(image - mean)
    found = features[0].mT.unflatten(2, (10, 18))
    torch.testing.assert_close(found[..., :9, :17], shallow[..., :9, :17])  # beyond, it saw the extension
    answered = model.trainable(image, features)
    assert answered.features[0].shape == answered.targets[0].shape == (1, 10 * 18, 12)


def test_features_of_different_widths_have_their_maps_side_by_side(raw_options: dict[str, Any], esrgan: Path) -> None:
    widths = ("model.0", "model.1.sub.0.RDB1.conv1.0")  # 8 and 32
    on_student = {"feature_translator": "student", "feature_pairs": [[0, 0], [1, 1]]}
    model = ModelPlain(options(raw_options, esrgan, *widths, distillation_type="feature", **on_student), device=CPU)
    student, targets = mean_activations(model, torch.rand(3, 10, 12))
    assert student.shape == targets.shape == (2, 10, 12)


def test_a_pair_beyond_the_features_is_named(raw_options: dict[str, Any], esrgan: Path) -> None:
    with pytest.raises(UserError, match=r"pair \[1, 2\]: the teacher has 2 features, counted from 0"):
        check_networks(options(raw_options, esrgan, *BLOCKS, distillation_type="feature"))


def unknown_architecture(path: Path) -> None:
    torch.save({"some.weight": torch.zeros(3)}, path)


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def code(path: Path) -> None:
    torch.save({"weights": Path("surprise")}, path)


def denoiser(path: Path) -> None:
    torch.save(DnCNN(in_nc=3, out_nc=3, nc=8, nb=5).state_dict(), path)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (unknown_architecture, "these are not the weights of a SwinIR, nor of another architecture .*extra_arches"),
        (damaged, "not a readable checkpoint"),
        (code, "not a readable checkpoint .*could run code"),
        (denoiser, "this DnCNN is for scale 1 and images of 3 channels, which does not fit scale 4 and n_channels 3"),
    ],
)
def test_a_file_that_is_no_teacher_is_refused_by_name(
    spoil: Callable[[Path], None], sentence: str, esrgan: Path
) -> None:
    spoil(esrgan)
    with pytest.raises(UserError, match=rf"esrgan\.pth: {sentence}"):
        read(esrgan)


@pytest.mark.parametrize(("scale", "channels"), [(2, 3), (4, 1)])
def test_a_teacher_for_another_scale_or_other_channels_is_refused(scale: int, channels: int, esrgan: Path) -> None:
    with pytest.raises(UserError, match=f"for scale 4 and .* does not fit scale {scale} and n_channels {channels}"):
        read(esrgan, scale=scale, channels=channels)
