"""Networks: pure functions from a configuration to a module. Knows no data and no search."""

from models.checks import ArchitectureError
from models.convnet import ConvNetConfig
from models.families import (
    FAMILIES,
    OwnConfig,
    build,
    family_from_function,
    family_of,
    from_dict,
    to_dict,
)
from models.family import Architecture, Family, Parameter
from models.mlp import MLPConfig
from models.resnet import ResNetConfig

__all__ = [
    "FAMILIES",
    "Architecture",
    "ArchitectureError",
    "ConvNetConfig",
    "Family",
    "MLPConfig",
    "OwnConfig",
    "Parameter",
    "ResNetConfig",
    "build",
    "family_from_function",
    "family_of",
    "from_dict",
    "to_dict",
]
