"""How much memory a network needs, so that images too large for it can be restored in tiles."""

from models.network_swinir import NUM_FEATURES, SwinIR
from models.swin_transformer import WindowAttention

# Copies of the up-sampled features that the last layers hold at once: input, output, and what the kernels add.
RECONSTRUCTION_COPIES = {"pixelshuffle": 3.0, "nearest+conv": 4.5, "pixelshuffledirect": 0.0, "": 0.0}


def peak_bytes_per_pixel(network: SwinIR) -> int:
    """Bytes that restoring one image takes at its peak for each LR pixel, in float32 and without gradients.

    The peak is in the attention, whose biases are (N, h, M, M), or in the reconstruction, which works on
    `NUM_FEATURES` channels of the up-sampled size; all the while, the features of every RSTB are held. The factors
    are fitted to the resident memory of students and SwinIR-M on the CPU, which they exceed by up to a quarter.
    """
    heads = max(module.num_heads for module in network.modules() if isinstance(module, WindowAttention))
    rstbs, dim = len(network.depths), network.embed_dim
    attention = (rstbs + 12) * dim + 3 * heads * network.window_size**2
    copies = RECONSTRUCTION_COPIES[network.upsampler]
    reconstruction = (rstbs + 3) * dim + copies * NUM_FEATURES * network.upscale**2
    return 4 * round(max(attention, reconstruction))
