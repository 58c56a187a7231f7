"""The harness sees each kind of harm, and mutants of every format do none."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from random import Random

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("mutants are read under limits that only Linux has", allow_module_level=True)

from trust import children, fuzz, kills, results
from trust.children import Children, Outcome
from trust.disks import Tried
from trust.formats import FORMATS
from trust.fuzz import Counted, shares
from trust.interrupts import Interrupted
from trust.kills import Killed
from trust.prepared import Prepared
from trust.writers import Writer

from flain_core import DataError

ROOT = Path(__file__).parents[2]


def outcome(read, most_memory=2**27):
    tried = Children(read, most_memory)
    try:
        return tried.outcome({"m.bin": b"content"})
    finally:
        tried.close()


def refuses(path):
    raise DataError("no")


def raises(path):
    raise KeyError("x")


def crashes(path):
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(path):
    time.sleep(60)


def grows(path):
    np.ones(2**25)


def starves(path):
    try:
        np.zeros(2**60, np.uint8)
    except MemoryError as error:
        raise DataError("too large") from error


def writes(path):
    (path.parent.parent / "mine").write_bytes(b"")


def leaves(path):
    (path.parent / "mine").write_bytes(b"")


def looks_outside(path):
    (path.parent.parent / "outside").read_bytes()


def starts(path):
    subprocess.run(["/bin/true"], check=False)


def unpickles(path):
    import pickle

    pickle.loads(b"cos\nsystem\n.")


def calls(path):
    import socket

    socket.socket(socket.AF_UNIX).connect_ex("/nowhere")


HARM = {
    "read": lambda path: path.read_bytes() == b"content" or 1 / 0,
    "refused": refuses,
    "other": raises,
    "crashed": crashes,
    "hung": hangs,
    "memory": grows,
    "memory, refused": starves,
    "side effect": writes,
    "side effect, inside": leaves,
    "side effect, reads": looks_outside,
    "side effect, starts": starts,
    "side effect, unpickles": unpickles,
    "side effect, calls": calls,
}


@pytest.mark.parametrize("kind", HARM)
def test_the_harness_sees(kind, monkeypatch):
    if kind == "hung":
        monkeypatch.setattr(children, "_SECONDS", 0.5)
        monkeypatch.setattr(children, "_MORE_SECONDS", 1.0)
    assert outcome(HARM[kind]).kind == kind.partition(",")[0]


def test_what_only_looked_as_if_it_hung_is_read_again(monkeypatch, tmp_path):
    monkeypatch.setattr(children, "_SECONDS", 0.5)

    def slow_at_first(path):
        if not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            time.sleep(3)

    # It leaves something outside, which is harm too; but it is not hung.
    assert outcome(slow_at_first).kind in ("read", "side effect")


def test_a_child_that_died_is_replaced():
    def at_times(path):
        if path.name == "bad":
            crashes(path)

    tried = Children(at_times, 2**27)
    kinds = [tried.outcome({name: b""}).kind for name in ("good", "bad", "good")]
    tried.close()
    assert kinds == ["read", "crashed", "read"]


def test_a_mutant_depends_on_its_number_alone():
    prepared = FORMATS[".npz, models"]()
    one, other = (prepared.mutate(Random("x:1:7")) for _ in range(2))
    assert one == other


def test_a_mutant_that_fails_is_kept_and_read_again(tmp_path, monkeypatch):
    bad = Prepared(lambda rng: {"m.npz": rng.randbytes(9), "m.data": b"x"}, raises)
    monkeypatch.setattr(fuzz, "FORMATS", {"bad": lambda: bad})
    *_, counted = fuzz.fuzzed("bad", 3, 1, failed=tmp_path)
    assert counted.counts == {"other": 3}
    assert not counted.harmless
    folder, seen = counted.failed[2]
    assert fuzz.replayed(folder) == seen
    assert (folder / "files" / "m.data").read_bytes() == b"x"
    assert seen.words.startswith("KeyError: 'x'")


def test_shares_add_up():
    divided = shares(1001, list(FORMATS))
    assert sum(divided.values()) == 1001
    assert set(divided) == set(FORMATS)


def killed_writer(write, monkeypatch):
    def number(path):
        told = path.read_text()
        return float(told) if re.fullmatch(r"\d\.0", told) else None

    monkeypatch.setattr(kills, "WRITERS", {"w": lambda: Writer("w.txt", write, number)})
    return kills.killed("w")


def test_half_a_file_is_seen(monkeypatch):
    def in_place(path, number, overwrite):
        with path.open("w") as file:
            os.fsync(file)
            file.write(str(number))

    assert any(
        "neither old nor new" in each for each in killed_writer(in_place, monkeypatch).faults
    )


def test_a_stray_file_is_seen(monkeypatch):
    def beside(path, number, overwrite):
        scratch = path.with_name(f"scratch {os.getpid()}")
        scratch.write_text(str(number))
        with scratch.open("rb") as file:
            os.fsync(file)
        scratch.replace(path)

    done = killed_writer(beside, monkeypatch)
    assert any("left after the next run" in each for each in done.faults)
    assert not any("neither" in each for each in done.faults)


def test_faults_and_tables():
    counted = Counted("f")
    counted.counts.update({"read": 3, "crashed": 1})
    killed = Killed("k", kills=9, old=5, new=3, faults=["half"])
    tried = [Tried("a full disk", "f"), Tried("a full disk", "g", "no error")]
    pressed = Interrupted(presses=4, ended=3, faults=["at 3%: x"])
    found = results.gathered([counted], [killed], tried, pressed, seed=1)
    assert results.faults(found) == [
        "f: 1 crashed",
        "k, killed: half",
        "a full disk, g: no error",
        "Ctrl-C at 3%: x",
    ]
    mutants, kill_rows, rest = results.tables(found).values()
    assert mutants[1] == ["f", "4", "3", "0", "0", "1", "0", "0", "0"]
    assert kill_rows[1] == ["k", "9", "5", "3", "1"]
    assert rest[1:] == [["a full disk", "2", "1"], ["Ctrl-C", "4", "1"]]
    assert results.in_markdown(rest).startswith(
        "| what | times | not as promised |\n| --- | ---: |"
    )


@pytest.mark.slow
def test_three_hundred_mutants_of_all_formats():
    needed = ("torch", "safetensors", "onnx", "onnxruntime", "keras", "h5py", "flwr")
    for name in needed:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.trust", "fuzz", "--mutants", "300", "--seed", "77"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths())))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    assert all(f"{name}: {{" in ran.stdout for name in FORMATS)


def paths():
    return ROOT / "backends", ROOT / "adapters"


def test_an_outcome_is_harmless_only_if_it_is_known_to_be():
    assert {"read", "refused"} == children.HARMLESS
    assert Outcome("hung").kind not in children.HARMLESS
