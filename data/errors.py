"""The error of this package. Loads nothing, so commands can name it before they load torch."""


class DataError(ValueError):
    """What is wrong with a data set, in one line that names the value and the remedy."""
