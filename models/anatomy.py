"""Prints a network layer by layer: python -m models.anatomy --channels 32 64 --hidden 120."""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields
from typing import Any, NoReturn

from rich import box
from rich.console import Console
from rich.table import Table

from models import FAMILIES, ArchitectureError, Parameter, from_dict, to_dict
from models.checks import by
from models.resnet import LEAST_SIDE
from models.summary import LayerRow, anatomy, sizes

WIDTH = 100  # columns of the table if standard output is not a terminal
EXAMPLES = """\
examples:
  # 28x28 -> 26 -> 13 -> 11 -> 5: a small network for Fashion-MNIST, 221 950 parameters
  python -m models.anatomy --channels 32 64 --kernel-sizes 3 3 --padding 0 --hidden 120 84 \\
      --image 1x28x28 --classes 10

  # eight convolutions with batch norm for CIFAR-10, pooled down to 4x4
  python -m models.anatomy --channels 32 32 64 64 64 128 128 128 --batch-norm --residual \\
      --pool-after auto --head global --image 3x32x32

Layers are in execution order: max pooling comes before the activation if that gives the same
values with less work. Multiply-adds are per image.
"""
# Of the options that are not what a study's parameters of that name are.
DESCRIPTIONS = {
    "channels": "channels of each convolution",
    "side": f"side in pixels, from {LEAST_SIDE} up, to scale images to",
}


def _table(rows: Sequence[LayerRow]) -> Table:
    view = Table(
        box=box.SIMPLE_HEAD, show_footer=True, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    total, adds = (sum(getattr(row, of) for row in rows) for of in ("parameters", "multiply_adds"))
    view.add_column("layer", "total")
    view.add_column("output", justify="right")
    view.add_column("weights + biases")
    view.add_column("parameters", _spaced(total), justify="right")
    view.add_column("share", "100.0 %", justify="right")
    view.add_column("mult-adds", _spaced(adds), justify="right")
    for row in rows:
        view.add_row(
            row.name,
            by(row.output),
            row.computed,
            _spaced(row.parameters),
            f"{100 * row.parameters / total:.1f} %" if row.parameters else "",
            _spaced(row.multiply_adds),
        )
    return view


def _spaced(number: int) -> str:
    """Digits in groups of three: 221 950; nothing for 0."""
    return f"{number:,}".replace(",", " ") if number else ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of the usage and the message."""
        self.exit(2, f"error: {' '.join(message.split())} (--help shows all options)\n")


def _image(text: str) -> tuple[int, ...]:
    sides = text.lower().split("x")
    if len(sides) == 3 and all(side.isdecimal() and int(side) > 0 for side in sides):
        return tuple(map(int, sides))
    wanted = "must be channels x height x width like 3x32x32"
    raise argparse.ArgumentTypeError(f"{wanted}, but got {text!r}")


def _add_family_options(parser: argparse.ArgumentParser) -> dict[str, Parameter]:
    """--family, and an option for each field of each family's configuration, which it returns."""
    descriptions = "; ".join(f"{name}: {family.description}" for name, family in FAMILIES.items())
    told = f"{descriptions} (default: cnn)"
    parser.add_argument("--family", choices=tuple(FAMILIES), default="cnn", help=told)
    # Without defaults: only given options are passed on, and the family checks which it knows.
    group = parser.add_argument_group("the network", argument_default=argparse.SUPPRESS)
    options: dict[str, Parameter] = {}
    for family in FAMILIES.values():
        for field in fields(family.config):
            if field.name in options:
                continue
            parameter = family.parameters[family.renamed.get(field.name, field.name)]
            options[field.name] = parameter
            described = DESCRIPTIONS.get(field.name, parameter.description)
            texts = [*parameter.options, *(("true", "false") if bool in parameter.kinds else ())]
            group.add_argument(
                f"--{field.name.replace('_', '-')}",
                nargs="*",
                type=_token,
                metavar="|".join(texts) or "N",
                help=f"{described} ({_default(field.name)})",
            )
    return options


def _default(name: str) -> str:
    """`default: 0.0`, or `default: [] for cnn; required for mlp` where families differ."""
    families: dict[str, list[str]] = {}
    for family, it in FAMILIES.items():
        for field in fields(it.config):
            if field.name == name:
                usual = list(field.default) if isinstance(field.default, tuple) else field.default
                if usual is None or isinstance(usual, bool):
                    usual = str(usual).lower()  # as they are written here
                words = "required" if usual is MISSING else f"default: {usual}"
                families.setdefault(words, []).append(family)
    if len(families) == 1:
        return next(iter(families))
    return "; ".join(f"{words} for {', '.join(them)}" for words, them in families.items())


def _token(text: str) -> int | float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _value(parameter: Parameter, tokens: list[Any]) -> Any:
    """An option's words as a configuration has them: `--batch-norm` without any is true."""
    if tokens == ["none"]:
        return [] if tuple in parameter.kinds else None
    if bool in parameter.kinds and tokens in ([], ["true"], ["false"]):
        return tokens != ["false"]
    one = len(tokens) == 1 and (isinstance(tokens[0], str) or not parameter.is_list)
    return tokens[0] if one else tokens


def main(arguments: Sequence[str] | None = None) -> None:
    call = "python -m models.anatomy"
    prog = sys.argv[0] if sys.argv[0].startswith("cnn-search ") else call
    parser = _Parser(
        prog=prog,
        description="Prints a network layer by layer: output size, parameters and how they are "
        "counted, multiply-adds.",
        epilog=EXAMPLES.replace(call, prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--image", type=_image, default=(1, 28, 28), metavar="CxHxW", help="default: 1x28x28"
    )
    parser.add_argument("--classes", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parameters = _add_family_options(parser)
    options = vars(parser.parse_args(arguments))
    image, classes, as_json, family = map(options.pop, ("image", "classes", "json", "family"))
    if classes < 1:
        parser.error(f"--classes must be 1 or more, but got {classes}")
    try:
        written = {name: _value(parameters[name], tokens) for name, tokens in options.items()}
        architecture = from_dict({"family": family, **written})
        rows = anatomy(architecture, image, classes)
    except ArchitectureError as error:
        parser.error(str(error))
    # Both formats go through the console, which exits quietly when `| head` has read enough.
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if not as_json:
        console.print(_table(rows))
        return
    report = {"architecture": to_dict(architecture), "image": image, "classes": classes}
    report |= {**sizes(architecture, image, classes), "layers": [asdict(row) for row in rows]}
    console.out(json.dumps(report, indent=2), highlight=False)


if __name__ == "__main__":
    main()
