"""Descriptions of data sets that only tests use."""

from typing import Any

from data.examples import DatasetInfo


def made_up_info(name: str, classes: str = "abcdefghij", **fields: Any) -> DatasetInfo:
    """Grey images of ten classes, a letter each, unless `fields` says otherwise."""
    usual = {"title": name.capitalize(), "image_shape": (1, 28, 28), "mirror_changes_class": False}
    return DatasetInfo(**{"name": name, "class_names": tuple(classes), **usual, **fields})
