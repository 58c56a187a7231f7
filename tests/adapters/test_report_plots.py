"""Plots for papers: axes in, axes out."""

from dataclasses import replace

import numpy as np
import pytest
import reported

import flain_core as flain

mpl = pytest.importorskip("matplotlib")
mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PLOTS = ("scores", "classes", "curves", "losses", "activations", "updates", "inputs")


@pytest.fixture(scope="module")
def result():
    return reported.convolution()


@pytest.fixture(scope="module")
def usual():
    return reported.usual()


@pytest.fixture(autouse=True)
def closed():
    plt.close("all")  # other tests and examples draw, too
    yield
    plt.close("all")


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


@pytest.mark.parametrize("name", PLOTS)
def test_axes_go_in_and_come_out(result, name):
    _, ax = plt.subplots()
    assert getattr(result.plot, name)(ax=ax) is ax
    assert plt.get_fignums() == [1]
    ax.figure.canvas.draw()


@pytest.mark.parametrize("name", PLOTS)
def test_without_axes_a_figure_is_made(result, name):
    ax = getattr(result.plot, name)()
    assert isinstance(ax, Axes)
    assert plt.get_fignums() == [ax.figure.number]


def test_a_call_draws_everything(result):
    figure = result.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == len(PLOTS)
    figure.canvas.draw()


@pytest.mark.parametrize("kind", reported.KINDS)
def test_every_outcome_can_be_drawn(kind, tmp_path):
    reported.KINDS[kind]().plot().savefig(tmp_path / "all.pdf")


def test_a_curve_has_the_steps_and_the_stop(usual):
    (layer,) = usual.layers
    drawn = lines(usual.plot.curves())
    clean = [usual.before.clean, *(step.clean for step in layer.steps)]
    np.testing.assert_allclose(drawn["clean"].get_ydata(), clean)
    attacks = [usual.before.probes["ASR"], *(step.probes["ASR"] for step in layer.steps)]
    np.testing.assert_allclose(drawn["ASR"].get_ydata(), attacks)
    thresholds = [step.threshold for step in layer.steps]
    np.testing.assert_allclose(drawn["clean"].get_xdata()[1:], thresholds)
    assert drawn["chosen"].get_xdata()[0] == pytest.approx(layer.threshold)


def test_losses_have_their_limit(usual):
    drawn = lines(usual.plot.losses())
    steps, missing = usual.layers[0].steps, 1 - usual.before.probability
    limits = [usual.settings.allowed(missing, step.class_share) for step in steps]
    np.testing.assert_array_equal(
        drawn["allowed"].get_ydata(), [usual.settings.allowed(missing, 0.0), *limits]
    )
    np.testing.assert_allclose(
        drawn["lost"].get_ydata(), [0, *(step.loss + step.loss_error for step in steps)]
    )


def test_a_later_layer_is_shown_the_limit_that_the_first_one_had(usual):
    (layer,) = usual.layers
    steps = tuple(
        replace(step, class_share=share)
        for step, share in zip(layer.steps, (0.4, 0.3, 0.1, 0.1, 0.1), strict=True)
    )
    first = replace(layer, class_share=0.3, steps=steps)
    allowed = usual.settings.allowed
    missing = 1 - usual.before.probability
    for share, limit in ((0.3, allowed(missing, 0.3)), (0.0, allowed(missing))):
        result = replace(
            usual,
            layers=(replace(first, share=share), replace(layer, name="fc2")),
        )
        drawn = lines(result.plot.losses("fc1"))["allowed"].get_ydata()
        assert drawn.tolist() == [allowed(missing, each) for each in (0, 0.4, 0.3, 0.1, 0.1, 0.1)]
        assert set(lines(result.plot.losses("fc2"))["allowed"].get_ydata()) == {limit}


def test_losses_of_a_score_are_counted_from_before():
    result = reported.scored()
    drawn = lines(result.plot.losses())
    lost = [result.before.clean - step.clean for step in result.layers[0].steps]
    np.testing.assert_allclose(drawn["lost"].get_ydata(), [0, *lost])
    assert drawn["allowed"].get_ydata()[0] == 0.002


def test_a_later_layer_starts_where_the_one_before_ended():
    result = reported.usual()
    (first,) = result.layers
    result = replace(result, layers=(first, replace(first, name="fc2")))
    (chosen,) = (step for step in first.steps if step.threshold == first.threshold)
    drawn = lines(result.plot.curves("fc2"))
    assert drawn["clean"].get_ydata()[0] == chosen.clean
    assert (
        lines(result.plot.losses("fc2"))["lost"].get_ydata()[0] == chosen.loss + chosen.loss_error
    )


def test_a_histogram_counts_every_neuron(usual):
    (layer,) = usual.layers
    bars = usual.plot.activations().containers
    counts = {each.get_label(): sum(bar.get_height() for bar in each) for each in bars}
    flipped = int(layer.flipped.sum())
    assert counts == {"flipped": flipped, "kept": layer.flipped.size - flipped}


def test_updates_are_those_of_the_neurons(usual):
    (layer,) = usual.layers
    drawn = lines(usual.plot.updates())
    np.testing.assert_array_equal(drawn["flipped"].get_ydata(), layer.norms.update[layer.flipped])


def test_a_layer_is_chosen_by_its_name():
    result = reported.several_layers()
    for layer in result.layers:
        if layer.steps:
            ax = result.plot.updates(layer.name)
            drawn = sum(len(line.get_ydata()) for line in ax.lines)
            assert drawn == layer.flipped.size
    with pytest.raises(flain.LayerError, match="Did you mean 'fc1'"):
        result.plot.curves("fc_1")
    for name in (3, ["fc1"]):
        with pytest.raises(flain.LayerError, match="expected a layer that was searched"):
            result.plot.curves(name)


def test_a_figure_is_no_axes(usual):
    with pytest.raises(flain.FlainError, match=r"got a Figure: say figure.add_subplot\(\)"):
        usual.plot.scores(ax=plt.figure())
    plt.close("all")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("usual", "inputs"),
        ("scored", "classes"),
        ("elsewhere", "classes"),
        ("nothing_known", "updates"),
    ],
)
def test_what_is_not_known_is_not_drawn(kind, name):
    with pytest.raises(flain.LayerError, match="known"):
        getattr(reported.KINDS[kind]().plot, name)()
    assert plt.get_fignums() == []


def test_names_are_no_mathematics_and_stay_in_legends():
    result = reported.hostile()
    ax = result.plot.curves()
    ax.figure.canvas.draw()
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(shown) == 3
    assert any(text.startswith("<script>") for text in shown)
