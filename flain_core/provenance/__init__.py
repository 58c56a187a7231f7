"""Says of a purified model that it was purified, in its file, in a card and in this process."""
