"""``python -m flain_cli``."""

from .entry import main

main()
