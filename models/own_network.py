"""What a user's network must do to be trained, stored and resumed."""

from __future__ import annotations

import pickle
import random
from functools import lru_cache
from typing import TYPE_CHECKING

from models import BUILT_IN, Architecture, ArchitectureError, build, family_name
from models.checks import first_line
from models.family import ImageShape
from models.summary import BATCH, anatomy

if TYPE_CHECKING:
    from torch import nn


@lru_cache(maxsize=4096)
def check_network(architecture: Architecture, image_shape: ImageShape, classes: int) -> None:
    """Check that it can be built; and of a user's, that saved weights give the network back.

    What it has drawn or measured may be in plain attributes, which no checkpoint holds. Raises
    ArchitectureError.
    """
    import torch
    from torch import Tensor

    anatomy(architecture, image_shape, classes)
    if (name := family_name(architecture)) in BUILT_IN:
        return

    def run(network: nn.Module) -> Tensor:
        torch.default_generator.manual_seed(0)
        output = network(images)
        if not isinstance(output, Tensor) or output.shape != (BATCH, classes):
            raise ArchitectureError("it must give one tensor of logits (N, classes)")
        return output

    doing = ""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        images = torch.rand(BATCH, *image_shape).to(memory_format=torch.channels_last)
        try:
            trained = build(architecture, image_shape, classes)
            torch.default_generator.manual_seed(2)
            if (restored := build(architecture, image_shape, classes)) is trained:
                told = "its function returned the same network twice; build a new one each time"
                raise ArchitectureError(told)
            doing = "in training mode, "
            places = {name: it.data_ptr() for name, it in trained.named_buffers()}
            generators = _own_generators(trained)
            run(trained)
            if _own_generators(trained) != generators:
                told = "it draws from a random generator of its own, which no checkpoint holds"
                raise ArchitectureError(f"{told}; draw with torch.rand(..., device=x.device)")
            now = {name: it.data_ptr() for name, it in trained.named_buffers()}
            for buffer, place in places.items():  # others are filled when they are first needed
                if now.get(buffer) != place:
                    told = f"a step replaces buffer {buffer!r}; write into it instead"
                    raise ArchitectureError(f"{told}: self.{buffer.rpartition('.')[2]}.copy_(...)")
            doing = ""
            _check_saved(trained)
            doing = "restored from its saved weights, "
            try:
                restored.load_state_dict(trained.state_dict())
            except RuntimeError as error:
                raise ArchitectureError(
                    "it has tensors of other names or shapes; for the same arguments, its function "
                    "must build the same network"
                ) from error
            with torch.no_grad():
                ours, theirs = run(trained.eval()), run(restored.eval())
            if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5, equal_nan=True):
                raise ArchitectureError(
                    "it is another network, because it keeps numbers outside its parameters and "
                    "buffers; keep each tensor with self.register_buffer(name, tensor)"
                )
        except (Exception, SystemExit) as error:  # of any kind: the code is the user's own
            told = str(error)
            if not isinstance(error, ArchitectureError):
                told = f"it raised {type(error).__name__}: {first_line(error)}"
            raise ArchitectureError(f"{name}: {doing}{told}") from error


def _check_saved(network: nn.Module) -> None:
    """Of what it saves, refuse what cannot be averaged, trained by fused optimisers or stored."""
    from torch import Tensor

    for key, saved in network.state_dict().items():
        if not isinstance(saved, Tensor) or key.rpartition(".")[2] == "_extra_state":
            told = "is no parameter or buffer; keep it with self.register_buffer(name, tensor)"
            raise ArchitectureError(f"it saves {key!r}, which {told}, not with get_extra_state")
        if saved.is_complex():
            told = "keep torch.view_as_real of it, and use torch.view_as_complex in forward"
            raise ArchitectureError(f"{key!r} is complex; {told}")


def _own_generators(network: nn.Module) -> list[bytes]:
    """The states of the random generators that its modules keep as attributes."""
    import numpy as np
    import torch

    others = random.Random | np.random.Generator | np.random.RandomState
    kept = [it for module in network.modules() for it in vars(module).values()]
    # A pickle of torch's holds an address, too.
    torchs = [it.get_state().numpy().tobytes() for it in kept if isinstance(it, torch.Generator)]
    return torchs + [pickle.dumps(it) for it in kept if isinstance(it, others)]
