"""What a changing request may carry: JSON that Optuna can store and everyone can read again.

Each check takes the decoded object and returns what is passed on, which is encoded anew: the
dashboard sees exactly what was checked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeGuard

from search.dashboard.refusal import BAD_REQUEST, RefusedError
from search.spec.config import check_study_name
from search.spec.domains import SpecError
from search.spec.space import OVERRIDES
from search.store.views import ACCURACY, BEST_EPOCH, EPOCHS, ERROR, PARAMETERS, REASON, SECONDS

LARGEST_BODY = 16 * 2**20  # bytes: an artifact of 12 MB, since base64 takes four for three
LONGEST_NOTE = 200_000  # characters
LONGEST_ATTRIBUTE = 2000
LONGEST_KEY = 200
LONGEST_FILE_NAME = 150
MOST_ATTRIBUTES = 100
_NOT_IN_FILE_NAMES = frozenset('/\\:*?"<>|&=%;`$')  # of some system, shell or page
LARGEST_INT = 2**53  # beyond, a browser shows another number
OURS = frozenset(  # attributes of a trial that tell how it was made and what was measured
    {OVERRIDES, PARAMETERS, ACCURACY, ERROR, SECONDS, BEST_EPOCH, EPOCHS, REASON}
)

Body = dict[str, Any]
Check = Callable[[Body], Body]


def decode(raw: bytes) -> Body:
    """The JSON object in a body; an empty body is an empty object.

    Raises:
        RefusedError: it is none, or holds a number that is not finite.
    """
    if not raw:
        return {}
    try:
        found = json.loads(raw.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
    except RefusedError:
        raise
    except (ValueError, RecursionError):  # also digits without end
        raise RefusedError(BAD_REQUEST, "The body is not JSON in UTF-8.") from None
    if not isinstance(found, dict):
        raise RefusedError(BAD_REQUEST, "The body must be a JSON object.")
    return found


def nothing(_body: Body) -> Body:
    """For routes that take no body."""
    return {}


def deletion(body: Body) -> Body:
    remove = body.get("remove_associated_artifacts", True)
    if not isinstance(remove, bool):
        _refuse("remove_associated_artifacts must be true or false.")
    return {"remove_associated_artifacts": remove}


def new_study(body: Body) -> Body:
    """One that `python -m search.study --study NAME` can take up: all of them minimise a loss."""
    name = body.get("study_name")
    try:
        check_study_name(name[:LONGEST_KEY] if isinstance(name, str) else "")
    except SpecError as error:
        _refuse(f"{error}.")
    if body.get("directions") != ["minimize"]:
        _refuse("directions must be ['minimize']: studies here minimise the validation loss.")
    return {"study_name": name, "directions": ["minimize"]}


def note(body: Body) -> Body:
    version, text = body.get("version"), body.get("body")
    if not _is_int(version) or not 0 < version < 2**31:
        _refuse("version must be a whole number from 1 up.")
    if not _is_text(text, LONGEST_NOTE):
        _refuse(f"body must be text of at most {LONGEST_NOTE} characters.")
    return {"version": version, "body": text}


def tell(body: Body) -> Body:
    """A state, and with `Complete` the value: one, finite."""
    state, values = body.get("state"), body.get("values")
    if not isinstance(state, str) or state.lower() not in ("complete", "fail"):
        _refuse("state must be Complete or Fail.")
    if state.lower() == "fail":
        return {"state": state}
    if not isinstance(values, list) or len(values) != 1 or not _is_number(values[0]):
        _refuse("values must be a list of one finite number.")
    return {"state": state, "values": values}


def attributes(body: Body) -> Body:
    """Attributes of a trial, other than those that tell what was measured."""
    found = body.get("user_attrs")
    if not isinstance(found, dict) or not 0 < len(found) <= MOST_ATTRIBUTES:
        _refuse(f"user_attrs must be an object of 1 to {MOST_ATTRIBUTES} attributes.")
    for key, value in found.items():
        if not 0 < len(key) <= LONGEST_KEY or not key.isprintable():
            _refuse(f"An attribute's name must have 1 to {LONGEST_KEY} printable characters.")
        if key in OURS:
            _refuse(f"{key!r} is written by the study; name another attribute.")
        is_fine = isinstance(value, bool) or _is_number(value)
        if not is_fine and not _is_text(value, LONGEST_ATTRIBUTE):
            _refuse(
                f"{key!r} must be a finite number, true, false, or text of at most "
                f"{LONGEST_ATTRIBUTE} characters."
            )
    return {"user_attrs": found}


def artifact(body: Body) -> Body:
    """A file as a data URI. Its name is only shown: it is stored under a random one."""
    name, uri = body.get("filename"), body.get("file")
    if (
        not _is_text(name, LONGEST_FILE_NAME)
        or not re.fullmatch(r"[^.\s](?:.*[^.\s])?", name)
        or not name.isprintable()
        or set(name) & _NOT_IN_FILE_NAMES
    ):
        _refuse(
            f"filename must have 1 to {LONGEST_FILE_NAME} printable characters, no dot or space "
            f"at its ends, and none of {' '.join(sorted(_NOT_IN_FILE_NAMES))}"
        )
    found = re.fullmatch(
        r"data:[^,]*;base64,([A-Za-z0-9+/]*={0,2})", uri if isinstance(uri, str) else ""
    )
    if found is None or len(found[1]) % 4:
        _refuse("file must be a data URI in base64.")
    return {"filename": name, "file": f"data:application/octet-stream;base64,{found[1]}"}


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    if _is_int(value):
        return abs(value) <= LARGEST_INT
    return isinstance(value, float) and math.isfinite(value)


def _is_text(value: object, longest: int) -> TypeGuard[str]:
    """Text that also UTF-8 can hold: JSON can spell half a surrogate pair."""
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        return False
    return not any("\ud800" <= sign <= "\udfff" for sign in value)


def _no_number(name: str) -> NoReturn:
    _refuse(f"{name} is no number that a study can hold.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse("A number is too large.")
    return number


def _refuse(reason: str) -> NoReturn:
    raise RefusedError(BAD_REQUEST, reason)
