"""Reads pictures of one digit: which digit the bundled classifier reads, and in which colour."""

import os

import torch
from captions import COLOURS
from PIL import Image
from transformers import ViTForImageClassification

CLASSIFIER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "digits-vit")


class Reader:
    def __init__(self):
        self.model = ViTForImageClassification.from_pretrained(CLASSIFIER).eval()
        self.colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)

    @torch.no_grad()
    def read(self, pictures):
        """Digits and colours (i64) of pictures u8 [count, height, width, 3].

        The classifier knows light ink on black: it is shown the lightest of a pixel's channels. The colour is the one
        whose shade the bright pixels have.
        """
        digits, colours = [], []
        for picture in pictures:
            grey = Image.fromarray(picture.amax(-1).numpy()).resize((32, 32), Image.BILINEAR)
            x = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).float().reshape(1, 1, 32, 32)
            digits.append(self.model((x / 255 - 0.5).expand(1, 3, 32, 32) / 0.5).logits.argmax(-1))
            flat = picture.reshape(-1, 3).float()
            ink = flat[flat.amax(1) >= 0.75 * flat.max()].mean(0)
            apart = (self.colours / self.colours.amax(1, keepdim=True) - ink / ink.max().clamp(min=1)).abs().sum(1)
            colours.append(apart.argmin())
        return torch.cat(digits), torch.stack(colours)

    def right(self, pictures, classes):
        """How many show their classes' digits, and how many of those their colours too."""
        digits, colours = self.read(pictures)
        right = digits == classes % 10
        return right.sum().item(), (right & (colours == classes // 10)).sum().item()
