"""Clean samples in every form that users hold, and what is refused."""

import numpy as np
import pytest

import flain_core as flain
from flain_core.auxiliary.samples import Samples
from flain_core.local_samples import source_of
from flain_core.sample_source import SampleFacts

X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2])


class Dataset:
    """What a framework's map-style data set looks like."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        if index >= len(X):
            raise IndexError(index)
        return X[index], int(Y[index])


class Loader:
    """What a framework's loader looks like: uneven batches, as lists."""

    def __iter__(self):
        yield [X[:4], Y[:4]]
        yield [X[4:], Y[4:]]


class PyDataset:
    """What Keras's data sets look like: uneven batches by index, of which the last repeats."""

    num_batches = 2

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        return (X[:4], Y[:4]) if index == 0 else (X[4:], Y[4:])


class Tensor:
    """What an engine's tensor looks like: an array only when asked."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


class TensorLoader:
    """What a ``tf.data.Dataset`` looks like."""

    def __iter__(self):
        yield Tensor(X[:4]), Tensor(Y[:4])
        yield Tensor(X[4:]), Tensor(Y[4:])


@pytest.fixture
def npz(tmp_path):
    np.savez(tmp_path / "aux.npz", x=X, y=Y)
    return tmp_path / "aux.npz"


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        (X.tolist(), Y.tolist()),
        Dataset(),
        Loader(),
        PyDataset(),
        TensorLoader(),
        {"x": X, "y": Y},
        [{"image": x, "label": y} for x, y in zip(X, Y, strict=True)],
        [{"labels": Y[:4], "pixels": X[:4]}, {"labels": Y[4:], "pixels": X[4:]}],
    ],
)
def test_every_form_gives_the_same_samples(data):
    samples = Samples.of(data)
    np.testing.assert_array_equal(samples.x, X)
    np.testing.assert_array_equal(samples.y, Y)


def test_files(npz):
    np.testing.assert_array_equal(Samples.of(npz).x, X)
    np.testing.assert_array_equal(Samples.of(str(npz)).y, Y)


def test_a_list_of_pairs_is_a_dataset():
    samples = Samples.of([(X[0], 0), (X[1], 1)])
    np.testing.assert_array_equal(samples.x, X[:2])


def test_one_hot_labels_are_read_and_noted():
    samples = Samples.of((X, np.eye(3)[Y]))
    np.testing.assert_array_equal(samples.y, Y)
    assert samples.one_hot
    assert not Samples.of((X, Y)).one_hot


def test_several_inputs_are_batched_together():
    samples = Samples.of(({"a": X, "b": X[:, :1]}, Y))
    batches = list(samples.batches(4))
    assert [len(batch) for batch in batches] == [4, 2]
    np.testing.assert_array_equal(batches[1].x["b"], X[4:, :1])
    pair = Samples.of(((X, X[:, :1]), Y))
    np.testing.assert_array_equal(pair[2:4].x[1], X[2:4, :1])


def test_loaders_may_give_several_inputs():
    parts = [slice(0, 4), slice(4, 6)]
    by_name = Samples.of([({"a": X[part], "b": X[part, :1]}, Y[part]) for part in parts])
    np.testing.assert_array_equal(by_name.x["b"], X[:, :1])
    in_order = Samples.of([((X[part], X[part, :1]), Y[part]) for part in parts])
    np.testing.assert_array_equal(in_order.x[0], X)
    for samples in (by_name, in_order):
        np.testing.assert_array_equal(samples.y, Y)


def test_columns_that_are_no_labels_are_inputs_by_name():
    samples = Samples.of(
        [{"ids": x, "mask": x > 0, "target": y} for x, y in zip(X, Y, strict=True)]
    )
    assert list(samples.x) == ["ids", "mask"]
    np.testing.assert_array_equal(samples.x["mask"], X > 0)
    np.testing.assert_array_equal(samples.y, Y)


def test_a_dataset_of_hugging_face_is_read():
    datasets = pytest.importorskip("datasets")
    table = datasets.table.InMemoryTable.from_pydict({"pixels": X.tolist(), "label": Y.tolist()})
    given = datasets.Dataset(table, fingerprint="given")
    for form in (given, given.with_format("numpy"), given.with_format("torch"), given[:]):
        samples = Samples.of(form)
        np.testing.assert_array_equal(samples.x, X)
        np.testing.assert_array_equal(samples.y, Y)


def test_samples_may_be_read_twice():
    samples = Samples.of((X, Y))
    np.testing.assert_array_equal(Samples.of(samples).x, X)


def test_labels_in_a_column_are_classes():
    np.testing.assert_array_equal(Samples.of((X, Y[:, None])).y, Y)


def test_batches_are_larger_the_smaller_a_sample_is():
    small = Samples.of((np.zeros((3000, 4), np.float32), np.zeros(3000, int)))
    large = Samples.of((np.zeros((9, 2**20), np.float32), np.zeros(9, int)))
    assert [len(batch) for batch in small.batches()] == [256] * 11 + [184]
    assert [len(batch) for batch in large.batches()] == [2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((X[:0], Y[:0]), "at least one sample"),
        ([], "empty"),
        ((X, Y[:5]), "one label for each of the 6 samples"),
        ((np.where(X == 3, np.nan, X), Y), "NaN"),
        ((np.where(X == 3, np.inf, X), Y), "infinity"),
        ((X, Y - 1), "from 0 up"),
        ((X, Y.astype(np.uint64) - np.uint64(1)), "from 0 up"),
        ((X, Y * 1e300), "from 0 up"),
        (([[1, 2], [3]], [0, 1]), "same length"),
        ((X, Y + 0.5), "whole numbers"),
        ((X, np.ones((6, 3))), "one-hot"),
        ((X, np.array(list("abcdef"))), "whole numbers"),
        ((np.array([["a", "b"]] * 6), Y), "numbers"),
        (X, "labels are missing"),
        ([X, Y], "tuple (x, y)"),
        (42, "expected (x, y)"),
        ({"x": X, "z": Y}, "one is called label, labels, y or target; got x, z"),
        ({"x": X, "y": Y, "label": Y}, "got x, y, label"),
        ({"y": Y}, "got y"),
        ([{"x": X[0]}], "one is called label"),
        (["ab", "cd"], "or dicts with a column of labels; it gives str of length 2"),
        ([(X[0], 0), (X[0, :1], 1)], "different shapes"),
        ((5, 3), "at least one sample"),
        (((X, X[:3]), Y), "at least one sample"),
    ],
)
def test_bad_data_is_refused(data, words):
    with pytest.raises(flain.DataError) as caught:
        Samples.of(data, name="data")
    assert words in str(caught.value)


def test_bad_files_are_refused(tmp_path, npz):
    with pytest.raises(flain.DataError, match="no file"):
        Samples.of(tmp_path / "missing.npz")
    np.savez(tmp_path / "keys.npz", images=X)
    with pytest.raises(flain.DataError, match="holds images"):
        Samples.of(tmp_path / "keys.npz")
    (tmp_path / "cut.npz").write_bytes(npz.read_bytes()[:100])
    with pytest.raises(flain.DataError, match="cut short"):
        Samples.of(tmp_path / "cut.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(flain.DataError, match="something else") as caught:
        Samples.of(tmp_path / "text.npz")
    assert "pickle" not in str(caught.value)
    damaged = bytearray(npz.read_bytes())
    damaged[60:80] = bytes(20)
    (tmp_path / "damaged.npz").write_bytes(damaged)
    with pytest.raises(flain.DataError):
        Samples.of(tmp_path / "damaged.npz")
    np.save(tmp_path / "single.npy", X)
    with pytest.raises(flain.DataError, match="something else"):
        Samples.of(tmp_path / "single.npy")


def test_nothing_in_a_file_is_unpickled(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    np.savez(tmp_path / "evil.npz", x=np.array([Payload()], dtype=object), y=Y[:1])
    with pytest.raises(flain.DataError, match="plain arrays"):
        Samples.of(tmp_path / "evil.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("which", [0, 1])
def test_masked_arrays_are_refused(which):
    data = [np.ones((4, 3)), np.array([0, 1, 0, 1])]
    data[which] = np.ma.array(data[which], mask=data[which] == 1)
    with pytest.raises(flain.DataError, match="got a masked array"):
        Samples.of(tuple(data))


class Elsewhere:
    """Samples that lie elsewhere."""

    facts = SampleFacts()

    def scorer(self, network):
        raise AssertionError("nobody is asked")


@pytest.mark.parametrize(
    "options",
    [
        {"probes": {}},
        {"score": len},
        {"batch_size": 4},
        {"batch_size": np.array([1, 2])},
        {"memory_limit": 2**20},
        {"memory_limit": float(2**31)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_samples_belong_to_the_source_that_holds_them(options):
    elsewhere = Elsewhere()
    assert source_of(elsewhere) is elsewhere
    (name,) = options
    with pytest.raises(flain.SettingsError, match=f"no {name}, as samples behind a Elsewhere"):
        source_of(elsewhere, **options)


def test_a_source_whose_options_nobody_knows_is_taken_without():
    class Rows(dict, Elsewhere):
        pass

    rows = Rows()
    assert source_of(rows) is rows
    with pytest.raises(flain.SettingsError, match="no probes, as samples behind a Rows"):
        source_of(rows, probes={})


def test_a_source_that_has_an_option_is_to_be_given_it():
    class Probing(Elsewhere):
        def __init__(self, probes):
            self.probes = probes

    with pytest.raises(flain.SettingsError, match="give probes to the Probing"):
        source_of(Probing({}), probes={})


def test_a_class_or_a_sequence_that_answers_everything_is_no_source():
    class Agreeable(tuple):
        def __getattr__(self, name):
            return None

    assert source_of(Agreeable((X, Y))).facts.classes == 3
    with pytest.raises(flain.DataError, match="data: expected"):
        source_of(Elsewhere)


@pytest.mark.parametrize("memory_limit", [None, 100])
def test_one_hot_samples_of_as_many_numbers_as_classes_are_no_batches(memory_limit):
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.eye(3)[np.arange(20) % 3]
    samples = Samples.of(list(zip(x, y, strict=True)), memory_limit=memory_limit)
    np.testing.assert_array_equal(samples.x, x)
    np.testing.assert_array_equal(samples.y, np.arange(20) % 3)


def test_batches_of_single_numbers_are_batches():
    batches = [(np.array([0.1, 0.2, 0.3]), y) for y in (np.array([0, 1, 0]), np.array([1, 1, 0]))]
    assert Samples.of(batches).y.tolist() == [0, 1, 0, 1, 1, 0]
