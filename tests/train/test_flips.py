"""Signs and their flips, counted by hand."""

from __future__ import annotations

import torch
from torch import nn

from onebit.binary import binarize, latent_weight
from onebit.train.flips import share_of_flips, signs_of


def test_flips_are_counted_in_each_1_bit_layer() -> None:
    net = binarize(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1), nn.Linear(1, 1)), exclude="2")
    first, second = latent_weight(net[0]), latent_weight(net[1])  # type: ignore[index]
    with torch.no_grad():
        first.copy_(torch.tensor([[1.0, -1.0, 0.0, 2.0], [-3.0, 1.0, 1.0, -0.5]]))
        second.fill_(1.0)
    before = signs_of(net)
    assert before["0"].tolist() == [[True, False, True, True], [False, True, True, False]]  # sign(0) is +1
    with torch.no_grad():
        first[0] *= -1  # the 0 becomes -0.0, which is no other sign
        second += 1
    assert share_of_flips(before, signs_of(net)) == {"0": 3 / 8, "1": 0.0}
    assert share_of_flips({}, signs_of(nn.Linear(2, 2))) == {}
