"""The auxiliary samples spread over a Ray cluster."""

from ._shards import Shards

__all__ = ["Shards"]
