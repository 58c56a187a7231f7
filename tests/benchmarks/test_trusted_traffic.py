"""What trusted holders are sent, as the page about them says."""

import pytest

typer_testing = pytest.importorskip("typer.testing")
trusted_traffic = pytest.importorskip("trusted_traffic")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_the_model_travels_at_most_twice_and_no_more_is_asked():
    kept, size = trusted_traffic.measured(remember=True, holders=3)
    forgotten, _ = trusted_traffic.measured(remember=False, holders=3)
    assert kept.bytes_down <= 2 * size * kept.holders
    assert forgotten.bytes_down > 10 * size * kept.holders
    assert kept.questions == forgotten.questions == 8
    assert kept.messages == 3 * 8


@pytest.mark.slow
def test_it_prints_both():
    ran = typer_testing.CliRunner().invoke(
        trusted_traffic.app, ["--no-write"], env={"COLUMNS": "150"}
    )
    assert ran.exit_code == 0, ran.output
    assert "forgets between two questions" in ran.output
    assert "keeps the model" in ran.output
