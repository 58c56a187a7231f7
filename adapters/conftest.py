"""Doctests of an adapter need its stack."""

from importlib.util import find_spec

_STACKS = {
    "flain_flower": ("flwr",),
    "flain_nvflare": ("nvflare",),
    "flain_ray": ("ray",),
    "flain_report": ("jinja2", "matplotlib"),
}

collect_ignore = [
    adapter
    for adapter, needed in _STACKS.items()
    if any(find_spec(package) is None for package in needed)
]
