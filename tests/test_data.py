"""Folders, the order of the crops, the crops themselves, and the batches that training gets.

Most images here are maps: the value of a pixel is (row, column, image), in HR pixels or in LR pixels, so that every
crop tells where it comes from.
"""

import os
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data.batches import Batch, training_batches
from data.dataset_sr import SRCrops, SRImages, define_pairs, sr_pairs
from data.folders.derived import derived_folder, make_bicubic_lr
from data.folders.files import check_known_count, list_images
from data.folders.pairs import Pair, pair_images
from data.sampler import Draw, StepSampler
from data.select_dataset import define_sr_crops, define_tests
from data.stores.device import has_room
from data.stores.mapped import ImageStore
from utils.imaging.io import read_image, write_image
from utils.imaging.resize import bicubic_down
from utils.options.schema import Options
from utils.process.errors import UserError

N_IMAGES = 5
EIGHT = {((0, a), (b, 0)) for a in (1, -1) for b in (1, -1)} | {((a, 0), (0, b)) for a in (1, -1) for b in (1, -1)}


def coordinates(height: int, width: int, *, index: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 of (row, column, index)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, index)], axis=2).astype(np.uint8)


def noise(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def hr_folder(tmp_path: Path) -> Path:
    """Maps of 48x64 pixels and a little more."""
    for index in range(N_IMAGES):
        write_image(tmp_path / "HR" / f"{index}.png", coordinates(48 + index % 4, 64 + index % 3, index=index))
    return tmp_path / "HR"


@pytest.fixture
def lr_folder(tmp_path: Path) -> Path:
    """The maps of a quarter of the size."""
    for index in range(N_IMAGES):
        write_image(tmp_path / "LR" / f"{index}x4.png", coordinates(12, 16, index=index))
    return tmp_path / "LR"


@pytest.fixture
def define(raw_options: dict[str, Any], lr_folder: Path) -> Callable[..., Options]:
    """Options whose training set is the maps; arguments are changes of that section."""

    def define(*, n_channels: int = 3, total_iter: int = 6, manual_seed: int = 0, **train: Any) -> Options:
        raw_options["n_channels"] = n_channels
        raw_options["train"] |= {"total_iter": total_iter, "manual_seed": manual_seed}
        raw_options["datasets"]["train"] |= {"dataroot_L": str(lr_folder), **train}
        return Options.model_validate(raw_options)

    return define


def fill(folder: Path, *names: str, height: int = 8, width: int = 12) -> Path:
    """Write small images."""
    for name in names:
        write_image(folder / name, noise(height, width))
    return folder


class TestFolders:
    @pytest.mark.parametrize("suffix", ["", "x4"])
    def test_images_pair_by_their_path_with_or_without_the_scale(self, tmp_path: Path, suffix: str) -> None:
        hr, lr = tmp_path / "HR", tmp_path / "LR"
        fill(hr, "b.png", "a.PNG", "v1.5/a.bmp", "deep/er/a b.tif", height=9, width=15)
        names = ["b", "a", "v1.5/a", "deep/er/a b"]
        fill(lr, *(f"{name}{suffix}.png" for name in names), height=2, width=3)
        (hr / "notes.txt").write_text("not an image")
        expected = {
            Pair(hr / "b.png", lr / f"b{suffix}.png"),
            Pair(hr / "a.PNG", lr / f"a{suffix}.png"),
            Pair(hr / "v1.5/a.bmp", lr / f"v1.5/a{suffix}.png"),
            Pair(hr / "deep/er/a b.tif", lr / f"deep/er/a b{suffix}.png"),
        }
        pairs = pair_images(hr, lr, scale=4)
        assert set(pairs) == expected
        assert [pair.H for pair in pairs] == sorted(pair.H for pair in expected)

    def test_a_name_that_only_looks_like_an_lr_name_is_whole(self, tmp_path: Path) -> None:
        hr = fill(tmp_path / "HR", "box2.png", "cat.png", height=4, width=6)
        lr = fill(tmp_path / "LR", "box2.png", "catx2.png", height=2, width=3)
        assert pair_images(hr, lr, scale=2) == [
            Pair(hr / "box2.png", lr / "box2.png"),
            Pair(hr / "cat.png", lr / "catx2.png"),
        ]

    def test_names_without_a_partner_are_listed_on_both_sides(self, tmp_path: Path) -> None:
        hr = fill(tmp_path / "HR", "both.png", *(f"h{i}.png" for i in range(7)))
        lr = fill(tmp_path / "LR", "bothx4.png", "sub/l0x4.png", "l1x2.png", height=2, width=3)
        with pytest.raises(UserError) as caught:
            pair_images(hr, lr, scale=4)
        assert str(caught.value) == (
            f"HR images in {hr} without a partner: h0, h1, h2, h3, h4 and 2 more\n"
            f"LR images in {lr} without a partner: l1x2, sub/l0"
        )

    @pytest.mark.parametrize("size", [(2, 2), (3, 3), (8, 12)])
    def test_sizes_that_do_not_fit_the_scale_are_listed(self, tmp_path: Path, size: tuple[int, int]) -> None:
        hr, lr = fill(tmp_path / "HR", "a.png", "b.png"), fill(tmp_path / "LR", "a.png", height=2, width=3)
        fill(lr, "b.png", height=size[0], width=size[1])
        found = f"b.png is 12x8 and b.png {size[1]}x{size[0]}"
        with pytest.raises(UserError, match=f"^{hr}: sizes do not fit scale 4: {found}$"):
            pair_images(hr, lr, scale=4)

    @pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("a.png", "ax4.png")])
    def test_two_files_of_one_name_are_refused(self, tmp_path: Path, names: tuple[str, str]) -> None:
        hr, lr = fill(tmp_path / "HR", "a.png"), fill(tmp_path / "LR", *names, height=2, width=3)
        with pytest.raises(UserError, match="have the same name") as caught:
            pair_images(hr, lr, scale=4)
        assert all(str(lr / name) in str(caught.value) for name in names)

    def test_a_missing_folder_and_one_without_images_are_told_apart(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=f"^{tmp_path}/none: there is no such folder"):
            list_images(tmp_path / "none")
        (tmp_path / "sub.png").mkdir()
        (tmp_path / "notes.txt").write_text("not an image")
        with pytest.raises(UserError, match=f"^{tmp_path}: there is no image .*[.]png"):
            list_images(tmp_path)

    def test_text_that_is_named_png_is_refused_by_name(self, tmp_path: Path) -> None:
        hr, lr = fill(tmp_path / "HR", "a.png", "b.png"), fill(tmp_path / "LR", "a.png", "b.png", height=2, width=3)
        (hr / "b.png").write_text("not an image")
        with pytest.raises(UserError, match=f"^{hr}/b.png: cannot be read as an image$"):
            pair_images(hr, lr, scale=4)

    @pytest.mark.parametrize(("name", "complete"), [("DIV2K_train_HR", 800), ("DIV2K_valid_HR", 100)])
    def test_an_incomplete_copy_of_a_known_dataset_is_refused(self, tmp_path: Path, name: str, complete: int) -> None:
        hr, lr = fill(tmp_path / name, "a.png", "b.png"), fill(tmp_path / "LR", "a.png", "b.png", height=2, width=3)
        with pytest.raises(UserError, match=f"^{hr}: 2 images, but the dataset of this name has {complete}$"):
            sr_pairs(hr, lr, scale=4, cache=None)
        check_known_count(hr, complete)
        assert len(sr_pairs(hr.rename(tmp_path / "mine"), lr, scale=4, cache=None)) == 2


class TestBicubicLR:
    def test_lr_images_are_made_once_and_again_when_the_hr_image_is_newer(self, tmp_path: Path) -> None:
        hr, lr = fill(tmp_path / "HR", "a.png", "sub/b.JPG", height=26, width=33), tmp_path / "LR"
        make_bicubic_lr(hr, lr, scale=4)
        targets = {hr / "a.png": lr / "ax4.png", hr / "sub" / "b.JPG": lr / "sub" / "bx4.png"}
        assert {path for path in lr.rglob("*") if path.is_file()} == set(targets.values())
        expected = {path: bicubic_down(read_image(path, channels=3), 4) for path in targets}
        for path, target in targets.items():
            np.testing.assert_array_equal(read_image(target, channels=3), expected[path])

        kept = noise(6, 8, seed=1)
        for path, target in targets.items():
            write_image(target, kept)
            os.utime(target, (1000, 1000))
            os.utime(path, (1000, 1000))
        os.utime(hr / "a.png", (1001, 1001))
        make_bicubic_lr(hr, lr, scale=4)
        np.testing.assert_array_equal(read_image(lr / "ax4.png", channels=3), expected[hr / "a.png"])
        np.testing.assert_array_equal(read_image(lr / "sub" / "bx4.png", channels=3), kept)

    def test_they_go_beside_the_dataset_or_into_the_cache(self, raw_options: dict[str, Any], tmp_path: Path) -> None:
        hr = Path(raw_options["datasets"]["test"]["dataroot_H"])
        raw_options["path"]["cache"] = str(tmp_path / "cache")
        (cached,) = define_tests(Options.model_validate(raw_options)).values()
        assert isinstance(cached, SRImages)
        assert all(tmp_path / "cache" in pair.L.parents for pair in cached.pairs)
        assert {path.name for path in tmp_path.iterdir()} == {"HR", "cache"}

        del raw_options["path"]["cache"]
        (beside,) = define_tests(Options.model_validate(raw_options)).values()
        assert isinstance(beside, SRImages)
        assert [pair.L for pair in beside.pairs] == [
            tmp_path / "HR_LR_bicubic" / "X4" / f"{i}x4.png" for i in range(N_IMAGES)
        ]
        for index in range(N_IMAGES):
            assert torch.equal(beside[index]["L"], cached[index]["L"])
            made = bicubic_down(read_image(hr / f"{index}.png", channels=3), 4)
            np.testing.assert_array_equal(beside[index]["L"].permute(1, 2, 0).numpy(), made)

    def test_two_datasets_do_not_share_a_folder_of_the_cache(self, tmp_path: Path) -> None:
        folders = {
            derived_folder(tmp_path / name / "HR", kind, cache=tmp_path / "cache")
            for name in ("Set5", "Set14", "my_set", "my")
            for kind in ("LR_bicubic", "stores")
        } | {derived_folder(tmp_path / "my" / "set_HR", "stores", cache=tmp_path / "cache")}
        assert len(folders) == 9

    @pytest.mark.parametrize("blocked", ["HR_LR_bicubic", "HR_LR_bicubic/X4"])
    def test_a_file_that_stands_in_the_way_is_reported_with_the_way_out(
        self, raw_options: dict[str, Any], tmp_path: Path, blocked: str
    ) -> None:
        (tmp_path / blocked).parent.mkdir(exist_ok=True)
        (tmp_path / blocked).write_text("a file")
        options = Options.model_validate(raw_options)
        with pytest.raises(UserError, match=f"^{tmp_path}/HR_LR_bicubic/X4: .*cannot be written .*path.cache"):
            define_pairs(options.datasets.train, options)

    def test_an_hr_image_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        hr = fill(tmp_path / "HR", "a.png", "b.png")
        (hr / "a.png").write_text("not an image")
        with pytest.raises(UserError, match=f"^{hr}/a.png: cannot be read as an image$"):
            make_bicubic_lr(hr, tmp_path / "LR", scale=4)


def sampler(n_images: int = 7, **changes: Any) -> StepSampler:
    arguments = {"batch_size": 4, "seed": 0, "shuffle": True, "first_step": 0, "total_steps": 20}
    return StepSampler(n_images, **{**arguments, "rank": 0, "world_size": 1, **changes})


class TestSampler:
    @pytest.mark.parametrize("first_step", [1, 3, 7, 19, 20])
    def test_a_resumed_stream_is_the_tail_of_the_whole(self, first_step: int) -> None:
        resumed = sampler(first_step=first_step)
        assert list(resumed) == list(sampler())[first_step:]
        assert list(resumed) == list(resumed)
        assert len(resumed) == 20 - first_step

    @pytest.mark.parametrize("world_size", [2, 4])
    def test_the_parts_of_all_ranks_are_the_whole_batch(self, world_size: int) -> None:
        parts = zip(*(sampler(rank=rank, world_size=world_size) for rank in range(world_size)), strict=True)
        assert [[*chain(*of_step)] for of_step in parts] == list(sampler())

    @pytest.mark.parametrize("n_images", [1, 3, 7, 16])
    def test_every_image_comes_once_in_each_epoch(self, n_images: int) -> None:
        draws = [*chain(*sampler(n_images))]
        assert [draw.position for draw in draws] == list(range(80))
        images = [draw.image for draw in draws]
        for start in range(0, 80 - n_images, n_images):
            assert sorted(images[start : start + n_images]) == list(range(n_images))

    def test_the_order_differs_between_epochs_and_between_seeds(self) -> None:
        images = [draw.image for draw in chain(*sampler(20))]
        other = [draw.image for draw in chain(*sampler(20, seed=1))]
        assert len({tuple(order[start : start + 20]) for order in (images, other) for start in range(0, 80, 20)}) == 8

    def test_without_shuffling_the_images_come_in_their_order(self) -> None:
        draws = [*chain(*sampler(shuffle=False))]
        assert draws == [Draw(position % 7, position) for position in range(80)]

    def test_a_batch_that_cannot_be_split_evenly_is_refused(self) -> None:
        with pytest.raises(ValueError, match="batch size 4 cannot be split over 3 processes"):
            sampler(world_size=3)


def hr_half(crops: SRCrops) -> ImageStore:
    """The HR images of the store, in the place of a teacher's output."""
    stored = crops.images.store
    assert stored is not None
    half = ImageStore(stored.path, stored.shapes)
    half.starts, half.shapes = stored.starts[N_IMAGES:], stored.shapes[N_IMAGES:]
    return half


def spread(lr_image: Tensor) -> Tensor:
    """Each LR pixel as 4x4 HR pixels."""
    return lr_image.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)


def steps(hr_crop: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """By how many (rows, columns) the image moves from one pixel of a map's crop to the next below, and to the right.

    The crop must be one window: the steps are the same everywhere.
    """
    places = hr_crop[:2].int()
    down, right = places.diff(dim=1).flatten(1), places.diff(dim=2).flatten(1)
    assert (down == down[:, :1]).all()
    assert (right == right[:, :1]).all()
    return tuple(down[:, 0].tolist()), tuple(right[:, 0].tolist())


class TestCrops:
    def test_the_lr_crop_is_the_window_of_the_hr_crop_in_all_eight_orientations(
        self, define: Callable[..., Options]
    ) -> None:
        crops = define_sr_crops(define())
        seen = set()
        for position in range(100):
            item = crops[Draw(position % N_IMAGES, position)]
            assert (item["L"].shape, item["H"].shape) == ((3, 8, 8), (3, 32, 32))
            assert item["L"].dtype == item["H"].dtype == torch.uint8
            assert torch.equal(item["H"][:2] // 4, spread(item["L"])[:2])
            assert torch.equal(item["H"][2], spread(item["L"])[2])
            index = position % N_IMAGES
            assert (item["L"][2] == index).all()
            assert (Path(item["H_path"]).name, Path(item["L_path"]).name) == (f"{index}.png", f"{index}x4.png")
            seen.add(steps(item["H"]))
        assert seen == EIGHT

    def test_every_window_occurs(self, define: Callable[..., Options]) -> None:
        crops = define_sr_crops(define(H_size=36))
        items = [crops[Draw(0, position)] for position in range(300)]
        first_pixels = {tuple(item["L"][:2].amin(dim=(1, 2)).tolist()) for item in items}
        assert first_pixels == {(top, left) for top in range(4) for left in range(8)}

    def test_a_crop_as_large_as_the_image_is_the_image(self, tmp_path: Path, define: Callable[..., Options]) -> None:
        write_image(tmp_path / "square" / "0.png", coordinates(51, 50))
        write_image(tmp_path / "square_L" / "0.png", coordinates(12, 12))
        roots = {"dataroot_H": str(tmp_path / "square"), "dataroot_L": str(tmp_path / "square_L")}
        crops = define_sr_crops(define(**roots, H_size=48))
        hr = crops[Draw(0, 0)]["H"]
        assert hr.shape == (3, 48, 48)
        assert (hr[:2].amin(), hr[0].amax(), hr[1].amax()) == (0, 47, 47)

    def test_the_stored_teacher_is_cropped_with_the_hr_image(self, define: Callable[..., Options]) -> None:
        crops = define_sr_crops(define())
        crops.taught = hr_half(crops)
        for position in range(20):
            item = crops[Draw(position % N_IMAGES, position)]
            assert torch.equal(item["T"], item["H"])

    def test_zoomed_inputs_are_windows_of_hr_and_of_the_halved_lr_image_beside_the_same_crops(
        self, define: Callable[..., Options]
    ) -> None:
        plain = define_sr_crops(define(H_size=24))
        crops = SRCrops(plain.images, H_size=24, seed=0, zoomed=True)
        kinds, halved = set(), 0
        for position in range(60):
            draw = Draw(position % N_IMAGES, position)
            item = crops[draw]
            assert torch.equal(item["H"], plain[draw]["H"])
            assert item["Z"].shape == item["L"].shape == (3, 6, 6)
            inner = item["Z"][:2, 1:-1, 1:-1].int()  # bicubic bends the borders
            # Pixels hold their coordinates, so four in a row differ by 3, and by 6 at half the size, give or take 1.
            spans = inner.flatten(1).amax(1) - inner.flatten(1).amin(1)
            assert (spans == 3).all() or ((spans >= 5) & (spans <= 7)).all()
            halved += int(spans[0] > 3)
            kinds.add(item["Z"].numpy().tobytes())
        assert len(kinds) > 45
        assert 20 < halved < 40

    def test_an_image_too_small_to_be_halved_is_only_zoomed_into(self, define: Callable[..., Options]) -> None:
        crops = SRCrops(define_sr_crops(define()).images, H_size=32, seed=0, zoomed=True)
        for position in range(9):
            inner = crops[Draw(0, position)]["Z"][:2].int().flatten(1)
            assert (inner.amax(1) - inner.amin(1)).tolist() == [7, 7]

    def test_the_crop_is_a_function_of_seed_and_draw(self, define: Callable[..., Options]) -> None:
        crops, again = define_sr_crops(define()), define_sr_crops(define())
        other_seed = define_sr_crops(define(manual_seed=1))
        draws = [Draw(0, position) for position in range(30)]
        later = [again[draw]["H"] for draw in reversed(draws)][::-1]
        assert all(torch.equal(crops[draw]["H"], hr) for draw, hr in zip(draws, later, strict=True))
        assert len({crops[draw]["H"].numpy().tobytes() for draw in draws}) > 20
        assert sum(torch.equal(crops[draw]["H"], other_seed[draw]["H"]) for draw in draws) < 5

    def test_gray_training_reads_one_channel(self, define: Callable[..., Options], hr_folder: Path) -> None:
        crops = define_sr_crops(define(n_channels=1))
        item = crops[Draw(3, 0)]
        assert (item["L"].shape, item["H"].shape) == ((1, 8, 8), (1, 32, 32))
        whole = crops.images[3]["H"]
        np.testing.assert_array_equal(whole[0], read_image(hr_folder / "3.png", channels=1)[:48, :64, 0])


# Warnings that depend on the machine: few cores; and Python 3.12 and later, about forking beside OpenCV's threads.
@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*fork:DeprecationWarning")
class TestTrainingBatches:
    def test_the_number_of_workers_changes_nothing(self, define: Callable[..., Options]) -> None:
        def batches(workers: int, *, first_step: int = 0) -> list[Batch]:
            options = define(dataloader_num_workers=workers)
            return list(
                training_batches(define_sr_crops(options), options, first_step=first_step, device=torch.device("cpu"))
            )

        alone = batches(0)
        assert [(batch["L"].shape, batch["H"].shape) for batch in alone] == [((4, 3, 8, 8), (4, 3, 32, 32))] * 6
        for other, expected in ((batches(2), alone), (batches(2, first_step=4), alone[4:])):
            for batch, same in zip(other, expected, strict=True):
                assert torch.equal(batch["L"], same["L"])
                assert torch.equal(batch["H"], same["H"])
                assert (batch["L_path"], batch["H_path"]) == (same["L_path"], same["H_path"])

    @pytest.mark.parametrize("zoomed", [False, True])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("H_size", [24, 32])  # the smaller is half of the smallest image, so some are halved
    def test_a_batch_in_the_memory_of_the_device_is_the_loader_s(
        self, H_size: int, channels: int, zoomed: bool, define: Callable[..., Options]
    ) -> None:
        batches = []
        for cache in ("memmap", "device"):
            options = define(n_channels=channels, H_size=H_size, cache=cache, dataloader_num_workers=0, total_iter=9)
            crops = SRCrops(define_sr_crops(options).images, H_size=H_size, seed=3, zoomed=zoomed)
            crops.taught = hr_half(crops)
            batches.append(list(training_batches(crops, options, first_step=2, device=torch.device("cpu"))))
        assert len(batches[0]) == 7
        for ours, theirs in zip(*batches, strict=True):
            assert (
                ours.keys()
                == theirs.keys()
                == {"L", "H", "L_path", "H_path", "window", "T"} | ({"Z"} if zoomed else set())
            )
            for key, value in theirs.items():
                if isinstance(value, Tensor):
                    assert torch.equal(ours[key], value)
                    assert ours[key].is_contiguous(memory_format=torch.channels_last)
                else:
                    assert ours[key] == value

    def test_images_that_take_more_than_half_of_the_memory_are_refused_or_left_in_their_file(
        self, define: Callable[..., Options], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        crops = define_sr_crops(define())
        assert crops.images.store is not None
        monkeypatch.setattr("data.stores.device.free_bytes", lambda _: 2 * crops.images.store.starts[-1] - 1)
        with pytest.raises(
            UserError, match=r'^datasets\.train\.cache: with "device" the decoded images would take .* GB '
        ):
            training_batches(crops, define(cache="device"), first_step=0, device=torch.device("cpu"))
        assert not has_room([crops.images.store], torch.device("cpu"), asked=False)

    def test_a_batch_is_what_the_sampler_draws(self, define: Callable[..., Options]) -> None:
        options = define(manual_seed=5)
        crops = define_sr_crops(options)
        draws = next(iter(sampler(N_IMAGES, seed=5, first_step=3)))
        batch = next(training_batches(crops, options, first_step=3, device=torch.device("cpu")))
        assert torch.equal(batch["H"], torch.stack([crops[draw]["H"] for draw in draws]))
        assert batch["H_path"] == [crops[draw]["H_path"] for draw in draws]

    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("folder", ["HR", "LR"])
    def test_a_damaged_image_that_only_decoding_reveals_is_named(
        self, define: Callable[..., Options], tmp_path: Path, folder: str, workers: int
    ) -> None:
        options = define(dataloader_num_workers=workers, dataloader_shuffle=False, cache="none")
        damaged = sorted((tmp_path / folder).iterdir())[4]
        damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
        batches = training_batches(define_sr_crops(options), options, first_step=0, device=torch.device("cpu"))
        next(batches)
        with pytest.raises(UserError, match=f"^{damaged}: cannot be read as an image$"):
            next(batches)
