"""Does one form of a network answer as another? Any two of checkpoint, packed model and export, on pictures.

`sides` finds out what a path is and how it is run, `pair` compares two. Torch is imported only for a checkpoint.
"""

from onebit.verify.pair import Verdict, verify
from onebit.verify.sides import Side, open_side

__all__ = ["Side", "Verdict", "open_side", "verify"]
