"""Models whose weights are plain arrays, and the forms in which stacks hand these over."""
