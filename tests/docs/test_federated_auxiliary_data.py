"""The code of docs/federated-auxiliary-data.md, as it stands there."""

import json

import pytest
from backdoored import samples
from in_process import split
from recipes import code

torch = pytest.importorskip("torch")

PAGE = "../federated-auxiliary-data"


def test_flower():
    pytest.importorskip("flwr", reason="flwr is not installed")
    federation = pytest.importorskip("flower_federation")
    records = pytest.importorskip("flwr.app")
    strategies = pytest.importorskip("flwr.serverapp.strategy")
    thirds, _ = split(samples(400, seed=5), 3)
    federation.reseed()
    app = federation.client_app()
    client = {
        "app": app,
        "make_network": federation.network,
        "clean_samples": lambda context: thirds[context.node_config["partition-id"] - 4],
    }
    exec(code(PAGE, "Flower, client"), client)
    server = {
        "FedAvg": strategies.FedAvg,
        "grid": federation.Local(app),
        "network": federation.network(),
        "node_ids": [5, 6, 7],
        "initial_arrays": records.ArrayRecord(federation.network().state_dict()),
    }
    exec(code(PAGE, "Flower, server"), server)

    def asr(arrays):
        return federation.measured(federation.network(), arrays)[1]

    assert asr(server["strategy"].trained_arrays) > 0.4
    assert asr(server["result"].arrays) < 0.05


def test_nvidia_flare(tmp_path):
    api = pytest.importorskip("nvflare.job_config.api")
    job = api.FedJob("trusted", min_clients=3)
    exec(code(PAGE, "NVIDIA FLARE, job"), {"job": job})
    job.export_job(str(tmp_path))
    (server,) = tmp_path.rglob("config_fed_server.json")
    (workflow,) = json.loads(server.read_text())["workflows"]
    trusted = workflow["args"]["data"]
    assert trusted["path"].endswith("trusted_clients.TrustedClients")
    assert trusted["args"] == {"clients": ["hospital-1", "hospital-2", "hospital-3"]}
    (client,) = tmp_path.rglob("config_fed_client.json")
    (executor,) = json.loads(client.read_text())["executors"]
    assert executor["tasks"] == ["flain_question"]
    assert executor["executor"]["path"].endswith("answering.Answering")
    assert executor["executor"]["args"]["data"] == "/data/clean.npz"
