"""How far apart weights of two engines, or two batch sizes, may lie: each has its own scores."""

import numpy as np

# Directions are fitted to float32 scores, and each engine, like each batch size, rounds its own.
SCORES_ROUNDED = 5e-7


def assert_weights_agree(weight, expected):
    np.testing.assert_allclose(weight, expected, rtol=1e-6, atol=SCORES_ROUNDED)
