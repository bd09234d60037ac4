"""SwinIR: image restoration with residual Swin Transformer blocks (Liang et al., ICCVW 2021, arXiv 2108.10257).

One class serves teacher and student and all seven restoration tasks. Constructor arguments, defaults and
state-dict keys are those of the published network, so that checkpoints travel both ways.

Shapes: B batch, C channels, H W height and width, L = H*W tokens, M = window_size**2 tokens of a window,
N windows of an image.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.swin_transformer import BasicLayer, BlockConfig, WindowAttention, at_once, shifted_window_mask

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, in [0, 1]
# LR pixels that are up-sampled at once in inference; the peak of memory for large images.
STRIP_PIXELS = {"cpu": 128**2, "cuda": 512**2}
STRIP_MARGIN = 3  # LR rows that an output row depends on: 1 for each convolution before up-sampling, less after it
NUM_FEATURES = 64  # channels of the reconstruction
MAX_BLOCKS = 1000  # the largest published SwinIR has 54
MAX_NUMBERS = 1e9  # 4 GB, and four times that in training
UPSCALES = {"pixelshuffle": (2, 3, 4, 8), "pixelshuffledirect": (2, 3, 4, 8), "nearest+conv": (2, 4)}


def reflect_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Extend (B, C, H, W) on the right and below by reflection, back and forth where the image is too small."""
    for dim in (2, 3):
        size = x.shape[dim]
        if size % multiple:
            position = torch.arange(size, device=x.device)
            back_and_forth = torch.cat([position, position[1:-1].flip(0)])  # one period
            extended = size + -size % multiple
            repeats = extended // back_and_forth.shape[0] + 1
            x = x.index_select(dim, back_and_forth.repeat(repeats)[:extended])
    return x


class RSTB(nn.Module):
    """Residual Swin Transformer Block (section 3.2): Swin Transformer blocks, a convolution, a skip around both."""

    def __init__(self, residual_group: BasicLayer, conv: nn.Module) -> None:
        super().__init__()
        self.residual_group = residual_group
        self.conv = conv

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return x + convolve_last(self.conv, self.residual_group(x, mask))


class PatchEmbed(nn.Module):
    """The normalisation of the first tokens; SwinIR's patches are single pixels, so nothing is embedded."""

    def __init__(self, norm: nn.Module | None) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return x if self.norm is None else self.norm(x)


def convolve_last(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution to (B, H, W, C): the permuted view is the channels-last layout, so nothing is copied."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def residual_conv(dim: int, resi_connection: str) -> nn.Module:
    """The convolution that closes an RSTB and the body: one layer, or a three-layer bottleneck."""
    if resi_connection == "1conv":
        return conv3x3(dim, dim)
    return nn.Sequential(
        conv3x3(dim, dim // 4),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim // 4, dim // 4, 1),
        nn.LeakyReLU(0.2),
        conv3x3(dim // 4, dim),
    )


def pixel_shuffle_upsampler(scale: int) -> nn.Sequential:
    """(B, F, H, W) -> (B, F, scale*H, scale*W): by 3 at once, by 2, 4 and 8 in steps of 2."""
    layers: list[nn.Module] = []
    for step in [3] if scale == 3 else [2] * (scale.bit_length() - 1):
        layers += [conv3x3(NUM_FEATURES, step**2 * NUM_FEATURES), nn.PixelShuffle(step)]
    return nn.Sequential(*layers)


class SwinIR(nn.Module):
    """The network: a shallow convolution, RSTBs for the deep features, and one of four reconstructions.

    Args:
        img_size: height and width that the stored `attn_mask` buffers are written for; any size can be restored.
            Not above `window_size`, it also switches the shifted windows off, as in the published code.
        patch_size: only divides `img_size`; the tokens are always single pixels.
        in_chans: 1 (gray) or 3 (RGB).
        depths: Swin Transformer blocks of each RSTB.
        num_heads: attention heads of each RSTB; each divides `embed_dim`.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 at the first.
        ape: add a learnt absolute position embedding of `img_size`, interpolated for inputs of other sizes.
        upscale: 2, 3, 4 or 8 for super-resolution, 1 for denoising and JPEG artefact reduction.
        img_range: the network works on images times this number; 1 or 255.
        upsampler: "pixelshuffle" (classical SR), "pixelshuffledirect" (lightweight SR), "nearest+conv"
            (real-world SR), or "" or None: no up-sampling, whatever `upscale` says.
        resi_connection: "1conv" or "3conv".

    Raises:
        ValueError: the arguments do not go together.
    """

    mean: Tensor

    def __init__(
        self,
        img_size: int = 64,
        *,
        patch_size: int = 1,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        norm_layer: type[nn.Module] = nn.LayerNorm,
        ape: bool = False,
        patch_norm: bool = True,
        use_checkpoint: bool = False,
        upscale: int = 2,
        img_range: float = 1.0,
        upsampler: str | None = "",
        resi_connection: str = "1conv",
    ) -> None:
        super().__init__()
        grid = img_size // patch_size
        check_arguments(
            embed_dim=embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            grid=grid,
            upscale=upscale,
            upsampler=upsampler,
            resi_connection=resi_connection,
        )
        self.in_chans = in_chans
        self.embed_dim = embed_dim
        self.feature_dims = (embed_dim,) * len(depths)
        self.window_size = window_size
        self.shift_size = window_size // 2 if grid > window_size else 0
        self.upscale = upscale if upsampler else 1
        self.img_range = img_range
        self.upsampler = upsampler or ""
        mean = torch.tensor(RGB_MEAN) if in_chans == 3 else torch.zeros(1)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)

        self.conv_first = conv3x3(in_chans, embed_dim)
        self.patch_embed = PatchEmbed(norm_layer(embed_dim) if patch_norm else None)
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, grid**2, embed_dim)) if ape else None
        self.pos_drop = nn.Dropout(drop_rate)
        config = BlockConfig(
            dim=embed_dim,
            grid=grid,
            window_size=min(window_size, grid),
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            drop=drop_rate,
            attn_drop=attn_drop_rate,
            norm_layer=norm_layer,
        )
        drop_paths = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").split(list(depths))
        self.layers = nn.ModuleList(
            RSTB(
                BasicLayer(
                    config,
                    num_heads=heads,
                    shift_size=self.shift_size,
                    drop_paths=rates.tolist(),
                    use_checkpoint=use_checkpoint,
                ),
                residual_conv(embed_dim, resi_connection),
            )
            for heads, rates in zip(num_heads, drop_paths, strict=True)
        )
        self.norm = norm_layer(embed_dim)
        self.conv_after_body = residual_conv(embed_dim, resi_connection)
        self._add_reconstruction(in_chans)
        self.apply(init_weights)

    def _add_reconstruction(self, in_chans: int) -> None:
        dim = self.embed_dim
        if self.upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(conv3x3(dim, self.upscale**2 * in_chans), nn.PixelShuffle(self.upscale))
        elif self.upsampler == "":
            self.conv_last = conv3x3(dim, in_chans)
        else:
            self.conv_before_upsample = nn.Sequential(conv3x3(dim, NUM_FEATURES), nn.LeakyReLU())
            if self.upsampler == "pixelshuffle":
                self.upsample = pixel_shuffle_upsampler(self.upscale)
            else:
                self.conv_up1 = conv3x3(NUM_FEATURES, NUM_FEATURES)
                if self.upscale == 4:
                    self.conv_up2 = conv3x3(NUM_FEATURES, NUM_FEATURES)
                self.conv_hr = conv3x3(NUM_FEATURES, NUM_FEATURES)
            self.conv_last = conv3x3(NUM_FEATURES, in_chans)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], any H and W -> (B, C, upscale*H, upscale*W), about [0, 1] but not clamped."""
        return self._restore(image, on_feature=lambda _: None)

    def forward_with_features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The restored image, as from `forward`, and the (B, L, embed_dim) tokens after each RSTB.

        L counts the pixels of the input after its reflection to multiples of `window_size`.
        """
        features: list[Tensor] = []
        return self._restore(image, on_feature=features.append), features

    def _restore(self, image: Tensor, *, on_feature: Callable[[Tensor], None]) -> Tensor:
        _, _, height, width = image.shape
        x = reflect_to_multiple(image, self.window_size)
        x = (x - self.mean) * self.img_range
        shallow = self.conv_first(x)
        deep = self._deep_features(shallow, on_feature=on_feature)
        body = convolve_last(self.conv_after_body, deep).permute(0, 3, 1, 2) + shallow
        del shallow, deep  # the reconstruction of a large image needs their memory
        out = x + self.conv_last(body) if self.upsampler == "" else self._reconstruct(body)
        out = out / self.img_range + self.mean
        return out[:, :, : height * self.upscale, : width * self.upscale]

    def _deep_features(self, shallow: Tensor, *, on_feature: Callable[[Tensor], None]) -> Tensor:
        """(B, C, H, W) -> (B, H, W, C); `on_feature` gets the (B, L, C) tokens after each RSTB."""
        x = self.patch_embed(shallow.permute(0, 2, 3, 1))
        if self.absolute_pos_embed is not None:
            x = x + self._positions(x.shape[1], x.shape[2])
        x = self.pos_drop(x)
        mask = None
        if self.shift_size:
            mask = shifted_window_mask(x.shape[1], x.shape[2], self.window_size, self.shift_size, device=x.device)
        for layer in self.layers:
            x = layer(x, mask)
            on_feature(x.flatten(1, 2))
        return self.norm(x)

    def _positions(self, height: int, width: int) -> Tensor:
        """The absolute position embedding of this size, (1, height, width, embed_dim)."""
        assert self.absolute_pos_embed is not None
        grid = math.isqrt(self.absolute_pos_embed.shape[1])
        positions = self.absolute_pos_embed.view(1, grid, grid, -1)
        if (height, width) == (grid, grid):
            return positions
        return F.interpolate(positions.permute(0, 3, 1, 2), size=(height, width), mode="bicubic").permute(0, 2, 3, 1)

    def _reconstruct(self, body: Tensor) -> Tensor:
        """(B, embed_dim, H, W) -> (B, C, upscale*H, upscale*W); without gradients, large images strip by strip.

        A strip is up-sampled with the rows around it that its pixels depend on, so the result is the same.
        """
        height, width = body.shape[2:]
        whole = torch.is_grad_enabled() or torch.compiler.is_compiling()
        rows = height if whole else max(self.strip_pixels(body.device) // width, STRIP_MARGIN)
        if rows >= height:
            return self._upsample(body)
        strips = []
        for top in range(0, height, rows):
            first, last = max(top - STRIP_MARGIN, 0), min(top + rows + STRIP_MARGIN, height)
            strip = self._upsample(body[:, :, first:last])
            start = (top - first) * self.upscale
            strips.append(strip[:, :, start : start + rows * self.upscale].clone())  # the rest can be freed
        return torch.cat(strips, dim=2)

    def strip_pixels(self, device: torch.device) -> int:
        """LR pixels that are up-sampled at once in inference."""
        return at_once(STRIP_PIXELS, 3 * 4 * NUM_FEATURES * self.upscale**2, device)  # three copies in float32

    def _upsample(self, body: Tensor) -> Tensor:
        """(B, embed_dim, H, W) -> (B, C, upscale*H, upscale*W)."""
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(body)
        x = self.conv_before_upsample(body)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(x))
        for conv in [self.conv_up1, self.conv_up2] if self.upscale == 4 else [self.conv_up1]:
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


def check_arguments(
    *,
    embed_dim: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    window_size: int,
    mlp_ratio: float,
    grid: int,
    upscale: int,
    upsampler: str | None,
    resi_connection: str,
) -> None:
    """Raise a `ValueError` that names the arguments of `SwinIR` which do not go together."""
    blocks = sum(depths)
    numbers = blocks * ((4 + 2 * mlp_ratio) * embed_dim**2 + window_size**4 + (window_size * grid) ** 2)
    indivisible = [heads for heads in num_heads if embed_dim % heads]
    scales = UPSCALES.get(upsampler, ()) if upsampler else (upscale,)
    problems = {
        f"depths has {len(depths)} entries and num_heads {len(num_heads)}": len(depths) != len(num_heads),
        f"embed_dim {embed_dim} is not a multiple of num_heads {indivisible}": indivisible,
        f"img_size {grid} is not a multiple of window_size {window_size}": (
            grid < 1 or max(grid, window_size) % min(grid, window_size)
        ),
        f"mlp_ratio {mlp_ratio} leaves no hidden channel of embed_dim {embed_dim}": mlp_ratio * embed_dim < 1,
        f"depths of {blocks} blocks in all are more than {MAX_BLOCKS:,}": blocks > MAX_BLOCKS,
        f"embed_dim, depths, img_size and window_size make {numbers:.0e} parameters and masks, which fit no memory": (
            numbers > MAX_NUMBERS
        ),
        f"upsampler {upsampler!r} is none of {', '.join(map(repr, UPSCALES))}": not scales,
        f"upsampler {upsampler!r} makes upscale {scales}, not {upscale}": upscale not in scales,
        f"resi_connection {resi_connection!r} is neither '1conv' nor '3conv'": resi_connection
        not in {"1conv", "3conv"},
        f"resi_connection '3conv' divides embed_dim {embed_dim} by 4": resi_connection == "3conv" and embed_dim < 4,
    }
    for problem, found in problems.items():
        if found:
            raise ValueError(problem)


def init_weights(module: nn.Module) -> None:
    """The published initialisation of linear layers and position tables; the others keep PyTorch's."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
    elif isinstance(module, SwinIR) and module.absolute_pos_embed is not None:
        nn.init.trunc_normal_(module.absolute_pos_embed, std=0.02)
