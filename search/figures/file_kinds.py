"""What figures can be written as. Loads none of what draws them: a command names them in --help."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["png", "svg"]
KINDS: tuple[Kind, ...] = get_args(Kind)
