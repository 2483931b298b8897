"""The waist: a trained network as one file of bits and integers, and what it means to the last bit. No torch.

Read in this order: `program` (the six operations), `reference` (what they compute), `file` (how they are stored), `graph`
(a network in real numbers), `lower` (graph to program). `trace` (from torch) and `author` (from the .mat files of the
paper's author) make graphs; `model` is what users load.
"""
