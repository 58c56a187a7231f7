"""A backdoored network whose samples lie elsewhere, beside the same samples in one place."""

import backdoored
import numpy as np
import pytest
from in_process import as_elsewhere

import flain_core as flain

CLEAN = backdoored.samples(300, seed=11)
INITIAL, FINAL = backdoored.networks()


def purify(data, final=FINAL, **options):
    return flain.purify(final, initial=INITIAL, data=data, **options)


def in_one_place(data, *, settings=None, **options):
    return purify(data, settings=as_elsewhere(settings), **options)


def assert_same(result, expected):
    assert result.before == expected.before
    assert result.after == expected.after
    for layer, other in zip(result.layers, expected.layers, strict=True):
        assert layer.threshold == other.threshold
        assert layer.stop_reason == other.stop_reason
        np.testing.assert_array_equal(layer.flipped, other.flipped)
        np.testing.assert_array_equal(layer.activation, other.activation)
        steps = [(step.threshold, step.neurons_flipped, step.clean) for step in layer.steps]
        assert steps == [(step.threshold, step.neurons_flipped, step.clean) for step in other.steps]
        # In another order, or from a cut and the whole network, the last digits may differ.
        losses = [step.loss for step in other.steps]
        assert [step.loss for step in layer.steps] == (
            losses if None in losses else pytest.approx(losses, abs=1e-6)
        )
    for name, layer in expected.model.layers().items():
        np.testing.assert_array_equal(result.model.layers()[name].weight, layer.weight)
