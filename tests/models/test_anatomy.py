"""The table against the reports' figures, against built modules, and as a command."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models import Architecture, ConvNetConfig, build, from_dict
from models.anatomy import anatomy, count_parameters, main

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def small(*channels: int, **fields: Any) -> ConvNetConfig:
    """Report A: 3x3 without padding, pooling after each, linear 120 and 84."""
    fields = {"padding": 0, "pool_after": "every", "hidden": (120, 84), **fields}
    return ConvNetConfig(channels=channels, **fields)


def journal(depth: int = 3, **fields: Any) -> ConvNetConfig:
    """Report B: 128 channels throughout, one hidden layer of 128."""
    return ConvNetConfig(channels=(128,) * depth, hidden=(128,), **fields)


REPORTED = {
    "A1 row 1": (small(16), GREY, 335_774),
    "A1 row 2": (small(16, 32), GREY, 111_934),
    "A1 row 3, the baseline": (small(32, 64), GREY, 221_950),
    "A1 row 4": (small(16, 32, 64), GREY, 42_110),
    "A1 row 5": (small(32, 64, 64, kernel_sizes=(5, 3, 3)), GREY, 75_070),
    "A4": (small(32, 64, dropout_linear=0.2), GREY, 221_950),
    "B base": (journal(padding=0, pool_after="every"), GREY, 314_250),
    "B batch norm": (journal(padding=0, pool_after="every", batch_norm=True), GREY, 315_018),
    "B dropout": (journal(padding=0, pool_after="every", dropout_conv=0.5), GREY, 314_250),
    # 1 280 + 7 * 147 584 for the convolutions, 3*3*128 values left for linear 128 and 10.
    "B 8 layers": (journal(8, pool_after=(1, 4, 7)), GREY, 1_183_242),
    "B 8 layers, batch norm": (
        journal(8, pool_after=(1, 4, 7), batch_norm=True),
        GREY,
        1_183_242 + 8 * 256,
    ),
    "B 16 layers, batch norm": (
        journal(16, pool_after=(1, 7, 13), batch_norm=True),
        GREY,
        1_183_242 + 8 * 147_584 + 16 * 256,
    ),
    # LeCun et al. 1998, all of C3's inputs connected: 156 + 2 416 + 48 120 + 10 164 + 850.
    "D LeNet": (
        ConvNetConfig(
            channels=(6, 16),
            kernel_sizes=(5,),
            padding=(2, 0),
            pool="average",
            pool_after="every",
            activation="sigmoid",
            hidden=(120, 84),
        ),
        GREY,
        61_706,
    ),
    "E": (
        ConvNetConfig(
            channels=(32, 64, 128), kernel_sizes=(5,), padding=2, pool_after="every", hidden=(64,)
        ),
        COLOUR,
        390_410,
    ),
    # 2 432 + 51 264 + 102 464 + 2 * 128 of batch norm + (64*8*8 * 128 + 128) + 1 290.
    "E improved": (
        ConvNetConfig(
            channels=(32, 64, 64),
            kernel_sizes=(5,),
            pool_after=(2, 3),
            batch_norm=True,
            batch_norm_place="pool",
            hidden=(128,),
        ),
        COLOUR,
        682_122,
    ),
}


@pytest.mark.parametrize("name", REPORTED)
def test_reported_parameters(name: str) -> None:
    architecture, image, parameters = REPORTED[name]
    assert sum(row.parameters for row in anatomy(architecture, image, 10)) == parameters
    assert count_parameters(architecture, image, 10) == parameters


def test_coarse_cifar100_of_report_d_ends_in_its_20_classes() -> None:
    architecture = ConvNetConfig(
        channels=(32, 32, 64, 64),
        batch_norm=True,
        pool_after=(2, 4),
        hidden=(128,),
        dropout_linear=0.5,
    )
    names = [row.name for row in anatomy(architecture, COLOUR, 20)]
    assert " ".join(names) == (
        "conv1 norm1 relu1 conv2 norm2 pool2 relu2 conv3 norm3 relu3 conv4 norm4 pool4 relu4 "
        "flatten linear1 relu5 dropout1 output"
    )
    assert anatomy(architecture, COLOUR, 20)[-1].output == (20,)


def test_batch_norm_follows_the_pooling_in_report_e() -> None:
    names = [row.name for row in anatomy(REPORTED["E improved"][0], COLOUR, 10)]
    expected = "conv1 relu1 conv2 pool2 relu2 norm2 conv3 pool3 relu3 norm3"
    assert " ".join(names[:10]) == expected


def test_the_baseline_layer_by_layer_as_report_a_counts_by_hand() -> None:
    rows = {row.name: row for row in anatomy(small(32, 64), GREY, 10)}
    sizes = [rows[name].output for name in ("conv1", "pool1", "conv2", "pool2", "flatten")]
    assert sizes == [(32, 26, 26), (32, 13, 13), (64, 11, 11), (64, 5, 5), (1600,)]
    counted = {name: row.parameters for name, row in rows.items() if row.parameters}
    assert counted == {
        "conv1": 320,
        "conv2": 18_496,
        "linear1": 192_120,
        "linear2": 10_164,
        "output": 850,
    }
    assert (rows["conv2"].weights, rows["conv2"].biases) == (18_432, 64)
    assert rows["conv2"].computed == "64*32*3*3 + 64"
    assert rows["conv1"].size == "(28 - 3 + 2*0)/1 + 1 = 26"
    assert rows["pool2"].size == "floor((11 - 2)/2) + 1 = 5"
    assert rows["conv2"].multiply_adds == 18_432 * 11 * 11
    assert rows["linear1"].share == pytest.approx(0.8656, abs=1e-4)


def test_height_and_width_are_both_shown_where_they_differ() -> None:
    row = anatomy(ConvNetConfig(channels=(4,), padding=0), (1, 28, 20), 10)[0]
    assert row.output == (4, 26, 18)
    assert row.size == "(28 - 3 + 2*0)/1 + 1 = 26, (20 - 3 + 2*0)/1 + 1 = 18"


def test_table_is_the_built_network(random_cases: Callable[[int, int], list[Any]]) -> None:
    for architecture, image, classes in random_cases(300, 1):
        rows = {row.name: row for row in anatomy(architecture, image, classes)}
        shapes, parameters, multiply_adds = observe(architecture, image, classes)
        assert {name: row.output for name, row in rows.items()} == shapes, architecture
        assert {name: row.parameters for name, row in rows.items()} == parameters, architecture
        assert {name: row.multiply_adds for name, row in rows.items()} == multiply_adds
        assert sum(row.share for row in rows.values()) == pytest.approx(1)


def observe(
    architecture: Architecture, image: tuple[int, int, int], classes: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, int], dict[str, int]]:
    """Output shape, own parameters and multiply-adds of each module, by its name in the table."""
    model = build(architecture, image, classes).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    parameters: dict[str, int] = {}
    multiply_adds: dict[str, int] = {}

    def watch(name: str, module: torch.nn.Module) -> None:
        def hook(_module: torch.nn.Module, _inputs: tuple[torch.Tensor], out: torch.Tensor) -> None:
            assert name not in shapes, f"two modules named {name}"
            shapes[name] = tuple(out.shape[1:])
            multiply_adds[name] = 0
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                # Each output value is a sum over one filter, or row, of the weights.
                multiply_adds[name] = module.weight[0].numel() * out[0].numel()

        module.register_forward_hook(hook)
        parameters[name] = sum(p.numel() for p in module.parameters(recurse=False))

    for path, module in model.named_modules():
        name = path.rpartition(".")[2]
        if name not in ("", "main", "shortcut"):
            watch(name, module)
    model(torch.zeros(2, *image))
    assert sum(parameters.values()) == sum(p.numel() for p in model.parameters())
    return shapes, parameters, multiply_adds


def test_formulas_give_what_they_stand_beside(
    random_cases: Callable[[int, int], list[Any]],
) -> None:
    for architecture, image, classes in random_cases(100, 2):
        for row in anatomy(architecture, image, classes):
            if row.computed:
                assert eval(row.computed) == row.parameters == row.weights + row.biases
            for formula in filter(None, row.size.split(", ")):
                left, right = formula.split(" = ")
                assert eval(left, {"floor": math.floor}) == int(right)
                assert int(right) in row.output


BASELINE = (
    "--family cnn --channels 32 64 --kernel-sizes 3 3 --padding 0 --hidden 120 84 "
    "--image 1x28x28 --classes 10"
)
ROOT = Path(__file__).parents[2]


def run(arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "models.anatomy", *arguments.split()]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_command_as_a_process() -> None:
    done = run(BASELINE)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert re.search(r"^total +221 950 +100\.0 %", done.stdout, re.MULTILINE)
    assert "(28 - 3 + 2*0)/1 + 1 = 26" in done.stdout
    refused = run("--channels 8 8 8 8 --padding 0")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    assert "convolution 4 (3x3, padding 0) does not fit its input of 1x1" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (BASELINE, 221_950),
        (f"{BASELINE} --batch-norm", 221_950 + 192),
        (f"{BASELINE} --batch-norm 2", 221_950 + 128),
        ("--channels 128 128 128 --kernel-sizes 3 3 3 --padding 0 --hidden 128", 314_250),
        ("--channels 6 16 --kernel-sizes 5 --padding 2 0 --pool average --hidden 120 84", 61_706),
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


@pytest.mark.parametrize("form", ["", " --json"])
def test_a_reader_that_leaves_early_causes_no_traceback(form: str) -> None:
    command = [sys.executable, "-m", "models.anatomy", *(BASELINE + form).split()]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_deep_residual_table_has_one_line_a_layer_in_100_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = (
        "--channels 32 32 64 64 64 128 128 128 128 --batch-norm --residual --pool-after auto "
        "--image 3x32x32"
    )
    main(arguments.split())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert all(re.match(r"[a-z_]+\d* +[\dx]+( |$)", line) for line in lines[2:-2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "'channels' is missing"),
        ("--channels 32 0", "channels must be a list of whole numbers from 1 up, but got [32, 0]"),
        ("--channels x", "--channels: invalid int value: 'x'"),
        ("--channels 8 --image 28x28", "3x32x32, but got '28x28'"),
        ("--channels 8 --image 0x28x28", "each from 1 up, but got [0, 28, 28]"),
        ("--channels 8 --classes 1", "at least 2 classes, but got 1"),
        ("--channels 8 --padding valid", "numbers or same, but got 'valid'"),
        ("--channels 8 8 --padding same 2", "padding must be"),
        ("--channels 8 --padding -1", "padding must be"),
        ("--channels 8 --pool-after often", "every / auto / none, but got 'often'"),
        ("--channels 8 --pool-after 2", "from 1 to 1"),
        ("--channels 8 --activation swish", "'swish'"),
        ("--channels 8 --dropout 0.5", "unknown key 'dropout' for family 'cnn'"),
        ("--channels 8 --dropout-linear 1", "dropout_linear must be at least 0 and below 1"),
        ("--channels 8 --dropout-linear nan", "below 1, but got nan"),
        ("--family mlp --hidden 8 --channels 8", "unknown key 'channels' for family 'mlp'"),
        ("--family rnn", "'rnn'"),
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
    examples = re.findall(r"^ +python -m models.anatomy (.+)$", text, re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        main(example.split())


def test_counting_needs_no_torch() -> None:
    probe = (
        "import sys, models.anatomy as a; from models import MLPConfig; "
        "a.anatomy(MLPConfig(hidden=(4,)), (1, 8, 8), 10); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, timeout=60)
    assert done.returncode == 0
