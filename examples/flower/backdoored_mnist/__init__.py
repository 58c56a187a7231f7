"""MNIST, learned by clients, some of which teach the model a backdoor."""
