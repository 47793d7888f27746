"""Controlled comparisons: named arms around a base configuration, and hypotheses about them.

Trial n of a comparison trains arm n % A of its A arms, as repeat n // A. The seed of a trial
depends only on the repeat: arms share initial weights (if their networks are alike), order of the
data and draws of the augmentation, so that they can be compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from models import Parameter
from models.checks import shown
from models.family import choice, count, number
from search.spec.domains import ParameterValue, SpecError, check_fields, check_keys
from search.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES

Outcome = Literal["better", "worse", "no different"]
MAX_NAME, MAX_TEXT = 200, 5000
TEXT = Parameter(kinds=(str,), default="", description="text")

_SHARES = [f"{part}_{kind}" for part in ("train", "validation", "test")
           for kind in ("error", "accuracy")]  # fmt: skip
REPORTED: Mapping[str, Parameter] = {  # metrics that a published report may give
    **dict.fromkeys(("train_loss", "validation_loss", "test_loss"), number(0.0, "loss")),
    **dict.fromkeys(_SHARES, number(0.0, "share", most=1)),
    "parameters": count(0, "trained weights and biases", least=0),
}
PUBLISHED = ("limit", "epochs", "repeats")  # keys of [study] that flags may override
EXPECTED = (*OBJECTIVES, "validation_accuracy", "train_loss", "parameters")
EXPECT: Mapping[str, Parameter] = {  # keys of an entry of `expect`
    "arm": TEXT,
    "than": TEXT,
    "metric": choice(EXPECTED, DEFAULT_OBJECTIVE, "what is compared"),
    "is": choice(get_args(Outcome), "better", "what is expected"),
    "margin": number(0.0, "difference"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One of the compared configurations."""

    name: str  # unique in its study, one line
    # What it changes in the base configuration: parameters of [space].
    values: Mapping[str, ParameterValue] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)  # metrics of a published report

    def __post_init__(self) -> None:
        check_line("name", self.name, MAX_NAME)
        if not isinstance(self.reported, Mapping):
            got = shown(self.reported)
            raise SpecError("reported", f"reported must be a table of metrics, but got {got}")
        check_keys(self.reported, REPORTED, "key", " in reported")
        check_fields(self.reported, REPORTED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What a hypothesis says about two arms: `arm` is expected to be `outcome` (than) `than`."""

    arm: str
    than: str
    metric: str  # one of EXPECTED; lower is better for all but accuracy
    outcome: Outcome
    margin: float | None = None  # largest difference that counts as none; for "no different" only

    def __post_init__(self) -> None:
        check_fields(self.written, EXPECT)
        if (self.margin is None) == (self.outcome == "no different") or self.margin == 0:
            given = "no margin" if self.margin is None else f"margin = {self.margin}"
            raise SpecError(
                "margin",
                "'no different' needs a margin above 0, other outcomes none, but got "
                f"{self.outcome!r} with {given}",
            )
        if self.arm == self.than:
            raise SpecError("than", f"than must be another arm, but got {shown(self.arm)} twice")

    @property
    def written(self) -> dict[str, Any]:
        """In JSON form: `from_dict` reads it back."""
        table = {"arm": self.arm, "than": self.than, "metric": self.metric, "is": self.outcome}
        return table if self.margin is None else {**table, "margin": self.margin}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Expectation:
        check_keys(written, EXPECT, "key", " in expect")
        for key, one in EXPECT.items():
            if key not in written and key != "margin":
                lacking = f"an entry of expect lacks {key!r}, which must be {one.fault(None)}"
                raise SpecError(key, lacking)
        arm, than, metric, outcome, margin = map(written.get, EXPECT)
        return cls(arm=arm, than=than, metric=metric, outcome=outcome, margin=margin)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """A question put to a study before it runs. Each text is a paragraph."""

    objective: str
    hypothesis: str
    methodology: str = ""
    expect: tuple[Expectation, ...] = ()  # the hypothesis for a test to decide; all must hold

    def __post_init__(self) -> None:
        for key in ("objective", "hypothesis", "methodology"):
            if key != "methodology" or self.methodology != "":
                check_line(key, getattr(self, key), MAX_TEXT)

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> JournalEntry:
        """From its JSON form, or from a user's [[journal]] table."""
        plain: dict[str, Any] = {"objective": "", "hypothesis": "", "expect": [], **written}
        check_keys(plain, ("objective", "hypothesis", "methodology", "expect"), "key")
        expected = plain.pop("expect")
        if not isinstance(expected, list) or not all(isinstance(one, dict) for one in expected):
            form = "a list of { arm, than, metric, is }"
            raise SpecError("expect", f"expect must be {form}, but got {shown(expected)}")
        # A file's line breaks and indents are not part of the text.
        texts = {
            key: " ".join(text.split()) if isinstance(text, str) else text
            for key, text in plain.items()
        }
        return cls(**texts, expect=tuple(map(Expectation.from_dict, expected)))


def check_line(key: str, text: object, longest: int) -> None:
    """Raises SpecError unless it is one printable line, not too long."""
    if text == "":
        raise SpecError(key, f"{key} is missing; give a line of printable text")
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise SpecError(key, f"{key} must be a line of printable text, but got {shown(text)}")
    if len(text) > longest:
        raise SpecError(key, f"{key} must have at most {longest} characters, but has {len(text)}")
