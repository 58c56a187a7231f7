"""PyTorch's own ways to hold samples all give the same answer."""

import numpy as np
import pytest
import torch
from by_neurons import by_neurons
from torch.utils.data import DataLoader, TensorDataset

import flain_core as flain


def network(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Linear(16, 5)
    )


INITIAL, FINAL = network(0), network(1)
X = torch.rand(90, 8)
Y = FINAL.eval()(X).argmax(1)
DATASET = TensorDataset(X, Y)


@pytest.mark.parametrize(
    "data",
    [
        (X.numpy(), Y.numpy()),
        (X.requires_grad_(False), Y),
        DATASET,
        DataLoader(DATASET, batch_size=40),
        DataLoader(DATASET, batch_size=7, shuffle=True),
    ],
    ids=["arrays", "tensors", "dataset", "loader", "shuffled loader"],
)
@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_every_form_gives_the_same_answer(data):
    settings = by_neurons(tolerance=0.1)
    FINAL.train()
    result = flain.purify(FINAL, initial=INITIAL, data=data, settings=settings)
    expected = flain.purify(FINAL, initial=INITIAL, data=(X, Y), settings=settings)
    np.testing.assert_array_equal(result.layers[0].flipped, expected.layers[0].flipped)
    assert result.after.clean == expected.after.clean
    assert FINAL.training
    assert result.model.training


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_state_dict_kept_before_training_is_the_initial_model():
    kept = {name: tensor.clone() for name, tensor in INITIAL.state_dict().items()}
    settings = by_neurons(tolerance=0.3, statistic="mean_abs")
    one = flain.purify(FINAL, initial=kept, data=(X, Y), settings=settings)
    other = flain.purify(FINAL, initial=INITIAL, data=(X, Y), settings=settings)
    assert one.layers[0].flipped.any()
    assert torch.equal(one.model[0].weight, other.model[0].weight)
