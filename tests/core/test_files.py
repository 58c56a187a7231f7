"""Files are written whole or not at all."""

import os
import tempfile

import pytest

import flain_core as flain
from flain_core.files import check_writable, hashes, written_whole
from flain_core.samples import Samples


def test_a_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "report.json"
    with written_whole(target) as scratch:
        scratch.write_text("whole")
        assert not target.exists()
        assert scratch.suffix == ".json"
    assert target.read_text() == "whole"
    assert os.listdir(tmp_path) == ["report.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_nothing_is_left_when_the_block_fails(tmp_path, error):
    with pytest.raises((error, flain.OutputError)), written_whole(tmp_path / "a.npz") as scratch:
        scratch.write_text("half")
        raise error
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    target = tmp_path / "a.npz"
    target.write_text("old")
    with pytest.raises(flain.OutputError, match="exists already"), written_whole(target):
        pass
    assert target.read_text() == "old"
    with written_whole(target, overwrite=True) as scratch:
        scratch.write_text("new")
    assert target.read_text() == "new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    target = tmp_path / "a.npz"
    with (
        pytest.raises(flain.OutputError, match="appeared"),
        written_whole(target) as scratch,
    ):
        scratch.write_text("ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_file_is_written_where_the_file_system_has_no_links(tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", no_links)
    with written_whole(tmp_path / "a.json") as scratch:
        scratch.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "whole"


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    with (
        pytest.raises(flain.OutputError, match="No space left"),
        written_whole(tmp_path / "a.json"),
    ):
        pytest.fail("there is nothing to write to")
    assert not [*tmp_path.iterdir()]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.npz").write_text("old")
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    with written_whole(tmp_path / "link.npz", overwrite=True) as scratch:
        scratch.write_text("new")
    assert (tmp_path / "link.npz").is_symlink()
    assert (tmp_path / "real.npz").read_text() == "new"


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(flain.OutputError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(flain.OutputError, match="does not exist"):
        check_writable(tmp_path / "no" / "a.npz")


def test_a_current_folder_that_was_removed_is_one_clear_error(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(flain.OutputError, match="current folder does not exist any more"):
        check_writable("a.npz")
    assert check_writable(tmp_path / "a.npz") == tmp_path / "a.npz"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(flain.OutputError, match="not writable"):
        check_writable(tmp_path / "a.npz")


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to(tmp_path / "pipe.json")
    for name in ("pipe.json", "link.json"):
        with pytest.raises(flain.OutputError, match="no regular file"):
            check_writable(tmp_path / name, overwrite=True)


def test_names_that_no_file_can_have_are_refused_before_any_work(tmp_path):
    for name in ("a" * 300 + ".npz", "a\0b.npz"):
        with pytest.raises(flain.OutputError, match="cannot write"):
            check_writable(tmp_path / name)
        with pytest.raises(flain.FlainError):
            flain.purify(name, initial=name, data=name)
        with pytest.raises(flain.DataError, match="data"):
            Samples.of(name)


def test_the_longest_name_can_be_written(tmp_path):
    target = tmp_path / ("a" * 251 + ".npz")
    with written_whole(target) as scratch:
        scratch.write_text("whole")
    assert target.read_text() == "whole"


@pytest.mark.skipif(not os.path.isfile("/proc/self/mem"), reason="needs a file nobody can read")
def test_a_file_that_cannot_be_read_is_one_clear_error():
    with pytest.raises(flain.WeightsError, match="cannot read /proc/self/mem"):
        hashes(["/proc/self/mem"])
