"""How many CPU cores this process may use: in a container or under taskset fewer than there are."""


def available_cores() -> int:
    """By the process's affinity and its control group's quota, of which 1.5 cores count as 2."""
    import joblib  # comes with scikit-learn; a tenth of a second to import

    cores: int = joblib.cpu_count()
    return cores
