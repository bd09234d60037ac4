"""The images of `make demo`, which ship inside scikit-image and matplotlib: `python -m data.demo_images`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.imaging.io import read_image, write_image

TRAIN = ("coffee", "motorcycle_left", "rocket", "hubble_deep_field", "immunohistochemistry", "brick", "grass", "gravel")
TEST = ("astronaut", "chelsea", "grace_hopper")
TEST_SIZE = 256  # small, so that the demo spends its minutes on training


def load(name: str) -> np.ndarray:
    """One image, (H, W, 3) uint8."""
    import matplotlib.cbook  # both take seconds to import
    import skimage.data

    if name == "grace_hopper":
        return read_image(Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)), channels=3)
    if name == "motorcycle_left":
        return skimage.data.stereo_motorcycle()[0]
    image = getattr(skimage.data, name)()
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def main(argv: Sequence[str] | None = None) -> None:
    """Write `trainsets/demo/HR` and `testsets/demo/HR`; the latter are squares around the middle."""
    argparse.ArgumentParser(prog="python -m data.demo_images", description=__doc__).parse_args(argv)
    for name in TRAIN:
        write_image(Path("trainsets/demo/HR") / f"{name}.png", load(name))
    for name in TEST:
        image = load(name)
        top, left = (size // 2 - TEST_SIZE // 2 for size in image.shape[:2])
        write_image(Path("testsets/demo/HR") / f"{name}.png", image[top : top + TEST_SIZE, left : left + TEST_SIZE])


if __name__ == "__main__":
    main()
