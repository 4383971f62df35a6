#!/usr/bin/env python3
"""Writes tests/fixtures/random.json: what torch.randn and torch.rand draw, call after call, from one seed.

    pip install torch; python tests/oracle/torch_random.py
"""

import json
import os

import torch

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
MOST = 96

# A seed and the calls that follow it: a length of randn, or of rand where it is negative.
CASES = [(0, [n]) for n in (1, 3, 15, 16, 17, 31, 33, 1000, 4 * 64 * 64)]
CASES += [(seed, [4 * 64 * 64]) for seed in (1, 42, 1234, 2**32 - 1, 2**32 + 42, 2**63 + 5, 2**64 - 1)]
CASES += [(seed, [3, 17, 1, -5, 15, 16, 2, -700, 1000, 1]) for seed in (9, 2024)]


def call(generator, length):
    draw = torch.randn if length > 0 else torch.rand
    values = draw(abs(length), generator=generator)
    # Long ones by samples; the sum of all guards the rest.
    stride = -(-len(values) // MOST)
    return {
        "length": length,
        "stride": stride,
        "samples": [float(f"{v:.9g}") for v in values[::stride].tolist()],
        "last": [float(f"{v:.9g}") for v in values[-20:].tolist()],
        "sum": values.double().sum().item(),
    }


cases = []
for seed, lengths in CASES:
    generator = torch.Generator().manual_seed(seed if seed < 2**63 else seed - 2**64)
    cases.append({"seed": str(seed), "calls": [call(generator, length) for length in lengths]})
with open(os.path.join(OUT, "random.json"), "w") as file:
    json.dump(cases, file, separators=(",", ":"))
