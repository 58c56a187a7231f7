"""Finding the backend that a model or a file belongs to, and opening it."""
