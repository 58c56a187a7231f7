"""``python -m flain_cli``."""

from .app import main

main()
