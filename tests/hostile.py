"""Values, trees and bytes that somebody may put into a file or a database; made by hypothesis.

And a bound on memory: a small file that unpacks into a large one ends as a MemoryError.
"""

import copy
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

LONGEST_LINE = 1000


@contextmanager
def refused_in_a_line(*kinds: type[Exception]) -> Iterator[None]:
    """What is inside ends well, or with an error of these, on one line that is not too long."""
    try:
        yield
    except kinds as error:
        fits = 0 < len(str(error)) <= LONGEST_LINE and len(str(error).splitlines()) == 1
        if not fits:
            raise AssertionError(f"{len(str(error))} characters: {error}") from error


@contextmanager
def bounded_memory(bytes_more: int) -> Iterator[None]:
    """So much address space beyond what is mapped now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + bytes_more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 3, 200, 201, 10**6, 10**9, 2**31, 2**53 + 1, 2**63, 10**400, 10**4000, -(10**30),
     0.0, -0.0, 0.5, 1.5, 1e-320, 1e9, 1e308, math.inf, -math.inf, math.nan]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["", "x", "a\0b", "a\nb", "x" * 5000, "\ud800", "../x", "{0}", "cnn", "auto"]
)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=4),
    st.dictionaries(
        st.sampled_from(["low", "high", "step", "log", "family", "x"]), PLAIN, max_size=4
    ),
    st.sampled_from([[1] * 300, list(range(1, 1500)), [[1]] * 3, [[[[]]]]]),
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from places(tree[key], (*path, key))


@st.composite
def damaged(draw: Any, tree: Any) -> Any:
    """The tree with one to three of its values replaced or, in a table, left out."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from([path for path in places(tree) if path]))
        owner = tree
        for key in path:
            owner = owner[key]
        if isinstance(owner, dict) and draw(st.integers(0, 4)) == 0:
            del owner[last]
        else:
            owner[last] = copy.deepcopy(draw(VALUES))
        if not tree:
            break
    return tree


@st.composite
def edited(draw: Any, content: bytes) -> bytes:
    """The bytes with some cut out, put in or changed."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(found)))
        stop = min(len(found), start + draw(st.sampled_from([0, 1, 4, 8, 1000])))
        found[start:stop] = draw(
            st.one_of(
                st.binary(max_size=9),
                st.sampled_from(
                    [b"\0" * 9, b"\xff" * 8, b"[" * 400, b"9" * 5000, b"=", b"'", b"\n"]
                ),
            )
        )
    return bytes(found)
