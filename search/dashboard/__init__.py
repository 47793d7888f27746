"""optuna-dashboard behind a guard, and what we add to it."""


class ServingError(ValueError):
    """The dashboard cannot be started so: one line with the value and the remedy."""
