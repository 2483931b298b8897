"""conv_helium.c on a Cortex-M55 that QEMU plays: shapes of which it treats some part differently, with both schedules."""

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
    "a row narrower than a block": Form(side=(33, 2), channels=130),
    "one pixel, five channels": Form(side=(1, 1), channels=5),
    "bands that end early": Form(side=(13, 31), channels=48, stride=2, outputs=31),
    "an odd output": Form(side=(7, 5), channels=17, outputs=9),
    "stride 3": Form(side=(9, 9), channels=16, stride=3),
    "rows that no window sees": Form(side=(20, 20), channels=20, stride=7),
    "padding": Form(side=(8, 8), channels=8, padding=(0, 2, 3, 1)),
    "a limit": Form(side=(28, 28), channels=16, limit=15),
    "offsets": Form(side=(8, 8), channels=16, offsets=True),
    "padding that hides the map": Form(side=(5, 6), channels=8, padding=(4, 4, 5, 4)),
    "a stream": Form(side=(8, 8), channels=32, stream=True),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_shapes(form: Form, tmp_path: Path) -> None:
    case = layered(form)
    packed = file.decode(case.content)
    for low_memory in (False, True):
        folder = tmp_path / str(low_memory)
        firmware.export(packed, folder, core="cortex-m55", low_memory=low_memory, pictures=case.pictures)
        assert (folder / "onebit" / "conv_helium.c").exists()
        answers, _, _ = boards.run(folder, "cortex-m55")
        np.testing.assert_array_equal(answers, reference.run(packed.program, case.pictures))
