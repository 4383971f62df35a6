"""Folders that `kiln verify` reads, with weights by recipe: numbers that follow from their names, so that no file has to
hold them."""

import json
import os
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
MASK = (1 << 64) - 1


def recipe(key, count, scale, offset):
    """`count` numbers around `offset`, by FNV-1a of the key and splitmix64."""
    state = 0xCBF29CE484222325
    for byte in key.encode():
        state = (state ^ byte) * 0x100000001B3 & MASK
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    u = (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return (2 * u - 1) * np.float32(scale) + np.float32(offset)


def shape_of(name, tensor, others):
    """Scale and offset of a weight: norms around 1, matrices by their inputs, `others` by a part of their name."""
    if name.endswith("running_var"):
        return 0.5, 1.0
    if tensor.ndim == 1:
        is_norm = name.endswith("weight") and any(part in name for part in ("norm", ".gn", ".ln_"))
        return (0.2, 1.0) if is_norm else (0.1, 0.0)
    for part, shape in others.items():
        if part in name:
            return shape
    return (3.0 / tensor[0].numel()) ** 0.5, 0.0


def build(case, kind, config, seed, others={}):
    """A model of transformers with weights by recipe, its `config.json`, and the recipe."""
    with tempfile.TemporaryDirectory() as made:
        torch.manual_seed(0)
        kind(config).save_pretrained(made)
        path = os.path.join(made, "model.safetensors")
        entries, weights = [], {}
        for name, tensor in sorted(load_file(path).items()):
            if not tensor.is_floating_point():
                continue
            scale, offset = shape_of(name, tensor, others)
            values = recipe(f"{seed}/{case}/{name}", tensor.numel(), scale, offset)
            weights[name] = torch.from_numpy(values).view(tensor.shape)
            entries.append(dict(name=name, shape=list(tensor.shape), scale=scale, offset=offset))
        save_file(weights, path, {"format": "pt"})
        model = kind.from_pretrained(made, attn_implementation="eager").eval()
        with open(os.path.join(made, "config.json")) as f:
            saved = json.load(f)
    return model, saved, entries


def write(family, case, seed, saved, entries, inputs, expected, exact):
    """Writes the folder of a case: what a model made of `inputs`, in f32, and how far that is from `exact`, in f64."""
    folder = os.path.join(FIXTURES, family, case)
    os.makedirs(folder, exist_ok=True)
    expected = {name: tensor.contiguous() for name, tensor in expected.items()}
    noise = {name: (tensor.double() - exact[name]).abs().max().item() for name, tensor in expected.items()}
    save_file(inputs, os.path.join(folder, "inputs.safetensors"))
    save_file(expected, os.path.join(folder, "expected.safetensors"))
    manifest = {
        "case": case,
        "seed": seed,
        "expected": {name: {"f32_vs_f64_max_abs": value} for name, value in noise.items()},
        "weights": {"model.safetensors": entries},
    }
    for name, value in [("config.json", saved), ("manifest.json", manifest)]:
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f, indent=1)
            f.write("\n")
