"""Doctests of an adapter need its stack."""

from importlib.util import find_spec

_STACKS = {"flain_flower": "flwr", "flain_nvflare": "nvflare", "flain_ray": "ray"}

collect_ignore = [adapter for adapter, stack in _STACKS.items() if find_spec(stack) is None]
