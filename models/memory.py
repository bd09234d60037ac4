"""How much memory a network needs, so that images too large for it can be restored in tiles."""

from models.network_swinir import NUM_FEATURES, SwinIR
from models.swin_transformer import BYTES_OF_WINDOW, WINDOWS_AT_ONCE, WindowAttention, at_once

# Copies of the up-sampled features that the last layers hold at once: input, output, and what the kernels add.
RECONSTRUCTION_COPIES = {"pixelshuffle": 3.0, "nearest+conv": 4.5, "pixelshuffledirect": 0.0, "": 0.0}


def peak_bytes(network: SwinIR, pixels: int) -> int:
    """Bytes that restoring one image of this many LR pixels takes at its peak, in float32 and without gradients.

    The peak is in the blocks, which hold several copies of the features and, of a part of the windows, the attention
    with its (N, h, M, M) biases; or in the reconstruction, which works strip by strip on `NUM_FEATURES` channels of
    the up-sampled size. The factors are fitted to the resident memory of students and SwinIR-M on the CPU; a GPU takes
    more at once.
    """
    heads = max(module.num_heads for module in network.modules() if isinstance(module, WindowAttention))
    dim, tokens_of_window = network.embed_dim, network.window_size**2
    device = network.mean.device
    of_windows = min(pixels, at_once(WINDOWS_AT_ONCE, BYTES_OF_WINDOW, device) * tokens_of_window)
    blocks = 8 * dim * pixels + (3 * dim + 3 * heads * tokens_of_window) * of_windows
    strip = min(pixels, 1.1 * network.strip_pixels(device))
    copies = RECONSTRUCTION_COPIES[network.upsampler]
    reconstruction = 3 * dim * pixels + copies * NUM_FEATURES * network.upscale**2 * strip
    return 4 * round(max(blocks, reconstruction))
