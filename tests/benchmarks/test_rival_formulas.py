"""The formulas of the other rivals, each on a model whose right answer is known by hand."""

import copy
import math

import pytest

torch = pytest.importorskip("torch")
rivals = pytest.importorskip("defence.rivals")

from rival_cases import clean_samples, images, module, with_trigger_neuron  # noqa: E402

shared = module("shared")
nn = torch.nn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::flain_core.errors.FlainWarning"),
]


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
