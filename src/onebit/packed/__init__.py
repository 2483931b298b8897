"""The waist: a trained network as one file of bits and integers, and what it means to the last bit. No torch.

Read in this order: `program` (the six operations), `reference` (what they compute), `file` (how they are stored); then
how a network becomes a program: `graph` (a network in real numbers), `lower` with `chain` and `constants` (graph to program).
`trace` and `torch_layers` (from torch, the only two that import it) and `author` (from the .mat files of the paper's author)
make graphs. `model` is what users load; `calibration`, `compare`, `evaluate`, `predict`, `inspect` and `record` look at it.
"""
