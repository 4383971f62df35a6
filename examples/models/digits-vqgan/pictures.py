"""Pictures of one coloured handwritten digit each: what the bundled VQGAN learns from.

A picture is SIZE x SIZE, 8-bit RGB: a dark ground, and on it one of the 1797 digits inside scikit-learn (8x8, grey),
enlarged until its cells fill 42 to 52 pixels. Its class is its digit and its colour. Everything follows from seeds.
"""

import os
import sys

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ("scenes-detr", "scenes-ldm"):
    sys.path.insert(0, os.path.join(HERE, "..", folder))
from captions import COLOURS
from scenes import SPLITS

SIZE = 64
CLASSES = [f"{colour} {digit}" for colour in COLOURS for digit in range(10)]


class Pictures:
    """Pictures without end, of the digits of a split: "train" (1437 digits), "choose" or "report" (180 each)."""

    def __init__(self, split, seed):
        data, (low, high) = load_digits(), SPLITS[split]
        self.images = torch.from_numpy(data.images[low:high] / 16.0).float()
        self.digits = torch.from_numpy(data.target[low:high]).long()
        self.colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
        self.gen = torch.Generator().manual_seed(seed)

    def uniform(self, low, high, *shape):
        return torch.rand(*shape, generator=self.gen) * (high - low) + low

    def batch(self, count):
        """Pictures u8 [count, SIZE, SIZE, 3] and their classes (i64 [count])."""
        pick = torch.randint(len(self.images), (count,), generator=self.gen)
        colour = torch.randint(len(self.colours), (count,), generator=self.gen)
        angle, shear = torch.deg2rad(self.uniform(-8, 8, count)), self.uniform(-0.1, 0.1, count)
        aspect, scale = self.uniform(0.93, 1.07, count), SIZE / self.uniform(42, 52, count)
        cos, sin = torch.cos(angle), torch.sin(angle)
        theta = torch.stack(
            [
                torch.stack([scale * cos / aspect, scale * (shear - sin) / aspect, self.uniform(-0.1, 0.1, count)], 1),
                torch.stack([scale * sin * aspect, scale * cos * aspect, self.uniform(-0.1, 0.1, count)], 1),
            ],
            1,
        )
        grid = F.affine_grid(theta, (count, 1, SIZE, SIZE), align_corners=False)
        # An empty cell all around keeps the border's slope.
        x = F.pad(self.images[pick][:, None], (1, 1, 1, 1))
        alpha = F.grid_sample(x, grid * 0.8, "bicubic", "zeros", align_corners=False).clamp_(0, 1)
        ends = self.uniform(15, 45, count, 2)
        level = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * torch.linspace(0, 1, SIZE)
        ground = level[:, None, :, None] * self.uniform(0.6, 1.3, count, 3)[:, :, None, None]
        ink = (self.colours[colour] + self.uniform(-6, 6, count, 3)).clamp(0, 255)[:, :, None, None]
        picture = ground + (ink - ground) * alpha
        return picture.round().to(torch.uint8).permute(0, 2, 3, 1), colour * 10 + self.digits[pick]


def held_out(count=200):
    """The pictures of measurements, of the digits that are only reported."""
    return Pictures("report", 1).batch(count)
