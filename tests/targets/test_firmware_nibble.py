"""conv_nibble.c with its loops by hand, on processors that QEMU plays: shapes of which it treats some part differently, with
both schedules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onebit.export import firmware
from onebit.packed import file, reference
from support import boards
from support.forms import Form, layered

pytestmark = boards.NEEDED

FORMS = {
    "pixels beyond the width, moved twice": Form(side=(3, 3), channels=8),
    "one pixel": Form(side=(1, 1), channels=16),
    "an odd number of tuples": Form(side=(5, 12), channels=24, outputs=8),
    "a second block of tables": Form(side=(9, 16), channels=16, stride=2, outputs=32),
    "tuples that do not fit": Form(side=(6, 12), channels=8, stride=2),
    "more channels than 16 bits hold": Form(side=(3, 5), channels=272, outputs=8),
    "channels by fours": Form(side=(5, 8), channels=12, outputs=9),
    "padding that hides the map": Form(side=(5, 6), channels=8, padding=(4, 4, 5, 4)),
    "a stream": Form(side=(4, 9), channels=16, stream=True),
    "zeros that are none": Form(side=(5, 7), channels=16, zero=7),
}


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_shapes(form: Form, core: str, tmp_path: Path) -> None:
    case = layered(form)
    packed = file.decode(case.content)
    for low_memory in (False, True):
        folder = tmp_path / str(low_memory)
        firmware.export(packed, folder, core=core, low_memory=low_memory, pictures=case.pictures)
        assert (folder / "onebit" / "conv_nibble.c").exists()
        answers, _, _ = boards.run(folder, core)
        np.testing.assert_array_equal(answers, reference.run(packed.program, case.pictures))
