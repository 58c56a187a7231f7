"""The code of the README and of the site runs, as it stands there."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import doc_pages as pages
import pytest
from names_on_pages import HERE, IN_A_PROCESS, SAMPLES, TRIGGERED, backend, command

import flain
import flain_numpy

pytestmark = pytest.mark.usefixtures("folder")

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


# Blocks that only test_stood_in_recipes.py runs.
STOOD_IN = {"export_arrays.py", "import_arrays.py", "export_weights.py", "purify_weights.py"}


def test_every_page_with_code_is_run_by_somebody():
    run = {*HERE, *ELSEWHERE, *IN_A_PROCESS}
    assert {page for page in pages.every() if pages.shown(page)} == run


@pytest.mark.parametrize("page", ELSEWHERE)
def test_another_file_runs_each_block(page):
    tests = (pages.ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")
    blocks = [each for each in pages.shown(page) if each.title not in STOOD_IN]
    for block in blocks:
        named = block.title if len(blocks) > 1 else Path(page).stem
        assert named in tests, (page, block.title)


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
        for number, block in enumerate(pages.shown(page)):
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


def after(page, name="result"):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    names = HERE[page]()
    for block in pages.shown(page):
        exec(block.code, names)
    return names[name]


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
    for block in pages.shown("docs/writing-a-backend.md"):
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
