import pytest
import torch
from torch import nn

import flain_torch
from flain_core.conformance import Conformance, Conv, Dense, Mean, ReLU, Residual


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TestTorch(Conformance):
    checks = 160
    biases = True
    formats = (".safetensors", ".pt", ".pth")
    open_network = staticmethod(flain_torch.open_network)
    save = staticmethod(flain_torch.save)

    def build(self, reference):
        return Built(reference)

    def load(self, path, reference):
        return flain_torch.load(path, lambda: Built(reference))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestTorchOnDevice(TestTorch):
    checks = 160

    def build(self, reference):
        return super().build(reference).cuda()

    def load(self, path, reference):
        return super().load(path, reference).cuda()

    def array(self, output):
        return output.cpu().numpy()


class Built(nn.Module):
    def __init__(self, reference):
        super().__init__()
        self.parts = reference.parts
        for name, part in reference.layers().items():
            self.add_module(name, layer(part))

    def forward(self, x):
        return self.run(self.parts, x)

    def run(self, parts, x):
        for part in parts:
            match part:
                case Dense(name) | Conv(name):
                    x = self.get_submodule(name)(x)
                case ReLU():
                    x = torch.relu(x)
                case Mean():
                    x = x.mean((2, 3))
                case Residual(branch):
                    x = x + self.run(branch, x)
        return x


def layer(part):
    out, into, *kernel = part.weight.shape
    bias = part.bias is not None
    if isinstance(part, Dense):
        made = nn.Linear(into, out, bias=bias)
    elif part.transposed:
        made = nn.ConvTranspose2d(into, out, kernel, part.stride, bias=bias)
    else:
        channels = into * part.groups
        options = {"padding": part.padding, "groups": part.groups, "bias": bias}
        made = nn.Conv2d(channels, out, kernel, part.stride, **options)
    weight = torch.tensor(part.weight)
    with torch.no_grad():
        made.weight.copy_(weight.swapaxes(0, 1) if getattr(part, "transposed", False) else weight)
        if bias:
            made.bias.copy_(torch.tensor(part.bias))
    return made
