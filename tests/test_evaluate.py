"""The evaluation's own steps: padding as published, self-ensemble, and figures by image."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.batches import collate
from data.dataset_sr import SRCrops, SRImages
from data.folders.pairs import pair_images
from data.sampler import Draw
from models.network_swinir import SwinIR
from tests.conftest import make_image
from utils.evaluation.evaluate import ImageResult, average, compare, evaluate
from utils.evaluation.restorer import Restorer, eight_fold, pad_as_published, restore_alike
from utils.imaging.io import read_image, write_image
from utils.imaging.resize import imresize
from utils.imaging.tensors import to_image, to_levels, to_tensor, unit_range
from utils.process.errors import UserError

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


def test_an_image_is_gone_before_the_next_is_read() -> None:
    alive: list[weakref.ref[Tensor]] = []

    class Watched(Pairs):
        def __getitem__(self, index: int) -> dict[str, Any]:
            deadline = time.monotonic() + 10  # the thread that compared it lets go of it a moment after its result
            while any(reference() is not None for reference in alive) and time.monotonic() < deadline:
                time.sleep(0.001)
            assert [reference() for reference in alive] == [None] * len(alive)
            item = super().__getitem__(index)
            alive.extend(weakref.ref(item[key]) for key in ("L", "H"))
            return item

    evaluate(lambda image: image * 0.9, Watched(), border=1, device=CPU, on_image=lambda image, result: None)
    assert len(alive) == 6


def test_images_are_compared_while_the_next_are_restored() -> None:
    def events(threads: int) -> list[str]:
        seen = []

        def darken(image: Tensor) -> Tensor:
            seen.append("restored")
            return image * 0.9

        results = evaluate(
            darken,
            Pairs(),
            border=1,
            device=CPU,
            threads=threads,
            on_result=lambda result: seen.append(result.name),
        )
        assert results == evaluate(darken, Pairs(), border=1, device=CPU)
        return seen[:6]

    assert events(threads=1) == ["restored", "0", "restored", "1", "restored", "2"]
    assert events(threads=2) == ["restored", "restored", "0", "restored", "1", "2"]
    assert events(threads=8) == ["restored", "restored", "restored", "0", "1", "2"]


def test_several_images_are_handed_on_at_once() -> None:
    both, kept = threading.Barrier(2), []

    def keep(image: np.ndarray, result: ImageResult) -> None:
        if result.name != "2":
            both.wait(timeout=20)  # for ever, if one were handed on after the other
        kept.append((image.shape, result.name))

    evaluate(lambda image: image * 0.9, Pairs(), border=1, device=CPU, threads=2, on_image=keep)
    assert sorted(kept) == [((20, 30, 3), "0"), ((21, 30, 3), "1"), ((22, 30, 3), "2")]


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_an_image_that_cannot_be_handed_on_ends_the_evaluation(threads: int, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("no folder")

    def keep(image: np.ndarray, result: ImageResult) -> None:
        write_image(tmp_path / ("full" if result.name == "1" else "") / f"{result.name}.png", image)

    with pytest.raises(UserError, match=r"full/1\.png: cannot be written \(File exists\)$"):
        evaluate(lambda image: image, Pairs(), border=1, device=CPU, threads=threads, on_image=keep)
    np.testing.assert_array_equal(read_image(tmp_path / "0.png", channels=3), make_image(20, 30, seed=0))


def test_images_of_one_size_are_restored_together_to_the_same_figures() -> None:
    class Sizes(Pairs):
        heights = (24, 24, 24, 30, 24, 24)

        def __len__(self) -> int:
            return len(self.heights)

        def __getitem__(self, index: int) -> dict[str, Any]:
            image = to_tensor(make_image(self.heights[index], 30, seed=index))
            return {"L": image, "H": image, "L_path": f"{index}.png", "H_path": f"{index}.png"}

    shapes = []

    def darken(image: Tensor) -> Tensor:
        shapes.append((len(image), image.shape[2]))
        return image * 0.9

    single, together = (
        evaluate(darken, Sizes(), border=1, device=CPU, batch_pixels=pixels) for pixels in (0, 2 * 24 * 30)
    )
    assert together == single
    assert shapes[6:] == [(2, 24), (1, 24), (1, 30), (2, 24)]


def enlarge(image: Tensor) -> Tensor:
    """A network for x2 that also darkens."""
    return 0.5 * image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("stored", "channels", "kept"), [(1, 1, 1), (1, 3, 1), (3, 3, 3), (3, 1, 1), (4, 3, 4), (4, 1, 4)]
)
def test_a_restored_image_has_the_channels_and_depth_of_its_original(
    dtype: type, stored: int, channels: int, kept: int
) -> None:
    gray: np.ndarray = make_image(6, 7, seed=0, channels=1).astype(dtype) * (257 if dtype is np.uint16 else 1)
    image = np.repeat(gray, stored, axis=2)
    restored = restore_alike(enlarge, image, scale=2, channels=channels, device=CPU)
    assert (restored.shape, restored.dtype) == ((12, 14, kept), dtype)
    expected = np.repeat(np.repeat(gray, 2, axis=0), 2, axis=1) / 2
    np.testing.assert_allclose(restored[..., :3], np.repeat(expected, min(kept, 3), axis=2), atol=0.51)
    if stored == 4:
        alpha = to_image(imresize(unit_range(to_tensor(gray)).double(), 2), to_tensor(gray).dtype)
        np.testing.assert_array_equal(restored[..., 3:], alpha)


def test_alpha_passes_unchanged_where_nothing_is_enlarged() -> None:
    image = make_image(6, 7, seed=0, channels=4)
    restored = restore_alike(lambda image: 0.5 * image, image, scale=1, channels=3, device=CPU)
    np.testing.assert_array_equal(restored[..., 3], image[..., 3])


def briefly_trained(images: SRImages) -> SwinIR:
    """A student that has learnt to enlarge by a few steps on some images."""
    torch.manual_seed(0)
    network = SwinIR(
        16, embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=8, mlp_ratio=2, upscale=4,
        upsampler="pixelshuffledirect", drop_path_rate=0,
    )  # fmt: skip
    crops = SRCrops(images, H_size=96, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(60):
        batch = collate([crops[Draw(image=i % len(images), position=4 * step + i)] for i in range(4)])
        assert isinstance(batch, dict)
        loss = (network(unit_range(batch["L"])) - unit_range(batch["H"])).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.mark.slow
def test_tiles_leave_no_seams_in_a_real_image(shared: Callable[[str], Path]) -> None:
    set5 = shared("testsets/Set5")
    images = SRImages(pair_images(set5 / "HR", set5 / "LR_bicubic" / "X4", scale=4), scale=4, channels=3)
    network = briefly_trained(images)
    item = images[2]

    restorer = partial(Restorer, network, scale=4, window_size=8)

    @torch.no_grad()
    def psnr_and_image(restore: Restorer) -> tuple[float, Tensor]:
        restored = restore(unit_range(item["L"])[None])[0]
        return compare(to_levels(restored), item, border=4).psnr_y, restored

    whole_psnr, whole = psnr_and_image(restorer())
    psnrs, distances = {}, {}
    for overlap in (0, 16):
        psnrs[overlap], tiled = psnr_and_image(restorer(tile=32, tile_overlap=overlap))
        distances[overlap] = float((tiled - whole).abs().max())
    short_of_memory = restorer(peak_bytes=lambda pixels: 10**9 * pixels, tile_overlap=16)
    automatic_psnr, _ = psnr_and_image(short_of_memory)
    assert short_of_memory.automatic_tiles == {32}
    assert whole_psnr > 20
    assert psnrs[16] == pytest.approx(whole_psnr, abs=0.05)
    assert automatic_psnr == psnrs[16]
    assert distances[16] < distances[0] / 3


class Limited(nn.Module):
    """Up-sampling by 2 that lacks the memory for more than `limit` LR pixels; `sizes` has what was asked for."""

    def __init__(self, limit: int, error: Exception) -> None:
        super().__init__()
        self.limit = limit
        self.error = error
        self.sizes: list[tuple[int, int]] = []
        self.failed = weakref.WeakSet[Tensor]()

    def forward(self, lr_image: Tensor) -> Tensor:
        assert not self.failed, "what failed is still in memory"
        self.sizes.append((lr_image.shape[2], lr_image.shape[3]))
        if lr_image.shape[2] * lr_image.shape[3] > self.limit:
            self.failed.add(lr_image)
            raise type(self.error)(*self.error.args)
        return nn.functional.interpolate(lr_image, scale_factor=2, mode="nearest")


ERRORS = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()]
ERRORS.append(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"))


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("error", ERRORS)
def test_where_memory_runs_out_the_tile_is_halved_and_kept(
    error: Exception, ensemble: bool, caplog: pytest.LogCaptureFixture
) -> None:
    network = Limited(24 * 24, error)
    restore = Restorer(network, scale=2, window_size=8, tile_overlap=4, self_ensemble=ensemble, name="the student")
    first, second, small = torch.rand(2, 3, 60, 90), torch.rand(1, 3, 30, 50), torch.rand(1, 3, 9, 9)
    gc.disable()  # what failed must be let go of at once
    try:
        restored = restore(first)
    finally:
        gc.enable()
    torch.testing.assert_close(restored, first.repeat_interleave(2, -1).repeat_interleave(2, -2))
    # 96 wide as it is padded; half of 48 is 24, of which 24 x 24 fit.
    tried = sorted({max(size) for size in network.sizes}, reverse=True)
    assert tried == [96, 48, 24]
    assert restore.automatic_tiles == {48, 24}
    assert caplog.messages == [f"out of memory: the student goes on in tiles of {tile} LR pixels" for tile in (48, 24)]

    network.sizes.clear()
    restore.automatic_tiles.clear()
    restore(small)
    assert restore.automatic_tiles == set(), "it is not divided"
    torch.testing.assert_close(restore(second), second.repeat_interleave(2, -1).repeat_interleave(2, -2))
    assert max(map(max, network.sizes)) == 24, "more was tried again"
    assert restore.automatic_tiles == {24}
    assert len(caplog.messages) == 2


def test_a_given_tile_is_halved_down_to_what_makes_sense(caplog: pytest.LogCaptureFixture) -> None:
    network = Limited(0, ERRORS[0])
    restore = Restorer(network, scale=2, window_size=7, tile=50, tile_overlap=6)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 2 GiB"):
        restore(torch.rand(1, 3, 80, 80))
    assert network.sizes == [(50, 50), (21, 21), (12, 12)]  # multiples of 7, but no less than twice the overlap
    assert len(caplog.messages) == 2


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    network = Limited(0, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="multiplied"):
        Restorer(network, scale=2, window_size=8)(torch.rand(1, 3, 80, 80))
    assert network.sizes == [(88, 88)]
