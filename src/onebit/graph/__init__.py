"""A network in real numbers, as packing sees it: `nodes` says what it is and computes it.

`trace` with `torch_layers` makes one of a torch module (the only files here that import torch), `author` of the .mat files
that the paper's author published.
"""
