"""Families made from a user's function, and the errors if one fails."""

# ruff: noqa: ARG001, ARG005

import json
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models import (
    FAMILIES,
    ArchitectureError,
    Family,
    build,
    family_from_function,
    from_dict,
    to_dict,
)
from models.own_network import check_network
from models.summary import anatomy, count_parameters

GREY = (1, 8, 8)


def pyramid(
    image_shape: Any, classes: int, *, width: int = 4, widths: tuple[int, ...] = (), rate: float
) -> nn.Module:
    """Two convolutions.

    More.
    """
    inner = nn.Sequential(nn.LazyConv2d(width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(inner, nn.Flatten(), nn.Dropout(rate), nn.LazyLinear(classes))


@pytest.fixture
def register() -> Iterator[Callable[[Callable[..., Any]], Family]]:
    def enter(function: Callable[..., Any]) -> Family:
        FAMILIES["mynet.py:build"] = family_from_function("mynet.py:build", function)
        return FAMILIES["mynet.py:build"]

    yield enter
    FAMILIES.pop("mynet.py:build", None)


def test_keyword_arguments_are_parameters(register: Any) -> None:
    family = register(pyramid)
    assert family.description == "Two convolutions."
    kinds = {name: one.kinds for name, one in family.parameters.items()}
    assert kinds == {"width": (int,), "widths": (tuple,), "rate": (float,)}
    assert [name for name, one in family.parameters.items() if one.required] == ["rate"]
    with pytest.raises(ArchitectureError, match=r"mynet.py:build needs rate; give it in \[space\]"):
        family.configured({"width": 8})
    config = family.configured({"width": 8, "rate": 0.25, "batch_size": 3})
    assert to_dict(config) == {"family": "mynet.py:build", "width": 8, "widths": [], "rate": 0.25}
    assert from_dict(to_dict(config)) == config
    assert from_dict({"family": "mynet.py:build", "width": 8, "rate": 0.25}) == config
    with pytest.raises(ArchitectureError, match="key 'rate' is missing for family 'mynet"):
        from_dict({"family": "mynet.py:build", "width": 8})
    assert pickle.loads(pickle.dumps(config)) == config
    assert asdict(config) == {"width": 8, "widths": (), "rate": 0.25}


def test_a_configuration_keeps_its_family_when_that_is_registered_again(register: Any) -> None:
    def edited(image_shape: Any, classes: int, *, values: int = 4) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, values), nn.Linear(values, classes))

    def again(image_shape: Any, classes: int, *, values: int = 4) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

    register(edited)
    config = from_dict({"family": "mynet.py:build"})  # an argument may be named as a method
    assert count_parameters(config, GREY, 10) == 65 * 4 + 5 * 10
    register(again)
    assert to_dict(config) == {"family": "mynet.py:build", "values": 4}
    assert count_parameters(config, GREY, 10) == 65 * 10
    assert len(list(build(config, GREY, 10).parameters())) == 2
    del FAMILIES["mynet.py:build"]
    with pytest.raises(ArchitectureError, match=r"the family of mynet.py:build\(values=4\) is unk"):
        to_dict(config)


@pytest.mark.parametrize("stages", [((4, 1), (2, 3)), [[4, 1], [2, 3]]])
def test_a_default_may_be_a_list_of_lists(register: Any, stages: Any) -> None:
    def staged(image_shape: Any, classes: int, *, stages: Any = stages) -> nn.Module:
        widths = [width for width, times in stages for _ in range(times)]
        return nn.Sequential(nn.Flatten(), *map(nn.LazyLinear, [*widths, classes]))

    config = register(staged).configured({})
    assert asdict(config) == {"stages": ((4, 1), (2, 3))}
    again = from_dict(json.loads(json.dumps(to_dict(config))))
    assert again == config
    assert count_parameters(again, GREY, 10) == 65 * 4 + 5 * 2 + 3 * 2 + 3 * 2 + 3 * 10


def test_layers_are_seen_through_hooks_and_lazy_ones_are_initialised(register: Any) -> None:
    config = register(pyramid).configured({"rate": 0.0})
    rows = {row.name: row for row in anatomy(config, GREY, 10)}
    assert [row.output for row in rows.values()][-1] == (10,)
    assert count_parameters(config, GREY, 10) == 4 * 9 + 4 + 4 * 16 * 10 + 10
    network = build(config, GREY, 10)
    assert network.training
    assert network(torch.zeros(3, *GREY)).shape == (3, 10)


class Shared(nn.Module):
    """Two layers that share a weight, made outside `meta`, one of them used twice, and one never;
    a parameter and products of the parent's own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        weight = nn.Parameter(torch.from_numpy(np.eye(8, dtype=np.float32)))
        self.twice, self.once, self.never = (nn.Linear(8, 8) for _ in range(3))
        self.twice.weight = self.once.weight = weight
        self.output = nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows_NHW = self.twice(self.twice(images[:, 0]))
        logits: torch.Tensor = self.output(self.once(rows_NHW @ rows_NHW).mean(1))
        return logits * self.scale.sum()


def test_parameters_count_once_and_work_where_and_as_often_as_it_is_done(register: Any) -> None:
    config = register(lambda image_shape, classes: Shared()).configured({})
    rows = {row.name: row for row in anatomy(config, GREY, 10)}
    assert count_parameters(config, GREY, 10) == sum(p.numel() for p in Shared().parameters())
    assert (rows["Shared"].parameters, rows["never"].output) == (5, ())
    assert {name: row.multiply_adds for name, row in rows.items()} == {
        "twice": 2 * 8**3, "once": 8**3, "output": 80, "Shared": 8**3, "never": 0,
    }  # fmt: skip


class Viewed(nn.Module):
    """Maps of a convolution are viewed as rows, which their layout in training rules out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.output = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images).relu()
        logits: torch.Tensor = self.output(maps.view(maps.size(0), -1))
        return logits


class NeedsValues(nn.Module):
    """Layers with kernels of their own on a CPU, and something that `meta` cannot do."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.output = nn.Linear(8, 10)
        if what == "item in build":
            self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
        if what == "numpy":
            self.register_buffer("q", torch.from_numpy(np.linalg.qr(torch.randn(9, 4).numpy())[0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.attention(self.lstm(images[:, 0])[0]).mean(1)
        if self.what == "item":
            rows = rows / (1 + rows.abs().max().item())
        if self.what == "mask":
            rows[rows[:, 0] > 0] *= 2
        logits: torch.Tensor = self.output(rows)
        return logits


@pytest.mark.parametrize("what", ["item in build", "numpy", "item", "mask"])
def test_a_network_that_needs_values_is_counted_on_the_cpu_once(register: Any, what: str) -> None:
    built = list[str]()

    def make(image_shape: Any, classes: int, *, what: str) -> nn.Module:
        built.append(what)
        return NeedsValues(what)

    family, before = register(make), torch.get_rng_state()
    rows = anatomy(family.configured({"what": what}), GREY, 10)
    assert rows == anatomy(family.configured({"what": "nothing"}), GREY, 10)
    assert torch.equal(torch.get_rng_state(), before)
    assert built == [what, what, "nothing"]
    assert anatomy(family.configured({"what": what}), GREY, 10) is rows
    check_network(family.configured({"what": what}), GREY, 10)
    assert torch.backends.mha.get_fastpath_enabled()


class Rescaled(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images / images.max().item()


def raising() -> nn.Module:
    raise RuntimeError("no\nway")


def raising_late() -> nn.Module:
    torch.ones(()).item()
    raise ValueError("later")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (raising, "building it raised RuntimeError: no"),
        (raising_late, "building it raised ValueError: later"),
        (  # too large for a second try on the CPU
            lambda: nn.Sequential(nn.Flatten(), Rescaled(), nn.Linear(64, 10**9)),
            "more than 1000000000 parameters, from 2 on",
        ),
        (lambda: 3, "must return a torch.nn.Module, but returned int"),
        (nn.Flatten, r"logits of shape \(N, 10\), but gave 64"),
        (lambda: nn.LSTM(8, 10), "one tensor of logits|LSTM|layer"),
        (lambda: nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10)), "no parameters"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 10)), "layer 1 raised RuntimeError"),
        (Viewed, "layer Viewed raised RuntimeError: view.* Use .reshape"),
    ],
)
def test_a_failing_network_says_where_and_why(register: Any, make: Any, says: str) -> None:
    family = register(lambda image_shape, classes: make())
    with pytest.raises(ArchitectureError, match=says) as caught:
        build(family.configured({}), GREY, 10)
    assert str(caught.value).startswith("mynet.py:build: ")
    assert "\n" not in str(caught.value)


class Keeping(nn.Module):
    """A linear layer of random features, and a counter, kept in one way or another."""

    def __init__(self, kept: str) -> None:
        super().__init__()
        self.kept, self.output = kept, nn.Linear(5, 10)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("cache", None, persistent=False)  # as of masks, filled when needed
        if kept == "attribute":
            self.features = torch.randn(64, 5)
        else:
            self.register_buffer("features", torch.randn(64, 5))
        if kept == "complex":
            self.waves = nn.Parameter(torch.ones(2, dtype=torch.cfloat))

    def forward(self, images: torch.Tensor) -> Any:
        self.cache = torch.ones(()) if self.cache is None else self.cache
        if self.training:
            self.count = self.count + 1 if self.kept == "replaced" else self.count.add_(1)
        logits = self.output(images.flatten(1) @ self.features) / (self.cache + self.count)
        return (logits, logits) if self.training and self.kept == "two" else logits


class Stating(Keeping):
    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 0}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ("state", r"it saves '_extra_state', which is no .* keep it with self.register_buffer"),
        ("complex", "'waves' is complex; keep torch.view_as_real of it"),
        ("attribute", r"it is another network, .* keep each tensor with self.register_buffer"),
        ("replaced", r"a step replaces buffer 'count'; write into it instead: self.count.copy_"),
        ("two", r"in training mode, it must give one tensor of logits \(N, classes\)"),
    ],
)
def test_a_network_that_its_saved_weights_would_not_give_back_is_refused(
    register: Any, kept: str, says: str
) -> None:
    own, before = {"state": Stating}, torch.get_rng_state()
    family = register(lambda image_shape, classes, kept: own.get(kept, Keeping)(kept))
    check_network(family.configured({"kept": "buffer"}), GREY, 10)
    with pytest.raises(ArchitectureError, match=f"^mynet.py:build: .*{says}"):
        check_network(family.configured({"kept": kept}), GREY, 10)
    assert torch.equal(torch.get_rng_state(), before)


SHARED = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
UNITS = count(2)  # of the next network's hidden layer


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SHARED, "returned the same network twice; build a new one each time"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, n := next(UNITS)), nn.Linear(n, 10)),
            "has tensors of other names or shapes; for the same arguments, its function must build",
        ),
        (lambda: sys.exit(0), "building it raised SystemExit: 0"),
    ],
)
def test_a_function_must_build_the_same_network_anew_each_time(
    register: Any, make: Callable[[], nn.Module], says: str
) -> None:
    family = register(lambda image_shape, classes: make())
    with pytest.raises(ArchitectureError, match=says):
        check_network(family.configured({}), GREY, 10)


class Dropping(nn.Module):
    """Drops its layer by chance, by a generator that it was built with; or only builds with it."""

    def __init__(self, rng: Any, draw: Any) -> None:
        super().__init__()
        self.rng, self.draw = rng, draw
        self.order = rng.sample(range(9), 9) if isinstance(rng, random.Random) else None
        self.layer, self.output = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.flatten(1)
        drops = self.training and self.draw is not None and self.draw(self.rng) < 0.5
        logits: torch.Tensor = self.output(x if drops else self.layer(x))
        return logits


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: np.random.default_rng(0), lambda rng: rng.random()),
        (lambda: random.Random(0), lambda rng: rng.random()),
        (torch.Generator, lambda rng: torch.rand((), generator=rng)),
    ],
)
def test_a_network_that_draws_from_a_generator_of_its_own_is_refused(
    register: Any, make: Any, draw: Any
) -> None:
    family = register(
        lambda image_shape, classes, how="draws": Dropping(make(), {"draws": draw}.get(how))
    )
    check_network(family.configured({"how": "builds"}), GREY, 10)
    with pytest.raises(ArchitectureError, match=r"draws from a random generator of its own, .* de"):
        check_network(family.configured({}), GREY, 10)


def test_a_function_that_makes_no_family_is_refused() -> None:
    for function, says in (
        (lambda: None, "build"),
        (lambda image_shape, classes, kind=nn.ReLU: None, "its argument kind"),
        (
            lambda image_shape, classes, kinds=(1, (nn.ReLU,)): None,
            r"its argument kinds = \[1, \[<",
        ),
        (3, "build"),
    ):
        with pytest.raises(ArchitectureError, match=says):
            family_from_function("mynet.py:build", function)  # type: ignore[arg-type]
