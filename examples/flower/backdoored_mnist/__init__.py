"""MNIST, learned by clients of which some teach the model a backdoor."""
