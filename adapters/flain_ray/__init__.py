"""The auxiliary samples spread over a Ray cluster."""

from flain_core.extras import needs

with needs("flain_ray", "ray", "ray"):
    from ._shards import Shards
    from ._shipping import runtime_env

__all__ = ["Shards", "runtime_env"]
