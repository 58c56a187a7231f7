"""Files are written whole or not at all."""

import hashlib
import os
import subprocess
import sys
import tempfile

import pytest

import flain_core as flain
from flain_core.auxiliary.samples import Samples
from flain_core.storage.files import check_writable, hashes, readable, written_whole
from flain_core.storage.scratch import remove_abandoned, scratch_folder


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

    monkeypatch.setattr(tempfile, "mkdtemp", full)
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


def test_the_mode_and_the_owner_of_a_file_are_kept(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.append((user, group)))
    target = tmp_path / "a.npz"
    target.write_text("old")
    target.chmod(0o640)
    with written_whole(target, overwrite=True) as scratch:
        scratch.write_text("new")
    assert target.stat().st_mode & 0o777 == 0o640
    assert given == [(-1, target.stat().st_gid), (target.stat().st_uid, -1)]


def test_a_file_of_somebody_else_can_be_replaced_all_the_same(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    (tmp_path / "a.npz").write_text("old")
    with written_whole(tmp_path / "a.npz", overwrite=True) as scratch:
        scratch.write_text("new")
    assert (tmp_path / "a.npz").read_text() == "new"


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(tmp_path, monkeypatch):
    target = tmp_path / "a.npz"
    synced = []

    def sync(handle):
        synced.append((os.path.basename(os.readlink(f"/proc/self/fd/{handle}")), target.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    with written_whole(target) as scratch:
        scratch.write_text("whole")
    assert synced == [("a.npz", False), (tmp_path.name, True)]


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path):
    killed = "import os, sys; from flain_core.storage.files import written_whole\n"
    killed += "with written_whole(sys.argv[1]) as scratch:\n"
    killed += "    scratch.write_text('half')\n    os.kill(os.getpid(), 9)"
    code = subprocess.run([sys.executable, "-c", killed, tmp_path / "a.npz"], check=False)
    assert code.returncode == -9
    (left,) = tmp_path.iterdir()
    assert (left / "a.npz").read_text() == "half"
    with written_whole(tmp_path / "b.npz") as scratch:
        scratch.write_text("whole")
        # What this run itself is writing is not taken for abandoned.
        remove_abandoned(tmp_path)
        assert scratch.exists()
        assert not left.exists()
    assert os.listdir(tmp_path) == ["b.npz"]


def test_nothing_but_abandoned_folders_is_removed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    (tmp_path / ".flain-link").symlink_to(elsewhere)
    (tmp_path / ".flain-file").write_text("kept")
    remove_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".flain-file", ".flain-link", "elsewhere"]
    assert (elsewhere / "kept").exists()


def test_a_folder_that_another_run_takes_for_abandoned_is_made_again(tmp_path, monkeypatch):
    makes = tempfile.mkdtemp
    made = []

    def taken(**options):
        folder = makes(**options)
        made.append(folder)
        if len(made) == 1:
            os.rmdir(folder)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", taken)
    with scratch_folder(tmp_path) as folder:
        assert str(folder) == made[1]
    assert os.listdir(tmp_path) == []


def test_a_large_file_is_not_hashed_in_one_piece(tmp_path):
    content = os.urandom(3 * 2**20 + 1)
    (tmp_path / "large").write_bytes(content)
    path = tmp_path / "large"
    assert hashes([path]) == {str(path): hashlib.sha256(content).hexdigest()}


def test_a_pipe_is_no_file_to_read(tmp_path):
    os.mkfifo(tmp_path / "a.onnx")
    with pytest.raises(flain.WeightsError, match="expected a regular file"):
        readable(tmp_path / "a.onnx")
