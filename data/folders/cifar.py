"""CIFAR as pictures: cifar10/train/<class>/*.png, cifar10/test/<class>/*.png; cifar100 likewise.

They replace torchvision's archive if that is missing, with the same classes in the same order
(Krizhevsky 2009, "Learning multiple layers of features from tiny images"). The images are in the
order of class and file name, which is not the archive's.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.arrays import Part
from data.errors import DataError, listed, shown
from data.folders.cache import cached
from data.folders.pictures import is_picture, read_pictures

_SUPER_CLASSES = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
SUPER_CLASS_OF = {fine: name for name, all_ in _SUPER_CLASSES.items() for fine in all_.split()}
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
CLASSES = {"CIFAR10": tuple(_CIFAR10.split()), "CIFAR100": tuple(sorted(SUPER_CLASS_OF))}
COUNTS = {"train": 50_000, "test": 10_000}
# Of all pixels, as red, green and blue planes like CIFAR's batches; CIFAR-100's are not known.
SHA256 = {
    ("CIFAR10", "train"): "71ccea9b14a0c13ad6646282a783a263b24560c58278329d935e21d9fca0fe33",
    ("CIFAR10", "test"): "9165c1d143a683d4922593d4f60185b58b31fe2bc38dd2db672c1aa23f9be049",
}


def stand_in(source: str, data_dir: Path) -> bool:
    """Whether the archive of `source` ("CIFAR10", "CIFAR100") is missing but pictures are there."""
    archive = source.replace("CIFAR", "cifar-") + "-python.tar.gz"
    return not (data_dir / archive).exists() and (data_dir / source.lower() / "train").is_dir()


def load(source: str, kind: str, train: bool, data_dir: Path) -> Part:
    """Raises DataError if the pictures are not those of CIFAR. `kind`: as in the archive."""
    folder = data_dir / source.lower() / ("train" if train else "test")
    part = cached(f"{source} {folder}", lambda: [folder], data_dir, lambda: _decode(source, folder))
    pixels_NCHW = np.ascontiguousarray(part.images.transpose(0, 3, 1, 2))
    found = hashlib.sha256(pixels_NCHW.data).hexdigest()
    if found != SHA256.get((source, folder.name), found):
        raise DataError(
            f"{shown(folder)} does not hold the pictures of {source} (the SHA-256 of their pixels "
            f"differs); unpack them again, or delete {shown(folder.parent)}"
        )
    if kind != "coarse_":
        return part
    names = tuple(_SUPER_CLASSES)
    coarse_K = np.array([names.index(SUPER_CLASS_OF[fine]) for fine in part.class_names])
    return replace(part, labels=coarse_K[part.labels], class_names=names)


def _decode(source: str, folder: Path) -> Part:
    names = CLASSES[source]
    files = sorted(file for file in folder.glob("*/*.png") if is_picture(file))
    if wrong := {file.parent.name for file in files} ^ {*names}:
        raise DataError(
            f"{shown(folder)} has missing or extra folders for the classes of {source}: "
            f"{listed(sorted(wrong), 5)}; put pictures (.png) into each of {listed(names, 10)}, or "
            "give another --data-dir"
        )
    if len(files) != COUNTS[folder.name]:
        raise DataError(
            f"{shown(folder)} holds {len(files)} pictures, but {source} has {COUNTS[folder.name]}; "
            "unpack them again"
        )
    return Part(
        images=read_pictures(files, (3, 32, 32)),
        labels=np.array([names.index(file.parent.name) for file in files]),
        class_names=names,
        # Reads nothing: it tells the pictures from the archive, whose order gives another split.
        test_digests={"pictures/test/all": SHA256.get((source, "test"), "")},
        notes=(f"read from the pictures in {shown(folder.parent)}",),
    )
