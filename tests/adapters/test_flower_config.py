"""What a purification in Flower takes from the run's configuration."""

import pytest
from backdoored import samples

import flain_core as flain

pytest.importorskip("flwr", reason="flwr is not installed")
torch = pytest.importorskip("torch")
federation = pytest.importorskip("flower_federation")
records = pytest.importorskip("flwr.app")
flower = pytest.importorskip("flwr.serverapp.strategy")
flain_flower = pytest.importorskip("flain_flower")
config = pytest.importorskip("flwr.common.config")

from flower_strategies import equal, run  # noqa: E402

pytestmark = pytest.mark.usefixtures("flower_alone")


def from_toml(text, override=None):
    """What ``context.run_config`` is where pyproject.toml says that."""
    import tomllib

    app = tomllib.loads(text)["tool"]["flwr"]["app"]["config"]
    return config.fuse_dicts(config.flatten_dict(app), config.parse_config_args([override or ""]))


CONFIG = """
[tool.flwr.app.config]
rounds = 3
[tool.flwr.app.config.flain]
enabled = true
tolerance = ""
layers = "2"
folder = ""
held-back = 0.25
"""


@pytest.mark.filterwarnings("ignore:(partly|hardly) flipped:flain_core.FlainWarning")
def test_the_configuration_overrides_the_code_and_the_command_the_configuration(tmp_path):
    def configured(override=None):
        return flain_flower.Purify.from_config(
            from_toml(CONFIG, override),
            flower.FedAvg(),
            model=federation.network(),
            data=samples(400, seed=5),
            layers=["0"],
            folder=tmp_path / "code",
            settings=flain.Settings(tolerance=0.02, confidence=0.9),
        )

    strategy = configured()
    run(strategy)
    settings = strategy.purification.settings
    assert (settings.tolerance, settings.confidence, settings.held_back) == (0.02, 0.9, 0.25)
    assert [layer.name for layer in strategy.purification.layers] == ["2"]
    assert strategy.folder.parent == tmp_path / "code"
    strategy = configured('flain.tolerance=0.001 flain.layers="0,2" flain.folder="other"')
    run(strategy)
    assert strategy.purification.settings.tolerance == 0.001
    assert [layer.name for layer in strategy.purification.layers] == ["0", "2"]
    assert strategy.folder.parent == tmp_path / "other"


def test_switched_off_it_trains_alone_and_reads_nothing(tmp_path, caplog):
    strategy = flain_flower.Purify.from_config(
        from_toml(CONFIG, "flain.enabled=false"), flower.FedAvg(), model=None, data="nowhere.npz"
    )
    result, plain = run(strategy), run(flower.FedAvg())
    assert equal(result.arrays, plain.arrays)
    assert strategy.trained_arrays is result.arrays
    assert strategy.purification is strategy.failure is strategy.folder is None
    assert list(tmp_path.iterdir()) == []
    assert "will not be purified" in caplog.text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"flain.tolerrance": 0.1}, r"flain.tolerrance'\. Did you mean 'flain.tolerance'"),
        ({"flain.tolerance": "0.1"}, "flain.tolerance of the run's configuration to be a number"),
        ({"flain.tolerance": True}, "to be a number"),
        ({"flain.tolerance": 7}, "tolerance from 0 to 1"),
        ({"flain.enabled": "no"}, "to be true or false"),
        ({"flain.seed": 0.5}, "to be a whole number"),
        ({"flain.layers": 3}, "to be text"),
        ({"flain.on-error": "ignore"}, '"raise" or "keep"'),
        (None, "expected context.run_config, a mapping; got None"),
    ],
)
def test_what_the_configuration_cannot_mean_is_refused(given, words):
    with pytest.raises(flain.SettingsError, match=words):
        flain_flower.Purify.from_config(
            given, flower.FedAvg(), model=federation.network(), data=samples(400, seed=5)
        )
