"""What a student costs, for reports: `cost.json` in the task folder."""

import copy
import json

import torch
from torch import Tensor, nn

from models.inspect.summary import INPUT_SIZE, count
from models.model_plain import ModelPlain
from models.network_swinir import SwinIR
from utils.process.files import write_whole
from utils.process.machine import machine_name, seconds

ROUNDS = 5


def latency(model: ModelPlain) -> float:
    """Fewest of ROUNDS seconds in which the run's device restores one INPUT_SIZE x INPUT_SIZE image, in float32."""
    image = torch.zeros(1, model.options.n_channels, INPUT_SIZE, INPUT_SIZE, device=model.device)

    def run() -> Tensor:
        with torch.inference_mode():
            return model.ema(image)

    run()  # warm-up
    return min(seconds(run, model.device) for _ in range(ROUNDS))


def without_weights(network: nn.Module) -> nn.Module:
    """A SwinIR on the meta device, where it takes no time; other networks as they are, which may not run there."""
    return copy.deepcopy(network).to("meta") if isinstance(network, SwinIR) else network


def record_cost(model: ModelPlain) -> None:
    """Write parameters and FLOPs of the student, and of the teacher, where there is one, and the student's latency."""
    options = model.options
    networks: dict[str, nn.Module] = {"student": model.ema}
    if model.teacher:
        assert isinstance(model.teacher.network, nn.Module)
        networks["teacher"] = model.teacher.network
    counts = {name: count(without_weights(network), channels=options.n_channels) for name, network in networks.items()}
    content = {"input_size": INPUT_SIZE, **counts, "latency": latency(model), "device": machine_name(model.device)}
    write_whole(options.task_folder / "cost.json", (json.dumps(content, indent=2) + "\n").encode())
