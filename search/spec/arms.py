"""Controlled comparisons: named arms around a base configuration, and hypotheses about them.

Trial n of a comparison trains arm n % A of its A arms, as repeat n // A. The seed of a trial
depends only on the repeat: arms share initial weights (if their networks are alike), order of the
data and draws of the augmentation, so that they can be compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from models import Parameter
from models.checks import shown
from models.family import choice, count, number
from search.spec.domains import ParameterValue, SpecError, check_fields, check_keys, plain_values
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
    """One of the compared configurations.

    Attributes:
        name: unique in its study, one line.
        values: what it changes in the base configuration: parameters of [space].
        reported: metrics of a published report, by name in REPORTED.
    """

    name: str
    values: Mapping[str, ParameterValue] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_line("name", self.name, MAX_NAME)
        if not isinstance(self.reported, Mapping):
            got = shown(self.reported)
            raise SpecError("reported", f"reported must be a table of metrics, but got {got}")
        check_keys(self.reported, REPORTED, "key", " in reported")
        check_fields(self.reported, REPORTED)

    def to_dict(self) -> dict[str, Any]:
        values, reported = plain_values(self.values), dict(self.reported)
        return {"name": self.name, "values": values, "reported": reported}


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What a hypothesis says about two arms.

    Attributes:
        arm, than: names of arms: `arm` is expected to be `outcome` (than) `than`.
        metric: one of EXPECTED; lower is better for all but accuracy.
        margin: largest difference that counts as no different; None for the other outcomes.
    """

    arm: str
    than: str
    metric: str
    outcome: Outcome
    margin: float | None = None

    def __post_init__(self) -> None:
        check_fields(self.to_dict(), EXPECT)
        if (self.margin is None) == (self.outcome == "no different") or self.margin == 0:
            given = "no margin" if self.margin is None else f"margin = {self.margin}"
            raise SpecError(
                "margin",
                "'no different' needs a margin above 0, other outcomes none, but got "
                f"{self.outcome!r} with {given}",
            )
        if self.arm == self.than:
            raise SpecError("than", f"than must be another arm, but got {shown(self.arm)} twice")

    def to_dict(self) -> dict[str, Any]:
        plain = {"arm": self.arm, "than": self.than, "metric": self.metric, "is": self.outcome}
        return plain if self.margin is None else {**plain, "margin": self.margin}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Expectation:
        check_keys(written, EXPECT, "key", " in expect")
        arm, than, metric, outcome, margin = map(written.get, EXPECT)
        return cls(arm=arm, than=than, metric=metric, outcome=outcome, margin=margin)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """A question put to a study before it runs.

    Attributes:
        objective, hypothesis, methodology: plain text, each a paragraph; the last may be empty.
        expect: the hypothesis in a form that a test can decide; all must hold for it to be
            supported.
    """

    objective: str
    hypothesis: str
    methodology: str = ""
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        for key in ("objective", "hypothesis", "methodology"):
            if key != "methodology" or self.methodology != "":
                check_line(key, getattr(self, key), MAX_TEXT)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"expect": [one.to_dict() for one in self.expect]}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> JournalEntry:
        """From what `to_dict` returned, or from a user's [[journal]] table."""
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
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise SpecError(key, f"{key} must be a line of printable text, but got {shown(text)}")
    if len(text) > longest:
        raise SpecError(key, f"{key} must have at most {longest} characters, but has {len(text)}")
