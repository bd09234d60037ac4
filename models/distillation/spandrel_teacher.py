"""Teachers of other architectures: a network that the package spandrel reads, with features named by module path.

Shapes: B batch, C image channels, H W height and width of the LR image, s scale, L = H*W tokens, D channels of a
feature. Images are [0, 1].
"""

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.network_swinir import reflect_to_multiple
from utils.process.errors import UserError
from utils.weights import read_finite_weights

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

ToTokens = Callable[[Tensor], Tensor]


class SpandrelTeacher(nn.Module):
    """A network read by spandrel, with what `models.distillation.features.FeatureNetwork` asks of a teacher.

    Args:
        features: path of each module whose output is a feature, such as "layers.0.blocks.5".
        crop: height and width of the LR images of training, on which the features are tried out.

    Attributes:
        window_size: the larger of spandrel's minimum size and `multiple_of`; inputs are extended to multiples of it.
            It is a guess for networks with windows: spandrel does not tell to which multiples they pad their input.
        feature_dims: D of each feature.
        upscale, in_chans, img_range, upsampler: what a SwinIR for the same images would have.

    Raises:
        UserError: a path names no module, or one whose output is not one vector for each pixel of the LR image.
    """

    def __init__(self, descriptor: "ImageModelDescriptor", *, features: Sequence[str], crop: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.network = descriptor.eval().model
        self.window_size = max(descriptor.size_requirements.minimum, descriptor.size_requirements.multiple_of)
        self.upscale, self.in_chans, self.img_range = descriptor.scale, descriptor.input_channels, 1.0
        self.upsampler = "pixelshuffle" if self.upscale > 1 else ""
        self.taps = [find_module(self.network, path) for path in features]
        self.to_tokens: list[ToTokens] = []
        self.feature_dims: list[int] = []
        if self.taps:
            self._try_out(features, crop + -crop % self.window_size)

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_with_features(image)[0]

    def forward_with_features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W), any H and W -> the restored image (B, C, s*H, s*W), clamped, and each feature's (B, L, D).

        L counts the pixels of the input after its reflection to multiples of `window_size`, as in `SwinIR`.
        """
        _, _, height, width = image.shape
        restored, outputs = self._run(reflect_to_multiple(image, self.window_size))
        features = [to_tokens(output) for to_tokens, (output,) in zip(self.to_tokens, outputs, strict=True)]
        return restored[..., : height * self.descriptor.scale, : width * self.descriptor.scale], features

    def _run(self, image: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """The restored image and, for each tap, the list of its outputs, since a module may run any number of times.

        The network itself returns no features, so hooks fetch them; the hooks are removed when this call ends.
        """
        outputs: list[list[Tensor]] = [[] for _ in self.taps]
        with ExitStack() as stack:
            for module, kept in zip(self.taps, outputs, strict=True):
                stack.enter_context(module.register_forward_hook(partial(keep_output, kept)))
            if not self.descriptor.supports_bfloat16:
                stack.enter_context(torch.autocast(image.device.type, enabled=False))
            restored = self.descriptor(image)
        return restored.clone(), outputs  # spandrel's own tensors are of inference mode, which autograd refuses

    def _try_out(self, features: Sequence[str], size: int) -> None:
        """Learn the layout and the channels of each feature from an image of 2 by 3 crops.

        Height and width differ, so they are not confused. The width is no multiple of the height, so channels and
        height of an up-sampled map are not taken for height and width.
        """
        height, width = 2 * size, 3 * size
        shape = (1, self.descriptor.input_channels, height, width)
        _, outputs = self._run(torch.zeros(shape))
        for path, kept in zip(features, outputs, strict=True):
            if len(kept) != 1:
                raise UserError(f"netTeacher.features: {path!r} gives {len(kept)} tensors for one image, not one")
            to_tokens = find_layout(kept[0], height=height, width=width)
            if to_tokens is None:
                raise UserError(
                    f"netTeacher.features: {path!r} gives {tuple(kept[0].shape)} for an LR image of {shape}; "
                    f"expected one vector for each of its {height}x{width} pixels"
                )
            self.to_tokens.append(to_tokens)
            self.feature_dims.append(to_tokens(kept[0]).shape[-1])


def keep_output(kept: list[Tensor], _module: nn.Module, _inputs: object, output: object) -> None:
    """A forward hook that appends a copy of the output, or of the first tensor of several, to `kept`."""
    tensor = output[0] if isinstance(output, (tuple, list)) else output
    if isinstance(tensor, Tensor):
        with torch.inference_mode(mode=False):
            kept.append(tensor.clone())  # later layers may change the original in place


def find_layout(output: Tensor, *, height: int, width: int) -> ToTokens | None:
    """The function that turns `output` into (1, L, D) tokens; None if none does. `height` and `width` must differ."""
    match tuple(output.shape):
        case (1, _, h, w) if (h, w) == (height, width):
            return lambda x: x.flatten(2).transpose(1, 2)
        case (1, h, w, _) if (h, w) == (height, width):
            return lambda x: x.flatten(1, 2)
        case (1, tokens, _) if tokens == height * width:
            return lambda x: x
    return None


def find_module(network: nn.Module, path: str) -> nn.Module:
    """The module of this path.

    Raises:
        UserError: there is none; the sentence gives the nearest paths.
    """
    modules = dict(network.named_modules())
    if path not in modules:
        nearest = ", ".join(difflib.get_close_matches(path, modules, n=3, cutoff=0.0))
        raise UserError(
            f"netTeacher.features: {path!r} is none of the {len(modules)} modules of {type(network).__name__}; "
            f"the nearest are {nearest}"
        )
    return modules[path]


def read_teacher(path: Path, *, scale: int, channels: int, features: Sequence[str], crop: int) -> SpandrelTeacher:
    """The teacher of a file of weights.

    Raises:
        UserError: it is for another scale or other channels, or as `read_finite_weights`, `read_descriptor` and
            `SpandrelTeacher`.
    """
    descriptor = read_descriptor(read_finite_weights(path), source=path)
    found = (descriptor.scale, descriptor.input_channels)
    if found != (scale, channels):
        raise UserError(
            f"{path}: this {descriptor.architecture.name} is for scale {found[0]} and images of {found[1]} channels, "
            f"which does not fit scale {scale} and n_channels {channels}"
        )
    return SpandrelTeacher(descriptor, features=features, crop=crop)


def read_descriptor(weights: Mapping[str, Tensor], *, source: Path) -> "ImageModelDescriptor":
    """The network of weights, whose architecture spandrel finds out.

    Raises:
        UserError: spandrel knows no such network, or the network does not make images of as many channels as it takes.
    """
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError  # seconds, for its 40 architectures

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.meshgrid")  # of code that is not ours to mend
            descriptor = ModelLoader().load_from_state_dict(dict(weights))
    except UnsupportedModelError as error:
        raise UserError(
            f"{source}: these are not the weights of a SwinIR, nor of another architecture that spandrel knows (those "
            f"of the package spandrel_extra_arches, whose licences restrict their use, are not read)"
        ) from error
    except Exception as error:  # whatever the code of forty architectures may raise
        raise UserError(f"{source}: spandrel cannot read this file ({type(error).__name__}: {error})") from error
    name = descriptor.architecture.name
    if not isinstance(descriptor, ImageModelDescriptor):
        raise UserError(f"{source}: a {name} fills in masked images and cannot teach super-resolution")
    if descriptor.input_channels != descriptor.output_channels:
        channels = f"{descriptor.output_channels} channels of {descriptor.input_channels}"
        raise UserError(f"{source}: this {name} makes {channels}; expected as many as it takes")
    return descriptor
