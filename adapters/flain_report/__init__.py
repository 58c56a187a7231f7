"""Reports of purifications for people: pages of HTML, and plots for papers.

``flain.Purification`` imports it when a report or a plot is asked for. It needs jinja2 and
matplotlib: ``pip install "flain[report]"``.
"""

from .page import render, render_fragment

__all__ = ["render", "render_fragment"]
