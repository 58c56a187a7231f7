"""Every example of the README and of the site runs, as it stands there."""

import copy
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import backdoored
import doc_pages as pages
import numpy as np
import pytest

import flain
import flain_numpy

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")

SAMPLES = backdoored.samples(400, seed=11)
HELD_OUT = backdoored.samples(400, seed=12)
TRIGGERED = backdoored.triggered(400, seed=13)
INITIAL, FINAL = backdoored.networks()

# Pages whose code another file of tests runs; it names the title of each block.
ELSEWHERE = {
    "docs/federated-auxiliary-data.md": "tests/docs/test_federated_auxiliary_data.py",
    "docs/flower.md": "tests/adapters/test_flower_docs.py",
    "docs/provenance.md": "tests/docs/test_provenance_recipes.py",
    **{
        f"docs/recipes/{name}.md": "tests/docs/test_recipes.py"
        for name in ("appfl", "fedlab", "fedml", "openfl", "tff")
    },
    **{
        f"docs/recipes/{name}.md": "tests/docs/test_provenance_recipes.py"
        for name in ("mlflow", "model-signing", "wandb")
    },
}
COMMANDS_ELSEWHERE = {
    "docs/command-line.md": "tests/docs/test_command_line.py",
    "docs/recipes/fedml.md": "tests/docs/test_recipes.py",
    "docs/recipes/model-signing.md": "tests/docs/test_provenance_recipes.py",
}


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
    x = torch.randn(600, 5, 6)
    x[..., 3:] *= 0.02
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


def numbers(network):
    """The weights as arrays, by the names that a module has for them."""
    return {name: each.numpy() for name, each in module(network).state_dict().items()}


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
IN_A_PROCESS = {"docs/frameworks/keras.md": "keras_page.py"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def shown(page):
    return [each for each in pages.blocks(page, "python") if pages.INCLUDES not in each.code]


def test_every_page_with_code_is_run_by_somebody():
    run = {*HERE, *ELSEWHERE, *IN_A_PROCESS}
    assert {page for page in pages.every() if shown(page)} == run


# Blocks that only a stand-in of a stack runs, below.
STOOD_IN = {"export_arrays.py", "import_arrays.py", "export_weights.py", "purify_weights.py"}


@pytest.mark.parametrize("page", ELSEWHERE)
def test_another_file_runs_each_block(page):
    tests = (pages.ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")
    blocks = [each for each in shown(page) if each.title not in STOOD_IN]
    for block in blocks:
        named = block.title if len(blocks) > 1 else Path(page).stem
        assert named in tests, (page, block.title)


@pytest.fixture
def my_project(monkeypatch):
    """The module that the recipes import from."""
    mine = ModuleType("my_project")
    mine.auxiliary_data = lambda: SAMPLES
    mine.make_model = lambda: module(INITIAL)
    for name in ("my_project", "my_project_3"):
        monkeypatch.setitem(sys.modules, name, mine)
    return mine


def run(page, title):
    (block,) = (each for each in shown(page) if each.title == title)
    exec(compile(block.code, title, "exec"), {})


def test_the_recipe_for_openfl_goes_from_its_files_and_back(folder, monkeypatch, my_project):
    """Its protobuf files are NumPy's here, with the number of the round."""

    def dump(model, path):
        with open(path, "wb") as file:
            np.savez(file, round_number=model.tensors[0].round_number, **model.arrays)

    def load(path):
        with np.load(path) as arrays:
            return made(dict(arrays))

    def made(arrays, number=None, _pipeline=None):
        number = int(arrays.pop("round_number")) if number is None else number
        return SimpleNamespace(arrays=arrays, tensors=[SimpleNamespace(round_number=number)])

    utils, pipelines = ModuleType("utils"), ModuleType("pipelines")
    pipelines.NoCompressionPipeline = object
    utils.load_proto, utils.dump_proto, utils.construct_model_proto = load, dump, made
    utils.deconstruct_model_proto = lambda model, _pipeline: (model.arrays, None)
    protocols = ModuleType("protocols")
    protocols.utils = utils
    openfl = ModuleType("openfl")
    stood = {"openfl": openfl, "openfl.pipelines": pipelines, "openfl.protocols": protocols}
    for name, stand_in in stood.items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    (folder / "save").mkdir()
    dump(made(numbers(INITIAL), 0), "save/init.pbuf")
    dump(made(numbers(FINAL), 7), "save/last.pbuf")
    for title in ("export_arrays.py", "purify_arrays.py", "import_arrays.py"):
        run("docs/recipes/openfl.md", title)
    purified = load("save/purified.pbuf")
    assert purified.tensors[0].round_number == 7
    assert set(purified.arrays) == set(numbers(FINAL))
    assert (purified.arrays["fc1.weight"] != numbers(FINAL)["fc1.weight"]).any()


def test_the_recipe_for_tensorflow_federated_keeps_both_models(my_project):
    """A process of one round that ends with the trained weights."""
    held = {}
    my_project.keras_model = SimpleNamespace(get_weights=lambda: held["weights"])
    my_project.process = SimpleNamespace(
        initialize=lambda: INITIAL,
        next=lambda *_: SimpleNamespace(state=FINAL),
        get_model_weights=lambda network: SimpleNamespace(
            assign_weights_to=lambda _: held.update(weights=list(numbers(network).values()))
        ),
    )
    my_project.rounds, my_project.training_data = 1, lambda: None
    run("docs/recipes/tff.md", "export_weights.py")
    run("docs/recipes/tff.md", "purify_weights.py")
    with np.load("purified.npz") as purified:
        assert len(purified.files) == len(numbers(FINAL))
        assert (purified["arr_0"] != numbers(FINAL)["fc1.weight"]).any()


# An adapter of random numbers speaks for no class most.
PARTLY_FLIPPED = pytest.mark.filterwarnings("ignore:partly flipped:flain_core.FlainWarning")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[PARTLY_FLIPPED] * (page == "docs/lora.md")) for page in HERE]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_code_of_a_page_runs(page):
    if page == "docs/start.md":
        pytest.importorskip("onnxruntime")
        command("demo", "--save-to", "example")
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names = HERE[page]()
    try:
        for number, block in enumerate(shown(page)):
            if (
                "import flain_ray" in block.code
            ):  # run by tests/adapters/test_ray.py, on its cluster
                continue
            # A page that saves twice means two runs.
            for written in [*Path().glob("purified.*"), *Path().glob("report.*")]:
                written.unlink()
            if page == "docs/frameworks/pytorch.md" and number == 1:
                names["result"].save("purified.safetensors")
            exec(compile(block.code, f"{page}, block {number + 1}", "exec"), names)
    finally:
        torch.set_num_threads(threads)
    if page == "docs/nvflare.md":
        names["recipe"].export("exported")
        (server,) = Path("exported").rglob("config_fed_server.json")
        assert '"flain_nvflare' in server.read_text()


def after(page, name="result"):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    names = HERE[page]()
    for block in shown(page):
        exec(block.code, names)
    return names[name]


def asr(model):
    x, target = TRIGGERED
    return float((model.predict(x) == target).mean())


def test_the_page_on_pytorch_removes_the_backdoor():
    torch = pytest.importorskip("torch")
    fresh = after("docs/frameworks/pytorch.md", "fresh")
    with torch.no_grad():
        classes = fresh(torch.tensor(TRIGGERED[0])).argmax(1).numpy()
    assert (classes == TRIGGERED[1]).mean() < 0.05


def test_the_page_on_scikit_learn_removes_the_backdoor():
    pipeline = after("docs/frameworks/scikit-learn.md", "pipeline")
    assert (pipeline.predict(TRIGGERED[0]) == "c").mean() < 0.05


def test_the_smallest_backend_gives_what_numpy_gives():
    names = backend()
    for block in shown("docs/writing-a-backend.md"):
        exec(block.code, names)
    first, second = (
        flain_numpy.Network(
            [
                flain_numpy.Dense("first", names[when]["first"]),
                flain_numpy.ReLU(),
                flain_numpy.Dense("second", names[when]["second"]),
            ]
        )
        for when in ("initial", "final")
    )
    expected = flain.purify(second, initial=first, data=SAMPLES)
    result = names["result"]
    assert result.layers[0].threshold == pytest.approx(expected.layers[0].threshold)
    assert (result.layers[0].flipped == expected.layers[0].flipped).all()
    assert result.layers[0].method == "incremental"


@pytest.mark.slow
@pytest.mark.parametrize("page", IN_A_PROCESS)
def test_the_code_of_a_page_runs_in_a_process(page):
    """Keras takes its engine once for a process."""
    pytest.importorskip("keras")
    engine = next((name for name in ("jax", "tensorflow", "torch") if find_spec(name)), None)
    ran = subprocess.run(
        [sys.executable, pages.ROOT / "tests" / "docs" / IN_A_PROCESS[page]],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"KERAS_BACKEND": engine or "", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.endswith("both pages ran\n")


# --- Commands ------------------------------------------------------------------------------------

EXTRAS = set(
    tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
)
TARGETS = set(re.findall(r"^([a-z-]+):", (pages.ROOT / "Makefile").read_text(), re.MULTILINE))


def known(words):
    """Whether a command that is not run here can be what it says."""
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
    if words[:2] == ["pip", "install"]:
        named = [each for word in words for each in re.findall(r"^\.\[(.*?)\]$", word)]
        return bool(named) and all(extra in EXTRAS for each in named for extra in each.split(","))
    if words[0] == "make":
        return words[1] in TARGETS
    if words[0] == "python" and words[1] != "-m":
        return (pages.ROOT / words[1]).exists()
    if words[0] == "flwr":
        return words[1] == "run"
    # What Flower starts, tests/adapters/test_flower_deployment.py starts as well.
    return not words or words[0] in {"flain", "export", "flower-superlink", "flower-supernode"}


@pytest.mark.parametrize("page", pages.every())
def test_a_command_is_one_that_there_is(page):
    if page not in COMMANDS_ELSEWHERE:
        assert [words for words in pages.commands(page) if not known(words)] == []


@pytest.mark.parametrize("page", COMMANDS_ELSEWHERE)
def test_another_file_runs_the_commands(page):
    tests = (pages.ROOT / COMMANDS_ELSEWHERE[page]).read_text(encoding="utf-8")
    assert Path(page).stem in tests


FLAIN = [
    page
    for page in pages.every()
    if page not in {*COMMANDS_ELSEWHERE, *IN_A_PROCESS}
    and any(words[0] == "flain" for words in pages.commands(page))
]


@pytest.fixture
def prepared(folder):
    """The files and modules that commands on pages name."""
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    pytest.importorskip("onnxruntime")
    pytest.importorskip("jinja2")
    for name, network in (("initial", INITIAL), ("final", FINAL)):
        save(module(network).state_dict(), folder / f"{name}.safetensors")
    np.savez(folder / "auxiliary.npz", x=SAMPLES[0], y=SAMPLES[1])
    package = folder / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    torch.save(module(INITIAL), package / "model.pt")
    (package / "models.py").write_text(
        "from torch import nn\n\n\ndef make_network():\n    made = nn.Sequential()\n"
        + "".join(
            f"    made.add_module('fc{n}', nn.Linear({width}, {out}))\n"
            + (f"    made.add_module('relu_fc{n}', nn.ReLU())\n" if n < 3 else "")
            for n, (width, out) in enumerate(((12, 10), (10, 7), (7, 3)), start=1)
        )
        + "    return made\n"
    )
    (folder / "my_module.py").write_text(
        "import backdoored\n\n\n"
        "def untrained():\n    return backdoored.networks()[0]\n\n\n"
        "def trained():\n    return backdoored.networks()[1]\n"
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", FLAIN)
def test_the_commands_of_a_page_run(page, prepared):
    if page == "docs/report.md":
        command("demo", "--save-to", "example")
        for name in ("initial.onnx", "final.onnx", "clean.npz"):
            (prepared / name).write_bytes((prepared / "example" / name).read_bytes())
    saved = False
    for words in pages.commands(page):
        if words[0] != "flain":
            continue
        if any("example/" in word for word in words) and not (prepared / "example").exists():
            command("demo", "--save-to", "example")
        saved = bool(command(*words[1:])) or saved
    assert saved
