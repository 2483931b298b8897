"""The waist: a trained network as one file of bits and integers, and what it means to the last bit. No torch.

Read in this order: `program` (the six operations), `reference` (what they compute), `file` (how they are stored); then
`lower` with `chain`, `pooling`, `ranges` and `constants` (a graph of real numbers becomes a program). `calibration` fits the
probabilities. What users load is `onebit.model`, which computes with `onebit.engine`.
"""
