"""What a purification takes beside the models and the samples."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import flain_core as flain
from flain_core import blocks
from flain_core.blocks import is_small
from flain_core.in_directions import fits
from flain_core.in_directions.directions import Directions
from flain_core.in_directions.input_space import InputSpace
from flain_core.in_memory.cut_batch import bytes_fitted, bytes_of_root
from flain_core.settings import Settings
from flain_numpy import Dense, Network, ReLU

LIMIT = 24 * 2**20
INPUTS, OUTPUTS, SAMPLES = 4096, 1536, 120


@pytest.fixture(scope="module")
def case():
    """Two networks with a layer too large for copies, and samples that the trained one knows."""
    rng = np.random.default_rng(0)
    initial = rng.normal(size=(OUTPUTS, INPUTS), scale=INPUTS**-0.5).astype(np.float32)
    final = initial + 0.3 * initial[::-1]
    head = rng.normal(size=(5, OUTPUTS)).astype(np.float32)
    assert not is_small(final.nbytes)
    networks = [
        Network([Dense("large", each), ReLU(), Dense("head", head)]) for each in (initial, final)
    ]
    x = np.maximum(rng.normal(size=(SAMPLES, INPUTS)), 0).astype(np.float32)
    return *networks, (x, networks[1].predict(x).argmax(axis=1))


def added(work):
    """The most memory that was in use at once, less what was at first."""
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("way", ["directions", "neurons"])
def test_a_large_layer_takes_two_copies_of_its_weight_beside_the_limit(case, way):
    initial, final, data = case
    settings = (
        Settings()
        if way == "directions"
        else Settings(flip=way, thresholds=flain.Grid(start=0.1, step=0.1, stop=0.5))
    )
    peak, result = added(
        lambda: flain.purify(
            final, initial=initial, data=data, settings=settings, memory_limit=LIMIT, layers="large"
        )
    )
    assert (result.layers[0].flip, result.layers[0].method) == (way, "incremental")
    assert len(result.layers[0].steps) > 1
    assert peak <= LIMIT + 2 * final.layers()["large"].weight.nbytes


@pytest.mark.parametrize("classes", [None, (np.eye(3, 256), np.arange(SAMPLES) % 3, np.arange(3))])
def test_a_candidate_takes_one_copy_of_the_weight_and_a_few_blocks(classes):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(256, 6 * INPUTS)).astype(np.float32)
    network = Network([Dense("large", start + 0.3 * start[::-1])])
    x = rng.normal(size=(SAMPLES, 6 * INPUTS)).astype(np.float32)
    layer = network.layers()["large"]
    assert not is_small(layer.weight.nbytes)
    found = Directions(network, layer, start, 2.0, InputSpace.of(x, bias=False), classes)
    found.taken(50)
    peak, purified = added(lambda: found.candidate(50))
    assert peak < 2 * layer.weight.nbytes
    change = layer.weight - purified.layers()["large"].weight
    np.testing.assert_allclose(change, found.change(50), atol=1e-6)


@pytest.mark.parametrize("classes", [None, (np.eye(3, 1600), np.arange(40) % 3, np.arange(3))])
@pytest.mark.parametrize("way", ["taken", "change"])
def test_a_layer_that_sees_many_tokens_takes_two_solutions(way, classes):
    """As memory is reckoned when the inputs are kept; a solution of so many rows is large."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(1600, 16)).astype(np.float32)
    network = Network([Dense("each", start + 0.3 * start[::-1])])
    x = rng.normal(size=(40, 16, 100)).astype(np.float32)
    space = InputSpace.of(x, bias=False)
    solution = 8 * len(space.centred) * len(start)
    assert not is_small(solution)
    found = Directions(network, network.layers()["each"], start, 2.0, space, classes)
    found.taken(50)
    options = {"unseen": True} if way == "taken" else {}
    peak, _ = added(lambda: getattr(found, way)(51, **options))
    assert peak < 2.5 * solution


def test_fewer_inputs_than_tokens_take_no_copy_of_all_of_them(monkeypatch):
    samples, tokens, inputs, outputs = 24, 80, 768, 32
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 2**18)
    monkeypatch.setattr(fits, "_BYTES_KEPT", 2**18)
    rng = np.random.default_rng(0)
    start = rng.normal(size=(outputs, inputs)).astype(np.float32)
    network = Network([Dense("each", start + 0.3 * start[::-1])])
    x = rng.normal(size=(samples, inputs, tokens)).astype(np.float32)
    space = InputSpace.of(x, bias=False)
    found = Directions(network, network.layers()["each"], start, 2.0, space)
    cut = SimpleNamespace(inputs=x, output=np.zeros((samples, tokens, outputs)))
    reckoned = bytes_fitted(cut) - space.centred.nbytes + bytes_of_root(cut, samples)
    peak, _ = added(lambda: found.taken(50, unseen=True))
    assert space.centred.nbytes / 2 < peak < reckoned + 2**20
