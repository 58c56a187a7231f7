"""The ``flain`` command."""
