"""A small model with LoRA adapters, and its samples."""

import numpy as np
import peft
import pytest
import torch
from torch import nn

WARNINGS = [
    # Nobody has trained these models, so they are unsure of what they say.
    pytest.mark.filterwarnings("ignore:the model is right about:flain_core.FlainWarning"),
    # PEFT takes the bias of lora_B for an incomplete tensor, and asks a module of Transformers.
    pytest.mark.filterwarnings("ignore:Adapter 'default'"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]
ALL = ("fc1", "fc2")
QUIET = 0.02
# The scores of models with random weights say little of probabilities.
NEURONS = {"flip": "neurons", "statistic": "rms", "measure": "score", "tolerance": 0.05}


class Tiny(nn.Module):
    """Tokens ``(n, 5, 6)`` to scores of three classes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.query = nn.Linear(6, 6)
        self.fc1 = nn.Linear(6, 11)
        self.fc2 = nn.Linear(11, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = x + self.query(self.norm(x))
        x = x + self.fc2(nn.functional.gelu(self.fc1(x)))
        return self.head(x[:, 0])


def base():
    """The second half of the inputs of ``fc1`` is quiet."""
    torch.manual_seed(4)
    model = Tiny()
    with torch.no_grad():
        model.query.weight[3:] *= QUIET
        model.query.bias[3:] *= QUIET
    return model


def adapted(targets=ALL, *, trained=True, **options):
    """A base model with an adapter, whose B is random if it is to be a trained one."""
    model = peft.get_peft_model(
        base(), peft.LoraConfig(r=2, lora_alpha=3, target_modules=list(targets), **options)
    )
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if trained and "lora_" in name:
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


def samples(model, n=200):
    """Samples that the model gets right, if it gives few of them each class."""
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(n, 5, 6)).astype(np.float32))
    x[..., 3:] *= QUIET
    with torch.no_grad():
        return x, model(x).argmax(dim=1)


def scores(model, x):
    with torch.no_grad():
        return model.eval()(x)


def name(layer):
    return f"base_model.model.{layer}"


def update(model, layer):
    """What the adapter adds to the weight ``(out, in)``."""
    return model.get_submodule(name(layer)).get_delta_weight("default").detach().numpy()
