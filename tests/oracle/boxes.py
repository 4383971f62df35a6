#!/usr/bin/env python3
"""Writes tests/fixtures/boxes: what torchvision makes of random, touching, identical and degenerate boxes.

    pip install torch torchvision safetensors; python tests/oracle/boxes.py
"""

import json
import os

import torch
from safetensors.torch import save_file
from torchvision import ops

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "boxes")


def random(gen, n, low=2.0, high=40.0):
    corner = torch.rand(n, 2, generator=gen) * 60
    return torch.cat([corner, corner + torch.rand(n, 2, generator=gen) * (high - low) + low], 1)


def touching():
    """A grid of boxes with common edges and corners."""
    at = torch.arange(4.0) * 10
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x, y, x + 10, y + 10], -1).reshape(-1, 4)


def identical(gen):
    return random(gen, 3).repeat(5, 1)


def degenerate(gen):
    """Lines, points, and boxes whose corners are the wrong way round, among others."""
    boxes = random(gen, 12)
    boxes[:3, 2] = boxes[:3, 0]
    boxes[3:5, 3] = boxes[3:5, 1]
    boxes[5:7, 2:] = boxes[5:7, :2]
    boxes[7] = boxes[7, [2, 3, 0, 1]]
    return boxes


def main():
    gen = torch.Generator().manual_seed(5)
    kinds = {
        "random": random(gen, 40),
        "touching": touching(),
        "identical": identical(gen),
        "degenerate": degenerate(gen),
    }
    cases, inputs, expected = [], {}, {}

    def add(name, kind, given, answer, **params):
        case = f"{name}_{len(cases)}"
        inputs.update({f"{case}.{k}": v.contiguous().clone() for k, v in given.items()})
        expected[f"{case}.y"] = answer.contiguous()
        output = {"dtype": str(answer.dtype).removeprefix("torch."), "shape": list(answer.shape)}
        shapes = {k: list(v.shape) for k, v in given.items()}
        cases.append({"id": case, "params": params | {"kind": kind}, "inputs": shapes, "outputs": {"y": output}})

    whole = random(gen, 9)  # each with an area, so that no overlap is 0/0
    for name, boxes in kinds.items():
        for measure in ["box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"]:
            # torchvision refuses boxes the wrong way round, and a line has no aspect for CIoU.
            plain = boxes[(boxes[:, 2:] >= boxes[:, :2]).all(1)]
            plain = plain if measure != "complete_box_iou" else plain[(plain[:, 3] > plain[:, 1])]
            add(name, measure, {"a": plain, "b": whole}, getattr(ops, measure)(plain, whole))
        add(name, "box_area", {"a": boxes}, ops.box_area(boxes))
        add(name, "clip_boxes_to_image", {"boxes": boxes}, ops.clip_boxes_to_image(boxes, (30, 50)), size=[30, 50])
        add(name, "remove_small_boxes", {"boxes": boxes}, ops.remove_small_boxes(boxes, 9.0), min_size=9.0)
        for to in ["xywh", "cxcywh"]:
            there = ops.box_convert(boxes, "xyxy", to)
            add(name, "box_convert", {"boxes": boxes}, there, in_fmt="xyxy", out_fmt=to)
            add(name, "box_convert", {"boxes": there}, ops.box_convert(there, to, "xyxy"), in_fmt=to, out_fmt="xyxy")
        scores = torch.rand(len(boxes), generator=gen)
        classes = torch.randint(0, 3, (len(boxes),), generator=gen)
        for threshold in [0.0, 0.3, 0.7]:
            given = {"boxes": boxes, "scores": scores}
            add(name, "nms", given, ops.nms(boxes, scores, threshold), iou_threshold=threshold)
            answer = ops.batched_nms(boxes, scores, classes, threshold)
            add(name, "batched_nms", given | {"idxs": classes}, answer, iou_threshold=threshold)
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "config.json"), "w") as f:
        json.dump({"op": "box", "cases": cases}, f, indent=1)
        f.write("\n")
    save_file(inputs, os.path.join(OUT, "inputs.safetensors"))
    save_file(expected, os.path.join(OUT, "expected.safetensors"))
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
