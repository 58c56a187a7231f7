"""Files that are no tests, and are not to be imported where nobody asked for them."""

collect_ignore = ["flower_federation.py", "flower_keras.py", "no_network"]
