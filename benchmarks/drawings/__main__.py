"""``python -m benchmarks.drawings``: draws every picture into ``docs/figures``."""

from . import cut, directions, example, federation, search
from .canvas import FIGURES

for drawing in (federation, cut, directions, search, example):
    drawing.draw(FIGURES)
