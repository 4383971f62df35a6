"""Judges pictures of digits: which digits the bundled detector finds, where, and in which colours."""

import os

import numpy as np
import torch
from PIL import Image
from torchvision.ops import nms
from transformers import DetrForObjectDetection

from captions import COLOURS, SIZE

DETECTOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scenes-detr")
THRESHOLD = 0.5  # as in `kiln demo`
OVERLAP = 0.5  # more with a surer box, and it is the same digit found twice


class Judge:
    def __init__(self):
        self.model = DetrForObjectDetection.from_pretrained(DETECTOR).eval()

    @torch.no_grad()
    def find(self, images):
        """For each picture (u8 [SIZE, SIZE, 3]) the digits found: label, corners in its pixels, colour."""
        found = []
        for start in range(0, len(images), 50):
            some = images[start : start + 50]
            large = [np.asarray(Image.fromarray(image).resize((128, 128), Image.BILINEAR)) for image in some]
            answer = self.model((torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25)
            scores, labels = answer.logits.softmax(-1)[..., :-1].max(-1)
            x, y, w, h = answer.pred_boxes.unbind(-1)
            boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1) * SIZE
            for i, image in enumerate(some):
                kept = (scores[i] > THRESHOLD).nonzero().flatten()
                kept = kept[nms(boxes[i, kept], scores[i, kept], OVERLAP)].tolist()
                found.append([(labels[i, q].item(), box := boxes[i, q].tolist(), ink(image, box)) for q in kept])
        return found


def ink(image, box):
    """The colour whose shade the bright pixels of a box have."""
    left, top, right, bottom = (int(np.clip(round(v), 0, SIZE)) for v in box)
    pixels = image[top:bottom, left:right].reshape(-1, 3).astype(np.float32)
    if len(pixels) == 0:
        return None
    bright = pixels[pixels.max(1) >= max(90.0, 0.75 * pixels.max())]
    if len(bright) == 0:
        return None
    shade = lambda colour: np.asarray(colour, np.float32) / max(np.max(colour), 1.0)
    mean = shade(bright.mean(0))
    return min(COLOURS, key=lambda name: np.abs(shade(COLOURS[name]) - mean).sum())


def verdict(what, found):
    """Whether exactly the asked digits are there; whether each also has its colour and its side."""
    asked = list(what[-2:]) if len(what) == 3 else [what[0]]
    if sorted(digit for _, digit in asked) != sorted(label for label, _, _ in found):
        return False, False
    if len(asked) == 1:
        return True, found[0][2] == asked[0][0]
    middle = lambda box: ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    along = 0 if what[0] == "across" else 1
    first, second = sorted(found, key=lambda one: middle(one[1])[along])
    apart = [abs(middle(first[1])[i] - middle(second[1])[i]) for i in (0, 1)]
    seen = [(colour, label) for label, _, colour in (first, second)]
    return True, seen == asked and apart[along] > apart[1 - along]
