"""Shared by all backends: finding a layer, fitting what it is given, products neuron by neuron."""

from __future__ import annotations

from .finding import chosen_output, find_layer, refusals, usable
from .inputs import DenseInput, check_in_range, read_only, split_samples, stacked_calls
from .messages import AS_TRAINED, CHANGED_MEANWHILE, RECURRENT, kind_of, shortened
from .switches import switched, switches_of
from .weights import (
    check_floating,
    exchange_channels,
    fitting_bias,
    fitting_weight,
    no_bias,
    not_finite,
    whole_numbers,
)

__all__ = [
    "AS_TRAINED",
    "CHANGED_MEANWHILE",
    "RECURRENT",
    "DenseInput",
    "check_floating",
    "check_in_range",
    "chosen_output",
    "exchange_channels",
    "find_layer",
    "fitting_bias",
    "fitting_weight",
    "kind_of",
    "no_bias",
    "not_finite",
    "read_only",
    "refusals",
    "shortened",
    "split_samples",
    "stacked_calls",
    "switched",
    "switches_of",
    "usable",
    "whole_numbers",
]
