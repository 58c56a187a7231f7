"""The flip in directions of a layer's input space that clean data hardly uses."""
