"""Hyperparameter search for image classifiers. Every module directly in here is a command."""

import os

# OpenMP threads that spin while they wait starve each other as soon as anything else runs on the
# machine: with a load of 5 on 2 cores, a small CNN trained 10 to 40 times as fast once they sleep
# instead. libgomp reads this when torch is loaded, so it is set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
