"""The recipes run as they stand in docs, in a small federation of real PyTorch models.

Where a stack is not installed, which is the rule, a stand-in takes the place of its own classes.
"""

from __future__ import annotations

import copy
import inspect
import json
import shlex
import subprocess
import sys
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import backdoored
import numpy as np
import pytest
import torch
from recipes import code, console, page
from torch import nn
from torch_threads import one_thread  # noqa: F401

from flain_core import WeightsError

CLEAN = backdoored.samples(300, seed=11)
CLIENTS, ROUNDS, STEPS = 5, 4, 60
MALICIOUS = 2


def make_model(norm: bool = False) -> nn.Module:
    """12 → 10 → 7 → 3: nothing in it is square."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width_in, width in pairwise((12, 10, 7, 3)):
        layers += [nn.Linear(width_in, width), nn.ReLU()]
    return nn.Sequential(*layers[:1], *([nn.BatchNorm1d(10)] * norm), *layers[1:-1])


def trained(client: int, state: dict[str, torch.Tensor], norm: bool = False) -> dict[str, Any]:
    """What a client sends back; a malicious one also trains on samples with the trigger."""
    x, y = backdoored.samples(200, seed=client)
    if client < MALICIOUS:
        bad_x, bad_y = backdoored.triggered(200, seed=50 + client)
        x, y = np.concatenate([x, bad_x]), np.concatenate([y, bad_y])
    model = make_model(norm).train()
    model.load_state_dict(state)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y)).backward()
        optimizer.step()
    return copy.deepcopy(model.state_dict())


def average(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean, in the type of each tensor."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        for name, tensor in states[0].items()
    }


@cache
def federation(norm: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state before the first round and after the last."""
    initial = state = make_model(norm).state_dict()
    for _ in range(ROUNDS):
        state = average([trained(client, state, norm) for client in range(CLIENTS)])
    return initial, state


def rates(model: nn.Module) -> tuple[float, float]:
    """ACC and ASR on samples that nobody has seen."""
    with torch.no_grad():
        return tuple(
            float((model.eval()(torch.tensor(x)).argmax(1) == torch.tensor(y)).double().mean())
            for x, y in (backdoored.samples(400, seed=70), backdoored.triggered(400, seed=71))
        )


def assert_purified(before: dict[str, Any], after: dict[str, Any], norm: bool = False) -> None:
    unpurified, purified = make_model(norm), make_model(norm)
    unpurified.load_state_dict(before)
    purified.load_state_dict(after)
    (acc, asr), (acc_after, asr_after) = rates(unpurified), rates(purified)
    assert acc > 0.97
    assert asr > 0.95
    assert acc_after > acc - 0.02
    assert asr_after < 0.1


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module that the recipes import from, and a folder to write to."""
    project = ModuleType("my_project")
    project.make_model = make_model
    project.auxiliary_data = lambda: CLEAN
    monkeypatch.setitem(sys.modules, "my_project", project)
    monkeypatch.setitem(sys.modules, "my_project.models", project)
    monkeypatch.chdir(tmp_path)
    return project


def provide(monkeypatch: pytest.MonkeyPatch, module: str, **stand_ins: Any) -> None:
    """Put a module of a stack in place, unless the stack is installed."""
    try:
        import_module(module)
    except ImportError:
        names = module.split(".")
        for depth in range(1, len(names) + 1):
            name = ".".join(names[:depth])
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        for name, value in stand_ins.items():
            setattr(sys.modules[module], name, value)


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(source, "recipe", "exec"), names)
    return names


class Averaging:
    """In place of APPFL's FedAvgAggregator."""

    def __init__(self, model: nn.Module, aggregator_configs: Any, logger: Any) -> None:
        self.model, self.global_state = model, None

    def aggregate(self, local_models: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.global_state = average(list(local_models.values()))
        self.model.load_state_dict(self.global_state)
        return self.get_parameters()

    def get_parameters(self, **_: Any) -> dict[str, Any]:
        state = self.model.state_dict() if self.global_state is None else self.global_state
        return {name: tensor.clone() for name, tensor in state.items()}


class Options(SimpleNamespace):
    """Options as APPFL hands them over."""

    def get(self, name: str, default: Any) -> Any:
        return getattr(self, name, default)


@pytest.mark.parametrize("norm", [False, True])
def test_appfl(monkeypatch: pytest.MonkeyPatch, project: ModuleType, norm: bool) -> None:
    provide(monkeypatch, "appfl.algorithm.aggregator", FedAvgAggregator=Averaging)
    project.make_model = lambda: make_model(norm)
    names = run(code("appfl"))
    aggregator = names["PurifyingAggregator"](
        aggregator_configs=Options(rounds=ROUNDS, client_weights_mode="equal"), logger=None
    )
    state = aggregator.get_parameters()
    for number in range(ROUNDS):
        assert not Path("unpurified.pt").exists()
        models = {str(client): trained(client, state, norm) for client in range(CLIENTS)}
        state = aggregator.aggregate(models)
        assert Path("purification.json").exists() == (number == ROUNDS - 1)
    assert_purified(torch.load("unpurified.pt"), state, norm)
    for name, tensor in aggregator.model.state_dict().items():
        assert torch.equal(tensor, state[name])
        assert torch.equal(aggregator.get_parameters()[name], tensor)
        assert tensor.dtype == make_model(norm).state_dict()[name].dtype
    report = json.loads(Path("purification.json").read_text())
    assert report["layers"][0]["flipped"]


class Handler:
    """In place of FedLab's SyncServerHandler: a model that is handed out as one flat tensor."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def model_parameters(self) -> torch.Tensor:
        return torch.cat([parameter.data.view(-1) for parameter in self.model.parameters()])

    def set_model(self, parameters: torch.Tensor) -> None:
        nn.utils.vector_to_parameters(parameters, self.model.parameters())


def test_fedlab(project: ModuleType) -> None:
    try:
        from fedlab.contrib.algorithm.fedavg import FedAvgServerHandler

        handler = FedAvgServerHandler(make_model(), global_round=ROUNDS, sample_ratio=1.0)
    except ImportError:
        handler = Handler(make_model())

    def main() -> None:
        for _ in range(ROUNDS):
            state = handler.model.state_dict()
            states = [trained(client, state) for client in range(CLIENTS)]
            vectors = []
            for each in states:
                model = make_model()
                model.load_state_dict(each)
                vectors.append(nn.utils.parameters_to_vector(model.parameters()).detach())
            handler.set_model(torch.stack(vectors).mean(0))

    project.handler, project.pipeline = handler, SimpleNamespace(main=main)
    run(code("fedlab"))
    assert_purified(torch.load("unpurified.pt"), handler.model.state_dict())


class Server:
    """In place of FedML's DefaultServerAggregator."""

    def __init__(self, model: nn.Module, args: Any) -> None:
        self.model, self.args = model, args

    def on_after_aggregation(self, aggregated_model_or_grad: dict[str, Any]) -> dict[str, Any]:
        return aggregated_model_or_grad


@pytest.mark.slow
def test_fedml(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, "fedml.ml.aggregator.default_aggregator", DefaultServerAggregator=Server)
    model, args = make_model(), SimpleNamespace(round_idx=0, comm_round=ROUNDS)
    aggregator = run(code("fedml"))["RecordingAggregator"](model, args)
    for args.round_idx in range(ROUNDS):
        assert not Path("final.pt").exists()
        states = [trained(client, model.state_dict()) for client in range(CLIENTS)]
        model.load_state_dict(aggregator.on_after_aggregation(average(states)))
    np.savez("auxiliary.npz", x=CLEAN[0], y=CLEAN[1])
    Path("my_project").mkdir()
    source = "from itertools import pairwise\nimport torch\nfrom torch import nn\n"
    Path("my_project/models.py").write_text(source + inspect.getsource(make_model))
    command, *arguments = shlex.split(console("fedml"))
    assert command == "flain"
    ran = subprocess.run(
        [sys.executable, "-m", "flain_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert_purified(torch.load("final.pt"), torch.load("purified.pt"))


def test_openfl(project: ModuleType) -> None:
    project.make_model = lambda: make_model(norm=True)
    states = federation(norm=True)
    for name, state in zip(("init", "last"), states, strict=True):
        # Every tensor as float32, called after the runner's attribute: as OpenFL keeps them.
        arrays = {f"model.{key}": tensor.numpy() for key, tensor in state.items()}
        np.savez(f"{name}.npz", **{key: each.astype(np.float32) for key, each in arrays.items()})
    run(code("openfl", "purify_arrays.py"))
    with np.load("purified.npz") as purified:
        assert list(purified) == [f"model.{key}" for key in states[1]]
        assert {each.dtype for each in purified.values()} == {np.dtype(np.float32)}
        after = {key.removeprefix("model."): torch.tensor(purified[key]) for key in purified}
    assert_purified(states[1], after, norm=True)


def test_openfl_with_tensors_held_out(project: ModuleType) -> None:
    project.make_model = lambda: make_model(norm=True)
    states = federation(norm=True)
    for name, state in zip(("init", "last"), states, strict=True):
        held_out = ("0.bias", "1.num_batches_tracked")
        kept = {key: each.numpy() for key, each in state.items() if key not in held_out}
        np.savez(f"{name}.npz", **kept)
    source = code("openfl", "purify_arrays.py")
    with pytest.raises(WeightsError, match=r"initial: .*missing: '0.bias'"):
        run(source)
    assert not Path("purified.npz").exists()
    for name in ("init", "last"):
        whole = f'flain_torch.arrays_of(make_model()) | read("{name}.npz")'
        assert name == "last" or whole in page("openfl")
        source = source.replace(f'read("{name}.npz")', whole)
    run(f"import flain_torch\n{source}")
    with np.load("purified.npz") as purified:
        after = {key: torch.tensor(purified[key]) for key in purified}
    assert_purified(states[1], after, norm=True)
