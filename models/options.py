"""The command-line options that describe an architecture."""

import argparse
from collections.abc import Callable
from typing import Any, get_args

from models.architecture import FAMILIES, Architecture, from_dict
from models.convnet import HeadName, NormPlace
from models.layers import ActivationName, PoolName


def add_architecture_options(parser: argparse.ArgumentParser) -> None:
    """Adds --family and an option for every field of each family."""
    parser.add_argument("--family", choices=tuple(FAMILIES), default="cnn", help="default: cnn")
    # Without a default: only what was given is handed on, and the family says what it knows.
    both = parser.add_argument_group("--family cnn or mlp", argument_default=argparse.SUPPRESS)
    both.add_argument(
        "--hidden",
        type=int,
        nargs="*",
        metavar="UNITS",
        help="hidden linear layers (default: none)",
    )
    both.add_argument("--activation", choices=get_args(ActivationName), help="default: relu")
    both.add_argument(
        "--batch-norm",
        type=int,
        nargs="*",
        metavar="LAYER",
        help="batch norm in every layer, or after the convolutions listed (the first is 1)",
    )

    cnn = parser.add_argument_group("--family cnn", argument_default=argparse.SUPPRESS)
    cnn.add_argument(
        "--channels",
        type=int,
        nargs="+",
        metavar="N",
        help="feature maps of each convolution (required)",
    )
    cnn.add_argument(
        "--kernel-sizes", type=int, nargs="+", metavar="K", help="one each, or one for all (3)"
    )
    cnn.add_argument(
        "--padding",
        type=_numbers_or("same"),
        nargs="+",
        metavar="P",
        help="same (default: the size stays), a number for all, or one each",
    )
    cnn.add_argument(
        "--pool-after",
        type=_numbers_or("every", "auto", "none"),
        nargs="+",
        metavar="LAYER",
        help="2x2 pooling after every convolution (default), after those listed, after none, or "
        "auto: as often as the image allows, spread evenly",
    )
    cnn.add_argument("--pool", choices=get_args(PoolName), help="default: max")
    cnn.add_argument(
        "--batch-norm-place", choices=get_args(NormPlace), help="after conv (default) or pool"
    )
    cnn.add_argument(
        "--residual", action="store_true", help="a shortcut around each two convolutions"
    )
    cnn.add_argument(
        "--head", choices=get_args(HeadName), help="flatten (default) or global average pooling"
    )
    cnn.add_argument(
        "--dropout-conv", type=float, metavar="RATE", help="after the last convolution"
    )
    cnn.add_argument("--dropout-linear", type=float, metavar="RATE", help="in the linear part")

    mlp = parser.add_argument_group("--family mlp or resnet18", argument_default=argparse.SUPPRESS)
    mlp.add_argument(
        "--dropout", type=float, metavar="RATE", help="after each hidden layer; before the output"
    )

    resnet = parser.add_argument_group("--family resnet18", argument_default=argparse.SUPPRESS)
    resnet.add_argument("--side", type=int, metavar="PX", help="scale images to this side first")


def architecture_from(options: dict[str, Any]) -> Architecture:
    """The architecture that the parsed options describe; raises ArchitectureError.

    Options that do not describe an architecture must have been taken out.
    """
    values = dict(options)
    if values.get("batch_norm") == []:
        values["batch_norm"] = True
    if values["family"] == "cnn":
        # As the reports do it, and as a reader who counts by hand expects it.
        values.setdefault("pool_after", ["every"])
    for key in ("padding", "pool_after"):
        match values.get(key):
            case ["none"]:
                values[key] = []
            case [str() as word]:
                values[key] = word
            case [int() as number] if key == "padding":
                values[key] = number
    return from_dict(values)


def _numbers_or(word: str, *more: str) -> Callable[[str], int | str]:
    """A converter for options that take whole numbers or one of the given words."""
    words = (word, *more)

    def convert(text: str) -> int | str:
        if text in words:
            return text
        try:
            return int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"must be whole numbers or {' / '.join(words)}, but got {text!r}"
            ) from None

    return convert
