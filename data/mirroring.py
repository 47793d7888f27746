"""Whether a mirrored picture may belong to another class, guessed from the classes' names."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SIDES = {"left", "right", "links", "rechts", "gauche", "droite", "izquierda", "derecha"}
_NUMBERS = {
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("digit", "letter", "character", "number"),
}


def mirror_changes_class(class_names: Sequence[str], *, version: int) -> bool:
    """True for what looks like signs, or for sides: classes called by a letter, a digit or a
    number, with or without a word for it, and classes that tell left from right."""
    if all(len(name) == 1 and name.isalnum() for name in class_names):
        return True
    if version == 1:
        return False
    words = [set(re.findall(r"[^\W\d_]+|\d+", name.casefold())) for name in class_names]
    return any(found & _SIDES for found in words) or all(
        found and all(word.isdecimal() or len(word) == 1 or word in _NUMBERS for word in found)
        for found in words
    )


def mirroring_words(changes_class: bool) -> str:
    """What is taken to hold, and how to say otherwise."""
    if changes_class:
        return (
            "mirroring: a mirrored picture may belong to another class, so none is flipped, "
            "whatever the augmentation is called; --mirror safe allows it"
        )
    return (
        "mirroring: a mirrored picture is taken to belong to the same class, so augmentation may "
        "flip it; --mirror unsafe forbids it"
    )
