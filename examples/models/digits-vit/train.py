#!/usr/bin/env python3
"""Trains, saves and evaluates the bundled digit classifier: a tiny ViT on real handwriting.

    python train.py              train, save the model into this folder, write the held-out samples, evaluate
    python train.py --evaluate   reload this folder and measure it again
    python train.py --out DIR    the same with another folder
    python train.py --trial ...  try a recipe: measures the choosing half only and saves nothing

The data are the 1797 handwritten digits that ship inside scikit-learn (8x8, grey, 0..16).  The first
1437 train; of the last 360, the first 180 choose the recipe and the final 180 are only reported.
A small convolutional network is trained first, for a minute, and teaches the ViT (it is not kept).

Every digit becomes a *picture* (40x40, 8-bit grey), and every picture, in training too, goes through
the preprocessing that preprocessor_config.json describes: RGB by repeating grey, PIL's bilinear resize
of the 8-bit picture to 32x32, times 1/255, minus 0.5, over 0.5.
"""

import argparse
import math
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil
from transformers.modeling_outputs import ImageClassifierOutput

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TRAIN, CHOOSE = 1437, 180  # then 180 to report
CELL, MARGIN = 4, 1  # picture pixels a cell of the 8x8 digit; empty cells around it
PICTURE = (8 + 2 * MARGIN) * CELL  # 40
SIZE = 32  # the model's input


# ---------------------------------------------------------------------------------------------
# Pictures


def picture(digit):
    """An 8x8 digit with values 0..16 as a 40x40 8-bit grey picture: one empty cell around it, bicubic."""
    cells = np.floor(np.asarray(digit) * (255.0 / 16.0) + 0.5).astype(np.uint8)
    cells = np.pad(cells, MARGIN)
    return np.asarray(Image.fromarray(cells).resize((PICTURE, PICTURE), Image.Resampling.BICUBIC))


def load():
    data = load_digits()
    return np.stack([picture(d) for d in data.images]), data.target.astype(np.int64)


def pixels(pictures):
    """What the image processor computes, for a batch of grey pictures (checked against it at the end)."""
    small = np.stack(
        [np.asarray(Image.fromarray(p).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for p in pictures]
    )
    grey = torch.from_numpy(small).float().div_(255).sub_(0.5).div_(0.5)
    return grey[:, None].expand(-1, 3, -1, -1)


def augment(pictures, gen, strength):
    """Rotation, shear, aspect and scale, shift, an elastic field, stroke weight; 8-bit in, 8-bit out."""
    n = pictures.shape[0]

    def uniform(low, high, *shape):
        return torch.rand(n, *shape, generator=gen) * (high - low) + low

    s = strength
    angle = uniform(-s, s) * math.radians(14)
    shear = uniform(-s, s) * 0.22
    scale = torch.exp(uniform(-s, s) * 0.12)
    aspect = torch.exp(uniform(-s, s) * 0.12)
    sx, sy = scale * aspect, scale / aspect
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = cos / sx, (-sin + shear) / sx
    theta[:, 1, 0], theta[:, 1, 1] = sin / sy, cos / sy
    theta[:, :, 2] = uniform(-s, s, 2) * (3.5 * 2 / PICTURE)
    grid = F.affine_grid(theta, (n, 1, PICTURE, PICTURE), align_corners=False)
    field = torch.randn(n, 2, 5, 5, generator=gen) * (1.3 * s * 2 / PICTURE)
    field = F.interpolate(field, size=(PICTURE, PICTURE), mode="bicubic", align_corners=True)
    grid = grid + field.permute(0, 2, 3, 1)
    x = torch.from_numpy(pictures).float()[:, None] / 255
    x = F.grid_sample(x, grid, mode="bicubic", padding_mode="zeros", align_corners=False).clamp_(0, 1)
    x = x ** torch.exp(uniform(-s, s, 1, 1, 1) * 0.45)  # thinner or bolder strokes
    x = x * uniform(1 - 0.2 * s, 1.0, 1, 1, 1)
    x = x.mul_(255).round_().to(torch.uint8)[:, 0].numpy()
    # half of them go back through cells of 17 greys, as the data were made
    for i in (torch.rand(n, generator=gen) < 0.5).nonzero().flatten().tolist():
        cells = x[i].reshape(PICTURE // CELL, CELL, PICTURE // CELL, CELL).astype(np.float32).mean((1, 3))
        cells = np.floor(np.round(cells * (16 / 255)) * (255 / 16) + 0.5).astype(np.uint8)
        x[i] = np.asarray(Image.fromarray(cells).resize((PICTURE, PICTURE), Image.Resampling.BICUBIC))
    return x


# ---------------------------------------------------------------------------------------------
# Training


def new_model(a):
    config = ViTConfig(
        image_size=SIZE,
        patch_size=a.patch,
        num_channels=3,
        hidden_size=a.hidden,
        num_hidden_layers=a.layers,
        num_attention_heads=4,
        intermediate_size=a.mlp,
        hidden_act="gelu",
        hidden_dropout_prob=a.dropout,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-12,
        initializer_range=0.02,
        id2label=dict(enumerate(NAMES)),
        label2id={name: i for i, name in enumerate(NAMES)},
    )
    return ViTForImageClassification(config)


@torch.no_grad()
def predict(model, pixel_values):
    model.eval()
    return torch.cat([model(pixel_values=p).logits for p in pixel_values.split(60)])


def measure(logits, labels):
    labels = torch.as_tensor(labels)
    top = logits.topk(2, 1)
    margin = top.values[:, 0] - top.values[:, 1]
    right = int((logits.argmax(1) == labels).sum())
    return {
        "right": right,
        "of": len(labels),
        "accuracy": right / len(labels),
        "loss": F.cross_entropy(logits, labels).item(),
        "margin_median": margin.median().item(),
        "margin_min": margin.min().item(),
    }


def say(name, m):
    print(
        f"{name}: {m['right']}/{m['of']} = {100 * m['accuracy']:.2f} %, loss {m['loss']:.4f}, "
        f"logit margin median {m['margin_median']:.2f}, least {m['margin_min']:.3f}",
        flush=True,
    )


class Teacher(torch.nn.Module):
    """A small convolutional network.  It learns handwriting from fewer digits than a ViT needs; it is not saved."""

    def __init__(self):
        super().__init__()
        nn = torch.nn

        def block(i, o):
            return nn.Sequential(
                *(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()),
                *(nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()),
                nn.MaxPool2d(2),
            )

        self.body = nn.Sequential(nn.AvgPool2d(2), block(1, 32), block(32, 64), block(64, 96), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(96 * 4, 10))

    def forward(self, pixel_values):
        return ImageClassifierOutput(logits=self.head(self.body(pixel_values[:, :1])))


def fit(name, model, shown, steps, lr, a, batches, objective, check):
    """AdamW, cosine, and an average of the weights, which is what is kept."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": a.decay}, {"params": plain, "weight_decay": 0.0}]
    opt = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    started, total, since = time.time(), 0.0, 0
    for step in range(steps):
        x, y = next(batches)
        for g in opt.param_groups:
            warm = min(1.0, (step + 1) / 200)
            g["lr"] = lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        model.train()
        loss = objective(model(pixel_values=x).logits, x, y)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        keep = min(0.998, (step + 1) / (step + 10))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 1 - keep) if v.is_floating_point() else average[k].copy_(v)
        total, since = total + loss.item(), since + 1
        if (step + 1) % 500 == 0 or step + 1 == steps:
            shown.load_state_dict(average)
            m = measure(predict(shown, check[0]), check[1])
            say(f"{name} {step + 1:6d}  {time.time() - started:6.0f} s  loss {total / since:.4f}  choosing", m)
            total, since = 0.0, 0
    model.load_state_dict(average)
    return model.eval()


def train(a, pictures, labels):
    random.seed(a.seed)
    np.random.seed(a.seed)
    torch.manual_seed(a.seed)
    torch.use_deterministic_algorithms(True)
    gen = torch.Generator().manual_seed(a.seed + 1)
    choose = slice(TRAIN, TRAIN + CHOOSE)
    use, check = np.arange(TRAIN), (pixels(pictures[choose]), labels[choose])
    if a.hold:  # a block of the training digits joins the choosing half: other hands
        low, high = map(int, a.hold.split(":"))
        use = np.delete(use, np.s_[low:high])
        held = np.concatenate([np.arange(low, high), np.arange(TRAIN, TRAIN + CHOOSE)])
        check = (pixels(pictures[held]), labels[held])

    def batches(mix):
        order, at = None, len(use)
        while True:
            if at + a.batch > len(use):
                order, at = torch.randperm(len(use), generator=gen), 0
            pick = use[order[at : at + a.batch].numpy()]
            at += a.batch
            x = pixels(augment(pictures[pick], gen, a.strength))
            y = F.one_hot(torch.from_numpy(labels[pick]), 10).float() * (1 - a.smooth) + a.smooth / 10
            if mix:  # mixup by Beta(1/2, 1/2), the larger share first
                share = torch.sin(torch.rand(len(pick), generator=gen) * (math.pi / 2)) ** 2
                share = torch.maximum(share, 1 - share)
                other = torch.randperm(len(pick), generator=gen)
                x = x * share[:, None, None, None] + x[other] * (1 - share[:, None, None, None])
                y = y * share[:, None] + y[other] * (1 - share[:, None])
            yield x, y

    teacher = fit(
        *("teacher", Teacher(), Teacher(), a.teacher_steps, 2e-3, a, batches(mix=False)),
        lambda logits, x, y: F.cross_entropy(logits, y),
        check,
    )

    def distilled(logits, x, y):
        with torch.no_grad():
            target = (teacher(x).logits / 2).log_softmax(1)
        near = F.kl_div((logits / 2).log_softmax(1), target, reduction="batchmean", log_target=True) * 4
        return a.distill * near + (1 - a.distill) * F.cross_entropy(logits, y)

    model = new_model(a)
    count = sum(p.numel() for p in model.parameters())
    print(f"{count} parameters; torch {torch.__version__}; {a}", flush=True)
    return fit("student", model, new_model(a), a.steps, a.lr, a, batches(mix=True), distilled, check)


# ---------------------------------------------------------------------------------------------
# Saving and evaluating


def save(model, out):
    model.config.hidden_dropout_prob = 0.0
    model.save_pretrained(out)
    ViTImageProcessorPil(
        do_convert_rgb=True,
        do_resize=True,
        size={"height": SIZE, "width": SIZE},
        resample=2,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(out)


def reload(out):
    return ViTForImageClassification.from_pretrained(out).eval(), ViTImageProcessorPil.from_pretrained(out)


def process(processor, pictures):
    return processor([Image.fromarray(p) for p in pictures], return_tensors="pt")["pixel_values"]


def write_samples(out, pictures, labels):
    """The held-out pictures with PyTorch's own answers, and some of the reporting half as PNG files."""
    model, processor = reload(out)
    held, truth = pictures[TRAIN:], labels[TRAIN:]
    pixel_values = process(processor, held)
    logits = predict(model, pixel_values)
    predicted = logits.argmax(1)
    save_file(
        {
            "images": np.ascontiguousarray(held),
            "labels": truth.astype(np.int32),
            "predicted": predicted.numpy().astype(np.int32),
            "logits": logits.numpy(),
            "pixel_values": pixel_values[:4].contiguous().numpy(),
        },
        os.path.join(out, "heldout.safetensors"),
    )
    folder = os.path.join(out, "samples")
    os.makedirs(folder, exist_ok=True)
    for old in os.listdir(folder):
        if old.startswith("digit-") and old.endswith(".png"):
            os.remove(os.path.join(folder, old))
    for digit in range(10):  # the first of each kind in the reporting half, right or wrong
        index = next(i for i in range(TRAIN + CHOOSE, len(labels)) if labels[i] == digit)
        Image.fromarray(pictures[index]).save(
            os.path.join(folder, f"digit-{index}-{NAMES[digit]}.png"), optimize=True
        )
    for name in ["model.safetensors", "heldout.safetensors"]:  # written readable by the owner alone
        os.chmod(os.path.join(out, name), 0o644)


def evaluate(out, pictures, labels):
    """Everything from the files: the pictures from heldout.safetensors and the PNGs, the weights, the processor."""
    model, processor = reload(out)
    print(f"{sum(p.numel() for p in model.parameters())} parameters in {out}")
    with safe_open(os.path.join(out, "heldout.safetensors"), "pt") as f:
        stored = {k: f.get_tensor(k) for k in f.keys()}
    images = stored["images"].numpy()
    assert (images == pictures[TRAIN:]).all() and (stored["labels"].numpy() == labels[TRAIN:]).all()
    pixel_values = process(processor, images)
    assert torch.equal(pixel_values[:4], stored["pixel_values"])
    training = (pixel_values - pixels(images)).abs().max().item()
    logits = predict(model, pixel_values)
    off = (logits - stored["logits"]).abs().max().item()
    double = predict(model.double(), pixel_values.double())
    model.float()
    noise = (logits - double).abs().max().item()
    print(f"pixels: training against the processor {training:.1e}")
    print(f"logits: against the stored ones {off:.1e}, against float64 {noise:.1e}")
    truth = stored["labels"].long()
    halves = {
        "choosing": measure(logits[:CHOOSE], truth[:CHOOSE]),
        "reporting": measure(logits[CHOOSE:], truth[CHOOSE:]),
    }
    for name, m in halves.items():
        say(name, m)
    say("training, as pictures", measure(predict(model, process(processor, pictures[:TRAIN])), labels[:TRAIN]))
    for i in (logits.argmax(1) != truth).nonzero().flatten().tolist():
        p = logits[i].softmax(0)
        k = int(p.argmax())
        print(f"  wrong: digit {TRAIN + i}, {NAMES[truth[i]]} taken for {NAMES[k]} ({100 * p[k]:.0f} %)")
    folder = os.path.join(out, "samples")
    for name in sorted(os.listdir(folder)):
        with Image.open(os.path.join(folder, name)) as png:
            p = predict(model, processor(png, return_tensors="pt")["pixel_values"])[0].softmax(0)
        k = int(p.argmax())
        print(f"  {name}: {NAMES[k]} ({100 * p[k]:.1f} %)")
    return halves


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--trial", action="store_true")
    parser.add_argument("--hold", default="", metavar="A:B", help="in a trial, keep digits A..B out of training too")
    parser.add_argument("--out", default=HERE)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--smooth", type=float, default=0.05)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--distill", type=float, default=0.9)
    parser.add_argument("--teacher-steps", type=int, default=1500)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--mlp", type=int, default=288)
    a = parser.parse_args()
    torch.set_num_threads(1)
    pictures, labels = load()
    if a.hold and not a.trial:
        parser.error("--hold is for --trial")
    if not a.evaluate:
        model = train(a, pictures, labels)
        if a.trial:
            return
        os.makedirs(a.out, exist_ok=True)
        save(model, a.out)
        write_samples(a.out, pictures, labels)
    evaluate(a.out, pictures, labels)


if __name__ == "__main__":
    main()
