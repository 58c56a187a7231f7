"""Samples too large to keep: drawn anew from their loader, with the answer of arrays."""

import gc
import pickle
import weakref

import backdoored
import numpy as np
import pytest

import flain_core as flain
from flain_core.auxiliary.samples import Samples

X, Y = backdoored.samples(300, seed=21)
TRIGGERED = backdoored.triggered(90, seed=22)
INITIAL, FINAL = backdoored.networks()
# Inputs may take an eighth; at the layer they take seven times what they are.
KEEPS_CUTS = int(7.5 * X.nbytes)
pytestmark = pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")


class Loader:
    """Gives batches of 32 anew in each pass, and knows what became of them."""

    def __init__(self, x=X, y=Y):
        self.x, self.y = x, y
        self.begun = self.drawn = self.most_alive = 0
        self.alive = []

    def __iter__(self):
        self.begun += 1
        for start in range(0, len(self.x), 32):
            yield self.batch(slice(start, start + 32))

    def batch(self, part):
        x = self.x[part].copy()
        self.drawn += len(x)
        self.alive = [each for each in self.alive if each() is not None] + [weakref.ref(x)]
        self.most_alive = max(self.most_alive, len(self.alive))
        return x, self.y[part]


class Shuffled(Loader):
    def __iter__(self):
        order = np.random.default_rng(self.begun).permutation(len(self.x))
        self.x, self.y = self.x[order], self.y[order]
        yield from super().__iter__()


class Augmented(Loader):
    def batch(self, part):
        x, y = super().batch(part)
        x[-1] += self.begun == 4  # late, as the purified model is scored
        return x, y


class Relabelled(Loader):
    def batch(self, part):
        x, y = super().batch(part)
        return x, (y + (self.begun > 1)) % 3


class Shorter(Loader):
    def __iter__(self):
        parts = list(super().__iter__())
        yield from parts if self.begun == 1 else parts[:2]


class Failing(Loader):
    """Fails in the given pass, halfway."""

    def __init__(self, begun):
        super().__init__()
        self.fails = begun

    def batch(self, part):
        if self.begun == self.fails and part.start > len(self.x) / 2:
            raise OSError("the disk is gone")
        return super().batch(part)


class Columns(Loader):
    def batch(self, part):
        x, y = super().batch(part)
        return {"labels": y, "features": x}


class Indexed:
    """What a map-style data set looks like."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index], int(Y[index])


class ByBatch:
    """What Keras's data sets look like: batches by index, without an end of their own."""

    num_batches = 10

    def __getitem__(self, index):
        part = slice(30 * index % 300, 30 * index % 300 + 30)
        return X[part], Y[part]


class Endless(ByBatch):
    """What Keras's generators of images look like: one after the other they never end."""

    element_spec = None

    def cardinality(self):
        return -1

    def __iter__(self):
        return self

    def __next__(self):
        raise AssertionError("expected to be asked for batches by their index")


def purified(data, memory_limit, **options):
    return flain.purify(FINAL, initial=INITIAL, data=data, memory_limit=memory_limit, **options)


def expect_same(result, expected):
    for name, layer in expected.model.layers().items():
        np.testing.assert_array_equal(result.model.layers()[name].weight, layer.weight)
    assert result.layers[0].flip == expected.layers[0].flip
    assert result.layers[0].steps == expected.layers[0].steps
    assert (result.before, result.after) == (expected.before, expected.after)
    assert result.promise == expected.promise
    assert result.by_class == expected.by_class
    assert result.notes == expected.notes


@pytest.mark.parametrize(
    "data",
    [
        Loader(),
        Columns(),
        Indexed(),
        ByBatch(),
        Endless(),
        [{"x": x, "y": y} for x, y in zip(X, Y, strict=True)],
        Loader(y=np.eye(3)[Y]),
    ],
    ids=["loader", "columns", "samples by index", "by index", "endless", "list", "one-hot"],
)
@pytest.mark.parametrize("memory_limit", [KEEPS_CUTS, 0], ids=["kept at the layer", "recomputed"])
def test_every_form_gives_the_answer_of_arrays(data, memory_limit):
    samples = Samples.of(data, memory_limit=memory_limit)
    assert not samples.in_memory
    y = data.y if isinstance(data, Loader) else Y
    expect_same(purified(data, memory_limit), purified((X, y), memory_limit))


@pytest.mark.parametrize(
    "options",
    [
        {"settings": flain.Settings(flip="neurons")},
        {"settings": flain.Settings(promise=0.05)},
        {"settings": flain.Settings.published("cifar10")},
        {"layers": "all"},
        {"batch_size": 50},
        {"score": lambda scores, y: scores[np.arange(len(y)), y]},
    ],
    ids=["neurons", "promise", "published", "all layers", "batch size", "score"],
)
def test_whatever_is_asked_the_answer_is_that_of_arrays(options):
    given = {"probes": {"ASR": TRIGGERED}} | options
    drawn = {"probes": {"ASR": Loader(*TRIGGERED)}} | options
    expect_same(purified(Loader(), KEEPS_CUTS, **drawn), purified((X, Y), KEEPS_CUTS, **given))


def test_the_loader_is_gone_through_four_times():
    loader = Loader()
    purified(loader, KEEPS_CUTS)
    # To note the samples, up to the layer, for the purified model, and for the promise; and twice
    # for the first few.
    assert loader.begun == 6
    assert 4 <= loader.drawn / len(X) <= 4.5


def test_candidates_that_are_recomputed_share_passes():
    loader = Loader()
    result = purified(loader, 0)
    steps = len(result.layers[0].steps)
    assert result.layers[0].method == "incremental"
    assert loader.begun <= 6 + 1 + -(-steps // 32)


def test_two_of_the_loaders_batches_are_in_memory_at_most():
    loader = Loader()
    purified(loader, 0, probes={"ASR": Loader(*TRIGGERED)})
    gc.collect()
    assert loader.most_alive <= 2
    assert not [each for each in loader.alive if each() is not None]


def test_what_is_small_is_read_once_in_any_order():
    for loader in (Loader(), Shuffled()):
        purified(loader, 8 * X.nbytes)
        assert loader.begun == 1
    assert Samples.of(((x, y) for x, y in zip(X, Y, strict=True)), memory_limit=2**20).in_memory


@pytest.mark.parametrize("loader", [Shuffled(), Augmented(), Relabelled()])
def test_a_loader_that_gives_other_samples_is_refused(loader):
    with pytest.raises(flain.DataError, match="shuffle=False") as error:
        purified(loader, KEEPS_CUTS)
    assert "is not what it was when" in str(error.value)
    assert f"{8 * X.nbytes:,} bytes" in str(error.value)


def test_a_loader_that_ends_early_is_refused():
    with pytest.raises(flain.DataError, match="ended after 64 samples, and gave 300"):
        purified(Shorter(), KEEPS_CUTS)


def test_a_generator_of_too_many_samples_is_refused():
    with pytest.raises(flain.DataError, match="a generator gives its samples once"):
        purified(((x, y) for x, y in zip(X, Y, strict=True)), KEEPS_CUTS)


@pytest.mark.parametrize("begun", [1, 2, 4, 6])
def test_a_loader_that_fails_halfway_is_named_and_the_model_stays(begun):
    before = [layer.weight.copy() for layer in FINAL.layers().values()]
    with pytest.raises(flain.DataError, match=r"the Failing failed after 5 items.*disk is gone"):
        purified(Failing(begun), KEEPS_CUTS)
    for weight, layer in zip(before, FINAL.layers().values(), strict=True):
        np.testing.assert_array_equal(layer.weight, weight)


def test_an_interrupt_is_no_failure_of_the_loader():
    def interrupted():
        yield X[0], Y[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Samples.of(interrupted())


def test_parts_are_those_of_arrays():
    streamed, given = Samples.of(Loader(), memory_limit=0), Samples.of((X, Y))
    assert streamed.usual_batch == given.usual_batch
    for which in (slice(3, 40), np.arange(0, 300, 7), np.array([200, 5, 64, 5]), Y == 1):
        np.testing.assert_array_equal(streamed[which].x, X[which])
        np.testing.assert_array_equal(streamed[which].y, Y[which])
    part = streamed[np.arange(10, 290)][slice(0, 50)]
    np.testing.assert_array_equal(part.x, X[10:60])
    batches = zip(streamed.batches(70), given.batches(70), strict=True)
    for one, other in batches:
        np.testing.assert_array_equal(one.x, other.x)


def test_samples_may_be_of_no_number():
    assert len(Samples.of(Loader(), memory_limit=0)[:0]) == 0


def test_copies_are_known():
    twice = np.concatenate([X[:50], X[20:70]]), np.concatenate([Y[:50], Y[20:70]])
    streamed, given = Samples.of(Loader(*twice), memory_limit=0), Samples.of(twice)
    np.testing.assert_array_equal(streamed.first_alike, given.first_alike)
    some = np.arange(99, 10, -3)
    np.testing.assert_array_equal(streamed[some].first_alike, given[some].first_alike)


@pytest.mark.parametrize("scale", [1, 255, 1000])
@pytest.mark.parametrize("whole", [False, True])
def test_pixels_are_known(scale, whole):
    x = np.clip(X * scale, 0, scale)
    x = np.floor(x) if whole else x
    streamed = Samples.of(Loader(x), memory_limit=0)
    assert streamed.are_pixels == Samples.of((x, Y)).are_pixels
    assert streamed.are_pixels == (whole and scale == 255)


@pytest.mark.parametrize("bright", [200.0, 200.5])
@pytest.mark.parametrize("part", [slice(0, 32), slice(160, 192), slice(288, 300)])
def test_a_single_batch_tells_whether_they_are_pixels(bright, part):
    x = np.zeros_like(X)
    x[part] = bright
    assert Samples.of(Loader(x), memory_limit=0).are_pixels == (bright == 200)


def test_batches_of_several_types_become_of_one():
    parts = [(X[:100], Y[:100]), (X[100:].astype(np.float64), Y[100:])]
    given, streamed = Samples.of(parts), Samples.of(parts, memory_limit=0)
    for each in (*streamed.batches(64), streamed[:10]):
        assert each.x.dtype == given.x.dtype == np.float64


def test_inputs_by_name_and_in_order_are_drawn_alike():
    for join in (lambda a, b: {"a": a, "b": b}, lambda a, b: (a, b)):
        parts = [(join(X[part], X[part, 0]), Y[part]) for part in (slice(0, 99), slice(99, None))]
        given, streamed = Samples.of(parts), Samples.of(parts, memory_limit=0)
        one, other = streamed[90:110].x, given[90:110].x
        assert type(one) is type(other)
        if isinstance(one, dict):
            assert list(one) == list(other)
            one, other = tuple(one.values()), tuple(other.values())
        for mine, its in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([(X[:9], Y[:9]), (X[:9, :4], Y[:9])], "different shapes"),
        ([(X[:9], Y[:9]), (X[:9], Y[:4])], "one label for each sample"),
        ([(X[:9], Y[:9]), (X[:9] * np.nan, Y[:9])], "NaN or infinity"),
        ([(X[:9], Y[:9] - 1)], "from 0 up"),
        ([X[:9], Y[:9], X[:9]], "pairs"),
    ],
)
def test_samples_that_cannot_be_used_are_refused(parts, why):
    with pytest.raises(flain.DataError, match=why):
        Samples.of(parts, memory_limit=0)


def test_pickled_they_are_in_memory():
    samples = Samples.of(Loader(), memory_limit=0)
    copy = pickle.loads(pickle.dumps(samples[5:90]))
    assert copy.in_memory
    np.testing.assert_array_equal(copy.x, X[5:90])
    np.testing.assert_array_equal(copy.y, Y[5:90])


def test_the_batches_of_a_part_are_one_pass_that_ends_with_it():
    loader = Loader()
    samples = Samples.of(loader, memory_limit=8)
    drawn = loader.drawn
    labels = [batch.y for batch in samples[:100].batches(30) if len(batch.x)]
    np.testing.assert_array_equal(np.concatenate(labels), Y[:100])
    assert loader.drawn - drawn == 128  # four batches of the loader
    first = next(samples.batches(30))
    np.testing.assert_array_equal(first[:1].x, X[:1])
    assert samples.held._pass is None  # it was let go of, as these are all that was asked for
