"""Questions put to a study beforehand: hypotheses in words, and in a form that a test decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from models.checks import shown
from search.spec.domains import SpecError, check_keys, is_number
from search.spec.objectives import OBJECTIVES

Outcome = Literal["better", "worse", "no different"]
EXPECTED = (*OBJECTIVES, "validation_accuracy", "train_loss", "parameters")
EXPECT_KEYS = ("arm", "than", "metric", "is", "margin")
ENTRY_KEYS = ("objective", "hypothesis", "methodology", "expect")
MAX_TEXT = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What a hypothesis says of two arms.

    Attributes:
        arm, than: names of arms: `arm` is expected to be `outcome` (than) `than`.
        metric: one of EXPECTED; of all but accuracy, lower is better.
        margin: how far the two may differ and count as no different; of no other outcome.
    """

    arm: str
    than: str
    metric: str
    outcome: Outcome
    margin: float | None = None

    def __post_init__(self) -> None:
        for key, options in (("metric", EXPECTED), ("outcome", get_args(Outcome))):
            value, name = getattr(self, key), "is" if key == "outcome" else key
            if value not in options:
                raise _refused(
                    f"{name} must be one of {', '.join(options)}, but got {shown(value)}"
                )
        wide: Any = self.margin
        if self.outcome != "no different" and wide is not None:
            raise _refused(f"margin is for 'no different' alone, but is beside {self.outcome!r}")
        if self.outcome == "no different" and not (is_number(wide) and wide > 0):
            raise _refused(f"'no different' needs a margin above 0, but got {shown(wide)}")
        if self.arm == self.than:
            raise _refused(f"an arm is compared with another one, but got {shown(self.arm)} twice")

    def to_dict(self) -> dict[str, Any]:
        plain = {"arm": self.arm, "than": self.than, "metric": self.metric, "is": self.outcome}
        return plain if self.margin is None else {**plain, "margin": self.margin}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Expectation:
        check_keys(written, EXPECT_KEYS, "expect")
        arm, than, metric, outcome, margin = map(written.get, EXPECT_KEYS)
        return cls(arm=arm, than=than, metric=metric, outcome=outcome, margin=margin)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """A question put to a study before it runs.

    Attributes:
        objective, hypothesis, methodology: plain text, each a paragraph.
        expect: the hypothesis in a form that a test can decide; all must hold for it to be
            supported.
    """

    objective: str
    hypothesis: str
    methodology: str = ""
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        check_line("objective", self.objective, MAX_TEXT)
        check_line("hypothesis", self.hypothesis, MAX_TEXT)
        if self.methodology != "":
            check_line("methodology", self.methodology, MAX_TEXT)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"expect": [one.to_dict() for one in self.expect]}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> JournalEntry:
        """As `to_dict` writes it, or a person's [[journal]] table."""
        check_keys(written, ENTRY_KEYS, "[[journal]]")
        for key in ("objective", "hypothesis"):
            if key not in written:
                raise SpecError(key, f'[[journal]] needs {key} = "..."')
        expected = written.get("expect", [])
        if not isinstance(expected, list) or not all(isinstance(one, dict) for one in expected):
            raise _refused("it is a list of { arm, than, metric, is }")
        # Line breaks and indents of a file are no part of what a text says.
        texts: dict[str, Any] = {
            key: " ".join(text.split()) if isinstance(text, str) else text
            for key, text in written.items()
            if key != "expect"
        }
        return cls(**texts, expect=tuple(map(Expectation.from_dict, expected)))


def check_journal(journal: tuple[JournalEntry, ...], arms: Collection[str]) -> None:
    """Raises SpecError where an entry names an arm that there is not."""
    there = f"there are: {', '.join(arms)}" if arms else "there is no [[arm]]"
    for expectation in (one for entry in journal for one in entry.expect):
        for name in (expectation.arm, expectation.than):
            if name not in arms:
                message = f"[[journal]] expect: no arm is called {shown(name)}; {there}"
                raise SpecError("journal", message)


def check_line(key: str, text: object, longest: int) -> None:
    """Raises SpecError unless it is one printable line, not too long."""
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise SpecError(key, f"{key} must be a line of printable text, but got {shown(text)}")
    if len(text) > longest:
        raise SpecError(key, f"{key} must have at most {longest} characters, but has {len(text)}")


def _refused(message: str) -> SpecError:
    return SpecError("expect", f"expect: {message}")
