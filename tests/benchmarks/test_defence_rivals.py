"""What holds for every rival, and how a setting of one is chosen."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
rivals = pytest.importorskip("defence.rivals")

from rival_cases import images, module  # noqa: E402

shared = module("shared")
nn = torch.nn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::flain_core.errors.FlainWarning"),
]


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
