"""The objective against golden losses, and what the arrangement of student, translators and teacher promises."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.distillation.features import StudentSignal, TeacherSignal
from models.distillation.losses import affinity, attention, frequency
from models.distillation.objective import Objective
from models.distillation.teacher import Teacher
from models.distillation.terms import FEATURES, GROUND_TRUTH, IMAGES, TRANSLATED_FEATURES, Term
from models.distillation.translators import Trainable, Translators, check_pairs, relative_pairs
from models.network_swinir import SwinIR
from models.network_swinir_student import SwinIR_Student
from tests.conftest import GOLDEN
from tests.golden.fill import fill_, image

X4: dict[str, Any] = {"upscale": 4, "upsampler": "pixelshuffle", "mlp_ratio": 2, "img_size": 64}
TEACHER_M = {"embed_dim": 180, "depths": [6] * 6, "num_heads": [6] * 6, "window_size": 8, **X4}
PAIRS = [[0, 0], [1, 1], [2, 2], [3, 3]]


def objective_of(
    l_g_L1: float = 1.0,
    *,
    distill: Term | None = None,
    feature: Term | None = None,
    **settings: Any,
) -> Objective:
    """An L1 loss of this weight against the ground truth, and further terms."""
    terms = {"l_g_L1": Term(GROUND_TRUTH, "l1", l_g_L1), "l_g_distill": distill, "l_g_feature": feature}
    return Objective({name: term for name, term in terms.items() if term is not None}, **settings)


L1_DISTILL = Term(IMAGES, "l1", 1.0)
L1_FEATURE = Term(TRANSLATED_FEATURES, "l1", 1.0)


class Fake(nn.Module):
    """A network with features of its own choice."""

    def __init__(self, *feature_dims: int) -> None:
        super().__init__()
        self.feature_dims = feature_dims
        self.window_size = 1
        self.gain = nn.Parameter(torch.ones(()))

    def forward_with_features(self, lr_image: Tensor) -> tuple[Tensor, list[Tensor]]:
        tokens = lr_image.mean(1).flatten(1)[..., None]
        return self.gain * lr_image, [
            self.gain * tokens.expand(-1, -1, dim) * i for i, dim in enumerate(self.feature_dims, start=1)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "response", "feature"])
def test_losses_of_six_steps_are_the_golden_ones(kind: str) -> None:
    golden = json.loads((GOLDEN / "training_losses.json").read_text())[0]
    seed = golden["seed"]
    student = fill_(SwinIR_Student(**X4, drop_path_rate=0).double(), seed)
    network = fill_(SwinIR(**TEACHER_M).double(), seed + 1)
    translators = None
    if kind == "feature":
        translators = Translators(golden["pairs"], student=student, teacher=network).double()
        fill_(translators, seed + 2)
    teacher = Teacher(network)
    trainable = Trainable(student, translators)
    objective = objective_of(
        distill=L1_DISTILL if kind != "none" else None, feature=L1_FEATURE if kind == "feature" else None
    )
    height, width = golden["lr_shape"][2:]
    lr_image = image(tuple(golden["lr_shape"]), seed + 3)
    hr_image = image((golden["lr_shape"][0], 3, 4 * height, 4 * width), seed + 4)
    optimizer = torch.optim.Adam(trainable.parameters(), lr=2e-4)
    for step, expected in enumerate(golden["losses"][kind], start=1):
        taught = teacher(lr_image) if objective.needs_teacher(step) else None
        features = taught.features if taught and objective.needs_features(step) else None
        losses = objective(trainable(lr_image, features), taught, hr_image, step)
        assert losses.keys() == expected.keys()
        for name, value in expected.items():
            assert losses[name].item() == pytest.approx(value, rel=1e-9), (step, name)
        optimizer.zero_grad()
        losses["G_loss"].backward()
        optimizer.step()


def fake_trainable() -> tuple[Trainable, Teacher]:
    """A fake student of 2 channels with a translator, and a fake teacher of 3, whose gain is 2."""
    student, network = Fake(2, 2), Fake(3, 3, 3)
    network.gain.data.fill_(2.0)
    translators = Translators([[1, 2]], student=student, teacher=network)
    return Trainable(student, fill_(translators, 0)), Teacher(network)


def fake_losses(objective: Objective, step: int, trainable: Trainable, teacher: Teacher) -> dict[str, Tensor]:
    """The objective on a random image, with a black ground truth."""
    lr_image = torch.rand(1, 3, 4, 4, generator=torch.manual_seed(0))
    taught = teacher(lr_image)
    features = taught.features if objective.needs_features(step) else None
    return objective(trainable(lr_image, features), taught, torch.zeros(1, 3, 4, 4), step)


def test_weights_and_delays_are_read() -> None:
    objective = objective_of(
        2.0, distill=Term(IMAGES, "l2", 0.5, start=3), feature=Term(TRANSLATED_FEATURES, "l1", 0.25, start=5)
    )
    networks = fake_trainable()
    assert list(fake_losses(objective, 3, *networks)) == ["l_g_L1", "G_loss"]
    assert list(fake_losses(objective, 4, *networks)) == ["l_g_L1", "l_g_distill", "G_loss"]
    losses = fake_losses(objective, 6, *networks)
    assert list(losses) == ["l_g_L1", "l_g_distill", "l_g_feature", "G_loss"]
    weighted = 2 * losses["l_g_L1"] + 0.5 * losses["l_g_distill"] + 0.25 * losses["l_g_feature"]
    torch.testing.assert_close(losses["G_loss"], weighted)
    formula = str(objective)
    assert "2 * l_g_L1" in formula
    assert "0.5 * l_g_distill [l2(student, teacher), after 3 iterations]" in formula


def test_a_weight_falls_linearly_from_where_its_loss_joins_to_its_end() -> None:
    term = Term(IMAGES, "l1", 8.0, start=2, end=5)
    assert [term.weight_at(step) for step in range(1, 8)] == [0, 0, 8, 4, 0, 0, 0]
    objective = objective_of(distill=term)
    networks = fake_trainable()
    losses = fake_losses(objective, 4, *networks)
    torch.testing.assert_close(losses["G_loss"], losses["l_g_L1"] + 4 * losses["l_g_distill"])
    assert list(fake_losses(objective, 6, *networks)) == ["l_g_L1", "G_loss"]
    assert not objective.needs_teacher(6)
    assert "8 * l_g_distill [l1(student, teacher), after 2 iterations, falling to 0 in iteration 5]" in str(objective)
    with pytest.raises(ValueError, match="no loss has a weight above 0 in iteration 6"):
        objective_of(0.0, distill=Term(IMAGES, "l1", 1.0, end=6))


def test_balanced_losses_have_the_size_of_l_g_l1_and_gradients_of_their_own() -> None:
    objective = objective_of(
        distill=Term(IMAGES, "l2", 0.5), feature=Term(TRANSLATED_FEATURES, "l1", 3.0), mean_over_processes=torch.clone
    )
    trainable, teacher = fake_trainable()
    losses = fake_losses(objective, 1, trainable, teacher)
    torch.testing.assert_close(losses["G_loss"], (1 + 0.5 + 3) * losses["l_g_L1"])
    losses["G_loss"].backward()
    assert trainable.translators is not None
    (weight, _) = trainable.translators.parameters()
    assert weight.grad is not None
    balanced = weight.grad / (3 * losses["l_g_L1"].item() / losses["l_g_feature"].item())
    weight.grad = None
    fake_losses(objective_of(feature=L1_FEATURE), 1, trainable, teacher)["l_g_feature"].backward()
    torch.testing.assert_close(weight.grad, balanced)
    with pytest.raises(ValueError, match="cannot be balanced with an l_g_L1 of weight 0"):
        objective_of(0.0, distill=L1_DISTILL, mean_over_processes=torch.clone)


def test_inputs_without_ground_truth_are_compared_with_the_teacher_alone() -> None:
    student = StudentSignal(torch.tensor([1.0, 2.0, 6.0]).view(3, 1, 1, 1))
    taught = TeacherSignal(torch.zeros(3, 1, 1, 1), [])
    losses = objective_of(distill=L1_DISTILL)(student, taught, torch.zeros(1, 1, 1, 1), 1)
    assert (losses["l_g_L1"].item(), losses["l_g_distill"].item()) == (1, 3)


def test_the_feature_loss_reaches_the_student_and_the_translators() -> None:
    trainable, teacher = fake_trainable()
    losses = fake_losses(objective_of(1.0, feature=L1_FEATURE), 1, trainable, teacher)
    losses["l_g_feature"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trainable.parameters())
    assert {name.split(".")[0] for name, _ in trainable.named_parameters()} == {"student", "translators"}


def test_a_teacher_is_not_asked_for_what_does_not_count() -> None:
    objective = objective_of(distill=Term(IMAGES, "l1", 0.0), feature=Term(TRANSLATED_FEATURES, "l1", 1.0, start=10))
    assert not objective.needs_teacher(10)
    assert objective.needs_teacher(11)
    assert objective.needs_features(11)
    with pytest.raises(ValueError, match="no loss has a weight above 0 in iteration 1"):
        objective_of(0.0, distill=Term(IMAGES, "l1", 1.0, start=1))


def test_the_teacher_stays_frozen_whatever_happens_to_the_trainable() -> None:
    network = SwinIR(img_size=8, embed_dim=8, depths=[2], num_heads=[2], window_size=8, drop_path_rate=0.5)
    teacher = Teacher(network)
    trainable = Trainable(Fake(2, 2), None)
    trainable.train()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    lr_image = torch.rand(1, 3, 8, 8)
    assert torch.equal(teacher(lr_image).image, teacher(lr_image).image)
    assert not teacher(lr_image).image.requires_grad


@pytest.mark.parametrize(("pair", "role", "count"), [([2, 0], "student", 2), ([0, 3], "teacher", 3)])
def test_pairs_are_checked_against_both_networks(pair: list[int], role: str, count: int) -> None:
    with pytest.raises(ValueError, match=rf"pair \[{pair[0]}, {pair[1]}\]: the {role} has {count} features"):
        check_pairs([pair], student=Fake(2, 2), teacher=Fake(5, 5, 5))


def test_translators_have_the_sizes_of_the_two_networks() -> None:
    translators = Translators([[0, 1], [1, 0]], student=Fake(60, 40), teacher=Fake(180, 120))
    assert [(t.in_features, t.out_features) for t in translators] == [(120, 60), (180, 40)]
    assert translators.state_dict().keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_on_the_students_side_the_teachers_features_are_normalised_and_nothing_else() -> None:
    student, teacher = Fake(4, 6), Fake(5, 3)
    translators = Translators([[0, 1], [1, 0]], student=student, teacher=teacher, side="student")
    assert [(t.in_features, t.out_features) for t in translators] == [(4, 3), (6, 5)]
    ours = [torch.rand(2, 7, 4), torch.rand(2, 7, 6)]
    theirs = [100 * torch.rand(2, 7, 5) + 3, torch.rand(2, 7, 3)]
    compared, targets = translators(ours, theirs)
    torch.testing.assert_close(compared[0], translators[0](ours[0]))
    for target, feature in zip(targets, reversed(theirs), strict=True):
        torch.testing.assert_close(target.mean(-1), torch.zeros(2, 7), atol=1e-4, rtol=0)
        torch.testing.assert_close(target.std(-1, correction=0), torch.ones(2, 7), atol=0.02, rtol=0)
        centred = feature - feature.mean(-1, keepdim=True)
        torch.testing.assert_close(torch.cosine_similarity(target, centred, dim=-1), torch.ones(2, 7))


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [(4, 4, [0, 1, 2, 3]), (4, 6, [1, 2, 4, 5]), (4, 18, [4, 8, 13, 17]), (3, 2, [0, 1, 1]), (1, 5, [4])],
)
def test_pairs_of_relative_depth_end_with_both_networks(student: int, teacher: int, pairs: list[int]) -> None:
    assert relative_pairs(student=student, teacher=teacher) == list(enumerate(pairs))


def features_of_two_networks() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 6, 4, dtype=torch.float64), torch.randn(2, 6, 7, dtype=torch.float64)


def test_attention_maps_are_compared_as_the_paper_says() -> None:
    ours, theirs = features_of_two_networks()
    maps = []
    for feature in (ours.numpy(), theirs.numpy()):
        energy = (feature**2).sum(axis=2)
        maps.append(energy / np.sqrt((energy**2).sum(axis=1, keepdims=True)))
    assert attention(ours, theirs).item() == pytest.approx(((maps[0] - maps[1]) ** 2).mean())
    torch.testing.assert_close(attention(30 * ours, theirs.flip(-1)), attention(ours, theirs))


def test_affinities_are_compared_as_the_paper_says() -> None:
    ours, theirs = features_of_two_networks()
    expected = []
    for b in range(2):
        for i in range(6):
            for j in range(6):
                cosines = [
                    f[i] @ f[j] / np.linalg.norm(f[i]) / np.linalg.norm(f[j])
                    for f in (ours[b].numpy(), theirs[b].numpy())
                ]
                expected.append(abs(cosines[0] - cosines[1]))
    assert affinity(ours, theirs).item() == pytest.approx(np.mean(expected))
    of_each_token = torch.rand(2, 6, 1, dtype=torch.float64) + 0.1
    torch.testing.assert_close(affinity(of_each_token * ours, theirs.flip(-1)), affinity(ours, theirs))


def test_frequencies_are_compared_as_the_paper_says() -> None:
    x, y = torch.rand(2, 2, 3, 6, 5, dtype=torch.float64)
    difference = np.fft.fft2(x.numpy()) - np.fft.fft2(y.numpy())
    expected = np.mean([np.abs(difference.real), np.abs(difference.imag)])
    assert frequency(x, y).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["attention", "affinity"])
def test_losses_of_features_reach_the_student_without_translators(name: str) -> None:
    student = SwinIR(img_size=8, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    network = SwinIR(img_size=8, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=8)
    objective = Objective({"l_g_L1": Term(GROUND_TRUTH, "l1", 0.0), name: Term(FEATURES, name, 1.0)})
    assert objective.needs_features(1)
    assert not objective.translates
    lr_image = torch.rand(1, 3, 6, 6)
    taught = Teacher(network)(lr_image)
    answered = Trainable(student, pairs=[[1, 0]])(lr_image, taught.features)
    assert [tuple(feature.shape) for feature in answered.pairs[0]] == [(1, 36, 8), (1, 36, 12)]
    objective(answered, taught, lr_image, 1)["G_loss"].backward()
    assert student.conv_first.weight.grad is not None
    assert student.conv_first.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("compares", "asks"), [(GROUND_TRUTH, False), (IMAGES, True)])
def test_the_frequency_loss_asks_the_teacher_only_for_what_it_compares(compares: Any, asks: bool) -> None:
    objective = Objective({"l_g_frequency": Term(compares, "frequency", 1.0)})
    assert objective.needs_teacher(1) == objective.compares_images == asks
    assert not objective.needs_features(1)
