"""The paper's networks, each built from a recipe's ``[network]`` table by `build`."""

from onebit.networks.wide_resnet import build, parameter_count
from onebit.recipe import Network

__all__ = ["Network", "build", "parameter_count"]
