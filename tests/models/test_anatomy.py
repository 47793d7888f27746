"""The command that prints a network."""

import json
import re

import pytest

from models import build, from_dict
from models.anatomy import main
from models.summary import anatomy

BASELINE = (
    "--family cnn --channels 32 64 --kernel-sizes 3 3 --padding 0 --hidden 120 84 "
    "--image 1x28x28 --classes 10"
)
RATES = (0.1, 0.4, 0.0)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(BASELINE.split())
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"^total +221 950 +100\.0 %", text, re.MULTILINE)
    assert "64*32*3*3 + 64" in text


def test_networks_that_differ_only_in_the_rate_of_dropout_are_looked_at_once() -> None:
    """Size limits reject draw after draw, each with another rate."""
    network = {"family": "cnn", "channels": [8], "hidden": [4]}
    rows = [anatomy(from_dict({**network, "dropout_linear": it}), (1, 8, 8), 10) for it in RATES]
    assert rows[0] is rows[1]
    assert len(rows[2]) < len(rows[1])


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (BASELINE, 221_950),
        (f"{BASELINE} --batch-norm", 221_950 + 192),
        (f"{BASELINE} --batch-norm true --residual false", 221_950 + 192),
        (f"{BASELINE} --batch-norm false", 221_950),
        ("--channels 8 8 8 --pool-after none --head global --residual true", 80 + 2 * 584 + 90),
        ("--family resnet18 --side none --image 3x32x32", 11_181_642),
        ("--channels 8 --pool-after none --head global", 80 + 90),
        ("--family mlp --hidden --classes 3 --image 3x2x2", 39),
    ],
)
def test_command_as_json(
    arguments: str, parameters: int, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*arguments.split(), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"] == parameters
    assert sum(layer["parameters"] for layer in report["layers"]) == parameters
    assert sum(layer["multiply_adds"] for layer in report["layers"]) == report["multiply_adds"]
    rebuilt = build(from_dict(report["architecture"]), tuple(report["image"]), report["classes"])
    assert sum(p.numel() for p in rebuilt.parameters()) == parameters


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "'channels' is missing"),
        ("--channels x", "channels must be a list of whole numbers from 1 up, but got 'x'"),
        ("--channels 8 --image 28x28", "3x32x32, but got '28x28'"),
        ("--family mlp --hidden 8 --channels 8", "unknown key 'channels' for family 'mlp'"),
        ("--channels 8 --image 0x28x28", "3x32x32, but got '0x28x28'"),
        ("--channels 8 --classes 0", "--classes must be 1 or more, but got 0"),
        (f"--channels 8 --image 1x28x{10**20}", "the network does not fit in memory"),
        ("--channels 8 --residual 1", "residual must be true or false, but got 1"),
        ("--family resnet18 --side 0", "side must be a whole number from 32 up, but got 0"),
        ("--channels 8 --frobnicate", "--frobnicate"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_help_teaches_with_examples_that_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out.replace("\\\n", " ")
    words = " ".join(text.split())
    for told in (
        "--channels [N ...] channels of each convolution (required)",
        "--hidden [N ...] units of the hidden layers (default: [] for cnn; required for mlp)",
        "--residual [true|false ...] shortcuts around layer pairs (default: false)",
        "--side [N ...] side in pixels, from 32 up, to scale images to (default: none)",
    ):
        assert told in words
    examples = re.findall(r"^ +python -m models.anatomy (.+)$", text, re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        main(example.split())
