"""What a convolutional configuration may hold, and how shorthand is written out."""

from typing import Any

import pytest

from models import ArchitectureError, ConvNetConfig


def test_shorthand_is_one_value_for_each_convolution() -> None:
    config = ConvNetConfig(channels=(4, 8, 8))
    assert (config.kernels, config.paddings) == ((3, 3, 3), (1, 1, 1))
    config = ConvNetConfig(channels=(4, 8), kernel_sizes=(5, 3))
    assert (config.kernels, config.paddings) == ((5, 3), (2, 1))
    config = ConvNetConfig(channels=(4, 8), kernel_sizes=(4,), padding=1)
    assert (config.kernels, config.paddings) == ((4, 4), (1, 1))
    assert ConvNetConfig(channels=(6, 16), padding=(2, 0)).paddings == (2, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": ()}, "channels must have an entry for at least one convolution"),
        ({"channels": 32}, "channels must be a list of whole numbers from 1 up, but got 32"),
        ({"channels": (8, True)}, r"channels .* but got \[8, True\]"),
        ({"channels": (8, 2.5)}, r"channels .* but got \[8, 2.5\]"),
        ({"channels": (8, 0)}, r"channels .* but got \[8, 0\]"),
        ({"channels": (8, 8, 8), "kernel_sizes": (3, 3)}, "1 or 3 entries for 3 convolutions"),
        ({"kernel_sizes": (3, -3)}, r"kernel_sizes .* from 1 up, but got \[3, -3\]"),
        ({"kernel_sizes": (3, 4)}, "odd kernels, but got 4 for convolution 2"),
        ({"padding": "valid"}, "padding must be 'same', .* but got 'valid'"),
        ({"padding": True}, "padding must be .* but got True"),
        ({"padding": (1, 1, 1)}, "padding must have 2 entries for 2 convolutions, but has 3"),
        ({"padding": (1, -1)}, r"padding .* from 0 up, but got \[1, -1\]"),
        ({"batch_norm": "yes"}, "batch_norm .* but got 'yes'"),
        ({"batch_norm": (3,)}, r"batch_norm must name convolutions from 1 to 2, .* got \[3\]"),
        ({"batch_norm_place": "before"}, "batch_norm_place must be one of conv, pool"),
        ({"activation": "swish"}, "activation must be one of relu, .* but got 'swish'"),
        ({"pool": 2}, "pool must be one of max, average, but got 2"),
        ({"pool_after": "sometimes"}, "pool_after must be one of auto, every, a list"),
        ({"pool_after": (2, 1)}, r"pool_after .* in rising order, but got \[2, 1\]"),
        ({"pool_after": (1, 1)}, r"pool_after .* each once .* but got \[1, 1\]"),
        ({"pool_after": True}, "pool_after must be a list .* but got True"),
        ({"residual": 1}, "residual must be true or false, but got 1"),
        ({"head": "mean"}, "head must be one of flatten, global"),
        ({"hidden": (0,)}, r"hidden .* but got \[0\]"),
        ({"dropout_conv": 1.0}, "dropout_conv must be at least 0 and below 1, but got 1.0"),
        ({"dropout_linear": -0.1}, "dropout_linear must be at least 0"),
        ({"dropout_linear": float("nan")}, "dropout_linear .* but got nan"),
        ({"dropout_linear": "0.5"}, "dropout_linear must be a number, but got '0.5'"),
    ],
)
def test_wrong_values_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchitectureError, match=message) as caught:
        ConvNetConfig(**{"channels": (8, 8), **fields})
    assert "\n" not in str(caught.value)
