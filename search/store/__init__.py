"""The database: Optuna's tables and ours beside them, leases on trials, and read-only views.

These are its errors that people read. Loads nothing, so that commands can name them before they
load anything slow.
"""


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
