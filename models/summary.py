"""A network layer by layer: sizes, parameters, multiply-adds, without allocating memory for them.

The network runs on torch's `meta` device, which has shapes but no values. A user's that cannot,
because it needs values, runs on the CPU.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING

from models import BUILT_IN, FAMILIES, Architecture, ArchitectureError, family_name
from models.checks import by, first_line
from models.family import Family, ImageShape

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_PARAMETERS = 10**9  # 4 GB, and as much again for the gradient and each moment
MOST_VALUES = 10**8  # outputs of one layer for one image: 400 MB, times the batch
BATCH = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRow:
    """One layer; shapes omit the batch, multiply-adds are per image."""

    name: str
    kind: str  # of module: "Conv2d"
    output: tuple[int, ...]  # (channels, height, width) or (features,)
    parameters: int
    computed: str  # e.g. "64*32*3*3 + 64"
    multiply_adds: int  # of convolutions, linear layers and attention


def anatomy(
    architecture: Architecture, image_shape: ImageShape, classes: int
) -> tuple[LayerRow, ...]:
    """One row for each layer in running order; a block's row follows those of its parts.

    Raises ArchitectureError like `models.build`, whose modules have the same names.
    """
    name = family_name(architecture)
    if name in BUILT_IN:  # dropout's rates change nothing here, and many draws differ in them alone
        rates = [it.name for it in fields(architecture) if it.name.startswith("dropout")]
        equal = {rate: 0.5 for rate in rates if getattr(architecture, rate) > 0}
        architecture = replace(architecture, **equal)
    return _anatomy(name, FAMILIES[name], architecture, image_shape, classes)


@lru_cache(maxsize=4096)
def _anatomy(
    name: str,
    family: Family,
    architecture: Architecture,
    image_shape: ImageShape,
    classes: int,
    device: str = "meta",
) -> tuple[LayerRow, ...]:
    import torch
    from torch import nn

    running = ["building it"]  # the last entry is what runs now
    try:
        with torch.random.fork_rng(devices=[], enabled=name not in BUILT_IN):
            if device == "cpu":  # the same counts everywhere, whatever they depend on
                torch.default_generator.manual_seed(0)
            with torch.device(device):
                network = family.build(architecture, image_shape, classes)
            if not isinstance(network, nn.Module):
                got = f"returned {type(network).__name__}"
                raise ArchitectureError(f"its function must return a torch.nn.Module, but {got}")
            return tuple(_observe(network.eval(), image_shape, classes, running, device))
    except (Exception, SystemExit) as error:  # of any kind: the code may be the user's own
        reason = str(error)
        if not isinstance(error, ArchitectureError):
            told = first_line(error)
            reason = f"{running[-1]} raised {type(error).__name__}: {told}"
            if "overflow" in told.lower() or "can't allocate memory" in told:
                reason = "the network does not fit in memory; use smaller images or fewer units"
            elif device == "meta" and name not in BUILT_IN:  # with `.item()`, NumPy, masks
                return _anatomy(name, family, architecture, image_shape, classes, "cpu")
        origin = "" if name in BUILT_IN else f"{name}: "
        raise ArchitectureError(origin + reason) from error


def sizes(architecture: Architecture, image_shape: ImageShape, classes: int) -> dict[str, int]:
    """`parameters` and `multiply_adds` of the network. Raises ArchitectureError like `anatomy`."""
    rows = anatomy(architecture, image_shape, classes)
    return {
        "parameters": sum(row.parameters for row in rows),
        "multiply_adds": sum(row.multiply_adds for row in rows),
    }


def count_parameters(architecture: Architecture, image_shape: ImageShape, classes: int) -> int:
    """Trained weights and biases of the whole network. Raises ArchitectureError like `anatomy`."""
    return sizes(architecture, image_shape, classes)["parameters"]


def _observe(
    network: nn.Module, image_shape: ImageShape, classes: int, running: list[str], device: str
) -> list[LayerRow]:
    """The rows. A module with parameters that never runs has one without output."""
    import torch
    from torch import Tensor, nn
    from torch.nn.parameter import is_lazy
    from torch.utils.flop_counter import FlopCounterMode

    names = _names(network)
    parameters = defaultdict[nn.Module, list[str]](list)  # a shared one for the first that has it
    for path, _ in network.named_parameters():
        owner, _, name = path.rpartition(".")
        parameters[network.get_submodule(owner)].append(name)
    network.to(device)  # may separate what is shared
    outputs = dict[nn.Module, tuple[int, ...]]()  # of the first run of each
    flops = Counter[nn.Module]()
    formulas = {torch.ops.aten.mkldnn_rnn_layer: _lstm_layer}
    counter, counted = FlopCounterMode(display=False, custom_mapping=formulas), 0
    # As in training, where not every tensor can be viewed in any shape.
    layout = torch.channels_last
    inside = list[nn.Module]()  # the modules that run now, innermost last

    def credit() -> None:
        nonlocal counted
        before, counted = counted, counter.get_total_flops()
        if inside:
            flops[inside[-1]] += counted - before

    def enter(module: nn.Module, _inputs: object) -> None:
        credit()
        inside.append(module)
        running.append(f"layer {names[module]}")

    def leave(module: nn.Module, _inputs: object, output: object) -> Tensor | None:
        credit()
        inside.pop()
        running.pop()
        outputs.setdefault(module, tuple(output.shape[1:]) if isinstance(output, Tensor) else ())
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and isinstance(output, Tensor):
            return output.to(memory_format=layout)  # on `meta` convolutions lose it
        return None

    for module in names:
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    output = failure = None
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its operations are not counted
    try:
        with torch.no_grad(), counter:
            images = torch.zeros(BATCH, *image_shape, device=device)
            output = network(images.to(memory_format=layout))
    except Exception as error:  # after the check of what is known of its size
        failure = error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    rows = []
    for module in [*outputs, *(module for module in names if module not in outputs)]:
        own = [getattr(module, it) for it in parameters[module]]
        own = [it for it in own if failure is None or not is_lazy(it)]
        is_frame = isinstance(module, nn.Sequential) or module is network or module not in outputs
        if is_frame and not own and not flops[module]:
            continue
        sides = [tuple(it.shape[::-1] if it.ndim == 2 else it.shape) for it in own]
        rows.append(
            LayerRow(
                name=names[module],
                kind=type(module).__name__,
                output=outputs.get(module, ()),
                parameters=sum(tensor.numel() for tensor in own),
                computed=" + ".join("*".join(map(str, shape)) or "1" for shape in sides),
                multiply_adds=flops[module] // 2 // BATCH,
            )
        )
    _check_size(rows)
    if failure is not None:
        raise failure
    if not isinstance(output, Tensor) or output.shape[:1] != (BATCH,):
        raise ArchitectureError("the network must give one tensor of logits (N, classes)")
    if output.shape[1:] != (classes,):
        gave = f"(N, {classes}), but gave {by(output.shape[1:])}"
        raise ArchitectureError(f"the network must give logits of shape {gave}")
    if not any(row.parameters for row in rows):
        raise ArchitectureError("the network has no parameters to train; give it a layer")
    return rows


def _lstm_layer(
    inputs: Sequence[int], first: Sequence[int], second: Sequence[int], *_: object, **__: object
) -> int:
    """Operations of the CPU's own layer, which FlopCounterMode leaves out, from the shapes."""
    return 2 * prod(inputs[:2]) * (prod(first) + prod(second))


def _names(network: nn.Module) -> dict[nn.Module, str]:
    """Each module's name: the last part of its path, if that tells all of them apart."""
    from torch import nn

    paths = {module: path for path, module in network.named_modules()}
    shown = [path for module, path in paths.items() if not isinstance(module, nn.Sequential)]
    if len({path.rpartition(".")[2] for path in shown}) == len(shown):
        paths = {module: path.rpartition(".")[2] for module, path in paths.items()}
    return {module: path or type(module).__name__ for module, path in paths.items()}


def _check_size(rows: Sequence[LayerRow]) -> None:
    for row, so_far in zip(rows, accumulate(row.parameters for row in rows), strict=True):
        if prod(row.output) > MOST_VALUES:
            raise ArchitectureError(
                f"{row.name} would give {by(row.output)} values for an image, more than the limit "
                f"of {MOST_VALUES}; use fewer channels, less padding or more pooling"
            )
        if so_far > MOST_PARAMETERS:
            raise ArchitectureError(
                f"the network would have more than {MOST_PARAMETERS} parameters, from {row.name} "
                "on; use fewer channels or hidden units, smaller kernels, or more pooling"
            )
