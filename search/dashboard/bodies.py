"""What a changing request may carry: JSON that Optuna can store and everyone can read again.

What is passed on is what was checked, encoded anew.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import BadRequest

from search.spec.space import OVERRIDES
from search.store import views as view

LARGEST_BODY = 2**21  # bytes: a note of the longest, in any script
LONGEST_NOTE = 200_000  # characters
LONGEST_ATTRIBUTE = 2000
LARGEST_NUMBER = 2**53  # beyond, a browser shows another one
OURS = frozenset(  # attributes of a trial that tell how it was made and what was measured
    {OVERRIDES, view.PARAMETERS, view.ACCURACY, view.ERROR, view.SECONDS, view.BEST_EPOCH}
    | {view.EPOCHS, view.REASON}
)


def _storable(text: str) -> str:
    if "\0" in text:  # lone surrogates are no JSON to pydantic
        raise ValueError("must hold no NUL")
    return text


def _value(value: object) -> object:
    if isinstance(value, str) and len(_storable(value)) <= LONGEST_ATTRIBUTE:
        return value
    if isinstance(value, int | float) and abs(value) <= LARGEST_NUMBER:
        return value
    raise ValueError(
        f"must be a number, true, false, or text of at most {LONGEST_ATTRIBUTE} characters"
    )


def _key(key: str) -> str:
    if not 0 < len(key) <= 200 or not key.isprintable():
        raise ValueError("an attribute's name must have 1 to 200 printable characters")
    if key in OURS:
        raise ValueError("written by the study; name another attribute")
    return key


class Body(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Deletion(Body):
    remove_associated_artifacts: bool = True


class Note(Body):
    version: Annotated[int, Field(gt=0, lt=2**31)]
    body: Annotated[str, Field(max_length=LONGEST_NOTE), AfterValidator(_storable)]


class Attributes(Body):
    """Attributes of a trial, other than those that tell what was measured."""

    user_attrs: Annotated[
        dict[Annotated[str, AfterValidator(_key)], Annotated[Any, AfterValidator(_value)]],
        Field(min_length=1, max_length=100),
    ]


def checked(kind: type[Body], raw: bytes) -> bytes:
    """The body of a change, encoded anew. An empty one is an empty object.

    Raises:
        BadRequest: it is not JSON in UTF-8, or not of that kind.
    """
    try:
        found = kind.model_validate_json(raw or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:100] or "The body"
        what = first["msg"].removeprefix("Value error, ")[:400]
        raise BadRequest(f"{place}: {what}.") from None
    return found.model_dump_json().encode()
