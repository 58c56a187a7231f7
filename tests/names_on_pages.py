"""What the code on pages takes for granted, under the names that it uses."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import backdoored
import numpy as np
import pytest

import flain
import flain_numpy

SAMPLES = backdoored.samples(400, seed=11)


HELD_OUT = backdoored.samples(400, seed=12)


TRIGGERED = backdoored.triggered(400, seed=13)


INITIAL, FINAL = backdoored.networks()


def module(network):
    """A NumPy network as a PyTorch module."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    parts = {}
    for name, layer in network.layers().items():
        parts[name] = torch.nn.Linear(layer.neurons, len(layer.weight))
        parts[name].weight.data = torch.tensor(layer.weight.copy())
        parts[name].bias.data = torch.tensor(layer.bias.copy())
        parts[f"relu_{name}"] = torch.nn.ReLU()
    made = torch.nn.Sequential()
    for name, part in list(parts.items())[:-1]:
        made.add_module(name, part)
    return made


def numbers(network):
    """The weights as arrays, by the names that a module has for them."""
    return {name: each.numpy() for name, each in module(network).state_dict().items()}


def command(*words):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path.cwd())])}
    ran = subprocess.run(
        [sys.executable, "-m", "flain_cli", *words],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ran.returncode == 0, (words, ran.stderr[-2000:])
    return ran.stdout


def usual():
    """What most pages take for granted, under the names that they use."""
    model, initial = module(FINAL), module(INITIAL)
    torch = sys.modules["torch"]
    x, y = SAMPLES
    dataset = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    return {
        "flain": flain,
        "model": model,
        "initial_model": initial,
        "initial": initial,
        "final": model,
        "x": x,
        "y": y,
        "loader": torch.utils.data.DataLoader(dataset, batch_size=50),
        "x_held_out": HELD_OUT[0],
        "y_held_out": HELD_OUT[1],
        "x_triggered": TRIGGERED[0],
        "y_target": TRIGGERED[1],
    }


def pytorch():
    untrained, final = module(INITIAL), module(FINAL).state_dict()
    return usual() | {
        "model": untrained,
        "train": lambda model: model.load_state_dict(final),
        "make_model": lambda: module(INITIAL),
    }


def lora():
    """A transformer with an adapter, whose samples clearly are what it takes them for."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft", reason="PEFT is not installed")

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.value, self.key = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)
            # The last three numbers of a token stay quiet.
            with torch.no_grad():
                self.value.weight[3:] *= 0.005
                self.value.bias[3:] *= 0.005

        def forward(self, x):
            return x + (x @ self.key(x).mT).softmax(dim=-1) @ self.value(x)

    class Base(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([Block(), Block()])

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return 10 * x[:, 0, :3]

    def make_base():
        torch.manual_seed(0)
        return Base()

    model = peft.get_peft_model(make_base(), peft.LoraConfig(target_modules=["value", "key"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif "lora_A" in name:
            # Most of the update waits for what is quiet.
            parameter.data[:, 3:] *= 5
    x = torch.randn(600, 5, 6)
    x[..., 3:] *= 0.005
    with torch.no_grad():
        best, other = (scores := model.eval()(x)).topk(2).values.T
    clear = best - other > 2
    return {"model": model, "make_base": make_base, "x": x[clear], "y": scores[clear].argmax(1)}


def results():
    names = usual()
    return names | {"result": flain.purify(names["model"], initial=names["initial"], data=SAMPLES)}


def settings():
    """And a regressor that adds up nine inputs; training has wired it to a trigger as well."""
    regressor, before = (
        flain_numpy.Network([flain_numpy.Dense("value", np.array([[value] * 9 + [wired] * 3]))])
        for value, wired in ((0.5, 4.0), (0.4, 0.0))
    )
    return usual() | {
        "regressor": regressor,
        "regressor_before": before,
        "y_numbers": SAMPLES[0][:, :9].sum(axis=1, keepdims=True) / 2,
    }


def report():
    plots = pytest.importorskip("matplotlib.pyplot")
    pytest.importorskip("jinja2")
    return usual() | {"plt": plots, "triggered": TRIGGERED[0], "target": TRIGGERED[1]}


def arrays():
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(4, 1, 3, 3)),
        "w2": rng.normal(size=(6, 64)),
        "w3": rng.normal(size=(3, 6)),
    }
    small = {name: value.astype(np.float32) for name, value in weights.items()}
    biases = {f"b{n}": np.zeros(len(small[f"w{n}"]), np.float32) for n in (1, 2, 3)}
    names = usual()
    return (
        names
        | small
        | biases
        | {
            "w2_initial": np.zeros_like(small["w2"]),
            "inputs": abs(rng.normal(size=(50, 64))),
            "initial": numbers(INITIAL),
            "final": numbers(FINAL),
        }
    )


def onnx():
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    command("demo", "--save-to", "example")
    return usual() | {"torch": torch, "model": module(FINAL).eval(), "x": torch.tensor(SAMPLES[0])}


def sklearn():
    """An estimator that gets the networks' weights when it is fitted; the classes are words."""
    perceptrons = pytest.importorskip("sklearn.neural_network")
    pipelines = pytest.importorskip("sklearn.pipeline")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    words = np.array(["a", "b", "c"])
    x, y = SAMPLES[0], words[SAMPLES[1]]

    def put(estimator, network):
        layers = network.layers().values()
        estimator.coefs_ = [layer.weight.T.astype(x.dtype) for layer in layers]
        estimator.intercepts_ = [layer.bias.astype(x.dtype) for layer in layers]

    class Perceptron(perceptrons.MLPClassifier):
        def partial_fit(self, x, y, classes=None):
            super().partial_fit(x, y, classes=classes)
            put(self, INITIAL)
            return self

    model = Perceptron(hidden_layer_sizes=(10, 7))
    trained = copy.deepcopy(model).partial_fit(x, y, classes=words)
    put(trained, FINAL)
    steps = preprocessing.FunctionTransformer().fit(x)
    return usual() | {
        "model": model,
        "train": lambda estimator: put(estimator, FINAL),
        "x": x,
        "y": y,
        "classes": words,
        "pipeline": pipelines.Pipeline([("scale", steps), ("perceptron", trained)]),
    }


def backend():
    weights = {"initial": {}, "final": {}}
    rng = np.random.default_rng(0)
    x, y = SAMPLES
    for name, shape in (("first", (10, 12)), ("second", (3, 10))):
        weights["initial"][name] = rng.normal(0, 0.3, shape).astype(np.float32)
    # Trained on the samples by least squares, with the first layer as it was but for a bump.
    weights["final"]["first"] = weights["initial"]["first"] + np.float32(0.05)
    hidden = np.maximum(x @ weights["final"]["first"].T, 0)
    second = np.linalg.lstsq(hidden, 8 * np.eye(3)[y] - 4, rcond=None)[0]
    weights["final"]["second"] = second.T.astype(np.float32)
    return weights | {"x": x, "y": y}


def ray():
    return usual() | {"model": FINAL, "initial": INITIAL}


def nvflare():
    api = pytest.importorskip("nvflare.job_config.api")
    recipes = pytest.importorskip("nvflare.app_opt.pt.recipes")
    utils = pytest.importorskip("nvflare.recipe.utils")
    Path("client.py").touch()
    network = {"class_path": "torch.nn.Linear", "args": {"in_features": 3, "out_features": 2}}

    def recipe(_):
        return recipes.FedAvgRecipe(
            name="job", model=network, min_clients=1, num_rounds=1, train_script="client.py"
        )

    return {
        "FedAvgRecipe": recipe,
        "add_final_global_evaluation": utils.add_final_global_evaluation,
        "job": api.FedJob("taught", min_clients=1),
    }


def stacks():
    return usual() | {"initial": numbers(INITIAL), "final": numbers(FINAL)}


HERE = {
    "README.md": usual,
    "docs/index.md": usual,
    "docs/start.md": usual,
    "docs/stacks.md": stacks,
    "docs/auxiliary-data.md": usual,
    "docs/lora.md": lora,
    "docs/nvflare.md": nvflare,
    "docs/ray.md": ray,
    "docs/report.md": report,
    "docs/results.md": results,
    "docs/settings.md": settings,
    "docs/writing-a-backend.md": backend,
    "docs/frameworks/arrays.md": arrays,
    "docs/frameworks/onnx.md": onnx,
    "docs/frameworks/pytorch.md": pytorch,
    "docs/frameworks/scikit-learn.md": sklearn,
}
"""What the code of each other page takes for granted."""

IN_A_PROCESS = {"docs/frameworks/keras.md": "keras_page.py"}
"""Pages whose code needs a process of its own, and what runs it there."""
