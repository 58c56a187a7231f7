"""Torch layers whose tail is not run sample by sample are flipped in directions all the same."""

import backdoored
import numpy as np
import pytest
import torch
from torch import nn

import flain_core as flain
from flain_core import Settings


class Sliced(nn.Module):
    """Its tail takes a slice, and may look at values, so that it cannot be recorded."""

    def __init__(self, parameters, *, looks):
        super().__init__()
        self.body = nn.Sequential()
        for number, (weight, bias) in enumerate(parameters):
            dense = nn.Linear(*weight.shape[::-1])
            dense.weight.data = torch.tensor(weight, dtype=torch.float32)
            dense.bias.data = torch.tensor(bias, dtype=torch.float32)
            self.body.extend([nn.ReLU(), dense] if number else [dense])
        self.looks = looks

    def forward(self, x):
        scores = self.body(x)
        if self.looks and scores.max() > 1e9:
            scores = -scores
        return scores[:, : scores.shape[1]]


@pytest.mark.parametrize("looks", [False, True])
def test_a_tail_of_whole_batches_is_flipped_in_directions(looks):
    initial, final = (
        [(op.weight, op.bias) for op in network.operations if hasattr(op, "weight")]
        for network in backdoored.networks()
    )
    result = flain.purify(
        Sliced(final, looks=looks).eval(),
        initial=Sliced(initial, looks=looks).eval(),
        data=backdoored.samples(300, seed=11),
        settings=Settings(flip="directions"),
        batch_size=100,
    )
    same = flain.purify(
        backdoored.networks()[1],
        initial=backdoored.networks()[0],
        data=backdoored.samples(300, seed=11),
        settings=Settings(flip="directions"),
    )
    ours, theirs = result.layers[0], same.layers[0]
    assert (ours.flip, ours.method) == ("directions", "incremental")
    assert ours.threshold == pytest.approx(theirs.threshold, rel=1e-5)
    assert np.isclose(ours.share, theirs.share, rtol=1e-3)
    weight, expected = result.model.body[0].weight, same.model.layers()["fc1"].weight
    np.testing.assert_allclose(weight.detach(), expected, rtol=0, atol=1e-4)
