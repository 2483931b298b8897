"""The README of a firmware folder."""

from __future__ import annotations

from onebit import __version__
from onebit.export.firmware.footprint import Footprint
from onebit.export.firmware.generate import comment
from onebit.export.firmware.plan import Plan
from onebit.packed.file import Packed


def text(packed: Packed, plan: Plan, name: str, core: str, need: Footprint) -> str:
    """README.md."""
    channels, height, width = packed.program.input.shape
    upper = name.upper()
    about = comment(f"- {key}: {value}".replace("\n", " ") for key, value in sorted(packed.about.items()))
    schedule = "row by row where that saves memory" if need.low_memory else "layer after layer"
    return f"""# {name}

A network whose every weight is one bit, as C. Made by onebit {__version__} from `model.onebit`, which lies here too.

| | |
|---|---|
| picture | {height} x {width} x {channels}, raw pixels 0..255 |
| classes | {len(packed.classes)} |
| flash | {need.flash:,} bytes: {need.constants:,} of constants, {need.code:,} of code |
| RAM | {need.ram:,} bytes: {need.arena:,} of arena, {need.stack:,} of stack |
| measured on | {core}, {need.measured} |
| schedule | {schedule} |

Constants and arena are exact for machines of 32 bits; code and stack depend on the compiler.

## Into a project

Add `{name}.c` and `onebit/*.c` to its sources and `onebit/` to its include paths; C99, no libraries.

```c
#include "{name}.h"

static uint64_t arena[{upper}_ARENA / 8];
int32_t logits[{upper}_CLASSES];

memcpy({name}_picture(arena), pixels, {upper}_PICTURE);
int k = {name}_run(arena, logits); /* {name}_classes[k] */
```

No heap, no stdio, no float, no static variables: two networks may share one arena, one after the other. All data without
`const` is what the caller passes.

## Proof

`make` compiles and runs the self-test here; `make run CORE=cortex-m4` on a board that QEMU plays (`boards/`). The logits must
be those recorded, to the last bit. `onebit verify model.onebit .` compares on a whole test set.

## Files

| | |
|---|---|
| `{name}.h`, `{name}.c` | the network: its interface, its constants and layers |
| `onebit/` | the runtime and the kernels that it uses |
| `selftest.c`, `selftest_data.h`, `host.c`, `boards/` | tests; leave them out of a product |
| `model.onebit` | the packed model |

## Model

{about}

The code is under the MIT licence, by the onebit authors.
"""
