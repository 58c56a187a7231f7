"""Purifies on images that a loader draws, and says what that took; for a process of its own.

Called with the number of images and the memory limit in bytes.
"""

import json
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import flain_core as flain

torch.set_num_threads(1)


class Images(Dataset):
    """Colour images of 224 x 224, 0.6 MB each, which are made when they are asked for."""

    def __init__(self, count):
        self.count, self.drawn = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.drawn += 1
        y = index % 10
        x = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(index))
        x[:, 22 * y : 22 * y + 22] += 1.0
        return x, y


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.AdaptiveAvgPool2d((16, 16)), nn.Flatten(), nn.Linear(768, 512), nn.ReLU()),
        nn.Linear(512, 10),
    ).eval()


def trained(images):
    """The network after some steps, so that its scores say which image it sees."""
    model = network(0)
    x, y = next(iter(DataLoader(images, batch_size=100)))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.zero_grad()
    return model


def peak():
    """Bytes of memory that this process took at most since the peak was forgotten."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def forget_the_peak():
    """Lets Linux count the peak from now on, so that training does not hide what follows.

    Returns whether it does, as not every sandbox lets it.
    """
    try:
        with open("/proc/self/clear_refs", "w") as references:
            references.write("5")
    except OSError:
        return False
    return True


def main():
    count, memory_limit = map(int, sys.argv[1:])
    images = Images(count)
    model = trained(images)
    # Whatever a first call loads is not what the samples take.
    few = DataLoader(Images(20), batch_size=20)
    flain.purify(model, initial=network(0), data=few, layers="4")
    forgotten = forget_the_peak()
    images.drawn, before = 0, peak()
    result = flain.purify(
        model,
        initial=network(0),
        data=DataLoader(images, batch_size=16),
        layers="4",
        memory_limit=memory_limit,
    )
    facts = {
        "peak was forgotten": forgotten,
        "bytes of inputs": count * 3 * 224 * 224 * 4,
        "bytes at the peak": peak() - before,
        "passes": images.drawn / count,
        "method": result.layers[0].method,
        "flip": result.layers[0].flip,
    }
    print(json.dumps(facts))  # noqa: T201


if __name__ == "__main__":
    main()
