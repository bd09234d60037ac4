"""Size and cost of the networks of an option file: `python -m models.inspect.summary --opt FILE`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from utils.options.load import load
from utils.options.schema import Options
from utils.process.errors import UserError, exit_on_user_error

if TYPE_CHECKING:  # PyTorch takes seconds to import, and help should not have to wait for it
    from torch import nn

INPUT_SIZE = 64


def count_parameters(network: "nn.Module") -> int:
    """Learnable numbers, relative position bias tables included; buffers are not counted."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: "nn.Module", *, channels: int, size: int = INPUT_SIZE) -> int:
    """FLOPs of restoring one (channels, size, size) image: two for each multiply-add of layers and attention.

    Networks on the meta device cost no time. Gradients are on, since without them attention is a kernel that is not
    counted.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.zeros(1, channels, size, size, device=next(network.parameters()).device)
    with FlopCounterMode(display=False) as counter, torch.enable_grad():
        network(image)
    return counter.get_total_flops()


def count(network: "nn.Module", *, channels: int) -> dict[str, int]:
    """Its `parameters` and `flops`."""
    return {"parameters": count_parameters(network), "flops": count_flops(network, channels=channels)}


def define_networks(options: Options) -> "dict[str, nn.Module]":
    """`student` and `teacher`, which a task that learns alone may lack.

    Raises:
        UserError: a network cannot be built.
    """
    from models.select_network import define_G, define_teacher

    networks: dict[str, nn.Module] = {"student": define_G(options)}
    try:
        networks["teacher"] = define_teacher(options)
    except UserError:
        if options.train.distillation_type != "none":
            raise
    return networks


def main() -> None:
    """Print a table of student and teacher."""
    parser = argparse.ArgumentParser(prog="python -m models.inspect.summary", description=__doc__)
    parser.add_argument("--opt", type=Path, required=True, help="option file")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override keys")
    arguments = parser.parse_args()
    with exit_on_user_error():
        options = load(arguments.opt, arguments.set)
        import torch

        with torch.device("meta"):
            networks = define_networks(options)
    counts = {name: count(network, channels=options.n_channels) for name, network in networks.items()}
    teacher = counts.get("teacher")
    cost = f"GFLOPs, {INPUT_SIZE}x{INPUT_SIZE} input"
    sys.stdout.write(f"{'':8} {'parameters':>12} {'of teacher':>11} {cost:>22} {'of teacher':>11}\n")
    for name, of in counts.items():
        shares = {key: f"{of[key] / teacher[key]:.2%}" if teacher else "-" for key in of}
        sys.stdout.write(
            f"{name:8} {of['parameters']:12,} {shares['parameters']:>11} "
            f"{of['flops'] / 1e9:22.2f} {shares['flops']:>11}\n"
        )


if __name__ == "__main__":
    main()
