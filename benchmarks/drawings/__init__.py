"""Draws the pictures of the README and of the site; nothing in them is drawn by hand."""
