"""Pieces of Markdown in GitHub's dialect, made of texts that are already escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()
) -> str:
    """The columns whose index is in `numbers` are aligned to the right."""
    rule = ["---:" if column in numbers else "---" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


def code_block(text: str, language: str = "") -> str:
    """Text as it stands, between fences that are longer than any run of their signs inside."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
