"""Recipes for stacks that are not installed here run on stand-ins for them."""

import sys
from types import ModuleType, SimpleNamespace

import doc_pages as pages
import numpy as np
import pytest
from names_on_pages import FINAL, INITIAL, SAMPLES, module, numbers

pytestmark = pytest.mark.usefixtures("folder")


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
    (block,) = (each for each in pages.shown(page) if each.title == title)
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
