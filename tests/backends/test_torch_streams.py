"""Loaders of PyTorch that give more than is kept in memory."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import flain_core as flain
from flain_core.in_memory.cut_batch import bytes_kept
from flain_torch import open_network

X = torch.rand(300, 8, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")


def network(seed):
    torch.manual_seed(seed)
    # Wider inputs than the layer's, so that they are too many and the layer's are not.
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (2, 4)),
        torch.nn.Upsample(scale_factor=2),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 12),
        torch.nn.ReLU(),
        torch.nn.Linear(12, 5),
    ).eval()


INITIAL, FINAL = network(0), network(1)
Y = FINAL(X).argmax(1)


class Tar(IterableDataset):
    """Reads samples one by one from a tar file, as WebDataset does."""

    def __init__(self, path):
        self.path = path

    def __iter__(self):
        with tarfile.open(self.path) as archive:
            for member in archive:
                with np.load(io.BytesIO(archive.extractfile(member).read())) as sample:
                    yield torch.from_numpy(sample["x"]), int(sample["y"])


def written(path):
    with tarfile.open(path, "w") as archive:
        for index in range(len(X)):
            packed = io.BytesIO()
            np.savez(packed, x=X[index].numpy(), y=Y[index].numpy())
            member = tarfile.TarInfo(f"{index}.npz")
            member.size = packed.tell()
            archive.addfile(member, io.BytesIO(packed.getvalue()))
    return path


class Broken(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        if index == 100:
            raise OSError("the disk is gone")
        return X[index], Y[index]


def purified(data, memory_limit):
    return flain.purify(FINAL, initial=INITIAL, data=data, memory_limit=memory_limit)


def expect_streamed_like_arrays(data):
    for memory_limit in (7 * X.nbytes, 0):
        result, expected = (purified(each, memory_limit) for each in (data, (X, Y)))
        for one, other in zip(result.model.parameters(), expected.model.parameters(), strict=True):
            assert torch.equal(one, other)
        assert result.layers[0].steps == expected.layers[0].steps
        assert result.promise == expected.promise


@pytest.mark.slow
def test_loaders_give_the_answer_of_arrays(tmp_path):
    dataset = TensorDataset(X, Y)
    expect_streamed_like_arrays(dataset)
    expect_streamed_like_arrays(DataLoader(dataset, batch_size=40))
    tar = Tar(written(tmp_path / "samples.tar"))
    expect_streamed_like_arrays(tar)
    expect_streamed_like_arrays(DataLoader(tar, batch_size=40))


def test_workers_that_stay_give_the_answer_of_arrays():
    loader = DataLoader(TensorDataset(X, Y), batch_size=40, num_workers=1, persistent_workers=True)
    result, expected = purified(loader, 0), purified((X, Y), 0)
    assert torch.equal(result.model[3].weight, expected.model[3].weight)


def test_a_shuffled_loader_is_told_what_to_do():
    loader = DataLoader(TensorDataset(X, Y), batch_size=40, shuffle=True)
    with pytest.raises(flain.DataError, match=r"the DataLoader was first read.*shuffle=False"):
        purified(loader, 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_failed_in_a_worker_is_said_in_a_line(workers):
    loader = DataLoader(Broken(), batch_size=40, num_workers=workers)
    with pytest.raises(flain.DataError) as error:
        purified(loader, 0)
    assert str(error.value) == (
        "data: the DataLoader failed after 2 items, and no model was changed: OSError: the disk "
        "is gone"
    )


def test_a_table_on_disk_is_streamed_by_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"pixels": X.tolist(), "label": Y.tolist()})
    table.to_parquet(tmp_path / "samples.parquet")
    streamed = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "samples.parquet"),
        split="train",
        streaming=True,
        cache_dir=str(tmp_path),
    )
    for data in (streamed.with_format("torch"), streamed.with_format("numpy").batch(40)):
        result, expected = purified(data, 0), purified((X, Y), 0)
        assert torch.equal(result.model[3].weight, expected.model[3].weight)


class LooksAtValues(torch.nn.Module):
    """Its Python code looks at a value behind the layer, so that its tail runs the whole module."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 6)
        self.last = torch.nn.Linear(6, 5)

    def forward(self, x):
        hidden = self.first(x)
        return self.last(hidden) if hidden.sum().item() > 0 else self.last(-hidden)


class Skips(torch.nn.Module):
    """Adds the samples themselves behind the layer."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 8)

    def forward(self, x):
        return self.first(x) + torch.sin(x)


@pytest.mark.slow
def test_a_cut_counts_what_its_tail_reads_besides():
    x = X[:30].numpy()
    cut = open_network(FINAL).cut("3", x)
    assert cut.bytes_beside == 0
    at_layer = bytes_kept(cut)
    assert at_layer == 2 * 30 * 16 * 4 + 3 * 30 * 12 * 4
    for model in (LooksAtValues(), Skips()):
        cut = open_network(model.eval()).cut("first", x)
        assert cut.bytes_beside == x.nbytes
        assert cut.tail(cut.output).shape[0] == 30


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_holds_what_the_layer_sees_and_not_the_images():
    count, memory_limit = 500, 2**26
    ran = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            Path(__file__).with_name("streaming.py"),
            str(count),
            str(memory_limit),
        ],
        # What is freed goes back at once, so that the peak is what is held: what the allocator
        # keeps for later differed by 100 MB from one run to the next.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**17)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    facts = json.loads(ran.stdout)
    assert facts["method"] == "incremental"
    assert facts["flip"] == "directions"
    assert 4 <= facts["passes"] <= 4.5
    if not facts["peak was forgotten"]:
        pytest.skip("nothing lets the peak be counted from the purification on")
    # With memory for all inputs, 0.93 of them are held at the peak.
    assert facts["bytes at the peak"] < 0.3 * facts["bytes of inputs"]
