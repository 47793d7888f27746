"""What people can mend. Loads nothing, so that commands can name it before they load torch."""


class BundleError(ValueError):
    """A folder that holds no network that can be used; names the file and the remedy."""


class DeviceError(ValueError):
    """A device that is not there; names it and the ones that are."""


class RepeatError(Exception):
    """A final training that cannot be ended; says why and what to do."""
