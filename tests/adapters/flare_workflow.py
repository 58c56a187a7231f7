"""A PyTorch model that was trained, and its purification on the server of ``flare_server``."""

import backdoored
import numpy as np
import torch
from flare_server import Server
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor

import flain_core as flain
from flain_numpy import arrays_of
from flain_nvflare import Purify

CLEAN = backdoored.samples(300, seed=11)
TRIGGERED = backdoored.triggered(200, seed=12)
INITIAL, FINAL = map(arrays_of, backdoored.networks())
EXPECTED = flain.purify_arrays(INITIAL, FINAL, backdoored.networks()[0], data=CLEAN)


class Net(torch.nn.Module):
    """12 → 10 → 7 → 3, with the names of the NumPy network, and a counter as batch norm has."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(12, 10), torch.nn.Linear(10, 7)
        self.fc3 = torch.nn.Linear(7, 3)
        self.register_buffer("counter", torch.tensor(0))
        given = {name: torch.from_numpy(array) for name, array in INITIAL.items()}
        self.load_state_dict(given, strict=False)

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def averaged(arrays):
    """As an average comes: in another order, the counter as a float."""
    return {"counter": np.float64(2.5)} | dict(reversed(arrays.items()))


def write_files(folder):
    """Write clean and triggered samples; return the folder."""
    for name, (x, y) in (("clean", CLEAN), ("triggered", TRIGGERED)):
        np.savez(folder / f"{name}.npz", x=x, y=y)
    return folder


def purify(disk, **options):
    """The workflow with the clean samples of the disk."""
    return Purify(**{"data": str(disk / "clean.npz")} | options)


def served(disk, *workflows, persistor=None):
    """The server after these workflows."""
    persistor = PTFileModelPersistor(model=Net()) if persistor is None else persistor
    return Server(disk / "server", persistor, *workflows).run()


def saved(path):
    """The arrays in a file of the persistor."""
    return {name: value.numpy() for name, value in torch.load(path)["model"].items()}


def assert_purified(arrays):
    for name, array in EXPECTED.arrays.items():
        np.testing.assert_allclose(arrays[name], array, rtol=1e-5, atol=1e-7)
