"""The one evaluation: a network restores images, and each is compared with its ground truth.

Training and the test script both call it, so the same weights always get the same figures. Images are [0, 1];
shapes: B batch, C channels, H W height and width of the LR image, s scale.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from utils.evaluation.restorer import Restore
from utils.imaging.metrics import luma, psnr, psnrb, ssim
from utils.imaging.tensors import to_image, to_levels, unit_range
from utils.process import dist
from utils.process.errors import errors_about
from utils.process.machine import cores

OnImage = Callable[[np.ndarray, "ImageResult"], None]  # (H, W, C) uint8
OnResult = Callable[["ImageResult"], None]


class Dataset(Protocol):
    """Items with `L` (C, H, W), `L_path`, and, where there is a ground truth, `H` (C, s*H, s*W)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


def name_of(item: Mapping[str, Any]) -> str:
    """What the image of an item, or of its result, is called."""
    return item.get("label") or Path(item["H_path"]).stem


@dataclass(frozen=True)
class ImageResult:
    """The figures of one image: PSNR in dB and SSIM, over all channels and on Y; PSNR-B only for JPEG tasks."""

    L_path: str
    H_path: str
    psnr: float
    ssim: float
    psnr_y: float
    ssim_y: float
    psnrb: float | None = None
    psnrb_y: float | None = None
    label: str | None = None
    """What the image is called where the name of its file does not tell it apart."""

    @property
    def name(self) -> str:
        """What the image is called."""
        return name_of(vars(self))

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        return {key: value for key, value in asdict(self).items() if isinstance(value, float)}


def own_share(dataset: Sized) -> range:
    """The indices of the images that this process restores."""
    return range(dist.rank(), len(dataset), dist.world_size())


def compare(image: Tensor, item: Mapping[str, Any], *, border: int, jpeg: bool = False) -> ImageResult:
    """The figures of one restored image, (C, H, W) uint8 on any device, against the ground truth of its item.

    Raises:
        UserError: the image is too small to be judged.
    """
    reference = to_levels(item["H"]).to(image.device)
    measures = {"ssim": ssim, "psnr": psnr} | ({"psnrb": psnrb} if jpeg else {})
    with errors_about(item["H_path"]):
        figures = {name: measure(image, reference, border=border) for name, measure in measures.items()}
    on_y = figures
    if len(image) > 1:
        image_y, reference_y = luma(image), luma(reference)
        on_y = {name: measure(image_y, reference_y, border=border) for name, measure in measures.items()}
    figures |= {f"{name}_y": figure for name, figure in on_y.items()}
    values = torch.stack(list(figures.values())).tolist()  # waits for the device, once
    named = dict(zip(figures, values, strict=True))
    return ImageResult(L_path=item["L_path"], H_path=item["H_path"], label=item.get("label"), **named)


@dataclass(kw_only=True, eq=False)
class Comparisons:
    """The comparisons of restored images, each on a thread of `pool`, and their results in the order of `add`.

    Args:
        threads: how many comparisons run at once; `add` waits until fewer than that are left.
        border, jpeg, on_image, on_result: as for `evaluate`.
    """

    pool: ThreadPoolExecutor
    threads: int
    border: int
    jpeg: bool
    on_image: OnImage | None
    on_result: OnResult | None
    results: list[tuple[int, ImageResult]] = field(default_factory=list)
    _running: deque[tuple[int, Future[ImageResult]]] = field(default_factory=deque)

    def add(self, index: int, image: Tensor, item: Mapping[str, Any]) -> None:
        """Compare the restored image, (C, H, W) uint8, with that index of the dataset.

        Waits until a thread is free again, and raises as `wait`.
        """
        self._running.append((index, self.pool.submit(self._judge, image, item)))
        self.wait(at_most=self.threads - 1)

    def _judge(self, image: Tensor, item: Mapping[str, Any]) -> ImageResult:
        result = compare(image, item, border=self.border, jpeg=self.jpeg)
        if self.on_image:
            self.on_image(to_image(image), result)
        return result

    def wait(self, *, at_most: int = 0) -> None:
        """Wait for the oldest comparisons, until no more than `at_most` are left.

        Raises:
            UserError: as `compare` or `on_image`.
        """
        while len(self._running) > at_most:
            index, comparison = self._running.popleft()
            result = comparison.result()
            if self.on_result:
                self.on_result(result)
            self.results.append((index, result))


def evaluate(
    restore: Restore,
    dataset: Dataset,
    *,
    border: int,
    device: torch.device,
    jpeg: bool = False,
    batch_pixels: int = 0,
    threads: int = 1,
    on_image: OnImage | None = None,
    on_result: OnResult | None = None,
) -> list[ImageResult]:
    """Restore and compare every image of a dataset, shared out over the processes; all get all results.

    Args:
        border: HR pixels left out on each side.
        jpeg: whether to report PSNR-B too.
        batch_pixels: LR pixels that are restored at once, at most, where images that follow one another agree in size;
            a larger image is restored alone.
        threads: how many images are compared at once, all but one of them while the next are restored.
        on_image: called with each restored image and its figures, in the process that restored it and on the thread
            that compared it: several at once, in any order.
        on_result: called with the figures of each of these images after that, one after another and in their order.
    """

    @torch.no_grad()
    def judge(batch: dict[int, Mapping[str, Any]]) -> None:
        """Restore the items, have them compared, and let go of them."""
        lr_images = torch.stack([item["L"] for item in batch.values()])
        with errors_about(next(iter(batch.values()))["L_path"]):
            all_restored = restore(unit_range(lr_images.to(device)))
        for restored in all_restored:
            index = next(iter(batch))
            comparisons.add(index, to_levels(restored), batch.pop(index))

    batch: dict[int, Mapping[str, Any]] = {}
    with ThreadPoolExecutor(threads) as pool:
        comparisons = Comparisons(
            pool=pool, threads=threads, border=border, jpeg=jpeg, on_image=on_image, on_result=on_result
        )
        for index in own_share(dataset):
            shape = next(iter(batch.values()))["L"].shape if batch else None
            if shape is not None and (len(batch) + 1) * shape[1] * shape[2] > batch_pixels:
                judge(batch)  # before the next image is read: there may not be the memory for one more
            item = dataset[index]
            if batch and item["L"].shape != shape:
                judge(batch)
            batch[index] = item
            del item
        if batch:
            judge(batch)
        comparisons.wait()
    return [result for _, result in sorted(dist.gather(comparisons.results), key=lambda indexed: indexed[0])]


def comparing_threads(device: torch.device) -> int:
    """How many threads `evaluate` should have: a 2K image's PNG takes 0.1 s of a core, for which no GPU should wait.

    A CPU is busy restoring. Each comparison takes up to 90 bytes on the device for each HR pixel.
    """
    return min(8, cores()) if device.type == "cuda" else 1


def average(results: Sequence[ImageResult]) -> dict[str, float]:
    """The mean of each figure that the images have."""
    rows = [result.figures() for result in results]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
