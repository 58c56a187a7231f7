"""scikit-learn's perceptrons, against what scikit-learn itself predicts."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import cache

import numpy as np
import pytest
from by_neurons import by_neurons
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import flain_core as flain
from flain_core.errors import (
    DataError,
    FlainWarning,
    LayerError,
    ModelError,
    OutputError,
    WeightsError,
)
from flain_sklearn import arrays_of, open_network

# So few samples need a great tolerance.
pytestmark = pytest.mark.filterwarnings(
    "ignore:a tolerance of|some classes lost:flain_core.FlainWarning"
)

RANDOM = np.random.default_rng(0)
X = RANDOM.random((90, 6))


def labels(classes: int) -> np.ndarray:
    return X[:, :classes].argmax(axis=1)


def trained(model, y, x=X, epochs=25, **options):
    """The model after the first step of training, and after the last."""
    model = model.partial_fit(x, y, **options)
    initial = copy.deepcopy(model)
    for _ in range(epochs):
        model.partial_fit(x, y)
    return initial, model


@cache
def classifier(classes=3, **options):
    model = MLPClassifier(
        hidden_layer_sizes=(11, 7), learning_rate_init=0.05, random_state=0, **options
    )
    return trained(model, labels(classes), classes=np.arange(classes))


@cache
def regressor(outputs=1, **options):
    model = MLPRegressor(
        hidden_layer_sizes=(9,), learning_rate_init=0.05, random_state=0, **options
    )
    y = X[:, 0] - X[:, 1] if outputs == 1 else X[:, :outputs] * 3
    return trained(model, y), y


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_those_of_scikit_learn(activation, classes):
    _, model = classifier(classes, activation=activation)
    scores = open_network(model).predict(X)
    assert scores.shape == (len(X), classes)
    assert len(set(model.predict(X))) == classes
    assert np.allclose(softmax(scores, axis=1), model.predict_proba(X), rtol=1e-9)
    assert np.array_equal(scores.argmax(axis=1), model.predict(X))


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regressors_scores_are_its_predictions(outputs):
    (_, model), _ = regressor(outputs)
    scores = open_network(model).predict(X)
    assert scores.shape == (len(X), outputs)
    assert np.allclose(scores, model.predict(X).reshape(scores.shape), rtol=1e-12)


def test_a_poisson_regressors_scores_are_its_predictions():
    if "loss" not in MLPRegressor().get_params():
        pytest.skip("this version has no other loss")
    model = MLPRegressor(loss="poisson", hidden_layer_sizes=(4,)).partial_fit(X, X[:, 0])
    assert np.allclose(open_network(model).predict(X)[:, 0], model.predict(X), rtol=1e-12)


@pytest.mark.parametrize("fitted", [np.float32, np.float64])
@pytest.mark.parametrize("given", [np.float32, np.float64, np.int64])
def test_numbers_have_the_types_that_scikit_learn_gives_them(fitted, given):
    model = MLPRegressor(hidden_layer_sizes=(4,)).partial_fit(X.astype(fitted), X[:, 0])
    network, x = open_network(model), (X * 9).astype(given)
    layer = network.layers()["coefs_0"]
    assert layer.weight.dtype == fitted
    assert layer.epsilon == np.finfo(fitted).eps
    assert network.predict(x).dtype == model.predict(x).dtype
    assert np.allclose(network.predict(x)[:, 0], model.predict(x), rtol=1e-5)


def test_layers_are_canonical_and_named_after_coefs():
    _, model = classifier(2)
    layers = open_network(model).layers()
    assert {name: layer.weight.shape for name, layer in layers.items()} == {
        "coefs_0": (11, 6),
        "coefs_1": (7, 11),
        "coefs_2": (1, 7),
    }
    assert np.array_equal(layers["coefs_1"].weight, model.coefs_[1].T)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("layer", ["coefs_0", "coefs_1", "coefs_2"])
def test_purification_is_incremental_and_leaves_the_estimators_alone(classes, layer):
    initial, model = classifier(classes)
    before = pickle.dumps((initial, model))
    result = flain.purify(
        model,
        initial=initial,
        data=(X, labels(classes)),
        layers=layer,
        settings=by_neurons(tolerance=0.3),
    )
    assert pickle.dumps((initial, model)) == before
    (outcome,) = result.layers
    assert outcome.method == "incremental"
    assert outcome.flipped.any()
    assert type(result.model) is MLPClassifier
    assert result.after.clean == result.model.score(X, labels(classes)) >= 0.7
    place = int(layer[-1])
    flipped = flain.flip(initial.coefs_[place].T, model.coefs_[place].T, outcome.flipped)
    assert np.array_equal(result.model.coefs_[place], flipped.T)
    assert "scikit-learn" in result.versions


def test_bare_weights_open_like_an_estimator():
    initial, model = classifier()
    weights = {"coefs_": initial.coefs_, "intercepts_": initial.intercepts_}
    assert np.array_equal(
        open_network(weights, like=model).predict(X), open_network(initial).predict(X)
    )
    data = (X, labels(3))
    by_weights = flain.purify(model, initial={"coefs_": initial.coefs_}, data=data, layers="all")
    by_estimator = flain.purify(model, initial=initial, data=data, layers="all")
    for one, other in zip(by_weights.model.coefs_, by_estimator.model.coefs_, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"coefs": []}, "expected weights"),
        ({"intercepts_": []}, "expected weights"),
        ({"coefs_": [np.zeros((6, 11))]}, "coefs_: expected 3 arrays; got 1"),
        ({"coefs_": [np.zeros((11, 6))] * 3}, "'coefs_0': expected real numbers of shape"),
        ({"coefs_": [np.full((6, 11), np.nan)] * 3}, "'coefs_0': expected numbers that are finite"),
        ({"coefs_": [np.ones((6, 11), int)] * 3}, "floating-point numbers for 'coefs_0'.*int64"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    _, model = classifier()
    with pytest.raises(WeightsError, match=message):
        open_network(weights, like=model)
    with pytest.raises(ModelError, match="as `like`"):
        open_network(weights)
    with pytest.raises(ModelError, match=r"'coefs_'.*got list"):
        open_network(list(weights.values()), like=model)


def test_a_regressor_is_purified_by_a_score():
    (initial, model), y = regressor()

    def score(predictions, y):
        return -np.abs(predictions[:, 0] - y)

    result = flain.purify(model, initial=initial, data=(X, y), layers="coefs_1", score=score)
    assert type(result.model) is MLPRegressor
    assert np.isclose(result.after.clean, -np.abs(result.model.predict(X) - y).mean())
    with pytest.raises(DataError, match="score="):
        flain.purify(model, initial=initial, data=(X, y))


def test_native_goes_on_training_with_the_replaced_weights():
    _, model = classifier()
    network = open_network(model)
    weight = np.zeros((7, 11))
    native = network.replace({"coefs_1": weight}).native
    assert not native.coefs_[1].any()
    native.partial_fit(X, labels(3))
    assert 0 < np.abs(native.coefs_[1]).max() < 0.1
    assert model.coefs_[1].all()


def test_native_goes_on_training_with_the_replaced_biases():
    _, model = classifier()
    network = open_network(model)
    native = network.replace({}, {"coefs_0": np.full(11, 0.5)}).native
    assert (native.intercepts_[0] == 0.5).all()
    native.partial_fit(X, labels(3))
    assert 0 < np.abs(native.intercepts_[0] - 0.5).max() < 0.1
    assert (model.intercepts_[0] != 0.5).all()


@pytest.mark.parametrize("intercepts", [[0, 1, 2, 3, 4], np.arange(5)])
def test_intercepts_that_are_no_float_array_are_not_shown(intercepts):
    model = MLPClassifier(hidden_layer_sizes=(5,)).partial_fit(X, labels(3), classes=[0, 1, 2])
    model.intercepts_[0] = intercepts
    assert open_network(model).layers()["coefs_0"].bias is None


def test_intercepts_that_two_layers_share_are_not_shown():
    model = MLPClassifier(hidden_layer_sizes=(5, 5)).partial_fit(X, labels(3), classes=[0, 1, 2])
    model.intercepts_[1] = model.intercepts_[0]
    network = open_network(model)
    shown = {name: layer.bias is not None for name, layer in network.layers().items()}
    assert shown == {"coefs_0": False, "coefs_1": False, "coefs_2": True}
    with pytest.raises(WeightsError, match="bias of 'coefs_0': the layer shows none"):
        network.replace({}, {"coefs_0": np.zeros(5)})


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_classes_that_are_no_indices_take_indices():
    y = labels(3) * 5 + 2
    initial, model = trained(
        MLPClassifier(hidden_layer_sizes=(5,), learning_rate_init=0.05, random_state=0),
        y,
        classes=[2, 7, 12],
    )
    network = open_network(model)
    assert np.array_equal(model.classes_[network.predict(X).argmax(axis=1)], model.predict(X))
    settings = by_neurons(tolerance=0.5, statistic="mean_abs")
    indices = np.searchsorted(model.classes_, y)
    start = {"coefs_": initial.coefs_}
    result = flain.purify(model, initial=start, data=(X, indices), settings=settings)
    assert result.before.clean == model.score(X, y)
    with pytest.raises(flain.DataError, match=r"from 0 to 2.*np.searchsorted\(classes, y\)"):
        flain.purify(model, initial=start, data=(X, y), settings=settings)


@pytest.mark.parametrize("names", [np.array(["a", "b"]), np.array([False, True]), np.array([1, 2])])
def test_opening_an_estimator_warns_of_no_classes(names):
    y = names[labels(2)]
    _, model = trained(
        MLPClassifier(hidden_layer_sizes=(5,), random_state=0), y, epochs=1, classes=names
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", FlainWarning)
        network = open_network(model)
    assert np.array_equal(names[network.predict(X).argmax(axis=1)], model.predict(X))


def test_several_labels_at_once_are_refused():
    y = (X[:, :3] > 0.5).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier(hidden_layer_sizes=(5,), max_iter=2).fit(X, y)
    with pytest.raises(ModelError, match="several labels at once"):
        flain.purify(model, initial=model, data=(X, labels(3)))


def test_an_estimator_that_was_not_fitted_is_refused():
    model = MLPClassifier()
    with pytest.raises(ModelError, match=r"expected a fitted MLPClassifier.*partial_fit"):
        open_network(model)
    model.coefs_, model.intercepts_ = [np.zeros((6, 3))], [np.zeros(3)]
    with pytest.raises(ModelError, match="expected a fitted MLPClassifier"):
        open_network(model)


def test_other_estimators_are_told_what_to_give():
    _, model = classifier()
    pipeline = make_pipeline(StandardScaler(), model)
    for other in (pipeline, GridSearchCV(model, {}), LogisticRegression(), StandardScaler()):
        with pytest.raises(ModelError, match=r"pipeline\[:-1\]\.transform"):
            flain.purify(other, initial=other, data=(X, labels(3)))


def test_a_subclass_stays_one():
    class Mine(MLPClassifier):
        pass

    initial, model = trained(
        Mine(hidden_layer_sizes=(5,), learning_rate_init=0.05, random_state=0),
        labels(3),
        classes=np.arange(3),
    )
    settings = flain.Settings(tolerance=0.12)
    data = X, labels(3)
    result = flain.purify(model, initial=initial, data=data, layers="coefs_1", settings=settings)
    assert type(result.model) is Mine


def test_files_are_the_users_affair(tmp_path):
    initial, model = classifier()
    settings = flain.Settings(flip="neurons", tolerance=0.5)
    result = flain.purify(model, initial=initial, data=(X, labels(3)), settings=settings)
    for name in ("model.pkl", "model.joblib", "model"):
        with pytest.raises(OutputError, match=r"flain_sklearn writes no files.*result.model"):
            result.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "x", [X.tolist(), X[:, :5], X[0], X.astype(str), X.astype(complex), X[:, :, None]]
)
def test_samples_that_do_not_fit_are_refused(x):
    _, model = classifier()
    with pytest.raises(ModelError, match=r"\(n, 6\)"):
        open_network(model).predict(x)
    with pytest.raises(ModelError, match=r"\(n, 6\)"):
        open_network(model).cut("coefs_0", x)


def test_an_unknown_layer_names_the_nearest():
    _, model = classifier()
    with pytest.raises(LayerError, match="Did you mean 'coefs_1'"):
        open_network(model).cut("coefs1", X)


def test_arrays_go_in_and_come_out():
    initial, model = classifier()
    by_name = [arrays_of(each) for each in (initial, model)]
    assert list(by_name[1]) == [
        *("coefs_0", "coefs_1", "coefs_2", "intercepts_0", "intercepts_1", "intercepts_2")
    ]
    options = {
        "data": (X, labels(3)),
        "layers": "coefs_1",
        "settings": flain.Settings(tolerance=0.1),
    }
    expected = flain.purify(model, initial=initial, **options).model
    assert not np.array_equal(expected.coefs_[1], model.coefs_[1])
    blank = copy.deepcopy(initial)
    for array in (*blank.coefs_, *blank.intercepts_):
        array[...] = 0
    in_order = [[*each.coefs_, *each.intercepts_] for each in (initial, model)]
    vectors = [np.concatenate([array.ravel() for array in each]) for each in in_order]
    by_layer = [
        [each for pair in zip(one.coefs_, one.intercepts_, strict=True) for each in pair]
        for one in (initial, model)
    ]
    results = [
        flain.purify_arrays(*given, blank, **options).arrays
        for given in (by_name, in_order, vectors, by_layer)
    ]
    assert list(results[0]) == list(by_name[1])
    for position, array in enumerate([*expected.coefs_, *expected.intercepts_]):
        assert np.array_equal(list(results[0].values())[position], array)
        assert np.array_equal(results[1][position], array)
    for position, coefs in enumerate(expected.coefs_):
        assert np.array_equal(results[3][2 * position], coefs)
        assert np.array_equal(results[3][2 * position + 1], expected.intercepts_[position])
    assert np.array_equal(results[2], np.concatenate([array.ravel() for array in results[1]]))
    assert not blank.coefs_[0].any()


def test_arrays_that_do_not_fit_are_named():
    initial, model = classifier()
    final = arrays_of(model) | {"coefs_1": model.coefs_[1].T}
    with pytest.raises(WeightsError, match=r"final: .*'coefs_1' has shape \(7, 11\)"):
        flain.purify_arrays(arrays_of(initial), final, model, data=(X, labels(3)))
    with pytest.raises(ModelError, match="fitted MLPClassifier"):
        flain.purify_arrays(final, final, MLPClassifier(), data=(X, labels(3)))


def test_an_estimator_of_whole_numbers_is_refused():
    _, model = classifier()
    model.coefs_ = [(100 * each).astype(int) for each in model.coefs_]
    with pytest.raises(WeightsError, match=r"floating-point numbers for 'coefs_\[0\]'.*int64"):
        open_network(model)
