"""Threads; small models and samples in files, and the command to try on them."""

import pytest


@pytest.fixture
def one_torch_thread():
    """For networks so small that threads only wait for each other; sums then never differ."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A small backdoored model in files, in the current folder."""
    import cli_files

    monkeypatch.chdir(tmp_path)
    return cli_files.write_files(tmp_path)


@pytest.fixture
def flain(capsys):
    """The command, run in this process."""
    import cli_files

    return lambda *words: cli_files.command(capsys, *words)


@pytest.fixture
def disk(tmp_path):
    """The disk of an NVIDIA FLARE server: samples in files, and room for what it writes."""
    import flare_workflow

    return flare_workflow.write_files(tmp_path)


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    """Where a run's models go unless told otherwise."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def flower_alone(monkeypatch, one_torch_thread, in_tmp_path):
    """Flower's server and clients in this process, which is then neither of them by name."""
    from flower_federation import TaskIdentity

    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, None)
