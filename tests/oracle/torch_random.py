#!/usr/bin/env python3
"""Writes tests/fixtures/random.json: what torch.randn, torch.rand and exponential_ draw, call after call, from one seed.

    pip install torch; python tests/oracle/torch_random.py
"""

import json
import os

import torch

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
MOST = 96

NORMAL, UNIFORM, EXPONENTIAL = "normal", "uniform", "exponential"
# A seed and the calls that follow it.
CASES = [(0, [(NORMAL, n)]) for n in (1, 3, 15, 16, 17, 31, 33, 1000, 4 * 64 * 64)]
CASES += [(seed, [(NORMAL, 4 * 64 * 64)]) for seed in (1, 42, 1234, 2**32 - 1, 2**32 + 42, 2**63 + 5, 2**64 - 1)]
MIXED = [(NORMAL, 3), (NORMAL, 17), (NORMAL, 1), (UNIFORM, 5), (NORMAL, 15), (NORMAL, 16), (NORMAL, 2), (UNIFORM, 700)]
CASES += [(seed, MIXED + [(NORMAL, 1000), (NORMAL, 1)]) for seed in (9, 2024)]
CASES += [(7, [(EXPONENTIAL, 1), (UNIFORM, 3), (EXPONENTIAL, 17), (NORMAL, 5), (EXPONENTIAL, 100_000)])]


def call(generator, kind, length):
    if kind == EXPONENTIAL:
        values = torch.empty(length).exponential_(1, generator=generator)
    else:
        values = (torch.randn if kind == NORMAL else torch.rand)(length, generator=generator)
    # Long ones by samples; the sum of all guards the rest.
    stride = -(-len(values) // MOST)
    return {
        "kind": kind,
        "length": length,
        "stride": stride,
        "samples": [float(f"{v:.9g}") for v in values[::stride].tolist()],
        "last": [float(f"{v:.9g}") for v in values[-20:].tolist()],
        "sum": values.double().sum().item(),
    }


cases = []
for seed, calls in CASES:
    generator = torch.Generator().manual_seed(seed if seed < 2**63 else seed - 2**64)
    cases.append({"seed": str(seed), "calls": [call(generator, *made) for made in calls]})
with open(os.path.join(OUT, "random.json"), "w") as file:
    json.dump(cases, file, separators=(",", ":"))
