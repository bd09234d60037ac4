"""The evaluation's own steps: padding as published, self-ensemble, and figures by image."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import make_image
from utils.errors import UserError
from utils.evaluate import average, eight_fold, evaluate, pad_as_published
from utils.images import to_tensor

CPU = torch.device("cpu")


class Pairs:
    """Three images with L equal to H, each of its own size."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = to_tensor(make_image(20 + index, 30, seed=index))
        return {"L": image, "H": image, "L_path": f"LR/{index}x1.png", "H_path": f"HR/{index}.png"}


@pytest.mark.parametrize(("size", "padded"), [(8, 16), (9, 16), (15, 16), (16, 24), (3, 6)])
def test_padding_goes_to_the_next_multiple_above_by_the_mirror_image(size: int, padded: int) -> None:
    row = torch.arange(float(size)).expand(1, 1, size, size)
    extended = pad_as_published(row, 8)
    assert extended.shape == (1, 1, padded, padded)
    assert extended[0, 0, 0].tolist() == [*range(size), *range(size - 1, 2 * size - 1 - padded, -1)]


def test_self_ensemble_is_the_mean_over_the_eight_orientations() -> None:
    lr_image = torch.rand(2, 3, 5, 7)

    def brighter_downwards(image: Tensor) -> Tensor:
        return image + torch.linspace(0, 1, image.shape[2]).view(1, 1, -1, 1)

    down = torch.linspace(0, 1, 5).view(1, 1, -1, 1)
    right = torch.linspace(0, 1, 7).view(1, 1, 1, -1)
    mean = (down + down.flip(2) + right + right.flip(3)) / 4
    torch.testing.assert_close(eight_fold(brighter_downwards, lr_image), lr_image + mean)


def test_results_come_by_image_with_the_figures_of_each() -> None:
    seen = []
    results = evaluate(
        lambda image: image * 0.9,
        Pairs(),
        border=1,
        device=CPU,
        on_image=lambda image, result: seen.append(image.shape),
    )
    assert [result.name for result in results] == ["0", "1", "2"]
    assert seen == [(20, 30, 3), (21, 30, 3), (22, 30, 3)]
    assert len({result.psnr for result in results}) == 3
    assert average(results)["psnr"] == pytest.approx(sum(result.psnr for result in results) / 3)
    assert results[0].L_path == str(Path("LR/0x1.png"))


def test_an_image_too_small_to_be_judged_is_named() -> None:
    with pytest.raises(UserError, match=r"HR/0\.png: SSIM needs 23 pixels"):
        evaluate(lambda image: image, Pairs(), border=6, device=CPU)
