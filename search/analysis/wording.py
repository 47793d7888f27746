"""Numbers, facts and configurations in words: the one place that decides digits, units, spread and
states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from itertools import product
from statistics import stdev
from typing import TYPE_CHECKING

from data.errors import grouped
from models import Architecture, family_of, to_dict
from models.family import compact
from search.spec.objectives import OBJECTIVES

if TYPE_CHECKING:
    from search.spec.config import Earlier, StudySpec, TrialConfig
    from search.spec.recipe import Recipe
    from search.store.views import State, StudyView

MOST_NAME = 24  # characters of a class name on an axis
ENDED: Sequence[State] = ("complete", "pruned", "failed")
MEANINGS: Mapping[State, str] = {
    "complete": "trained to the end",
    "pruned": "ended early by the study's pruner because others were more promising",
    "failed": "ended by an error or an infinite loss",
    "running": "held by a worker",
    "paused": "on hold; it resumes if it is worth its next epochs",
    "interrupted": "its worker is gone or was stopped; the next worker resumes it",
    "waiting": "not started",
}
WORDS: Mapping[State, str] = {**{state: state for state in MEANINGS}, "waiting": "queued"}


def counted(number: int, what: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def capitalized(text: str) -> str:
    """With a capital letter first, the rest as it is."""
    return text[:1].upper() + text[1:]


def percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    """At most the two largest units that matter: `45 s`, `12 min`, `1 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None for a single value, which has no spread."""
    return stdev(values) if len(values) > 1 else None


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row; cells are padded to the widest in their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def printable(text: str) -> str:
    """User-supplied text on one line, without control characters."""
    return "".join(char if char.isprintable() else "�" for char in text)


def fitted(name: str, most: int = MOST_NAME) -> str:
    """A user-supplied name, cut to `most` characters; not escaped."""
    clean = printable(name)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def told_apart(names: Sequence[str], most: int = MOST_NAME) -> dict[str, str]:
    """Each name as `fitted`; if two would be alike, without its middle; if they still are, with
    twice as many characters, or else with its number."""

    def without_middle(name: str, most: int) -> str:
        clean, half = printable(name), most // 2
        return clean if len(clean) <= most else f"{clean[:half]}…{clean[half + 1 - most :]}"

    for length, shown in product((most, 2 * most), (fitted, without_middle)):
        cut = {name: shown(name, length) for name in names}
        if len(set(cut.values())) == len(cut):
            return cut
    return {name: f"{number}: {fitted(name, most)}" for number, name in enumerate(names, start=1)}


def numbers_in_words(counts: Mapping[State, int]) -> str:
    """`6 complete, 11 pruned, 1 failed`; zero counts are left out, except the first."""
    shown = [(n, state) for rank, (state, n) in enumerate(counts.items()) if n or rank == 0]
    return ", ".join(f"{grouped(n)} {WORDS[state]}" for n, state in shown)


def counts_in_words(view: StudyView, states: Sequence[State] = ENDED) -> str:
    """The same for a study's trials in these states."""
    return numbers_in_words({state: view.count(state) for state in states})


def all_counts(view: StudyView) -> str:
    """The same for all states."""
    return counts_in_words(view, tuple(WORDS))


def flat_in_words(view: StudyView) -> str:
    """`; ends once flat (gain below 0.001)`, or nothing."""
    gain = view.stop_when_flat
    return "" if gain is None or view.stopped else f"; ends once flat (gain below {gain:g})"


def training_count(view: StudyView) -> int:
    """Images that a trial is trained on."""
    rest = view.dataset.training_count - view.dataset.validation_count
    return rest if view.spec.limit is None else min(rest, view.spec.limit)


def split_in_words(view: StudyView) -> str:
    """`stratified split, seed 0`."""
    own = "the data set's own validation images"
    return own if view.dataset.own_validation else f"stratified split, seed {view.spec.seed}"


def notes_in_words(view: StudyView) -> list[str]:
    """How a data set was made from the user's pictures, which studies the search starts from, and
    why it ended early, a sentence each."""
    ended = [] if view.stopped is None else [f"ended early: {view.stopped}"]
    notes = [*view.dataset.notes, *map(warm_start_in_words, view.earlier), *ended]
    return [printable(f"{capitalized(note)}.") for note in notes]


def warm_start_in_words(earlier: Earlier) -> str:
    """`Warm start from study mnist (MNIST, best calibrated loss 0.0231): its 3 best ...`"""
    objective = OBJECTIVES[earlier.objective]
    best = "no trial complete"
    if earlier.best is not None:
        shown = f"{earlier.best:.4f}" if objective.unit else percent(earlier.best)
        best = f"best {objective.word} {shown}"
    parts = [f"its {counted(len(earlier.configurations), 'best configuration')}"]
    if earlier.clipped:
        parts.append(f"{earlier.clipped} moved to the nearest end of a range")
    if earlier.left_out:
        better = counted(earlier.left_out, "better one")
        parts.append(f"{better} left out, outside this study's space or limits")
    if earlier.repeated:
        parts.append(f"{counted(earlier.repeated, 'better one')} already among the first trials")
    if earlier.not_searched:
        parts.append(f"not searched here: {', '.join(earlier.not_searched)}")
    source = f"study {earlier.source} ({earlier.data}, {best})"
    return printable(f"Warm start from {source}: {'; '.join(parts)}")


def data_in_words(view: StudyView) -> str:
    """`Fashion-MNIST, 50 000 training and 10 000 validation images`."""
    return (
        f"{printable(view.dataset.title)}, {grouped(training_count(view))} training and "
        f"{grouped(view.dataset.validation_count)} validation images"
    )


def size_in_words(spec: StudySpec) -> str:
    """`4 arms x 3 repeats of up to 100 epochs`, `50 trials of up to 12 epochs`."""
    what = counted(spec.trials, "trial")
    if spec.is_comparison:
        what = f"{counted(len(spec.arms), 'arm')} x {counted(spec.repeats, 'repeat')}"
    limit = "" if spec.limit is None else f" on {spec.limit} images"
    return f"{what} of up to {counted(spec.epochs, 'epoch')}{limit}"


def describe_config(config: TrialConfig, parameters: int | None = None) -> str:
    """`cnn, channels 32, 64, 128, batch norm; Adam at 0.0021, ...`: see `describe_network`."""
    network = describe_network(config.architecture, parameters)
    return f"{network}; {describe_training(config)}"


def describe_network(architecture: Architecture, parameters: int | None = None) -> str:
    """All but the family's defaults and dropout; with the number of parameters, if known."""
    parts, _ = _words(architecture)
    size = [] if parameters is None else [f"{grouped(parameters)} parameters"]
    return ", ".join([*parts, *size])


def _words(architecture: Architecture) -> tuple[list[str], list[str]]:
    """(`cnn`, `channels 32, 64`, `batch norm`), (`dropout 0.2`): named like the parameters."""
    family = family_of(architecture)
    defaults = {one.name: one.default for one in fields(architecture)}
    network, dropout = [str(to_dict(architecture)["family"])], list[str]()
    for name, value in asdict(architecture).items():
        if value == defaults.get(name, MISSING):
            continue
        text = family.renamed.get(name, name).replace("_", " ")
        if isinstance(value, bool):
            text = text if value else f"no {text}"
        elif isinstance(value, tuple):
            text = f"{text} {', '.join(map(str, value)) or 'none'}"
        else:
            text = f"{text} {compact(value) if isinstance(value, float) else value}"
        (dropout if name.startswith("dropout") else network).append(text)
    return network, dropout


def describe_training(config: TrialConfig) -> str:
    """Optimiser, schedule and regularisation: weight decay, dropout, augmentation."""
    recipe, (_, dropout) = config.recipe, _words(config.architecture)
    kind, strength = _decay_kind(recipe), compact(recipe.weight_decay)
    optimizer = "AdamW" if kind == "decoupled" else "Adam"
    decays = {"": "no weight decay", "l2": f"L2 term {strength} in the loss"}
    if recipe.optimizer == "sgd":
        momentum = f"Nesterov momentum {compact(recipe.momentum)}" if recipe.momentum else "plain"
        optimizer = f"SGD ({momentum})"
    averaging, smoothing = recipe.weight_averaging, recipe.label_smoothing
    weights, frozen, clip = recipe.initial_weights, recipe.frozen_epochs, recipe.gradient_clip
    parts = [
        f"{optimizer} at {compact(recipe.learning_rate)}",
        f"{recipe.schedule} over {counted(recipe.epochs, 'epoch')}",
        f"batches of {recipe.batch_size}",
        decays.get(kind, f"{kind} weight decay {strength}"),
        *dropout,
        f"weights averaged over {compact(averaging)} of the steps" if averaging else "",
        f"label smoothing {compact(smoothing)}" if smoothing else "",
        "" if weights is None else f"weights from {printable(weights)}",
        f"only the last layer for {counted(frozen, 'epoch')}" if frozen else "",
        "" if clip is None else f"gradient clipped at {compact(clip)}",
        _augmentation(recipe) or "no augmentation",
    ]
    return ", ".join(filter(None, parts))


def short_config(config: TrialConfig) -> str:
    """The same, short enough for one line, the most informative parts first."""
    recipe, (network, dropout) = config.recipe, _words(config.architecture)
    channels = asdict(config.architecture).get("channels")
    parts = [
        "-".join(map(str, channels)) if isinstance(channels, tuple) else " ".join(network),
        f"lr {compact(recipe.learning_rate)}",
        _augmentation(recipe).replace(" at ", " "),
        *(text.replace("dropout", "drop") for text in dropout),
        f"{kind} {compact(recipe.weight_decay)}" if (kind := _decay_kind(recipe)) else "",
    ]
    return ", ".join(filter(None, parts))


def _decay_kind(recipe: Recipe) -> str:
    """Empty without weight decay."""
    decays = recipe.weight_decay_kind != "none" and recipe.weight_decay
    return recipe.weight_decay_kind if decays else ""


def _augmentation(recipe: Recipe) -> str:
    if recipe.augmentation == "none" or not recipe.augmentation_strength:
        return ""
    return f"{recipe.augmentation} at {compact(recipe.augmentation_strength)}"
