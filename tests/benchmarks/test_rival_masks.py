"""Rivals that mask neurons, ANP, RNP and NFT, on a model whose right answer is known by hand."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
rivals = pytest.importorskip("defence.rivals")

from rival_cases import clean_samples, module, network, with_trigger_neuron  # noqa: E402

neurons = module("neurons")
shared = module("shared")
nn = torch.nn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::flain_core.errors.FlainWarning"),
]

TRIGGERED = torch.tensor([[[[1.5, 0.3, 1.0]]]])


def test_neurons_are_those_before_the_last_layer_with_batch_norm_for_its_layer():
    names = [group.weight for group in neurons.hidden_neurons(network(batch_norm=True))]
    assert names == ["1.weight", "4.weight", "8.weight"]
    groups = neurons.hidden_neurons(network(batch_norm=False))
    assert [(group.weight, group.count) for group in groups] == [
        ("0.weight", 4),
        ("3.weight", 6),
        ("8.weight", 5),
    ]


def test_neurons_are_pruned_by_mask_for_as_long_as_accuracy_stays():
    model = with_trigger_neuron(0.5)
    groups, samples = neurons.hidden_neurons(model), shared.Samples.of(model, *clean_samples())
    # The second neuron stays: without it, class 1 is lost.
    neurons.prune(model, groups, [torch.tensor([0.8, 0.5, 0.2])], samples)
    assert model[1].weight.sum(1).tolist() == [1, 1, 0]
    assert model[1].bias.tolist() == [0, 0, -0.5]


def test_of_equal_masks_those_of_later_layers_are_pruned_first():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)).eval()
    for layer in model[1:]:
        layer.weight.data = torch.eye(3)[: len(layer.weight)]
        layer.bias.data.zero_()
    groups, samples = neurons.hidden_neurons(model), shared.Samples.of(model, *clean_samples())
    # The third neuron of each layer is idle; the first ones carry class 0.
    neurons.prune(model, groups, [torch.tensor([0.0, 1, 1]), torch.tensor([1.0, 1, 0])], samples)
    assert model[1].weight.sum(1).tolist() == [1, 1, 1]
    assert model[2].weight.sum(1).tolist() == [1, 1, 0]


def test_the_adversary_goes_up_the_loss_within_its_budget():
    model = with_trigger_neuron(0.5)
    x, _ = clean_samples()
    batch = shared.Samples.of(model, x + np.array([0, 0, 0.5], np.float32), np.zeros(60, int))
    groups = neurons.hidden_neurons(model)
    (weights,), (biases,) = module("anp").adversary(
        model, groups, neurons.ones(groups, model), batch
    )
    # Of class 0 all: more of the first neuron helps, more of the others harms, and the third
    # neuron's bias is negative. A step of ε from anywhere in [-ε, ε] ends on the slope's side.
    assert weights[0] <= 0 <= min(weights[1], weights[2])
    assert biases[2] <= 0
    assert max(weights.abs().max(), biases.abs().max()) <= module("anp").BUDGET


def test_anp_prunes_the_neuron_that_small_perturbations_wake():
    model = with_trigger_neuron(0.5)
    assert model(TRIGGERED).argmax() == 1
    purified = rivals.RIVALS["anp"](model, model, *clean_samples(), seed=0)
    assert purified[1].weight.sum(1).tolist() == [1, 1, 0]
    assert purified(TRIGGERED).argmax() == 0


def test_unlearning_stops_at_a_guess():
    model = with_trigger_neuron(0.5)
    samples = shared.Samples.of(model, *clean_samples())
    assert shared.accuracy(model, samples) == 1
    module("rnp").unlearn(model, samples)
    assert shared.accuracy(model, samples) <= 0.5


def test_recovering_masks_only_the_neuron_that_harms():
    # Awake on clean samples, the third neuron makes all of them class 1.
    model = with_trigger_neuron(0.0)
    samples = shared.Samples.of(model, *clean_samples())
    assert shared.accuracy(model, samples) == 0.5
    groups = neurons.hidden_neurons(model)
    (mask,) = module("rnp").recover(model, groups, samples, 0.2)
    assert mask[2] < 0.1
    assert min(mask[0], mask[1]) > 0.9


def test_rnp_counts_neurons_without_a_weight():
    model = with_trigger_neuron(0.5)
    model[1].weight.data[1:] = 0
    assert module("rnp").silent_neurons(model, neurons.hidden_neurons(model)) == 2


def test_mixup_mixes_inputs_and_losses():
    # Scores are the input; the samples (2, 0) of class 0 and (0, 2) of class 1 mix to (1.5, 0.5)
    # and (0.5, 1.5) at a share of 3/4, or stay as they are where one meets itself.
    batch = shared.Samples(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
    met = 0.75 * math.log(1 + math.exp(-1)) + 0.25 * math.log(1 + math.exp(1))
    alone = math.log(1 + math.exp(-2))
    losses = set()
    for seed in range(10):
        torch.manual_seed(seed)
        losses.add(round(module("nft").mixup_loss(nn.Identity(), {}, batch, 0.75).item(), 4))
    assert losses == {round(met, 4), round(alone, 4)}


def test_masks_of_nft_stay_between_floor_and_one():
    model = with_trigger_neuron(0.0)
    samples = shared.Samples.of(model, *clean_samples())
    (mask,) = module("nft").tuned_masks(model, neurons.hidden_neurons(model), samples, 1.0)
    # The harmful neuron falls as far as it may: exp(-0.3) in the first layer.
    assert mask[2].item() == pytest.approx(math.exp(-0.3))
    assert mask.max() <= 1
