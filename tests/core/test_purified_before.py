"""A model that was purified is not purified again in silence."""

import copy
import gc
import json
import zipfile

import backdoored
import numpy as np
import pytest

import flain_core as flain
import flain_numpy
from flain_core.provenance import purified_before
from flain_core.provenance.mark import KEY, MOST_BYTES
from flain_core.provenance.zip_member import mark_in, put_mark

CLEAN = backdoored.samples(300, seed=11)
ASR = backdoored.triggered(300, seed=12)
INITIAL, FINAL = backdoored.networks()
REFUSED = "was purified before.*bring back the backdoor.*again=True"


def purify(model, initial=INITIAL, **options):
    return flain.purify(model, initial=initial, data=CLEAN, probes={"ASR": ASR}, **options)


@pytest.fixture(scope="module")
def result():
    return purify(FINAL)


def forget(monkeypatch):
    """As in another process."""
    monkeypatch.setattr(purified_before, "_made_here", {})


def test_the_result_is_refused(result):
    with pytest.raises(flain.ModelError, match=REFUSED):
        purify(result.model)


def test_the_model_before_is_not(result):
    assert purify(FINAL).after == result.after


def test_a_copy_of_the_result_is_refused(result):
    with pytest.raises(flain.ModelError, match=REFUSED):
        purify(copy.deepcopy(result.model))


def test_who_insists_gets_it_and_is_told(result):
    """And sees what the refusal is for: the backdoor is back."""
    with pytest.warns(flain.FlainWarning, match="a backdoor was brought back"):
        again = purify(result.model, again=True)
    assert "again now, as was asked for" in again.notes[0]
    assert result.after.probes["ASR"] < 0.05
    assert again.after.probes["ASR"] > 0.9


def test_arrays_are_refused(result):
    arrays = flain_numpy.arrays_of(result.model)
    start = flain_numpy.arrays_of(INITIAL)
    with pytest.raises(flain.ModelError, match=REFUSED):
        flain.purify_arrays(start, arrays, FINAL, data=CLEAN)
    # As averaging leaves them, and in order.
    wide = [array.astype(np.float64) for array in arrays.values()]
    with pytest.raises(flain.ModelError, match=REFUSED):
        flain.purify_arrays(list(start.values()), wide, FINAL, data=CLEAN)
    flain.purify_arrays(start, arrays, FINAL, data=CLEAN, again=True)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_training_on_from_a_purified_model_is_another_start(result):
    """Even if the purified layer stayed as it was."""
    layers = result.model.layers()
    trained = result.model.replace({"fc2": layers["fc2"].weight + np.float32(0.1)})
    assert purify(trained, initial=result.model, layers="fc2").layers[0].share > 0


def test_a_model_that_was_not_flipped_may_be_tried_again(monkeypatch, tmp_path):
    forget(monkeypatch)
    settings = flain.Settings(promise=0.001)
    with pytest.warns(flain.FlainWarning):
        untouched = purify(FINAL, settings=settings)
    assert untouched.verdict == "not flipped"
    purify(untouched.model)
    untouched.save(tmp_path / "untouched.npz")
    forget(monkeypatch)
    purify(tmp_path / "untouched.npz")


def test_only_so_many_are_remembered(monkeypatch):
    forget(monkeypatch)
    monkeypatch.setattr(purified_before, "_REMEMBERED_AT_MOST", 1)
    purify(FINAL)
    purify(FINAL, settings=flain.Settings(factor=1.5))
    assert len(purified_before._made_here) == 1


def test_a_file_says_that_it_was_purified(result, tmp_path, monkeypatch):
    path = tmp_path / "purified.npz"
    result.save(path)
    assert json.loads(mark_in(path))["verdict"] == "flipped"
    np.testing.assert_array_equal(
        flain_numpy.load(path).predict(CLEAN[0]), result.model.predict(CLEAN[0])
    )
    forget(monkeypatch)
    with pytest.raises(flain.ModelError, match=rf"flain {flain.__version__} purified it.*fc1"):
        purify(path)
    with pytest.raises(flain.ModelError, match=REFUSED):
        purify(str(path))
    with pytest.raises(flain.ModelError, match=REFUSED):
        purify(flain_numpy.load(path))
    with pytest.warns(flain.FlainWarning, match="a backdoor was brought back"):
        again = purify(path, again=True)
    assert again.notes[0].startswith("the model was purified before")


def test_a_file_that_was_not_purified_carries_no_mark(tmp_path):
    flain_numpy.save(FINAL, tmp_path / "plain.npz")
    assert mark_in(tmp_path / "plain.npz") is None


@pytest.mark.parametrize("mark", ["", "{}", "[" * 100_000, '{"format": 1}', "__import__('os')"])
def test_a_forged_mark_is_refused_with_one_error_and_never_run(mark, tmp_path, monkeypatch):
    forget(monkeypatch)
    path = tmp_path / "forged.npz"
    flain_numpy.save(FINAL, path)
    put_mark(path, mark)
    with pytest.raises(flain.ModelError, match=r"damaged or forged.*again=True"):
        purify(path)
    assert purify(path, again=True).verdict == "flipped"


def test_of_a_mark_that_inflates_little_is_read(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(KEY, "0" * 50_000_000)
    assert len(mark_in(path)) == MOST_BYTES + 1


def test_a_damaged_member_counts_as_a_mark(tmp_path):
    path = tmp_path / "damaged.npz"
    flain_numpy.save(FINAL, path)
    put_mark(path, "x" * 1000)
    path.write_bytes(path.read_bytes().replace(b"x" * 1000, b"y" * 1000))
    assert mark_in(path) == b""


def test_a_mark_is_forgotten_with_its_model():
    model = flain_numpy.Network([])
    purified_before.carry(model, "mark")
    key = id(model)
    assert key in purified_before._carried
    del model
    gc.collect()
    assert key not in purified_before._carried


def test_a_result_is_not_written_over_what_was_read(tmp_path):
    paths = [tmp_path / "initial.npz", tmp_path / "final.npz"]
    for path, network in zip(paths, (INITIAL, FINAL), strict=True):
        flain_numpy.save(network, path)
    before = [path.read_bytes() for path in paths]
    result = flain.purify(paths[1], initial=paths[0], data=CLEAN)
    (tmp_path / "link.npz").symlink_to(paths[0])
    for path in (*paths, tmp_path / "link.npz"):
        with pytest.raises(flain.OutputError, match="one of the files that were read"):
            result.save(path, overwrite=True)
        with pytest.raises(flain.OutputError, match="one of the files that were read"):
            result.to_json(path, overwrite=True)
    assert [path.read_bytes() for path in paths] == before
    result.save(tmp_path / "purified.npz")
    result.save(tmp_path / "purified.npz", overwrite=True)
