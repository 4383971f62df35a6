"""Captioned scenes of one or two coloured handwritten digits: what the bundled text-to-picture model learns from.

The digits are those of the bundled detector (../scenes-detr/scenes.py); only the first 1437 are used. A scene is SIZE x
SIZE, 8-bit RGB: a dark ground, and on it a digit ("a red 3"), or two beside or above each other ("a red 3 left of a blue
7"). Everything follows from seeds.
"""

import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenes-detr"))
import scenes

SIZE = 64
COLOURS = {
    "red": (235, 45, 45),
    "green": (45, 205, 75),
    "blue": (60, 115, 255),
    "yellow": (245, 220, 50),
    "purple": (205, 70, 235),
    "white": (240, 240, 240),
}
# Of two things in canonical order, the first left or above: how a caption names the places.
RELATIONS = {"across": ("left of", "right of"), "down": ("above", "below")}
SIDES = (24, 27)  # pixels that the 8 cells of a digit fill
CANVAS = 40


def things():
    return [(colour, digit) for colour in COLOURS for digit in range(10)]


def named(thing):
    return f"a {thing[0]} {thing[1]}"


def caption(what, turned=False):
    """The caption of a single (thing,), or of a pair (axis, first, second), named from its second thing where `turned`."""
    if len(what) == 1:
        return named(what[0])
    axis, first, second = what
    if turned:
        return f"{named(second)} {RELATIONS[axis][1]} {named(first)}"
    return f"{named(first)} {RELATIONS[axis][0]} {named(second)}"


def contents():
    """All singles and all pairs of different things: those to learn from, and those held out (25 singles, 150 pairs)."""
    random = np.random.default_rng(11)
    singles = [(thing,) for thing in things()]
    pairs = [(axis, a, b) for axis in RELATIONS for a in things() for b in things() if a != b]
    random.shuffle(singles)
    random.shuffle(pairs)
    return singles[25:], pairs[150:], singles[:25], pairs[:150]


def held_out():
    """The 200 prompts of measurements, with what they ask for: each held-out single twice, each held-out pair once."""
    _, _, singles, pairs = contents()
    asked = [(caption(what), what) for what in singles * 2]
    asked += [(caption(what, i % 2 == 1), what) for i, what in enumerate(pairs)]
    np.random.default_rng(12).shuffle(asked)
    return asked


def seen():
    """As many prompts as held_out, of what is learned from."""
    singles, pairs, _, _ = contents()
    asked = [(caption(what), what) for what in singles[:25]]
    return asked + [(caption(what, i % 2 == 1), what) for i, what in enumerate(pairs[:175])]


def sprites(variants, seed):
    """`variants` of each training digit: opacities with tight borders, and labels."""
    data = load_digits()
    low, high = scenes.SPLITS["train"]
    images = torch.from_numpy(data.images[low:high] / 16.0).float()
    labels = data.target[low:high]
    gen = torch.Generator().manual_seed(seed)
    found, n = [], len(images)
    for _ in range(variants):
        uniform = lambda low, high: torch.rand(n, generator=gen) * (high - low) + low
        angle, shear, aspect = torch.deg2rad(uniform(-5, 5)), uniform(-0.05, 0.05), uniform(0.97, 1.05)
        scale = CANVAS / uniform(*SIDES)
        cos, sin = torch.cos(angle), torch.sin(angle)
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 0, 1] = scale * cos / aspect, scale * (shear - sin) / aspect
        theta[:, 1, 0], theta[:, 1, 1] = scale * sin * aspect, scale * cos * aspect
        grid = F.affine_grid(theta, (n, 1, CANVAS, CANVAS), align_corners=False)
        # An empty cell all around keeps the border's slope.
        x = F.pad(images[:, None], (1, 1, 1, 1))
        x = F.grid_sample(x, grid * 0.8, "bicubic", "zeros", align_corners=False).clamp_(0, 1)
        found += [scenes.tight(alpha) for alpha in (x[:, 0] * 255).round().to(torch.uint8).numpy()]
    return found, np.tile(labels, variants)


class Captioned:
    """Scenes without end, of the contents to learn from or of one that is given."""

    def __init__(self, seed, variants=8):
        self.alphas, labels = sprites(variants, seed)
        self.of = [(labels == digit).nonzero()[0] for digit in range(10)]
        self.random = np.random.default_rng(seed + 1)
        self.singles, self.pairs, _, _ = contents()

    def pick(self):
        kind = self.singles if self.random.random() < 0.2 else self.pairs
        return kind[self.random.integers(len(kind))]

    def scene(self, what):
        """A scene of `what` (u8 [SIZE, SIZE, 3]), and the corners of its digits."""
        random = self.random
        top, bottom = random.uniform(15, 40, 2)
        level = np.linspace(top, bottom, SIZE, dtype=np.float32)[:, None, None]
        image = np.broadcast_to(level * np.array([0.8, 0.9, 1.2], np.float32), (SIZE, SIZE, 3)).astype(np.int32)
        middle, boxes = SIZE / 2, []
        for place, thing in enumerate(what[-2:]):
            x, y = random.uniform(-1.5, 1.5, 2) + middle
            if len(what) == 3:
                shift = SIZE / 4 * (2 * place - 1) * 0.98
                x, y = (x + shift, y) if what[0] == "across" else (x, y + shift)
            colour, digit = thing
            alpha = self.alphas[self.of[digit][random.integers(len(self.of[digit]))]]
            height, width = alpha.shape
            left = int(np.clip(round(x - width / 2), 0, SIZE - width))
            up = int(np.clip(round(y - height / 2), 0, SIZE - height))
            ink = np.clip(np.array(COLOURS[colour]) + random.integers(-6, 7, 3), 0, 255)
            under = image[up : up + height, left : left + width]
            under += ((ink - under) * alpha[..., None].astype(np.int32) + 127) // 255
            boxes.append((left, up, left + width, up + height))
        return image.astype(np.uint8), boxes

    def batch(self, count):
        """Scenes u8 [count, SIZE, SIZE, 3] and what is on them."""
        whats = [self.pick() for _ in range(count)]
        return np.stack([self.scene(what)[0] for what in whats]), whats
