"""The database: Optuna's tables and ours beside them, leases on trials, and read-only views.

These are its errors that people read, and where it is by default. Loads nothing slow, so that
commands answer to --help at once.
"""

import os

DEFAULT_STORAGE = "sqlite:///studies.db"
STORAGE_VARIABLE = "SEARCH_STORAGE"
RUNS_VARIABLE = "SEARCH_RUNS_DIR"


def default_storage() -> str:
    """The database's URL, where a person gives none."""
    return os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE


class StorageError(ValueError):
    """The database cannot be used: one line with its URL (password masked) and the remedy."""


class StudyGoneError(StorageError):
    """The study was deleted, or what it needs was taken away; nothing was written after that."""


class DatabaseGoneError(StudyGoneError):
    """The file of the database was removed or replaced; nothing was written."""


class StudyBrokenError(ValueError):
    """Trial after trial fails: something is wrong that no other configuration will mend."""


class CheckpointUnwritableError(ValueError):
    """No room or no right to write a checkpoint; going on would put finished epochs at risk."""
