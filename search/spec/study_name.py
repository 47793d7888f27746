"""What a study may be called, and what it is called by default."""

from __future__ import annotations

import re

from models.checks import shown
from search.spec.domains import SpecError

MAX_NAME = 100
RESERVED_NAME = "artifacts"  # the folder of the dashboard's pictures, beside the studies' own


def check_study_name(name: str) -> str:
    """The name, if it also works as a folder's name, in a URL, on a page and in a terminal.

    Raises SpecError if it does not, or is the name of the folder beside the studies' own.
    """
    fits = isinstance(name, str) and re.fullmatch(rf"\w[\w.-]{{0,{MAX_NAME - 1}}}", name, re.ASCII)
    if not fits or name.lower() == RESERVED_NAME:
        raise SpecError(
            "study",
            f"study name {shown(name)} is not usable; give 1 to {MAX_NAME} letters, digits, '.', "
            f"'_' or '-', not starting with '.' or '-', and not {RESERVED_NAME!r}",
        )
    return name


def study_name_for(dataset: str) -> str:
    """The default name of a study: its data set's, or its folder's."""
    last = re.split(r"[/\\]", dataset.removeprefix("folder:").rstrip("/\\"))[-1]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")
    return name[:MAX_NAME] if name and name.lower() != RESERVED_NAME else "images"
