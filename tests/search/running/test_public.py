"""What `from search import ...` gives, and what it costs."""

import subprocess
import sys

import search

LOOK = """
import sys, search
assert "torch" not in sys.modules
import os
assert os.environ["OMP_WAIT_POLICY"]
from search import predict, study
assert callable(predict) and hasattr(study, "main")
for name in search.__all__:
    function = getattr(search, name)
    for word in ("Args:", "Example:", ">>> "):
        assert word in function.__doc__, (name, word)
    assert "Returns:" in function.__doc__ or "Raises:" in function.__doc__, name
assert not hasattr(search, "studio")
"""


def test_functions_come_when_they_are_asked_for() -> None:
    subprocess.run([sys.executable, "-c", LOOK], check=True, timeout=120)


def test_each_public_name_has_a_home() -> None:
    assert sorted(search.__all__) == sorted(search._HOMES)
    assert set(search.__all__) <= set(dir(search))
