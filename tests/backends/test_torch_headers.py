"""Whatever the header of a ``.safetensors`` file says: weights that fit, or one error."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flain_core import FlainError

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import flain_torch  # noqa: E402

SIZES = st.sampled_from([-1, 0, 1, 3, 6, 18, 2**31, 2**63, 2**64, 10**30, 1.5, None, "3", True])
OFFSETS = st.sampled_from([0, 12, 72, 84, 83, 85, -12, 2**40, 2**64])
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "BOOL", "F8_E5M2", "X", 1]),
        "shape": st.lists(SIZES, max_size=4) | SIZES,
        "data_offsets": st.lists(OFFSETS, max_size=3) | OFFSETS,
        "more": st.none(),
    },
)
TRUE = {
    "weight": {"dtype": "F32", "shape": [3, 6], "data_offsets": [0, 72]},
    "bias": {"dtype": "F32", "shape": [3], "data_offsets": [72, 84]},
}
METADATA = st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(), max_size=3)
HEADERS = st.one_of(
    st.dictionaries(st.sampled_from(["weight", "bias", "", "\0"]), TENSORS, max_size=3).map(
        lambda changes: TRUE | changes
    ),
    METADATA.map(lambda metadata: TRUE | {"__metadata__": metadata}),
    st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=20),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HEADERS, st.sampled_from([0, 0, 0, 1, -1, 2**63]), st.sampled_from([84, 84, 83, 0, 100]))
def test_any_header(tmp_path, header, off, held):
    written = json.dumps(header).encode()
    path = tmp_path / "m.safetensors"
    length = max(len(written) + off, 0) % 2**64
    path.write_bytes(length.to_bytes(8, "little") + written + bytes(held))
    try:
        loaded = flain_torch.load(path, lambda: torch.nn.Linear(6, 3))
    except FlainError:
        return
    assert loaded.weight.shape == (3, 6)
    assert loaded.bias.shape == (3,)
