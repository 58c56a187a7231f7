"""The recipes for keeping what was done run as they stand in docs, offline."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from types import ModuleType

import backdoored
import pytest
from recipes import RECIPES, code

import flain

INITIAL, FINAL = backdoored.networks()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The module of a reader, in a folder of its own."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")

    def module(network):
        layers = []
        for layer in network.layers().values():
            linear = torch.nn.Linear(layer.neurons, len(layer.weight))
            linear.weight.data = torch.tensor(layer.weight.copy())
            linear.bias.data = torch.tensor(layer.bias.copy())
            layers += [linear, torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    mine = ModuleType("my_project")
    mine.final, mine.initial = module(FINAL), module(INITIAL).state_dict()
    mine.auxiliary_data = lambda: backdoored.samples(300, seed=11)
    mine.triggered = lambda: backdoored.triggered(300, seed=12)
    monkeypatch.setitem(sys.modules, "my_project", mine)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_mlflow(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    experiment = mlflow.create_experiment("recipe", artifact_location=(project / "kept").as_uri())
    mlflow.set_experiment(experiment_id=experiment)
    exec(code("mlflow"), {})
    (run,) = mlflow.search_runs(experiment_ids=[experiment], output_format="list")
    assert run.data.tags["verdict"] == "flipped"
    assert run.data.metrics["ASR.after"] < 0.05 < 0.9 < run.data.metrics["ASR.before"]
    mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=str(project / "got"))
    names = {path.name for path in (project / "got").rglob("*") if path.is_file()}
    assert names == {"purification.json", "card.md", "purified.safetensors"}
    with sqlite3.connect(project / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_wandb_offline(project, monkeypatch):
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(project))
    monkeypatch.setenv("WANDB_SILENT", "true")
    pytest.importorskip("wandb", reason="wandb is not installed")
    exec(code("wandb"), {})
    (folder,) = (project / "wandb").glob("offline-run-*")
    assert list(folder.glob("*.wandb"))
    assert json.loads((project / "purification.json").read_text())["verdict"] == "flipped"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_model_signing(project):
    pytest.importorskip("OpenSSL", reason="pyopenssl is not installed")
    pytest.importorskip("model_signing", reason="model-signing is not installed")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    (project / "signing.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (project / "signing.pub").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    exec(code("model-signing", "sign.py"), {})
    exec(code("model-signing", "verify.py"), {})
    model = project / "purified" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match=r"(?i)mismatch|differ|does not match"):
        exec(code("model-signing", "verify.py"), {})


def test_the_page_on_provenance(project):
    page = (RECIPES.parent / "provenance.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    exec(block, {})
    assert (project / "purified.safetensors").exists()
    assert (project / "README.md").read_text().startswith("## Purification")


def test_the_pages_name_a_verb_that_exists():
    """So that a recipe is looked at when the library changes, even where no stack is installed."""
    for page in ("mlflow", "wandb"):
        for name in ("to_dict", "card", "save"):
            assert f"result.{name}(" in code(page)
            assert hasattr(flain.Purification, name)
