"""Controlled comparisons: named arms around a base configuration, and what is expected of them.

Trial n of a comparison trains arm n % A of its A arms, for the n // A-th time. The seed of a trial
follows from that repeat alone: arms share initial weights (where their networks are alike), order
of the data and draws of the augmentation, so that they can be compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from models.checks import shown
from search.spec.domains import LARGEST, ParameterValue, SpecError

Outcome = Literal["better", "worse", "no different"]

SHARES = tuple(f"{part}_{kind}" for part in ("train", "validation", "test")
               for kind in ("error", "accuracy"))  # fmt: skip
LOSSES = ("train_loss", "validation_loss", "test_loss")
REPORTED = (*LOSSES, *SHARES, "parameters")  # figures that a published report may give
EXPECTED = ("validation_loss", "validation_error", "validation_accuracy", "train_loss",
            "parameters")  # fmt: skip

MAX_ARMS = 200
MAX_REPEATS = 1000
MAX_NAME = 200
MAX_TEXT = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One of the configurations that are compared.

    Attributes:
        name: unique in its study, one line.
        values: what it changes in the base configuration: parameters of `search.spec.space`.
        reported: figures of a published report, by names of REPORTED. Errors and accuracies are
            shares in [0, 1].
    """

    name: str
    values: Mapping[str, ParameterValue] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_line("name", self.name, MAX_NAME)
        for key, figure in self.reported.items():
            _check_reported(key, figure)

    def to_dict(self) -> dict[str, Any]:
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.values.items()
        }
        return {"name": self.name, "values": values, "reported": dict(self.reported)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Arm:
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored["values"].items()
        }
        return cls(name=stored["name"], values=values, reported=stored["reported"])


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
        if self.metric not in EXPECTED:
            raise _expect(f"metric must be one of {', '.join(EXPECTED)}, but got {self.metric!r}")
        if self.outcome not in get_args(Outcome):
            raise _expect(f"is must be one of {get_args(Outcome)}, but got {self.outcome!r}")
        if self.outcome != "no different" and self.margin is not None:
            raise _expect(f"margin is of 'no different' alone, but stands beside {self.outcome!r}")
        wide: Any = self.margin
        if self.outcome == "no different" and not (_is_number(wide) and wide > 0):
            raise _expect(f"'no different' needs a margin above 0, but got {self.margin!r}")
        if self.arm == self.than:
            raise _expect(f"an arm is compared with another one, but got {self.arm!r} twice")

    def to_dict(self) -> dict[str, Any]:
        plain = {"arm": self.arm, "than": self.than, "metric": self.metric, "is": self.outcome}
        return plain if self.margin is None else {**plain, "margin": self.margin}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Expectation:
        return cls(
            arm=stored["arm"],
            than=stored["than"],
            metric=stored["metric"],
            outcome=stored["is"],
            margin=stored.get("margin"),
        )


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
        _check_line("objective", self.objective, MAX_TEXT)
        _check_line("hypothesis", self.hypothesis, MAX_TEXT)
        if self.methodology:
            _check_line("methodology", self.methodology, MAX_TEXT)

    def to_dict(self) -> dict[str, Any]:
        return {
            "objective": self.objective,
            "hypothesis": self.hypothesis,
            "methodology": self.methodology,
            "expect": [expectation.to_dict() for expectation in self.expect],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> JournalEntry:
        return cls(
            objective=stored["objective"],
            hypothesis=stored["hypothesis"],
            methodology=stored["methodology"],
            expect=tuple(map(Expectation.from_dict, stored["expect"])),
        )


def check_arms(arms: tuple[Arm, ...], base: str | None, repeats: int, trials: int) -> None:
    """Whether the arms are a comparison, and the study's total is what they come to.

    Raises:
        SpecError: with the offending field as its key.
    """
    if not arms:
        if base is not None:
            raise SpecError("base", f"base = {base!r} names an arm, but there is no [[arm]]")
        if repeats != 1:
            raise SpecError(
                "repeats", f"repeats = {repeats} are of arms, but there is no [[arm]]; give trials"
            )
        return
    if len(arms) > MAX_ARMS:
        raise SpecError("arm", f"at most {MAX_ARMS} arms can be compared, but got {len(arms)}")
    if repeats > MAX_REPEATS:
        raise SpecError("repeats", f"repeats must be at most {MAX_REPEATS}, but got {repeats}")
    check_names(arms)
    if base != arms[0].name:
        raise SpecError("base", f"the base arm is the first, {arms[0].name!r}, but got {base!r}")
    if trials != len(arms) * repeats:
        raise SpecError(
            "trials",
            f"{len(arms)} arms x {repeats} repeats are {len(arms) * repeats} trials, but got "
            f"{trials}; leave trials out",
        )


def check_names(arms: Sequence[Arm]) -> None:
    """Whether each arm can be told by its name.

    Raises:
        SpecError: with the place of the second of two alike.
    """
    names = [arm.name for arm in arms]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise SpecError("name", f"two arms are called {name!r}", table=("arm", number))


def check_journal(journal: tuple[JournalEntry, ...], arms: tuple[Arm, ...]) -> None:
    """Whether the entries speak of arms that there are.

    Raises:
        SpecError: with the place of the faulty entry.
    """
    names = [arm.name for arm in arms]
    for number, entry in enumerate(journal):
        for expectation in entry.expect:
            for name in (expectation.arm, expectation.than):
                if name not in names:
                    there = f"there are: {', '.join(names)}" if names else "there is no [[arm]]"
                    raise SpecError(
                        "expect",
                        f"expect: no arm is called {name!r}; {there}",
                        table=("journal", number),
                    )


def _expect(message: str) -> SpecError:
    return SpecError("expect", f"expect: {message}")


def _check_line(key: str, text: object, longest: int) -> None:
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise SpecError(key, f"{key} must be a line of printable text, but got {shown(text)}")
    if len(text) > longest:
        raise SpecError(key, f"{key} must have at most {longest} signs, but has {len(text)}")


def _check_reported(key: str, figure: Any) -> None:
    if key not in REPORTED:
        raise SpecError(
            "reported", f"reported: unknown figure {shown(key)}; known: {', '.join(REPORTED)}"
        )
    fits, wanted = _is_number(figure) and figure >= 0, "a number from 0 up"
    if key in SHARES:
        fits, wanted = fits and figure <= 1, "a share in [0, 1]"
    elif key == "parameters":
        fits, wanted = fits and isinstance(figure, int), "a whole number"
    if not fits:
        raise SpecError("reported", f"reported: {key} must be {wanted}, but got {shown(figure)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
