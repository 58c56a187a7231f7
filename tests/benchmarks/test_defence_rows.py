"""The matrix of the defence harness is read as it is written."""

from collections import Counter

import pytest

pytest.importorskip("torch")
pytest.importorskip("flwr")
pytest.importorskip("tomllib")

from defence import attackers, auxiliary, data, federation, networks, rows, triggers

TEXT = """
[bases.b]
data = "digits"
network = "digits"
[[profiles.p.rows]]
base = "b"
name = "{base}-{partition}-s{seed}"
partition = ["iid", "dirichlet"]
seed = [1, 2]
[[profiles.p.cells]]
defences = ["none", "flain"]
samples = [10, 30]
where = { partition = ["iid"] }
[[profiles.p.cells]]
defences = ["flain"]
samples = [30]
rows = ["*-s2"]
deep = true
"""


def read(tmp_path, text):
    (tmp_path / "m.toml").write_text(text)
    return rows.read("p", tmp_path / "m.toml")


def test_a_group_is_every_combination_of_its_lists(tmp_path):
    profile = read(tmp_path, TEXT)
    assert list(profile.rows) == ["b-iid-s1", "b-iid-s2", "b-dirichlet-s1", "b-dirichlet-s2"]
    assert profile.rows["b-dirichlet-s2"].seed == 2
    cells = Counter(cell.row for cell in profile.cells)
    assert cells == {"b-iid-s1": 4, "b-iid-s2": 4, "b-dirichlet-s2": 1}
    deep = [cell.name for cell in profile.cells if cell.deep]
    assert deep == ["b-iid-s2/flain/clean-30-0", "b-dirichlet-s2/flain/clean-30-0"]


def test_a_profile_may_use_rows_of_another():
    whole, rivals = rows.read("default"), rows.read("rivals")
    assert 0 < len(rivals.rows) < len(whole.rows)
    for name, row in rivals.rows.items():
        assert row == whole.rows[name]
    assert {cell.row for cell in rivals.cells} == set(rivals.rows)


def test_a_part_of_a_profile_is_picked_by_name(tmp_path):
    part = read(tmp_path, TEXT).only("b-iid-s1/flain")
    assert list(part.rows) == ["b-iid-s1"]
    assert {cell.defence for cell in part.cells} == {"flain"}
    assert len(read(tmp_path, TEXT).only("dirichlet").rows) == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed =", "sead =", "fields of a row in group .*sead"),
        ("{base}-{partition}-s{seed}", "same", "two rows are called same"),
        ("seed = [1, 2]", "seed = 1\nmcr = 1.5", "mcr in"),
        ("seed = [1, 2]", "seed = 1\nsources = 'two'", "sources"),
        ("seed = [1, 2]", "seed = 1\nsampled = 21", "1 to 20 sampled"),
    ],
)
def test_a_wrong_matrix_is_refused(tmp_path, old, new, says):
    with pytest.raises(ValueError, match=says):
        read(tmp_path, TEXT.replace(old, new))


@pytest.mark.parametrize("profile", ["default", "rivals", "small", "full"])
def test_every_name_in_the_matrix_exists(profile):
    read = rows.read(profile)
    for row in read.rows.values():
        assert row.data in data.SPLITS
        assert row.network in networks.NETWORKS
        assert row.trigger in triggers.TRIGGERS
        assert row.technique in attackers.TECHNIQUES
        assert row.strategy in federation.STRATEGIES
        assert row.clean + row.attacked > 0
        assert (row.malicious == 0) == (row.attacked == 0)
    for cell in read.cells:
        assert cell.kind in {"clean", "poisoned", *auxiliary.SHIFTS}
        assert cell.samples <= data.SPLITS[read.rows[cell.row].data].auxiliary


def test_no_report_uses_the_seed_that_settings_were_chosen_on():
    assert min(row.seed for row in rows.read("default").rows.values()) > 20


def test_a_key_changes_with_what_is_trained_and_not_with_the_device():
    row = rows.Row("r", "digits", "digits")
    other = rows.Row("r", "digits", "digits", mcr=0.3)
    assert row.key != other.key
    assert row.start == other.start
    assert rows.Row("r", "digits", "digits", device="cuda").key == row.key


def test_a_target_of_its_own_changes_the_key_and_no_other_row_lost_its_model():
    row = rows.Row("r", "digits", "digits")
    assert row.key == "01bfefb2"
    other = rows.Row("r", "digits", "digits", target=8)
    assert other.key != row.key
    assert other.start == row.start


def test_a_profile_moves_to_another_device_as_a_whole():
    read = rows.read("small")
    moved = read.on("cuda")
    assert {row.device for row in moved.rows.values()} == {"cuda"}
    assert [row.key for row in moved.rows.values()] == [row.key for row in read.rows.values()]
    assert {row.device for row in read.rows.values()} == {"cpu"}
