"""Details that a report shows besides the outcome, and the way to the package that draws it."""
