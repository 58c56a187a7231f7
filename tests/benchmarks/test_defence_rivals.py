"""The rivals, each on a model whose right answer is known by hand."""

import copy
import importlib
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
rivals = pytest.importorskip("defence.rivals")
neurons = importlib.import_module("defence.rivals.neurons")
shared = importlib.import_module("defence.rivals.shared")
nn = torch.nn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::flain_core.errors.FlainWarning"),
]


def module(name):
    """A rival's module; the package itself has the function of that name."""
    return importlib.import_module(f"defence.rivals.{name}")


def network(batch_norm):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d if batch_norm else lambda _: nn.Identity()
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        norm(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        norm(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(96, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


def images(count=40):
    """Three classes, told apart by the row that is bright."""
    rng = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = rng.normal(0, 0.3, (count, 1, 6, 6)).astype(np.float32)
    x[np.arange(count), 0, 2 * y] += 2
    return x, y


def trained(initial, x, y):
    model = copy.deepcopy(initial).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module", params=[True, False], ids=["batch norm", "none"])
def pair(request):
    initial = network(request.param)
    return trained(initial, *images()), initial


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(module("anp"), "ITERATIONS", 20)
    monkeypatch.setattr(module("training"), "EPOCHS", 4)
    monkeypatch.setattr(module("nft"), "EPOCHS", 4)
    monkeypatch.setattr(module("i_bau"), "ROUNDS", 2)


def applicable(name, model):
    normed = any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    return normed or name not in rivals.NEEDS_BATCH_NORM


def everything(model):
    """What a caller could notice of a model."""
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [part.training for part in model.modules()],
        [(p.requires_grad, p.grad is None, p.stride()) for p in model.parameters()],
    )


@pytest.mark.parametrize("name", rivals.RIVALS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_callers_models_are_left_alone(name, training, pair, brief):
    model, initial = (copy.deepcopy(each).train(training) for each in pair)
    model[0].bias.requires_grad_(False)
    if not applicable(name, model):
        pytest.skip("needs batch norm")
    before = [everything(each) for each in (model, initial)]
    x, y = images()
    x_before, y_before, state = x.copy(), y.copy(), torch.get_rng_state()
    purified = rivals.RIVALS[name](model, initial, x, y, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(y, y_before)
    for each, (values, modes, gradients) in zip((model, initial), before, strict=True):
        after = everything(each)
        assert all(torch.equal(after[0][key], value) for key, value in values.items())
        assert after[1:] == (modes, gradients)
    assert not any(part.training for part in purified.modules())
    theirs = {p.data_ptr() for each in (model, initial) for p in each.state_dict().values()}
    assert theirs.isdisjoint(p.data_ptr() for p in purified.state_dict().values())
    assert torch.isfinite(purified(torch.tensor(x))).all()


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_the_same_seed_gives_the_same_model(name, pair, brief):
    if not applicable(name, pair[0]):
        pytest.skip("needs batch norm")
    torch.manual_seed(1)
    first = rivals.RIVALS[name](*pair, *images(), seed=3).state_dict()
    torch.manual_seed(2)
    second = rivals.RIVALS[name](*pair, *images(), seed=3).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", sorted(set(rivals.RIVALS) - {"anp"}))
def test_an_easy_task_is_not_forgotten(name, pair):
    if not applicable(name, pair[0]):
        pytest.skip("needs batch norm")
    x, y = images()
    purified = rivals.RIVALS[name](*pair, x, y, seed=0)
    assert (purified(torch.tensor(x)).argmax(1).numpy() == y).mean() >= 0.9


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_ten_samples_are_enough(name, pair, brief):
    if applicable(name, pair[0]):
        rivals.RIVALS[name](*pair, *images(10), seed=0)


def test_a_single_sample_is_refused(pair):
    with pytest.raises(ValueError, match="two auxiliary samples or more"):
        rivals.RIVALS["fine-tuning"](*pair, *images(1), seed=0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("clp", "batch norm"),
        ("anp", "hidden neurons"),
        ("rnp", "hidden neurons"),
        ("nft", "hidden neurons"),
        ("fine-pruning", "no convolution"),
        ("resetting", "equal"),
    ],
)
def test_what_does_not_apply_says_why(name, reason):
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    with pytest.raises(rivals.NotApplicable, match=reason):
        rivals.RIVALS[name](model, model, *images(), seed=0)


# --- How a setting is chosen ----------------------------------------------------------


class Sure(nn.Module):
    """Right about the samples whose number is below a limit."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def forward(self, x):
        return torch.stack([x[:, 0] >= self.right, x[:, 0] < self.right], dim=1).float()


@pytest.mark.parametrize(
    ("rights", "chosen"),
    [
        ({"strong": 98, "weak": 99}, "weak"),
        ({"strong": 99, "weak": 100}, "strong"),
        ({"strong": 20, "middle": 90, "weak": 50}, "middle"),
    ],
)
def test_the_strongest_setting_within_a_point_is_chosen(rights, chosen, monkeypatch):
    samples = shared.Samples(torch.arange(100.0)[:, None], torch.ones(100, dtype=torch.int64))
    monkeypatch.setattr(shared, "hold_back", lambda samples: (samples, samples))
    choice = shared.strongest(tuple(rights), lambda name, _: Sure(rights[name]), Sure(100), samples)
    assert choice == chosen


def test_a_fifth_of_each_class_is_held_back():
    y = torch.tensor([0] * 10 + [1] * 20 + [2])
    train, held = shared.hold_back(shared.Samples(torch.arange(31)[:, None], y))
    assert torch.bincount(held.y, minlength=3).tolist() == [2, 4, 0]
    assert sorted(train.x.flatten().tolist() + held.x.flatten().tolist()) == list(range(31))


def test_no_batch_is_a_small_remainder():
    samples = shared.Samples(torch.arange(65)[:, None], torch.zeros(65))
    assert [len(batch) for batch in samples.batches(64)] == [33, 32]


# --- FT-SAM ---------------------------------------------------------------------------


def test_the_perturbation_follows_the_papers_formula():
    weights = [torch.tensor([2.0, 0.0]), torch.tensor([[1.0]])]
    gradients = [torch.tensor([2.0, 5.0]), torch.tensor([[-3.0]])]
    # |w| g = (4, 0, -3) with norm 5; w² g = (8, 0, -3).
    first, second = module("ft_sam").perturbation(weights, gradients, radius=10)
    torch.testing.assert_close(first, torch.tensor([16.0, 0.0]))
    torch.testing.assert_close(second, torch.tensor([[-6.0]]))


def test_the_gradient_is_that_at_the_perturbed_weight():
    # Scores (w x, 0) with label 1: the loss is log(1 + exp(w)) at x = 1, its slope sigmoid(w).
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[2.0], [0.0]])
    batch = shared.Samples(torch.ones(1, 1), torch.ones(1, dtype=torch.int64))
    module("ft_sam").sharpness_aware(0.5)(model, batch)
    # One weight alone: ε = ρ |w| = 1, up the slope.
    slope = 1 / (1 + math.exp(-3))
    torch.testing.assert_close(model.weight.grad, torch.tensor([[slope], [-slope]]))
    assert model.weight.flatten().tolist() == [2, 0]


def test_running_statistics_follow_the_unperturbed_weights_alone(pair):
    model = copy.deepcopy(pair[0]).train()
    plain = copy.deepcopy(model)
    batch = shared.Samples.of(model, *images())
    torch.manual_seed(0)
    module("training").loss_gradients(plain, batch)
    torch.manual_seed(0)
    module("ft_sam").sharpness_aware(2.0)(model, batch)
    for name, value in model.named_buffers():
        if "running" in name:
            torch.testing.assert_close(value, plain.get_buffer(name))


# --- CLP ------------------------------------------------------------------------------


def test_a_channels_bound_is_its_gain_times_its_kernels_norm():
    convolution, norm = nn.Conv1d(2, 2, 2), nn.BatchNorm1d(2, eps=1.0).eval()
    convolution.weight.data = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 5.0], [0.0, 0.0]]])
    norm.weight.data = torch.tensor([-2.0, 3.0])
    norm.running_var = torch.tensor([3.0, 8.0])
    # Largest singular values 4 and 5, gains 2 / 2 and 3 / 3.
    bounds = module("clp").lipschitz_bounds(convolution, norm)
    torch.testing.assert_close(bounds, torch.tensor([4.0, 5.0]))


@pytest.mark.parametrize(("kernel", "gone"), [(9.0, True), (1.0, False)])
def test_only_an_outlying_channel_is_pruned(kernel, gone):
    model = nn.Sequential(nn.Conv2d(1, 16, 1), nn.BatchNorm2d(16, eps=0.0), nn.Flatten()).eval()
    model[0].weight.data.fill_(1.0)
    model[0].weight.data[5] = kernel
    model[1].bias.data.fill_(0.5)
    # Fifteen bounds of 1 and one of 9: mean 1.5, standard deviation 2, so that 7.5 is the limit.
    purified = rivals.RIVALS["clp"](model, model, *images(), seed=0)
    pruned = (purified[1].weight == 0) & (purified[1].bias == 0)
    assert pruned.tolist() == [gone and channel == 5 for channel in range(16)]


# --- Masks: ANP, RNP, NFT -------------------------------------------------------------


def with_trigger_neuron(shift):
    """Hidden neurons read one input each; the third wants 0.5 or more, and shouts class 1."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    model[1].weight.data = torch.eye(3)
    model[1].bias.data = torch.tensor([0.0, 0.0, -shift])
    model[3].weight.data = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 20.0]])
    model[3].bias.data.zero_()
    return model


def clean_samples(count=60):
    """Class 0 in the first input, class 1 in the second; the third is at most 0.45."""
    rng = np.random.default_rng(1)
    y = np.arange(count) % 2
    x = rng.uniform(0.3, 0.45, (count, 1, 1, 3)).astype(np.float32)
    x[np.arange(count), 0, 0, y] += 1
    return x, y


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


# --- Fine-Pruning ---------------------------------------------------------------------


def test_fine_pruning_prunes_silent_channels_and_they_stay_silent(brief):
    model = nn.Sequential(nn.Conv2d(1, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(15, 2)).eval()
    # Each channel scales the image; the first is silent, the second and third faint.
    model[0].weight.data = torch.tensor([-1.0, 0.1, 0.2, 1.0, 2.0]).view(5, 1, 1, 1)
    model[0].bias.data.zero_()
    # Only the last two channels tell the classes apart, by the first two pixels.
    model[3].weight.data.zero_()
    model[3].bias.data.zero_()
    model[3].weight.data[0, 9] = model[3].weight.data[1, 13] = 1.0
    model[3].weight.data[0, 12] = model[3].weight.data[1, 10] = 0.2
    samples = shared.Samples.of(model, *clean_samples())
    fine = module("fine_pruning")
    activation = fine.mean_activation(model, ("0",), samples)
    mean = samples.x.mean()
    torch.testing.assert_close(activation, mean * torch.tensor([0.0, 0.1, 0.2, 1.0, 2.0]))
    gone = fine.silent_channels(model, ("0",), samples)
    assert gone.tolist()[:3] == [True, True, True]
    assert not gone[4]
    purified = rivals.RIVALS["fine-pruning"](model, model, *clean_samples(), seed=0)
    silent = (purified[0].weight.flatten() == 0) & (purified[0].bias == 0)
    assert silent.tolist() == gone.tolist()


# --- I-BAU ----------------------------------------------------------------------------


def test_the_hypergradient_of_a_quadratic_is_the_analytic_one():
    a, b, c, d, theta = 3.0, 0.5, 4.0, 0.7, torch.tensor(2.0, requires_grad=True)
    # The inner problem ½ a (δ - b θ)² has δ* = b θ; the outer one is ½ (δ - c)² + ½ d θ².
    delta = torch.tensor(b * 2.0, requires_grad=True)
    step = delta - 0.1 * a * (delta - b * theta)
    outer = (delta - c) ** 2 / 2 + d * theta**2 / 2
    (gradient,) = module("hypergradient").hypergradient(outer, step, delta, [theta], 100)
    assert gradient.item() == pytest.approx(b * (b * 2.0 - c) + d * 2.0, rel=1e-5)


def test_each_fixed_point_iteration_adds_a_term_of_the_series():
    theta = torch.tensor(1.0, requires_grad=True)
    delta = torch.tensor(0.0, requires_grad=True)
    gradients = []
    for iterations in (0, 1, 2):
        outer, step = 8 * delta, delta / 2 + theta
        found = module("hypergradient").hypergradient(outer, step, delta, [theta], iterations)
        gradients.append(found[0].item())
    assert gradients == [8, 12, 14]


def test_the_universal_perturbation_raises_the_loss_within_its_radius():
    model = with_trigger_neuron(0.5)
    samples = shared.Samples.of(model, *clean_samples())
    delta = module("i_bau").universal_perturbation(model, samples, 1.0)
    assert delta.shape == (1, 1, 1, 3)
    assert delta.norm() <= 1 + 1e-5
    assert shared.accuracy(lambda x: model(x + delta), samples) == 0.5


# --- Zeroing and resetting ------------------------------------------------------------


@pytest.mark.parametrize(("name", "expected"), [("zeroing", 0.0), ("resetting", 0.25)])
def test_weights_of_the_silent_input_are_exchanged(name, expected):
    initial = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    initial[1].weight.data.fill_(0.25)
    model = copy.deepcopy(initial)
    model[1].weight.data = torch.tensor([[4.0, 0.0, -9.0], [0.0, 4.0, 9.0]])
    x, y = clean_samples(200)
    x[..., 2] = 0.0
    purified = rivals.RIVALS[name](model, initial, x, y, seed=0)
    weight = purified[1].weight.detach()
    assert weight[:, 2].tolist() == [expected, expected]
    assert weight[:, :2].tolist() == [[4, 0], [0, 4]]
