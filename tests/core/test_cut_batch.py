"""What a batch at a layer takes, and its pre-activation on the host."""

from types import SimpleNamespace

import numpy as np
import pytest

from flain_core.in_memory.cut_batch import bytes_fitted, bytes_kept, bytes_of_root, pre_activation

INPUTS = np.zeros((6, 5, 4), dtype=np.float32)
OUTPUT = np.zeros((6, 4, 3), dtype=np.float32)


@pytest.mark.parametrize("beside", [None, 7])
def test_what_the_tail_reads_besides_counts_as_kept(beside):
    cut = SimpleNamespace(inputs=INPUTS, output=OUTPUT)
    if beside is not None:
        cut.bytes_beside = beside
    assert bytes_kept(cut) == 2 * INPUTS.nbytes + 3 * OUTPUT.nbytes + (beside or 0)


def test_a_fit_takes_inputs_and_outputs_twice_and_a_matrix_over_the_positions_of_each_sample():
    cut = SimpleNamespace(inputs=INPUTS, output=OUTPUT)
    assert bytes_fitted(cut) == 8 * (6 * 5 * 4 + 2 * (6 * 4 * 3) + 6 * 4 * 4)
    # A backend may keep further axes before that of the samples.
    chunked = SimpleNamespace(inputs=INPUTS[:, :, 0], output=OUTPUT[np.newaxis, :, 0])
    assert bytes_fitted(chunked) == 8 * (6 * 5 + 2 * (6 * 3) + 6)


@pytest.mark.parametrize(("samples", "smaller"), [(1, 4), (2, 5)])
def test_a_root_is_over_samples_or_over_inputs(samples, smaller):
    cut = SimpleNamespace(inputs=INPUTS, output=OUTPUT)
    assert bytes_of_root(cut, samples) == 4 * 8 * smaller**2


def test_a_pre_activation_comes_from_where_it_is():
    class Elsewhere:
        def cpu(self):
            return OUTPUT + 1

        def __array__(self, dtype=None, copy=None):
            raise TypeError("it lies on another device")

    found = pre_activation(SimpleNamespace(inputs=INPUTS, output=Elsewhere()))
    np.testing.assert_array_equal(found, np.ones((6, 12)))
