"""Retrain the best trial on the full training set and score it on the test set, once."""

from __future__ import annotations
