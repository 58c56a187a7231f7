"""How a job that purifies is written, and which servers take it."""

import json
from types import SimpleNamespace

import pytest

import flain_core as flain

pytest.importorskip("torch")
pytest.importorskip("nvflare")

from nvflare.apis.fl_exception import UnsafeComponentError
from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
from nvflare.app_common.np.recipes import NumpyFedAvgRecipe
from nvflare.app_common.widgets.component_path_authorizer import (
    ComponentPathAuthorizer,
)
from nvflare.app_opt.pt.recipes import FedAvgRecipe
from nvflare.recipe.utils import add_final_global_evaluation

from flain_nvflare import Purify, add_purification


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "client.py").touch()
    monkeypatch.chdir(tmp_path)
    return FedAvgRecipe(
        name="job",
        model={"class_path": "torch.nn.Linear", "args": {"in_features": 3, "out_features": 2}},
        min_clients=1,
        num_rounds=1,
        train_script="client.py",
    )


def exported(recipe, folder):
    recipe.export(str(folder))
    (app,) = (folder / "job").glob("app*")
    return app, json.loads((app / "config" / "config_fed_server.json").read_text())


def test_a_recipe_trains_then_purifies_then_evaluates(recipe, tmp_path):
    add_purification(recipe, Purify(data="/srv/clean.npz"))
    add_final_global_evaluation(recipe)
    _, config = exported(recipe, tmp_path / "out")
    assert [each["path"].rpartition(".")[2] for each in config["workflows"]] == [
        "FedAvg",
        "Purify",
        "CrossSiteModelEval",
    ]


def test_the_configuration_rebuilds_the_workflow(recipe, tmp_path):
    settings = flain.Settings(tolerance=0.01, thresholds=flain.Grid(start=0.1, step=0.1, stop=1.0))
    options = {
        "data": "/srv/clean.npz",
        "model": "package.models:make",
        "initial": "/srv/initial.npz",
        "layers": ["fc1", "fc2"],
        "settings": settings,
        "probes": {"ASR": "/srv/triggered.npz"},
        "report": "report.json",
        "on_error": "keep",
    }
    given = Purify(**options)
    add_purification(recipe, given)
    _, config = exported(recipe, tmp_path / "out")
    rebuilt = Purify(**config["workflows"][1]["args"])
    for name in (*options, "persistor_id"):
        assert getattr(rebuilt, name) == getattr(given, name), name


def authorize(config, allowed, tmp_path):
    resources = tmp_path / "resources.json"
    resources.write_text(json.dumps({"class_allow_list": [*DEFAULT_CLASS_ALLOW_LIST, *allowed]}))
    site = SimpleNamespace(get_resources_file_path=lambda: str(resources))
    ComponentPathAuthorizer().authorize_component_config(config["workflows"][1], workspace=site)


def test_by_default_the_job_carries_the_module(recipe, tmp_path):
    add_purification(recipe, Purify(data="/srv/clean.npz"))
    app, _ = exported(recipe, tmp_path / "out")
    assert (app / "custom" / "flain_nvflare" / "purify.py").exists()


def test_without_custom_code_the_site_has_to_allow_it(recipe, tmp_path):
    add_purification(recipe, Purify(data="/srv/clean.npz"), custom_code=False)
    app, config = exported(recipe, tmp_path / "out")
    assert not (app / "custom" / "flain_nvflare").exists()
    with pytest.raises(UnsafeComponentError, match="flain_nvflare"):
        authorize(config, [], tmp_path)
    authorize(config, ["flain_nvflare."], tmp_path)


def test_packages_that_the_user_named_stay_out_of_the_job(recipe, tmp_path):
    recipe._job.set_app_packages(["hospital"])
    for _ in range(2):
        add_purification(recipe, Purify(data="/srv/clean.npz"), custom_code=False)
        assert recipe._job.job.app_packages == ["hospital", "flain_nvflare"]


def test_purifying_after_the_evaluation_is_refused(recipe):
    add_final_global_evaluation(recipe)
    with pytest.raises(flain.SettingsError, match="add the purification first"):
        add_purification(recipe, Purify(data="/srv/clean.npz"))


def test_another_persistor_than_the_recipes_is_refused(recipe):
    with pytest.raises(flain.SettingsError, match="has 'persistor'"):
        add_purification(recipe, Purify(data="/srv/clean.npz", persistor_id="mine"))


def test_numpy_recipes_have_a_persistor_too(tmp_path, monkeypatch):
    (tmp_path / "client.py").touch()
    monkeypatch.chdir(tmp_path)
    recipe = NumpyFedAvgRecipe(
        name="job", model=[1.0, 2.0], min_clients=1, num_rounds=1, train_script="client.py"
    )
    add_purification(recipe, Purify(data="/srv/clean.npz", model="/srv/network.npz"))
    _, config = exported(recipe, tmp_path / "out")
    assert config["workflows"][1]["path"] == "flain_nvflare.purify.Purify"
