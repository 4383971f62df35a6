"""Scenes of handwritten digits on coloured grounds, with their boxes: what the bundled detector learns from.

The digits are the 1797 inside scikit-learn (8x8, grey, 0..16). The first 1437 train; of the last 360, the first 180
choose the recipe and the final 180 are only reported. A scene is SIZE x SIZE, 8-bit RGB, and holds 1 to 6 digits of one
colour each, 20 to 48 pixels large. Everything follows from seeds.
"""

import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SPLITS = {"train": (0, 1437), "choose": (1437, 1617), "report": (1617, 1797)}
SIZE = 128
CANVAS = 88  # pixels that a digit is drawn on before it is cut out
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


# ---------------------------------------------------------------------------------------------
# Sprites: digits, turned and enlarged, as opacities with tight borders


def sprites(split, variants, seed, augment):
    """`variants` of every digit of a split: their opacities (u8 [height, width]) and labels.

    All are turned up to 18 degrees, sheared, and 0.85 to 1.15 as wide as high. With `augment`, further: digits of a class
    are blended with each other, bent by an elastic field, thinner or bolder, and turned by up to 24 degrees.
    """
    data = load_digits()
    low, high = SPLITS[split]
    images = torch.from_numpy(data.images[low:high] / 16.0).float()
    labels = torch.from_numpy(data.target[low:high])
    gen = torch.Generator().manual_seed(seed)
    kin = [(labels == label).nonzero().flatten() for label in range(10)]
    found = []
    for _ in range(variants):
        for pick in torch.arange(len(labels)).split(256):
            found += zip(render(images, labels, kin, pick, gen, augment), labels[pick].tolist())
    return [alpha for alpha, _ in found], np.array([label for _, label in found], np.int64)


def render(images, labels, kin, pick, gen, augment):
    n = len(pick)

    def uniform(low, high, *shape):
        return torch.rand(n, *shape, generator=gen) * (high - low) + low

    x = images[pick]
    if augment:
        other = torch.stack([kin[c][torch.randint(len(kin[c]), (), generator=gen)] for c in labels[pick].tolist()])
        share = (uniform(0.0, 1.0) < 0.3) * uniform(0.0, 0.5)
        x = x + share[:, None, None] * (images[other] - x)
    turn = 24 if augment else 18
    angle = torch.deg2rad(uniform(-turn, turn))
    shear = uniform(-0.25, 0.25) if augment else uniform(-0.15, 0.15)
    aspect = torch.sqrt(uniform(0.8, 1.25) if augment else uniform(0.85, 1.15))
    side = uniform(20, 48)
    scale = CANVAS / side  # the 8 cells fill `side` pixels
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = scale * cos / aspect, scale * (shear - sin) / aspect
    theta[:, 1, 0], theta[:, 1, 1] = scale * sin * aspect, scale * cos * aspect
    grid = F.affine_grid(theta, (n, 1, CANVAS, CANVAS), align_corners=False)
    if augment:
        field = torch.randn(n, 2, 5, 5, generator=gen) * (uniform(0.0, 0.5, 1, 1, 1) / 4)
        grid = grid + F.grid_sample(field, grid, "bicubic", "border", align_corners=False).permute(0, 2, 3, 1)
    # An empty cell all around keeps the border's slope.
    x = F.pad(x[:, None], (1, 1, 1, 1))
    x = F.grid_sample(x, grid * 0.8, "bicubic", "zeros", align_corners=False).clamp_(0, 1)
    if augment:
        x = x ** torch.exp(uniform(-0.5, 0.5, 1, 1, 1))
    x = (x[:, 0] * 255).round().to(torch.uint8).numpy()
    return [tight(alpha) for alpha in x]


def tight(alpha):
    """The part that shows: rows and columns with an opacity of 64 or more."""
    rows, columns = (alpha >= 64).any(1).nonzero()[0], (alpha >= 64).any(0).nonzero()[0]
    if len(rows) == 0:
        return alpha
    return np.ascontiguousarray(alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


# ---------------------------------------------------------------------------------------------
# Grounds


def grounds(count, seed, side=192):
    """Gradients, clouds, stripes and checks, u8 [side, side, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    made = []
    for i in range(count):
        a, b = random.uniform(0, 255, (2, 3)).astype(np.float32)
        b = a + (b - a) * random.uniform(0.2, 0.6)
        angle = random.uniform(0, 2 * np.pi)
        along = np.cos(angle) * x + np.sin(angle) * y
        kind = i % 4
        if kind == 0:
            share = (along - along.min()) / (along.max() - along.min())
        elif kind == 1:
            cells = random.integers(3, 8)
            noise = torch.from_numpy(random.uniform(0, 1, (1, 1, cells, cells)).astype(np.float32))
            share = F.interpolate(noise, (side, side), mode="bicubic", align_corners=True)[0, 0].numpy()
        elif kind == 2:
            share = 0.5 + 0.5 * np.sin(along * (2 * np.pi / random.uniform(8, 40)))
        else:
            across = -np.sin(angle) * x + np.cos(angle) * y
            cell = random.uniform(8, 32)
            share = (np.floor(along / cell) + np.floor(across / cell)) % 2
        made.append(np.clip(a + (b - a) * share[..., None], 0, 255).astype(np.uint8))
    return made


# ---------------------------------------------------------------------------------------------
# Scenes


class Scenes:
    """Scenes of some sprites on some grounds."""

    def __init__(self, sprites, grounds, seed):
        self.alphas, self.labels = sprites
        self.grounds = grounds
        self.random = np.random.default_rng(seed)

    def scene(self):
        """A scene (u8 [SIZE, SIZE, 3]), its corners in pixels (i32 [n, 4]) and its labels (i64 [n])."""
        random = self.random
        ground = self.grounds[random.integers(len(self.grounds))]
        y, x = random.integers(ground.shape[0] - SIZE + 1, size=2)
        image = ground[y : y + SIZE, x : x + SIZE]
        if random.random() < 0.5:
            image = image[:, ::-1]
        if random.random() < 0.5:
            image = image[::-1]
        image = image.astype(np.int32)
        boxes, labels = [], []
        for _ in range(random.integers(1, 7)):
            pick = random.integers(len(self.alphas))
            alpha = self.alphas[pick]
            height, width = alpha.shape
            for _ in range(12):
                y, x = random.integers(SIZE - height + 1), random.integers(SIZE - width + 1)
                box = (x, y, x + width, y + height)
                if all(overlap(box, other) <= 0.3 for other in boxes):
                    break
            else:
                continue
            under = image[y : y + height, x : x + width]
            luma = float((under.reshape(-1, 3).mean(0) * LUMA).sum())
            colour = random.integers(0, 256, 3)
            while abs(float((colour * LUMA).sum()) - luma) <= 70:
                colour = random.integers(0, 256, 3)
            under += ((colour - under) * alpha[..., None].astype(np.int32) + 127) // 255
            boxes.append(box)
            labels.append(self.labels[pick])
        return image.astype(np.uint8), np.array(boxes, np.int32), np.array(labels, np.int64)


def overlap(a, b):
    """The share of the smaller box that both cover."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return max(width, 0) * max(height, 0) / min(area(a), area(b))


def held_out(split, count):
    """The scenes that a split is measured on: 8 variants a digit, grounds of their own."""
    seed = {"choose": 1001, "report": 2002}[split]
    scenes = Scenes(sprites(split, 8, seed, augment=False), grounds(400, seed + 1), seed + 2)
    return [scenes.scene() for _ in range(count)]


def coco(scenes):
    """The scenes' names, boxes and classes, as COCO's annotations have them."""
    images, annotations = [], []
    for i, (_, boxes, labels) in enumerate(scenes):
        images.append({"id": i + 1, "file_name": f"scene-{i:04}.png", "width": SIZE, "height": SIZE})
        for (left, top, right, bottom), label in zip(boxes.tolist(), labels.tolist()):
            width, height = right - left, bottom - top
            annotation = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": label, "iscrowd": 0}
            annotations.append(annotation | {"bbox": [left, top, width, height], "area": width * height})
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(scenes, folder):
    """Scenes as PNG files, and `annotations.json`."""
    os.makedirs(folder, exist_ok=True)
    truth = coco(scenes)
    for entry, (image, _, _) in zip(truth["images"], scenes):
        Image.fromarray(image).save(os.path.join(folder, entry["file_name"]), optimize=True)
    with open(os.path.join(folder, "annotations.json"), "w") as f:
        json.dump(truth, f)
