"""The optimizer and its learning rate."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from models.model_plain import ModelPlain
from models.optimization import define_optimizer, learning_rate
from models.resume import resume, save
from utils.options.schema import Options, TrainOptions


def train_options(**keys: Any) -> TrainOptions:
    return TrainOptions.model_validate({"G_optimizer_lr": 1.0, "total_iter": 10} | keys)


def test_the_learning_rate_falls_in_the_iteration_of_the_milestone() -> None:
    train = train_options(G_scheduler_milestones=[3, 5])
    assert [learning_rate(train, step) for step in range(1, 7)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_the_learning_rate_rises_in_equal_steps_to_the_end_of_the_warm_up() -> None:
    train = train_options(G_scheduler_milestones=[6], warmup_iter=4)
    assert [learning_rate(train, step) for step in range(1, 7)] == [0.25, 0.5, 0.75, 1, 1, 0.5]


def test_the_cosine_is_pytorchs() -> None:
    train = train_options(G_scheduler_type="CosineAnnealingLR")
    optimizer = define_optimizer([nn.Parameter(torch.zeros(1))], train)
    scheduler = CosineAnnealingLR(optimizer, T_max=train.total_iter)
    for step in range(1, train.total_iter + 1):
        assert learning_rate(train, step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert learning_rate(train, train.total_iter) == pytest.approx(0.0245, abs=1e-4)


@pytest.mark.parametrize(("kind", "expected"), [("adam", 0.0), ("adamw", 0.9)])
def test_weight_decay_of_adamw_is_apart_from_the_gradient(kind: str, expected: float) -> None:
    """Without a gradient, AdamW shrinks a weight by lr * decay; Adam moves it by a whole step of lr."""
    weight = nn.Parameter(torch.ones(1))
    weight.grad = torch.zeros(1)
    define_optimizer([weight], train_options(G_optimizer_type=kind, G_optimizer_wd=0.1)).step()
    assert weight.item() == pytest.approx(expected, abs=1e-6)


def test_a_task_goes_on_with_the_optimizer_of_its_option_file(raw_options: dict[str, Any]) -> None:
    options = Options.model_validate(raw_options)
    begun = ModelPlain(options, device=torch.device("cpu"))
    save(begun)
    raw_options["train"]["G_optimizer_type"] = "adamw"
    continued = ModelPlain(Options.model_validate(raw_options), device=torch.device("cpu"))
    resume(continued)
    assert continued.optimizer.param_groups[0]["decoupled_weight_decay"]
