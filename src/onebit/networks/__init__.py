"""The paper's networks, each built from a recipe's ``[network]`` table by `build`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onebit.networks.wide_resnet import build, parameter_count

if TYPE_CHECKING:
    from onebit.recipe import Network

__all__ = ["Network", "build", "parameter_count"]
