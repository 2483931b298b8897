"""The order of weights that kernels want, where the boards' tests do not see it: on this machine, with the portable C."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from onebit.export.firmware import layouts
from onebit.export.firmware.footprint import families
from onebit.packed import file, reference
from support import firmware as compiled
from support.forms import Form, layered

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")

FORMS = {
    "one chunk": Form(side=(8, 8), channels=16),
    "a part of the second": Form(side=(7, 9), channels=17, outputs=9, stride=2),
    "stride 3": Form(side=(9, 9), channels=40, stride=3),
}


@needs_cc
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_weights_for_helium(form: Form, tmp_path: Path) -> None:
    case = layered(form)
    packed = file.decode(case.content)
    plan, _ = compiled.laid_out(packed, families=families("cortex-m55"))
    assert any(kernel and kernel[0] == "helium" for kernel in plan.kernels)
    answers = compiled.logits(packed, case.pictures, tmp_path, families=families("cortex-m55"))
    np.testing.assert_array_equal(answers, reference.run(packed.program, case.pictures))


def test_bands_for_helium() -> None:
    """Of rows with 128 pixels, no higher than the map; of one row where memory is short."""
    for side, stride, rows in ((32, 1, 4), (16, 2, 2), (8, 1, 8), (4, 1, 4), (300, 1, 1)):
        source = (16, side * stride, side * stride)
        shape = layouts.ConvShape(source, (16, side, side), (3, 3), stride, 1, 1, "u8", False, 0, 255)
        assert layouts.chunks("helium", shape, False) == [rows]
        assert layouts.chunks("helium", shape, True) == [1]
