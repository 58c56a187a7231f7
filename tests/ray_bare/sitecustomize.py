"""Makes a Python that has no flain of its own, as the workers of somebody's cluster have none."""

import sys
from pathlib import Path

NAMES = ("flain_core", "flain_ray", "flain_numpy")
SENT = "runtime_resources"  # where Ray unpacks what it was sent
sys.path[:] = [
    path
    for path in sys.path
    if SENT in path or not any((Path(path) / name).is_dir() for name in NAMES)
]
