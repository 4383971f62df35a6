#!/usr/bin/env python3
"""Trains, saves and measures the bundled detector: a small DETR that finds handwritten digits in scenes.

    python train.py                    train, save the model into this folder, measure it
    python train.py --evaluate         reload this folder and measure it again
    python train.py --samples          write the held-out scenes again, with the answers of this folder's model
    python train.py --scenes DIR       write the 1,000 scenes that are reported on, with COCO annotations
    python train.py --out DIR          all of it with another folder; training goes on from the checkpoint there

A DETR learns nothing for long when it starts from nothing. So the backbone goes first, with a dense head that is thrown away
afterwards: a place inside the middle of a digit says which digit it is, and its box. Then everything learns together, as in
the paper, by bipartite matching after every decoder layer, dense heads along with it. At last half of the digits are turned
and sheared no more than those that are measured, and classes weigh twice as much, for it is digits that are mixed up.
"""

import argparse
import contextlib
import io
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from PIL import Image
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment
from torch import nn
from torchvision.ops import box_convert, generalized_box_iou
from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

from scenes import NAMES, SIZE, Scenes, coco, grounds, held_out, sprites, write

HERE = os.path.dirname(os.path.abspath(__file__))
MEAN, STD = 0.5, 0.25
NO_OBJECT = len(NAMES)


def new_model(a):
    backbone = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128],
        depths=a.depths,
        layer_type="basic",
        hidden_act="relu",
        out_features=["stage3"],
    )
    config = DetrConfig(
        backbone_config=backbone,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        d_model=128,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        num_queries=16,
        dropout=0.0,
        auxiliary_loss=False,
        id2label=dict(enumerate(NAMES)),
        label2id={name: i for i, name in enumerate(NAMES)},
    )
    return DetrForObjectDetection(config)


def trainable(model):
    """Puts batch norms that learn where transformers has frozen ones; the names of the weights stay."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "DetrFrozenBatchNorm2d":
                setattr(module, name, nn.BatchNorm2d(child.weight.shape[0]))
    return model.requires_grad_(True)


def reset(model):
    """The paper's initial weights of the transformer, larger than those of transformers."""
    for part in (model.model.encoder, model.model.decoder, model.bbox_predictor):
        for weight in part.parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
    nn.init.normal_(model.model.query_position_embeddings.weight)
    return model


class Detector(nn.Module):
    """The model and dense heads for the projection and for the encoder; remembers what parts of the model gave."""

    def __init__(self, a):
        super().__init__()
        self.detr = reset(trainable(new_model(a))).to(memory_format=torch.channels_last)
        width = self.detr.config.d_model
        self.dense = nn.ModuleList(nn.Linear(width, len(NAMES) + 1 + 4) for _ in range(2))
        self.layers = []
        for layer in self.detr.model.decoder.layers:
            layer.register_forward_hook(lambda _m, _i, out: self.layers.append(out if torch.is_tensor(out) else out[0]))
        self.detr.model.input_projection.register_forward_hook(lambda _m, _i, out: setattr(self, "projected", out))

    def features(self, x):
        mask = torch.ones(x.shape[0], *x.shape[2:])
        self.detr.model.input_projection(self.detr.model.backbone(x, mask)[-1][0])
        return self.dense_answer(0, self.projected.flatten(2).transpose(1, 2))

    def dense_answer(self, head, tokens):
        y = self.dense[head](tokens)
        return y[..., : NO_OBJECT + 1], y[..., NO_OBJECT + 1 :].sigmoid()

    def forward(self, x):
        self.layers.clear()
        encoded = self.detr.model(x).encoder_last_hidden_state
        found = torch.stack([self.detr.model.decoder.layernorm(layer) for layer in self.layers])
        logits, boxes = self.detr.class_labels_classifier(found), self.detr.bbox_predictor(found).sigmoid()
        projected = self.projected.flatten(2).transpose(1, 2)
        return logits, boxes, [self.dense_answer(0, projected), self.dense_answer(1, encoded)]


# ---------------------------------------------------------------------------------------------
# Losses


def box_losses(boxes, wanted):
    """L1 and GIoU of matched boxes (centre and size), each a sum."""
    corners = [box_convert(b, "cxcywh", "xyxy") for b in (boxes, wanted)]
    return (boxes - wanted).abs().sum(), (1 - paired_giou(*corners)).sum()


def paired_giou(a, b):
    top, low = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    both = (low - top).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - both
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return both / union - (hull - union) / hull


def dense_loss(answer, targets):
    logits, boxes = answer
    rows = int(math.isqrt(logits.shape[1]))
    at = (torch.arange(rows) + 0.5) / rows
    y, x = (axis.flatten() for axis in torch.meshgrid(at, at, indexing="ij"))
    classes = torch.full(logits.shape[:2], NO_OBJECT)
    wanted = torch.zeros(*logits.shape[:2], 4)
    for i, (box, label) in enumerate(targets):
        # The middle: half as wide and high as the box, and at least as a place.
        reach = (box[:, 2:] / 4).clamp(min=0.5 / rows)
        inside = ((x - box[:, :1]).abs() <= reach[:, :1]) & ((y - box[:, 1:2]).abs() <= reach[:, 1:])
        for j in range(len(label)):
            classes[i][inside[j]] = label[j]
            wanted[i][inside[j]] = box[j]
    there = classes != NO_OBJECT
    weight = torch.ones(NO_OBJECT + 1)
    weight[NO_OBJECT] = 0.4
    l1, giou = box_losses(boxes[there], wanted[there])
    count = max(int(there.sum()), 1)
    return F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight) + (5 * l1 + 2 * giou) / count


def set_loss(logits, boxes, targets, class_weight):
    """Carion et al. 2020, section 3.1, for the answer of one layer."""
    batch, queries = logits.shape[:2]
    label = torch.cat([t[1] for t in targets])
    wanted = torch.cat([t[0] for t in targets])
    with torch.no_grad():
        flat = boxes.flatten(0, 1)
        near = torch.cdist(flat, wanted, p=1)
        giou = generalized_box_iou(box_convert(flat, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy"))
        cost = 5 * near - 2 * giou - logits.softmax(-1).flatten(0, 1)[:, label]
        cost = cost.view(batch, queries, -1).split([len(t[1]) for t in targets], -1)
        pairs = [linear_sum_assignment(c[i].numpy()) for i, c in enumerate(cost)]
    classes = torch.full((batch, queries), NO_OBJECT)
    found, sought, first = [], [], 0
    for i, (query, j) in enumerate(pairs):
        classes[i, query] = targets[i][1][j]
        found.append(torch.as_tensor(query + i * queries))
        sought.append(torch.as_tensor(j + first))
        first += len(targets[i][1])
    weight = torch.ones(NO_OBJECT + 1)
    weight[NO_OBJECT] = 0.2
    l1, giou = box_losses(boxes.flatten(0, 1)[torch.cat(found)], wanted[torch.cat(sought)])
    entropy = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weight)
    return class_weight * entropy + (5 * l1 + 2 * giou) / len(label)


# ---------------------------------------------------------------------------------------------
# Training


def pixels(images):
    """What the image processor makes of scenes that have the model's size."""
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return (x / 255 - MEAN) / STD


def targets_of(scenes):
    made = []
    for _, boxes, labels in scenes:
        boxes = box_convert(torch.from_numpy(boxes).float() / SIZE, "xyxy", "cxcywh")
        made.append((boxes, torch.from_numpy(labels)))
    return made


def batches(a, seed, plain):
    """Without end: a batch of scenes. New sprites are drawn every 40,000 scenes, `plain` of every eight not augmented."""
    bank = grounds(400, seed)
    while True:
        drawn = [sprites("train", 8 - plain, seed + 1, augment=True), sprites("train", plain, seed + 3, augment=False)]
        alphas, labels = drawn[0][0] + drawn[1][0], np.concatenate([labels for _, labels in drawn])
        scenes = Scenes((alphas, labels), bank, seed + 2)
        for _ in range(40_000 // a.batch):
            some = [scenes.scene() for _ in range(a.batch)]
            yield pixels([s[0] for s in some]), targets_of(some)
        seed += 1000


class Average:
    """An average of the weights over the steps, which is what is kept."""

    def __init__(self, model, fresh, keep):
        self.model, self.keep, self.steps = fresh, keep, 0
        self.model.load_state_dict(model.state_dict())

    @torch.no_grad()
    def update(self, model):
        self.steps += 1
        keep = min(self.keep, (self.steps + 1) / (self.steps + 10))
        for mine, new in zip(self.model.state_dict().values(), model.state_dict().values()):
            mine.lerp_(new, 1 - keep) if mine.is_floating_point() else mine.copy_(new)


def phase(name, model, a, data, images, lr, loss_of, check):
    steps = images // a.batch
    path = os.path.join(a.out, "checkpoint.pt")
    parts = [[p for p in model.parameters() if (p.ndim >= 2) == matrix] for matrix in (True, False)]
    groups = [{"params": parts[0], "weight_decay": a.decay}, {"params": parts[1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    average, first = Average(model, Detector(a), a.keep), 0
    if os.path.exists(path):
        saved = torch.load(path)
        if saved["phase"] > name:
            return
        if saved["phase"] == name:
            model.load_state_dict(saved["model"])
            average.model.load_state_dict(saved["average"])
            optimizer.load_state_dict(saved["optimizer"])
            first = average.steps = saved["step"]
    started, sum_, since, saved_at = time.time(), 0.0, 0, time.time()
    for step in range(first, steps):
        x, targets = next(data)
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 200)
            group["lr"] = lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        model.train()
        loss = loss_of(model, x.to(memory_format=torch.channels_last), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        average.update(model)
        sum_, since = sum_ + loss.item(), since + 1
        last = step + 1 == steps
        if (step + 1) % 250 == 0 or last:
            seen, rate = (step + 1) * a.batch, (step + 1 - first) * a.batch / (time.time() - started)
            print(f"{name} {seen:7d} images, {rate:4.0f} a second, loss {sum_ / since:.4f}", flush=True)
            row = [name, seen, f"{sum_ / since:.4f}", "", "", ""]
            if check is not None and ((step + 1) % a.check == 0 or last):
                found = measure(average.model.detr, check)
                print(f"  choosing: {summary(found)}", flush=True)
                row[3:] = [f"{found[k]:.4f}" for k in ("AP", "AP50", "AP75")]
            with open(os.path.join(a.out, "curve.csv"), "a") as f:
                f.write(",".join(map(str, row)) + "\n")
            sum_, since = 0.0, 0
        if time.time() - saved_at > 240 or last:
            state = {"phase": name, "step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "average": average.model.state_dict()}, path + ".new")
            os.replace(path + ".new", path)
            saved_at = time.time()
    model.load_state_dict(average.model.state_dict())


def train(a):
    torch.manual_seed(a.seed)
    os.makedirs(a.out, exist_ok=True)
    model = Detector(a)
    if not os.path.exists(os.path.join(a.out, "checkpoint.pt")):
        with open(os.path.join(a.out, "curve.csv"), "w") as f:
            f.write("phase,images,loss,AP,AP50,AP75\n")
    print(f"{sum(p.numel() for p in model.detr.parameters())} parameters; torch {torch.__version__}; {a}", flush=True)
    check = held_out("choose", 300)
    augmented = batches(a, a.seed * 1_000_000, plain=0)
    mixed = batches(a, a.seed * 1_000_000 + 500_000, plain=4)
    dense = lambda model, x, targets: dense_loss(model.features(x), targets)

    def joint(class_weight):
        def loss(model, x, targets):
            logits, boxes, answers = model(x)
            layers = sum(set_loss(*layer, targets, class_weight) for layer in zip(logits, boxes))
            return layers + 0.5 * sum(dense_loss(answer, targets) for answer in answers)

        return loss

    phase("1 dense", model, a, augmented, a.first, a.first_lr, dense, None)
    phase("2 joint", model, a, augmented, a.images, a.lr, joint(1.0), check)
    phase("3 mixed", model, a, mixed, a.last, a.last_lr, joint(2.0), check)
    stock = new_model(a)
    weights = {k: v for k, v in model.detr.state_dict().items() if not k.endswith("num_batches_tracked")}
    stock.load_state_dict(weights)
    return stock.eval()


# ---------------------------------------------------------------------------------------------
# Saving and measuring


def save(model, out):
    model.save_pretrained(out)
    os.chmod(os.path.join(out, "model.safetensors"), 0o644)
    processor = {
        "image_processor_type": "DetrImageProcessor",
        "do_resize": True,
        "size": {"height": SIZE, "width": SIZE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
        "do_pad": True,
    }
    with open(os.path.join(out, "preprocessor_config.json"), "w") as f:
        json.dump(processor, f, indent=2)
        f.write("\n")


@torch.no_grad()
def answers(model, scenes):
    """Scores and labels [n, queries] of the likeliest class that is an object, and corners in pixels [n, queries, 4]."""
    model.eval()
    logits, boxes = [], []
    for start in range(0, len(scenes), 50):
        answer = model(pixels([s[0] for s in scenes[start : start + 50]]))
        logits.append(answer.logits)
        boxes.append(answer.pred_boxes)
    scores, labels = torch.cat(logits).softmax(-1)[..., :-1].max(-1)
    return scores, labels, box_convert(torch.cat(boxes), "cxcywh", "xyxy") * SIZE


def measure(model, scenes):
    """pycocotools' numbers."""
    scores, labels, boxes = answers(model, scenes)
    found = []
    for image in range(len(scenes)):
        for query in range(scores.shape[1]):
            left, top, right, bottom = boxes[image, query].tolist()
            box = [left, top, max(right - left, 0), max(bottom - top, 0)]
            entry = dict(image_id=image + 1, category_id=labels[image, query].item(), bbox=box)
            found.append(entry | dict(score=scores[image, query].item()))
    truth = COCO()
    truth.dataset = coco(scenes)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    by_class = run.eval["precision"][0, :, :, 0, 2].mean(0)
    return {"AP": run.stats[0], "AP50": run.stats[1], "AP75": run.stats[2], "by_class": by_class}


def summary(m):
    digits = " ".join(f"{v:.3f}" for v in m["by_class"])
    return f"AP {m['AP']:.4f} AP50 {m['AP50']:.4f} AP75 {m['AP75']:.4f} by digit {digits}"


def write_samples(out):
    """What is reported on, with PyTorch's own answers: the scenes a hundred to a sheet, the first eight as files too."""
    scenes = held_out("report", 1000)
    folder = os.path.join(out, "heldout")
    os.makedirs(folder, exist_ok=True)
    for first in range(0, len(scenes), 100):
        rows = [np.concatenate([s[0] for s in scenes[i : i + 10]], 1) for i in range(first, first + 100, 10)]
        path = os.path.join(folder, f"sheet-{first // 100}.webp")
        Image.fromarray(np.concatenate(rows)).save(path, lossless=True, quality=100, method=6)
    model = DetrForObjectDetection.from_pretrained(out)
    scores, labels, boxes = answers(model, scenes)
    image = np.concatenate([np.full(len(s[2]), i) for i, s in enumerate(scenes)])
    path = os.path.join(folder, "answers.safetensors")
    save_file(
        {
            "true_images": torch.from_numpy(image.astype(np.int32)),
            "true_labels": torch.from_numpy(np.concatenate([s[2] for s in scenes]).astype(np.int32)),
            "true_boxes": torch.from_numpy(np.concatenate([s[1] for s in scenes]).astype(np.int32)),
            "scores": scores.contiguous(),
            "labels": labels.to(torch.int32).contiguous(),
            "boxes": boxes.contiguous(),
        },
        path,
    )
    os.chmod(path, 0o644)
    write(scenes[:8], os.path.join(out, "samples"))


def evaluate(out):
    model = DetrForObjectDetection.from_pretrained(out)
    scenes = held_out("report", 1000)
    processor = DetrImageProcessor.from_pretrained(out)
    processed = processor([Image.fromarray(s[0]) for s in scenes[:50]], return_tensors="pt")["pixel_values"]
    off = (processed - pixels([s[0] for s in scenes[:50]])).abs().max().item()
    print(f"{sum(p.numel() for p in model.parameters())} parameters in {out}")
    print(f"pixels: training against the processor {off:.1e}")
    print(f"reporting, 1000 scenes: {summary(measure(model, scenes))}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--samples", action="store_true")
    parser.add_argument("--scenes", metavar="DIR")
    parser.add_argument("--out", default=HERE)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--depths", type=lambda s: [int(v) for v in s.split(",")], default=[1, 2, 2])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--first", type=int, default=40_000, help="images for the backbone alone")
    parser.add_argument("--images", type=int, default=280_000, help="images for everything together")
    parser.add_argument("--last", type=int, default=320_000, help="images for everything together, half of the digits plain")
    parser.add_argument("--first-lr", type=float, default=2e-3)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--last-lr", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=1e-4)
    parser.add_argument("--keep", type=float, default=0.999)
    parser.add_argument("--check", type=int, default=1500, help="steps between measurements, a multiple of 250")
    a = parser.parse_args()
    torch.set_num_threads(1)
    if a.scenes:
        write(held_out("report", 1000), a.scenes)
        return
    if a.samples:
        write_samples(a.out)
        return
    if not a.evaluate:
        save(train(a), a.out)
        write_samples(a.out)
    evaluate(a.out)


if __name__ == "__main__":
    main()
