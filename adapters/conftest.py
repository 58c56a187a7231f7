"""Doctests of an adapter need its stack."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("flwr") else ["flain_flower"]
