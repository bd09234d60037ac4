"""The training step of the model class, and what it saves and restores."""

import copy
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from models.distillation.teacher import Teacher
from models.model_plain import ModelPlain, check_networks
from models.resume import resume, save
from models.select_network import define_teacher
from tests.conftest import GOLDEN
from tests.golden.fill import fill_, image
from tests.runs import equal
from utils.options.schema import Options
from utils.process.errors import UserError
from utils.process.interrupt import Interrupted

CPU = torch.device("cpu")
KINDS = ["none", "response", "feature"]


@pytest.fixture
def toy(raw_options: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Toy options with a teacher whose weights are there."""
    raw_options["path"]["pretrained_netTeacher"] = str(tmp_path / "teacher.pth")
    teacher = define_teacher(Options.model_validate(raw_options))
    torch.save({"params": fill_(teacher, 1).state_dict()}, tmp_path / "teacher.pth")
    return raw_options


def with_train(raw: dict[str, Any], **train: Any) -> Options:
    """The options with other keys of `train`."""
    return Options.model_validate(raw | {"train": raw["train"] | train})


def batch(seed: int) -> dict[str, Any]:
    pixels = {"L": image((2, 3, 8, 8), seed).float(), "H": image((2, 3, 32, 32), seed + 1).float()}
    return pixels | {"H_path": ["a", "b"], "window": ["[0:32, 0:32]", "[0:32, 4:36]"]}


def weights(model: ModelPlain) -> list[torch.Tensor]:
    return [*model.trainable.parameters(), *model.ema.parameters()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_six_steps_are_the_golden_ones(kind: str, raw_options: dict[str, Any], tmp_path: Path) -> None:
    golden = json.loads((GOLDEN / "training_losses.json").read_text())[0]
    seed = golden["seed"]
    x4 = {"window_size": 8, "mlp_ratio": 2, "upsampler": "pixelshuffle", "drop_path_rate": 0}
    student = {"embed_dim": 60, "depths": [4] * 4, "num_heads": [6] * 4, **x4}
    raw = raw_options | {"netG": student, "netTeacher": {}}
    raw["path"]["pretrained_netTeacher"] = str(tmp_path / "teacher.pth")
    options = with_train(raw, distillation_type=kind, G_optimizer_lr=2e-4, feature_pairs=golden["pairs"])
    if kind != "none":
        torch.save(fill_(define_teacher(options), seed + 1).state_dict(), tmp_path / "teacher.pth")
    model = ModelPlain(options, device=CPU)
    fill_(model.student, seed)
    if model.translators is not None:
        fill_(model.translators, seed + 2)
    lr_image = image(tuple(golden["lr_shape"]), seed + 3).float()
    hr_image = image((golden["lr_shape"][0], 3, 4 * 16, 4 * 16), seed + 4).float()
    for expected in golden["losses"][kind]:
        losses = model.train_step({"L": lr_image, "H": hr_image, "H_path": [], "window": []})
        assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_steps_stay_near_float32_and_keep_losses_and_weights_in_it(kind: str, toy: dict[str, Any]) -> None:
    toy["netG"]["drop_path_rate"] = 0
    plain, half = (
        ModelPlain(with_train(toy, distillation_type=kind, amp=amp), device=CPU).train_step(batch(0))
        for amp in ("no", "bf16")
    )
    for name, value in plain.items():
        assert half[name].dtype == torch.float32
        assert half[name].item() != value.item(), "this step was not made in bfloat16"
        assert half[name].item() == pytest.approx(value.item(), rel=0.02)


def test_what_is_automatic_is_chosen_by_the_device_and_written_down(
    raw_options: dict[str, Any], tmp_path: Path
) -> None:
    automatic = with_train(raw_options, amp="auto", compile="auto")
    options = ModelPlain(automatic, device=CPU).options
    assert (options.train.amp, options.train.compile) == ("no", False)
    options.save(tmp_path / "options.json")
    assert (
        json.loads((tmp_path / "options.json").read_text())["train"].items() >= {"amp": "no", "compile": False}.items()
    )
    on_gpu = automatic.for_device("cuda").train
    assert (on_gpu.amp, on_gpu.compile) == ("bf16", True)
    assert with_train(raw_options, amp="bf16").for_device("cpu").train.amp == "bf16"


def test_the_average_follows_the_student_by_its_decay(raw_options: dict[str, Any]) -> None:
    model = ModelPlain(with_train(raw_options, E_decay=0.9), device=CPU)
    before = copy.deepcopy(model.ema)
    model.train_step(batch(0))
    for average, earlier, now in zip(
        model.ema.parameters(), before.parameters(), model.student.parameters(), strict=True
    ):
        torch.testing.assert_close(average, 0.9 * earlier + 0.1 * now)


def test_clipping_covers_student_and_translators_together(toy: dict[str, Any]) -> None:
    model = ModelPlain(with_train(toy, distillation_type="feature", G_optimizer_clipgrad=1e-3), device=CPU)
    model.train_step(batch(0))
    gradients = [parameter.grad for parameter in model.trainable.parameters()]
    assert model.translators is not None
    assert all(parameter.grad is not None for parameter in model.translators.parameters())
    norm = torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]).norm().item()
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_the_three_models_start_from_equal_students(toy: dict[str, Any]) -> None:
    students = [ModelPlain(with_train(toy, distillation_type=kind), device=CPU).student for kind in KINDS]
    for parameters in zip(*(student.parameters() for student in students), strict=True):
        assert all(torch.equal(parameters[0], other) for other in parameters[1:])


def test_a_teacher_before_its_start_is_never_asked(toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    options = with_train(toy, distillation_type="feature", start_distill_iter=2, start_feature_iter=3)
    model = ModelPlain(options, device=CPU)
    assert isinstance(model.teacher, Teacher)
    asked: list[int] = []
    teach = model.teacher.ask

    def counted(lr_image: torch.Tensor) -> Any:
        asked.append(model.step + 1)
        return teach(lr_image)

    monkeypatch.setattr(model.teacher, "ask", counted)
    logged = [list(model.train_step(batch(step))) for step in range(4)]
    assert asked == [3, 4]
    assert [len(names) for names in logged] == [2, 2, 3, 4]


def test_a_stored_answer_takes_the_place_of_the_teacher(toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelPlain(with_train(toy, distillation_type="response", teacher="stored"), device=CPU)
    assert isinstance(model.teacher, Teacher)
    given = batch(0)
    answer = model.teacher(given["L"]).image
    online = model.objective(model.trainable(given["L"], None), model.teacher(given["L"]), given["H"], 1)

    def explode(*_: object) -> None:
        raise AssertionError("the teacher was asked")

    monkeypatch.setattr(model.teacher, "ask", explode)
    losses = model.train_step({**given, "T": answer})
    assert losses["l_g_distill"].item() == pytest.approx(online["l_g_distill"].item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["response", "feature"])
@pytest.mark.parametrize("zoomed", [False, True])
def test_stored_images_and_features_and_zoomed_inputs_that_are_asked_for_give_the_same_losses(
    kind: str, zoomed: bool, toy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy["netG"]["drop_path_rate"] = 0
    online, stored = (
        ModelPlain(with_train(toy, distillation_type=kind, zoomed_inputs=zoomed, teacher=teacher), device=CPU)
        for teacher in ("online", "stored")
    )
    assert isinstance(online.teacher, Teacher)
    assert isinstance(stored.teacher, Teacher)
    given = batch(0) | ({"Z": batch(3)["L"]} if zoomed else {})
    answer, asked = online.teacher(given["L"]).image, []
    teach = stored.teacher.ask

    def counted(lr_image: torch.Tensor) -> Any:
        asked.append(len(lr_image))
        return teach(lr_image)

    monkeypatch.setattr(stored.teacher, "ask", counted)
    expected = online.train_step(given)
    losses = stored.train_step({**given, "T": answer})
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)
    count = 2 * (kind == "feature") + 2 * zoomed
    assert asked == ([count] if count else [])


def test_zoomed_inputs_change_what_the_student_learns_but_not_l_g_l1(toy: dict[str, Any]) -> None:
    toy["netG"]["drop_path_rate"] = 0
    given = batch(0)
    model = ModelPlain(with_train(toy, distillation_type="response"), device=CPU)
    plain = model.train_step(given)
    model = ModelPlain(with_train(toy, distillation_type="response", zoomed_inputs=True), device=CPU)
    zoomed = model.train_step({**given, "Z": batch(3)["L"]})
    torch.testing.assert_close(zoomed["l_g_L1"], plain["l_g_L1"])
    assert zoomed["l_g_distill"].item() != pytest.approx(plain["l_g_distill"].item(), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_model_goes_on_as_if_it_had_never_stopped(kind: str, toy: dict[str, Any]) -> None:
    toy["netG"]["drop_path_rate"] = 0.5
    options = with_train(toy, distillation_type=kind)
    uninterrupted = ModelPlain(options, device=CPU)
    for step in range(4):
        uninterrupted.train_step(batch(step))
        if uninterrupted.step == 2:
            save(uninterrupted)
    torch.rand(7)  # nothing may depend on the global generator
    resumed = ModelPlain(options, device=CPU)
    resume(resumed)
    assert resumed.step == 2
    for step in (2, 3):
        resumed.train_step(batch(step))
    for ours, theirs in zip(weights(resumed), weights(uninterrupted), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_holds_the_student_alone_and_the_translators_apart(toy: dict[str, Any]) -> None:
    options = with_train(toy, distillation_type="feature")
    model = ModelPlain(options, device=CPU)
    model.train_step(batch(0))
    save(model)
    folder = options.models_folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "1_E.pth",
        "1_G.pth",
        "1_P.pth",
        "1_checkpoint.json",
        "1_state.pth",
    ]
    for label in ("G", "E"):
        assert torch.load(folder / f"1_{label}.pth").keys() == model.student.state_dict().keys()
    assert torch.load(folder / "1_P.pth").keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_a_task_whose_kind_was_changed_is_not_overwritten(toy: dict[str, Any]) -> None:
    for saved, asked in (("none", "feature"), ("feature", "none"), ("response", "none")):
        toy["task"] = saved
        model = ModelPlain(with_train(toy, distillation_type=saved), device=CPU)
        model.train_step(batch(0))
        save(model)
        other = ModelPlain(with_train(toy, distillation_type=asked), device=CPU)
        with pytest.raises(UserError, match=rf"train.distillation_type: .* holds a run with '{saved}', not '{asked}'"):
            resume(other)


@pytest.mark.parametrize(
    "change", [{"feature_translator": "student"}, {"feature_pairs": None}], ids=["other side", "other pairs"]
)
def test_translators_of_the_same_size_but_of_other_features_are_told_apart(
    change: dict[str, Any], toy: dict[str, Any]
) -> None:
    toy["netTeacher"]["embed_dim"] = toy["netG"]["embed_dim"]
    path = Path(toy["path"]["pretrained_netTeacher"])
    torch.save(fill_(define_teacher(Options.model_validate(toy)), 1).state_dict(), path)
    model = ModelPlain(with_train(toy, distillation_type="feature"), device=CPU)
    model.train_step(batch(0))
    save(model)
    (key,) = change
    with pytest.raises(UserError, match=rf"train.{key}: .* holds a run with .* give the task another name"):
        resume(ModelPlain(with_train(toy, distillation_type="feature", **change), device=CPU))


def test_a_task_whose_network_was_changed_is_not_overwritten(toy: dict[str, Any]) -> None:
    save(ModelPlain(with_train(toy), device=CPU))
    toy["netG"]["embed_dim"] = 24
    with pytest.raises(
        UserError, match=r"0_G\.pth: these weights do not fit .*; this task was begun with another network"
    ):
        resume(ModelPlain(with_train(toy), device=CPU))


def test_optimizer_options_may_change_on_the_way(toy: dict[str, Any]) -> None:
    model = ModelPlain(with_train(toy), device=CPU)
    model.train_step(batch(0))
    save(model)
    resumed = ModelPlain(with_train(toy, G_optimizer_wd=0.1, G_optimizer_betas=[0.5, 0.9]), device=CPU)
    resume(resumed)
    group = resumed.optimizer.param_groups[0]
    assert (group["weight_decay"], group["betas"]) == (0.1, (0.5, 0.9))


def test_networks_that_extend_crops_differently_are_compared_on_the_pixels_of_the_crop(toy: dict[str, Any]) -> None:
    toy["netG"] |= {"window_size": 6, "img_size": 12}
    model = ModelPlain(with_train(toy, distillation_type="feature"), device=CPU)
    lr_image = batch(0)["L"]
    assert isinstance(model.teacher, Teacher)
    answered = model.trainable(lr_image, model.teacher(lr_image).features)
    whole = model.student.forward_with_features(lr_image)[1]
    assert whole[0].shape == (2, 12 * 12, 12)
    assert [feature.shape for feature in answered.targets] == [(2, 8 * 8, 12)] * 2
    torch.testing.assert_close(answered.features[0].view(2, 8, 8, 12), whole[0].view(2, 12, 12, 12)[:, :8, :8])


def test_a_fresh_run_starts_from_the_pretrained_weights(toy: dict[str, Any], tmp_path: Path) -> None:
    donor = ModelPlain(with_train(toy), device=CPU)
    torch.save(fill_(donor.student, 5).state_dict(), tmp_path / "G.pth")
    torch.save(fill_(donor.ema, 6).state_dict(), tmp_path / "E.pth")
    toy["path"]["pretrained_netG"] = str(tmp_path / "G.pth")
    model = ModelPlain(with_train(toy), device=CPU)
    resume(model)
    assert torch.equal(model.student.conv_first.weight, donor.student.conv_first.weight)
    assert torch.equal(model.ema.conv_first.weight, donor.student.conv_first.weight)
    toy["path"]["pretrained_netE"] = str(tmp_path / "E.pth")
    model = ModelPlain(with_train(toy), device=CPU)
    resume(model)
    assert torch.equal(model.ema.conv_first.weight, donor.ema.conv_first.weight)


def test_weights_of_another_network_are_refused_with_the_difference(toy: dict[str, Any], tmp_path: Path) -> None:
    for changes, refused in (
        ({"depths": [1, 1, 3]}, "they are of a x4 SwinIR, RGB, embed_dim 24, depths [1, 1, 2], it is a x4 SwinIR, RGB, "
         "embed_dim 24, depths [1, 1, 3]; netTeacher should describe the teacher"),
        ({"mlp_ratio": 4}, "teacher.pth: these weights do not fit the network: size mismatch"),
    ):  # fmt: skip
        other = copy.deepcopy(toy)
        other["netTeacher"] |= changes
        options = with_train(other, distillation_type="response")
        for attempt in (check_networks, partial(ModelPlain, device=CPU)):  # the first costs next to nothing
            with pytest.raises(UserError, match=re.escape(refused)):
                attempt(options)
    (tmp_path / "teacher.pth").unlink()
    check_networks(options)  # an earlier task may be about to write them


def test_a_step_that_is_not_finite_is_skipped_and_names_the_crop(raw_options: dict[str, Any]) -> None:
    model = ModelPlain(with_train(raw_options), device=CPU)
    model.train_step(batch(0))
    before = copy.deepcopy([*weights(model), model.optimizer.state_dict()])
    poisoned = batch(1)
    poisoned["H"][1, 0, 0, 0] = float("nan")
    for in_a_row in (1, 2):
        assert torch.isnan(model.train_step(poisoned)["G_loss"])
        assert model.take_skipped() == [(1 + in_a_row, in_a_row, ["b [0:32, 4:36]"])]
    for old, new in zip(before, [*weights(model), model.optimizer.state_dict()], strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=0)
    model.train_step(batch(2))
    assert (model.bad_steps, model.take_skipped()) == (0, [])


def test_on_a_gpu_nobody_waits_and_the_same_is_skipped_but_known_a_step_later(raw_options: dict[str, Any]) -> None:
    poisoned = batch(1)
    poisoned["H"][1, 0, 0, 0] = float("nan")
    batches = [poisoned, batch(0), poisoned, poisoned, batch(2)]
    waiting, other = (ModelPlain(with_train(raw_options, G_optimizer_clipgrad=0.5), device=CPU) for _ in range(2))
    other.update.waits = False  # what a GPU does, here
    known = []
    for of_step in batches:
        waiting.train_step(of_step)
        other.train_step(of_step)
        known.append(other.take_skipped())
    crops = ["b [0:32, 4:36]"]
    assert known == [[], [(1, 1, crops)], [], [(3, 1, crops)], [(4, 2, crops)]]
    assert waiting.take_skipped() == [skipped for of_step in known for skipped in of_step]
    other.settle()
    assert (other.bad_steps, other.take_skipped()) == (0, [])
    for mine, theirs in zip(waiting.student.parameters(), other.student.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert equal(waiting.optimizer.state_dict(), other.optimizer.state_dict())
    for mine, theirs in zip(waiting.ema.parameters(), other.ema.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


def test_an_iteration_that_some_process_cannot_make_changes_nothing(raw_options: dict[str, Any]) -> None:
    def disagree() -> None:
        raise Interrupted

    begun, other = (ModelPlain(with_train(raw_options), device=CPU) for _ in range(2))
    begun.train_step(batch(0))
    before = [weight.clone() for weight in weights(begun)]
    with pytest.raises(Interrupted):
        begun.train_step(batch(2), agree=disagree)
    assert begun.step == 1
    assert all(map(torch.equal, weights(begun), before))
    other.train_step(batch(0))
    for model in (begun, other):
        model.train_step(batch(4))
    assert all(map(torch.equal, weights(begun), weights(other)))


def test_a_checkpoint_knows_whether_its_iteration_was_skipped(raw_options: dict[str, Any]) -> None:
    model = ModelPlain(with_train(raw_options), device=CPU)
    model.update.waits = False
    poisoned = batch(0)
    poisoned["H"][:] = float("nan")
    model.train_step(poisoned)
    save(model)
    again = ModelPlain(with_train(raw_options), device=CPU)
    resume(again)
    assert (again.step, again.bad_steps) == (1, 1)


@pytest.mark.parametrize("zoomed", [False, True])
def test_parts_of_a_batch_make_the_same_iteration(zoomed: bool, toy: dict[str, Any]) -> None:
    settings = {"distillation_type": "feature", "zoomed_inputs": zoomed}
    whole, parts = (
        ModelPlain(with_train(toy, gradient_accumulation_steps=count, **settings), device=CPU) for count in (1, 2)
    )
    of_step = batch(0) | ({"Z": batch(1)["L"]} if zoomed else {})
    losses, of_parts = whole.train_step(of_step), parts.train_step(of_step)
    assert losses.keys() == of_parts.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(of_parts[name], loss, rtol=1e-5, atol=1e-7)
    for mine, theirs in zip(whole.update.parameters, parts.update.parameters, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is(raw_options: dict[str, Any]) -> None:
    model = ModelPlain(with_train(raw_options), device=CPU)
    before = copy.deepcopy(weights(model))
    model.student.conv_first.weight.register_hook(lambda gradient: gradient * float("inf"))
    assert torch.isfinite(model.train_step(batch(0))["G_loss"])
    assert model.take_skipped() == [(1, 1, ["a [0:32, 0:32]", "b [0:32, 4:36]"])]
    assert all(torch.equal(old, new) for old, new in zip(before, weights(model), strict=True))


@pytest.mark.parametrize(
    ("section", "wrong", "named"),
    [
        ("netG", {"num_heads": [2, 5]}, r"netG: embed_dim 12 is not a multiple of num_heads \[5\]"),
        ("netG", {"upsampler": ""}, "netG.upsampler: '' does not do scale 4"),
        ("netTeacher", {"depths": [1]}, "netTeacher: depths has 1 entries and num_heads 3"),
        ("train", {"feature_pairs": [[0, 3]]}, r"train.feature_pairs: pair \[0, 3\]: the teacher has 3 features"),
        (
            "train",
            {"G_lossfn_weight": 0.0, "start_distill_iter": 5},
            "train: no loss has a weight above 0 in iter",
        ),
    ],
)
def test_networks_that_do_not_go_together_are_named_with_their_key(
    section: str, wrong: dict[str, Any], named: str, toy: dict[str, Any]
) -> None:
    toy["train"]["distillation_type"] = "feature" if section != "train" or "feature_pairs" in wrong else "response"
    toy[section].update(wrong)
    with pytest.raises(UserError, match=named):
        check_networks(Options.model_validate(toy))
