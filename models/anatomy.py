"""A network layer by layer, by arithmetic alone: sizes, parameters, multiply-adds.

As a command:

    python -m models.anatomy --family cnn --channels 32 64 --kernel-sizes 3 3 --padding 0 \
        --hidden 120 84 --image 1x28x28 --classes 10
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import NoReturn

from rich import box
from rich.console import Console
from rich.table import Table

from models.architecture import Architecture, plan, to_dict
from models.checks import ArchitectureError
from models.layers import Shape, flat
from models.options import add_architecture_options, architecture_from

WIDTH = 100  # columns of the table where standard output is no terminal


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRow:
    """One layer; shapes leave out the batch, multiply-adds are those of one image."""

    name: str
    output: Shape
    size: str  # e.g. "(28 - 3 + 2*0)/1 + 1 = 26", for height and width where they differ
    weights: int
    biases: int
    parameters: int
    computed: str  # e.g. "64*32*3*3 + 64"
    multiply_adds: int  # of convolutions and linear layers
    share: float  # of all parameters, 0 to 1


def anatomy(
    architecture: Architecture, image_shape: tuple[int, int, int], classes: int
) -> tuple[LayerRow, ...]:
    """One row for each layer in running order; a shortcut's layers follow those it goes around.

    `image_shape` is (channels, height, width). Raises ArchitectureError like `models.build`,
    whose modules bear the same names.
    """
    layers = list(flat(plan(architecture, image_shape, classes)))
    total = sum(layer.weights + layer.biases for layer in layers)
    return tuple(
        LayerRow(
            name=layer.name,
            output=layer.output,
            size=layer.size,
            weights=layer.weights,
            biases=layer.biases,
            parameters=layer.weights + layer.biases,
            computed=layer.computed,
            multiply_adds=layer.multiply_adds,
            share=(layer.weights + layer.biases) / total,
        )
        for layer in layers
    )


@lru_cache(maxsize=4096)
def count_parameters(
    architecture: Architecture, image_shape: tuple[int, int, int], classes: int
) -> int:
    """Trained weights and biases of the whole network. Raises ArchitectureError as `anatomy`."""
    rows = anatomy(architecture, image_shape, classes)
    return sum(row.parameters for row in rows)


def table(rows: Sequence[LayerRow]) -> Table:
    """The rows for people, with the totals below."""
    view = Table(
        box=box.SIMPLE_HEAD,
        show_footer=True,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    view.add_column("layer", "total")
    view.add_column("output", justify="right")
    view.add_column("size")
    view.add_column("weights + biases")
    view.add_column("parameters", _spaced(sum(row.parameters for row in rows)), justify="right")
    view.add_column("share", "100.0 %", justify="right")
    adds = _spaced(sum(row.multiply_adds for row in rows))
    view.add_column("mult-adds", adds, justify="right")
    for row in rows:
        view.add_row(
            row.name,
            "x".join(map(str, row.output)),
            row.size.replace(", ", "\n"),
            row.computed,
            _spaced(row.parameters) if row.parameters else "",
            f"{100 * row.share:.1f} %" if row.parameters else "",
            _spaced(row.multiply_adds) if row.multiply_adds else "",
        )
    return view


def _spaced(number: int) -> str:
    """Digits in groups of three: 221 950."""
    return f"{number:,}".replace(",", " ")


EXAMPLES = """\
examples:
  # 28x28 -> 26 -> 13 -> 11 -> 5: a small network for Fashion-MNIST, 221 950 parameters
  python -m models.anatomy --channels 32 64 --kernel-sizes 3 3 --padding 0 --hidden 120 84 \\
      --image 1x28x28 --classes 10

  # eight convolutions with batch norm for CIFAR-10, pooled so that 4x4 is left
  python -m models.anatomy --channels 32 32 64 64 64 128 128 128 --batch-norm --residual \\
      --pool-after auto --head global --image 3x32x32

Layers stand in running order: max pooling comes before the activation where that gives the same
values for less work. Multiply-adds are those of one image.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, in place of the usage and the message."""
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: {line} (--help shows all options)\n")


def _image(text: str) -> tuple[int, ...]:
    sides = text.lower().split("x")
    if len(sides) != 3 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(
            f"must be channels x height x width like 3x32x32, but got {text!r}"
        )
    return tuple(map(int, sides))


def main(arguments: Sequence[str] | None = None) -> None:
    call = "python -m models.anatomy"
    prog = sys.argv[0] if sys.argv[0].startswith("cnn-search ") else call
    parser = _Parser(
        prog=prog,
        description="Prints a network layer by layer: output size with its formula, parameters "
        "and how they are counted, multiply-adds.",
        epilog=EXAMPLES.replace(call, prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--image", type=_image, default=(1, 28, 28), metavar="CxHxW", help="default: 1x28x28"
    )
    parser.add_argument("--classes", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--json", action="store_true", help="the same for programs")
    add_architecture_options(parser)
    options = vars(parser.parse_args(arguments))
    image, classes, as_json = (options.pop(name) for name in ("image", "classes", "json"))
    try:
        architecture = architecture_from(options)
        rows = anatomy(architecture, image, classes)
    except ArchitectureError as error:
        parser.error(str(error))
    # Both ways through the console, which leaves quietly when `| head` has read enough.
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if as_json:
        report = _report(architecture, image, classes, rows)
        console.out(json.dumps(report, indent=2), highlight=False)
    else:
        console.print(table(rows))


def _report(
    architecture: Architecture, image: Shape, classes: int, rows: Sequence[LayerRow]
) -> dict[str, object]:
    return {
        "architecture": to_dict(architecture),
        "image": image,
        "classes": classes,
        "parameters": sum(row.parameters for row in rows),
        "multiply_adds": sum(row.multiply_adds for row in rows),
        "layers": [asdict(row) for row in rows],
    }


if __name__ == "__main__":
    main()
