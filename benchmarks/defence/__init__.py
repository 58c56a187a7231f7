"""Backdoor attacks on federated models, defences after training, and what each one is worth."""
