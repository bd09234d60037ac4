"""Test sets that stay decoded between validations, as far as there is room."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data.batches import training_batches
from data.select_dataset import define_crops, define_tests
from models.model_plain import ModelPlain
from models.training import Training
from tests.runs import Run
from utils.evaluation.evaluate import Dataset
from utils.evaluation.kept import SHARE, Kept, Room
from utils.options.load import load
from utils.process.interrupt import Interrupt
from utils.process.machine import free_bytes

CPU = torch.device("cpu")


class Sized:
    """Items of so many parts of the room that there is, without their pages."""

    def __init__(self, parts: Sequence[float]) -> None:
        room = SHARE * free_bytes(CPU)
        self.sizes = [int(part * room) for part in parts]
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.reads.append(index)
        image: Tensor = torch.zeros(1, dtype=torch.uint8).expand(self.sizes[index])
        return {"L": image, "L_path": f"{index}.png"}


def reads(parts: Sequence[float]) -> list[int]:
    """Which items are read when all are asked for twice."""
    dataset = Sized(parts)
    kept = Kept(dataset, Room())
    assert len(kept) == len(parts)
    for _ in range(2):
        assert [kept[index]["L_path"] for index in range(len(kept))] == [f"{i}.png" for i in range(len(parts))]
    return dataset.reads


def test_what_fits_is_read_once() -> None:
    assert reads([0.2, 0.2, 0.2]) == [0, 1, 2]


def test_what_does_not_fit_is_read_each_time() -> None:
    assert reads([0.6, 0.9, 0.1]) == [0, 1, 2, 1]


def test_the_test_sets_of_a_run_share_the_room() -> None:
    room, first, second = Room(), Sized([0.7]), Sized([0.7])
    kept = [Kept(dataset, room) for dataset in (first, second)]
    assert [of_set[0]["L_path"] for of_set in kept + kept] == ["0.png"] * 4
    assert (first.reads, second.reads) == ([0], [0, 0])


def test_the_processes_of_a_machine_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert reads([0.15, 0.5]) == [0, 1, 1]


class Counted:
    """A dataset that counts what is read."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        self.reads.append(index)
        return self.dataset[index]


def test_a_run_reads_its_test_images_once(tmp_path: Path) -> None:
    options = load(Run(tmp_path, train={"total_iter": 2, "checkpoint_test": 1}).options)
    crops = define_crops(options)
    tests = {name: Counted(dataset) for name, dataset in define_tests(options).items()}
    model = ModelPlain(options, device=CPU)
    with closing(batches := training_batches(crops, options, first_step=0, device=torch.device("cpu"))):
        Training(model, batches=batches, tests=tests, n_images=len(crops), interrupt=Interrupt()).run()
    assert [dataset.reads for dataset in tests.values()] == [list(range(6))]
