"""Arrays in, arrays out, on a network that really has a backdoor."""

import backdoored
import numpy as np
import pytest
from by_neurons import BY_NEURONS, by_neurons
from hypothesis import given, settings
from hypothesis import strategies as st

import flain_core as flain
import flain_numpy
from flain_core import ModelError, WeightsError
from flain_numpy import BatchNorm, Dense, Network, ReLU, arrays_of

CLEAN = backdoored.samples(300, seed=11)
TRIGGERED = backdoored.triggered(200, seed=12)
INITIAL, FINAL = backdoored.networks()
NAMES = [f"fc{number}.{field}" for number in (1, 2, 3) for field in ("weight", "bias")]
CHANGED = ["fc1.weight", "fc1.bias"]


@pytest.fixture(scope="module")
def expected():
    """What the same call on models gives."""
    return flain.purify(FINAL, initial=INITIAL, data=CLEAN)


def blank():
    """The architecture, with weights that nobody wants."""
    blanks = {name: np.zeros_like(array) for name, array in arrays_of(FINAL).items()}
    return flain_numpy.open_network(blanks, like=FINAL)


def call(initial, final, model=None, **options):
    model = blank() if model is None else model
    return flain.purify_arrays(initial, final, model, **{"data": CLEAN} | options)


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays.values()])


def assert_purified(arrays, expected):
    """Exactly the weight and the bias of fc1 have changed, into those of the purified model."""
    final, purified = arrays_of(FINAL), arrays_of(expected.model)
    for name in CHANGED:
        assert not np.array_equal(final[name], purified[name])
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, purified[name])
        assert array.dtype == final[name].dtype
        assert name in CHANGED or np.array_equal(array, final[name])


def test_arrays_by_name_come_back_by_name(expected):
    result = call(arrays_of(INITIAL), arrays_of(FINAL), probes={"ASR": TRIGGERED})
    assert list(result.arrays) == NAMES
    assert_purified(result.arrays, expected)
    assert result.purification.before.probes["ASR"] > 0.99
    assert result.purification.after.probes["ASR"] < 0.1
    np.testing.assert_array_equal(result.purification.layers[0].flipped, expected.layers[0].flipped)


@pytest.mark.parametrize("form", [list, tuple])
def test_arrays_in_order_come_back_in_order(form, expected):
    initial, final = (form(arrays_of(each).values()) for each in (INITIAL, FINAL))
    result = call(initial, final)
    assert isinstance(result.arrays, list)
    assert_purified(dict(zip(NAMES, result.arrays, strict=True)), expected)


def test_a_flat_vector_comes_back_flat(expected):
    result = call(flat(arrays_of(INITIAL)), flat(arrays_of(FINAL)))
    np.testing.assert_array_equal(result.arrays, flat(arrays_of(expected.model)))
    assert result.arrays.dtype == np.float32
    swapped = call(flat(arrays_of(INITIAL)), flat(arrays_of(FINAL)).astype(">f4"))
    np.testing.assert_array_equal(swapped.arrays, result.arrays)
    assert swapped.arrays.dtype == np.dtype(">f4")


@given(st.permutations(NAMES), st.permutations(NAMES))
@settings(max_examples=10)
def test_names_decide_and_their_order_does_not(first, second):
    initial, final = arrays_of(INITIAL), arrays_of(FINAL)
    result = call({name: initial[name] for name in first}, {name: final[name] for name in second})
    assert list(result.arrays) == second
    assert_purified(result.arrays, flain.purify(FINAL, initial=INITIAL, data=CLEAN))


def test_nothing_that_was_given_is_touched_or_shared():
    model = blank()
    initial, final = arrays_of(INITIAL), arrays_of(FINAL)
    for array in (*initial.values(), *final.values()):
        array.flags.writeable = False
    result = call(initial, final, model)
    assert not any(array.any() for array in arrays_of(model).values())
    for name, array in result.arrays.items():
        assert array.flags.writeable
        assert not np.may_share_memory(array, final[name])


@pytest.mark.parametrize("dtype", [np.float64, ">f4", np.float16])
def test_the_types_that_averaging_left_behind_are_returned(dtype):
    final = {name: array.astype(dtype) for name, array in arrays_of(FINAL).items()}
    # Numbers that the model's float32 cannot hold, where the purification does not reach.
    final["fc3.bias"] += np.array(1e-3, dtype)
    result = call(arrays_of(INITIAL), final, settings=BY_NEURONS)
    assert [array.dtype for array in result.arrays.values()] == [np.dtype(dtype)] * len(final)
    flipped = result.purification.layers[0].flipped
    assert flipped.any()
    assert not flipped.all()
    given, purified = final["fc1.weight"], result.arrays["fc1.weight"]
    np.testing.assert_array_equal(purified[:, ~flipped], given[:, ~flipped])
    np.testing.assert_array_equal(
        purified[:, flipped],
        flain.flip(
            INITIAL.layers()["fc1"].weight, given.astype(np.float32), np.flatnonzero(flipped)
        )[:, flipped].astype(dtype),
    )
    for name in NAMES[1:]:
        np.testing.assert_array_equal(result.arrays[name], final[name])


def test_a_wrappers_prefix_is_read_and_kept(expected):
    initial = {f"module.{name}": array for name, array in arrays_of(INITIAL).items()}
    result = call(initial, arrays_of(FINAL))
    assert_purified(result.arrays, expected)
    result = call(arrays_of(INITIAL), {f"a.b.{n}": a for n, a in arrays_of(FINAL).items()})
    assert list(result.arrays) == [f"a.b.{name}" for name in NAMES]


def test_the_architecture_may_be_a_file(tmp_path, expected):
    flain_numpy.save(blank(), tmp_path / "network.npz")
    result = call(arrays_of(INITIAL), arrays_of(FINAL), tmp_path / "network.npz")
    assert_purified(result.arrays, expected)
    assert list(result.purification.files) == [str(tmp_path / "network.npz")]


def normalized(network):
    """With batch normalization in front, that changes nothing."""
    norm = BatchNorm(*np.float32([[0.0] * 12, [1.0] * 12, [1.0] * 12]), epsilon=0.0)
    return Network([norm, *network.operations])


def test_a_flat_vector_leaves_statistics_to_the_model(expected):
    initial, final = (flat(arrays_of(normalized(each), buffers=False)) for each in (INITIAL, FINAL))
    assert final.size == flat(arrays_of(FINAL)).size + 12
    result = call(initial, final, normalized(INITIAL))
    np.testing.assert_array_equal(result.arrays[12:], flat(arrays_of(expected.model)))
    assert arrays_of(result.purification.model)["0.variance"].tolist() == [1.0] * 12


def test_a_layer_used_twice_and_one_in_a_branch_give_their_arrays_once():
    square = Dense("square", np.eye(3), np.zeros(3))
    block = flain_numpy.Residual([ReLU(), BatchNorm(np.zeros(3), np.ones(3)), square])
    network = Network([block, square, Dense("out", np.ones((2, 3)))])
    arrays = arrays_of(network)
    assert list(arrays) == [
        *("1.mean", "1.variance", "square.weight", "square.bias", "out.weight"),
    ]
    arrays["1.variance"] = arrays["1.variance"] * 9
    arrays["square.weight"] = arrays["square.weight"] + 1
    changed = flain_numpy.open_network(arrays, like=network)
    for name, array in arrays_of(changed).items():
        np.testing.assert_array_equal(array, arrays[name])
    assert arrays_of(network)["1.variance"].tolist() == [1.0] * 3


def without(name):
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


def changed(name, change):
    return lambda arrays: arrays | {name: change(arrays[name])}


def poisoned(value):
    def change(array):
        array = array.astype(np.float64)
        array.flat[1] = value
        return array

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("fc2.bias"), r"missing: 'fc2.bias'"),
        (lambda arrays: arrays | {"fc9.bias": np.ones(3)}, r"not in the model: 'fc9.bias'"),
        (lambda arrays: arrays | {7: np.ones(3)}, r"not in the model: 7"),
        (changed("fc1.weight", np.transpose), r"'fc1.weight' has shape \(12, 10\), .*\(10, 12\)"),
        (changed("fc2.weight", poisoned(np.nan)), r"'fc2.weight' holds NaN"),
        (changed("fc2.weight", poisoned(-np.inf)), r"'fc2.weight' holds infinity"),
        (changed("fc3.bias", poisoned(1e300)), r"'fc3.bias' .* out of the range of float32"),
        (changed("fc1.bias", lambda a: a.astype(object)), r"'fc1.bias' is object, .* float32"),
        (changed("fc1.bias", lambda a: a.astype(complex)), r"'fc1.bias' is complex128"),
        (changed("fc1.bias", lambda a: a.astype(int)), r"'fc1.bias' is int64"),
        (changed("fc1.bias", list), r"'fc1.bias' is a list, not a NumPy array"),
        (
            changed("fc1.bias", lambda a: np.ma.array(a, mask=a > 0)),
            r"'fc1.bias' is a masked array",
        ),
        (
            lambda arrays: without("fc1.bias")(arrays) | {"fc2.bias": np.ones(1), "x": np.ones(1)},
            r"missing: 'fc1.bias'; not in the model: 'x'; 'fc2.bias' has shape",
        ),
    ],
)
@pytest.mark.parametrize("which", ["initial", "final"])
def test_arrays_that_do_not_fit_are_named(which, spoil, message):
    given = {"initial": arrays_of(INITIAL), "final": arrays_of(FINAL)}
    given[which] = spoil(given[which])
    with pytest.raises(WeightsError, match=rf"{which}: .*{message}"):
        call(given["initial"], given["final"])


def in_order(network):
    return list(arrays_of(network).values())


@pytest.mark.parametrize(
    ("initial", "final", "message"),
    [
        (in_order(INITIAL)[:-1], in_order(FINAL), r"initial: expected 6 arrays .*'fc1.weight'.* 5"),
        (in_order(INITIAL), in_order(FINAL)[::-1], r"final: .*'fc1.weight' has shape \(3,\)"),
        (flat(arrays_of(INITIAL)), flat(arrays_of(FINAL))[1:], r"final: .* of 231 numbers.*230"),
        (arrays_of(INITIAL), in_order(FINAL), r"arrays by name and arrays in order"),
        (in_order(INITIAL), flat(arrays_of(FINAL)), r"arrays in order and a flat vector"),
        (INITIAL, arrays_of(FINAL), r"initial: expected a mapping .*got a Network"),
        (
            arrays_of(INITIAL),
            np.ones((3, 4)),
            r"final: .*got one array of float64 and shape \(3, 4\)",
        ),
        (arrays_of(INITIAL), np.array([object()]), r"one array of object"),
        (arrays_of(INITIAL), "final.npz", r"got a str"),
        (flat(arrays_of(INITIAL)), np.full(231, np.nan), r"final: .*'fc1.weight' holds NaN; .*"),
        (arrays_of(FINAL), arrays_of(FINAL), r"equal weights"),
    ],
)
def test_what_cannot_be_read_is_refused(initial, final, message):
    with pytest.raises(WeightsError, match=message):
        call(initial, final)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_purified_weight_beyond_the_given_type_is_refused():
    initial, final = (
        {name: array * (60000 if name == "fc1.weight" else 1) for name, array in each.items()}
        for each in (arrays_of(INITIAL), arrays_of(FINAL))
    )
    initial["fc1.weight"][:, 9:] = 60000
    final["fc1.weight"] = np.clip(final["fc1.weight"], -60000, 60000).astype(np.float16)
    with (
        pytest.raises(WeightsError, match=r"'fc1.weight' is out of the range of float16"),
        np.errstate(all="ignore"),
    ):
        call(initial, final, settings=by_neurons(tolerance=1.0))


def test_of_many_arrays_that_do_not_fit_the_first_are_named():
    spoilt = {name: array[None] for name, array in arrays_of(FINAL).items()} | {"x": np.ones(1)}
    with pytest.raises(WeightsError, match=r" and 1 more\. Give") as raised:
        call(arrays_of(INITIAL), spoilt)
    assert "'fc3.weight' has shape" in str(raised.value)
    assert "fc3.bias" not in str(raised.value)


def test_what_is_printed_leaves_out_the_numbers():
    shown = repr(call(arrays_of(INITIAL), arrays_of(FINAL)))
    assert shown.startswith("PurifiedArrays(arrays by name, Purification(Network, before=")
    assert "array(" not in shown


def test_a_backend_without_arrays_says_what_to_do():
    class Own:
        native = property(lambda self: self)

        def layers(self): ...
        def predict(self, x): ...
        def cut(self, layer, x): ...
        def replace(self, weights): ...

    with pytest.raises(ModelError, match=r"Own offers no arrays_of.*flain.purify"):
        call(arrays_of(INITIAL), arrays_of(FINAL), Own())
    with pytest.raises(ModelError, match="expected a model"):
        call(arrays_of(INITIAL), arrays_of(FINAL), 3)
    with pytest.raises(ModelError, match="got the class Network"):
        call(arrays_of(INITIAL), arrays_of(FINAL), Network)


def test_an_unknown_option_is_told_before_any_work():
    with pytest.raises(TypeError, match=r"purify_arrays\(\) got an .* argument 'tolerance'"):
        flain.purify_arrays({}, {}, "/nowhere", data=None, tolerance=0.1)
