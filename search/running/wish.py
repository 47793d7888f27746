"""What a person asks for: a study file, flags over it, and the study that may be there already."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from data.datasets import canonical_name
from search.spec.config import StudySpec, check_study_name, study_name_for
from search.spec.domains import SpecError
from search.spec.study_file import StudyFileError, find_study_file, located, read_study_file
from search.store.catalog import carry_on_spec
from search.store.view import load_spec

DEFAULT_FILE = "default"
SPEC_FIELDS = dataclasses.fields(StudySpec)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """A study file and the flags over it.

    Attributes:
        fields: the file's, as arguments of `StudySpec`.
        flags: fields that came by flag, which replace the file's.
        file: the study file, for messages and for the study's name.
        chose_file: whether the person named it; a study that exists must then agree with it.
    """

    fields: Mapping[str, Any]
    flags: Mapping[str, Any]
    file: Path
    chose_file: bool

    @property
    def dataset(self) -> str | None:
        """The data set that flag or file name."""
        name: str | None = self.flags.get("dataset", self.fields.get("dataset"))
        return name

    def study_name(self, dataset: str) -> str:
        """The name of a study that nobody named: its file's, and what sets it apart from that.

        Raises:
            SpecError: it would be too long.
        """
        name = study_name_for(dataset)
        if self.chose_file:
            stem = study_name_for(self.file.stem)
            name = stem if self._is_at_home(dataset) else f"{stem}-{name}"
        if "limit" in self.flags:
            name += f"-limit{self.flags['limit']}"
        return check_study_name(name)

    def spec(
        self, dataset: str, existing: optuna.Study | None = None, place: str | None = None
    ) -> StudySpec:
        """What to run: of an existing study its own specification, but for the total.

        Args:
            place: what flag or file call the data set, if an existing study calls it otherwise.

        Raises:
            SpecError: values or flags that do not go together, or that the existing study differs
                in.
        """
        stored = None if existing is None else load_spec(existing)
        fields = self._at(place or dataset)
        if stored is not None and not self.chose_file:
            fields = {field.name: getattr(stored, field.name) for field in SPEC_FIELDS}
        wanted = StudySpec(**{**fields, **self._flags_over(fields), "dataset": dataset})
        if existing is None or stored is None:
            return wanted
        named = {*self.flags, *(self.fields if self.chose_file else ())}
        if "repeats" in self.flags:
            named.add("trials")  # which follow from them
        elif "trials" not in self.flags and wanted.trials < stored.trials:
            named.discard("trials")  # what a flag has raised, the file does not lower again
        return carry_on_spec(existing, wanted, named)

    def _at(self, dataset: str) -> dict[str, Any]:
        """The file's fields; on another data set, without what is true of the file's own alone."""
        fields = dict(self.fields)
        if fields.get("dataset") is None or self._is_at_home(dataset):
            return fields
        own = ("validation_count", "image_size", "mirror_changes_class", "source", "published")
        for name in own:
            fields.pop(name, None)
        if "arms" in fields:
            fields["arms"] = tuple(dataclasses.replace(arm, reported={}) for arm in fields["arms"])
        return fields

    def _is_at_home(self, dataset: str) -> bool:
        own = self.fields.get("dataset")
        return own is not None and canonical_name(own) == canonical_name(dataset)

    def _flags_over(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        flags, arms = dict(self.flags), len(fields.get("arms", ()))
        if arms and "trials" in flags:
            raise SpecError(
                "trials",
                f"--trials is for a search, but this study compares {arms} arms; give --repeats R, "
                f"which makes {arms} x R trials",
            )
        if arms and "space" in flags:
            raise SpecError(
                "space", f"this study compares {arms} arms, whose base is its file's own [space]"
            )
        if not arms and "repeats" in flags:
            raise SpecError(
                "repeats",
                "--repeats is for a study with [[arm]] tables, but this one searches a space; "
                "give --trials N",
            )
        if "repeats" in flags:
            flags["trials"] = arms * flags["repeats"]
        return flags

    def with_line(self, error: SpecError) -> ValueError:
        """The error with the line of the study file that it stems from, if it stems from one."""
        in_file = (
            error.table is not None or error.key in self.fields or error.key in self.fields["space"]
        )
        if not in_file or error.key in {*self.flags, *self.flags.get("space", ())}:
            return error
        return StudyFileError(f"{located(self.file, error)}: {error}")


def read_wish(config: str | None, flags: Mapping[str, Any]) -> Wish:
    """The wish of a command line.

    Args:
        config: name or path of a study file; None for the default one.
        flags: fields of `StudySpec` that were given by flag.

    Raises:
        StudyFileError: there is no such file, or it is no study file.
    """
    file = find_study_file(config or DEFAULT_FILE)
    return Wish(fields=read_study_file(file), flags=flags, file=file, chose_file=config is not None)
