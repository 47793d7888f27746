"""Hyperparameter search for image classifiers. Every module directly in here is a command."""
