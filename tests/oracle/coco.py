#!/usr/bin/env python3
"""Writes tests/fixtures/coco: random annotations and detections, and what pycocotools makes of them.

    pip install pycocotools numpy; python tests/oracle/coco.py
"""

import contextlib
import io
import json
import os

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "coco")


def box(rng, low, high):
    width, height = np.exp(rng.uniform(np.log(low), np.log(high), 2))
    return [round(float(v), 2) for v in (*rng.uniform(0, 400, 2), width, height)]


def case(seed, images, crowds):
    rng = np.random.default_rng(seed)
    categories = [{"id": int(i), "name": f"class {i}"} for i in (3, 1, 90)]
    annotations, results = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 7)):
            bbox = box(rng, 8, 300)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.choice([3, 1])),
                    "bbox": bbox,
                    "area": round(float(bbox[2] * bbox[3] * rng.uniform(0.4, 1)), 2),
                    "iscrowd": int(rng.random() < crowds),
                }
            )
            for _ in range(rng.integers(0, 4)):
                near = [round(float(v + rng.normal(0, 0.06 * max(bbox[2:]))), 2) for v in bbox]
                near[2:] = [max(v, 0.5) for v in near[2:]]
                category = annotations[-1]["category_id"] if rng.random() < 0.9 else 90
                # Scores repeat, so that ties are met.
                results.append(
                    {"image_id": image, "category_id": category, "bbox": near, "score": round(rng.random(), 2)}
                )
        for _ in range(rng.integers(0, 3)):
            results.append(
                {
                    "image_id": image,
                    "category_id": int(rng.choice([3, 1, 90])),
                    "bbox": box(rng, 4, 200),
                    "score": round(rng.random(), 2),
                }
            )
    named = [{"id": i, "file_name": f"{i}.png", "width": 640, "height": 480} for i in range(1, images + 1)]
    dataset = {"images": named, "annotations": annotations, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(dataset))
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(json.loads(json.dumps(results))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {"dataset": dataset, "results": results, "stats": [float(v) for v in judge.stats]}


os.makedirs(OUT, exist_ok=True)
for name, arguments in {"plain": (1, 25, 0.0), "crowds": (2, 25, 0.2), "one": (3, 1, 0.0)}.items():
    with open(os.path.join(OUT, f"{name}.json"), "w") as file:
        json.dump(case(*arguments), file, separators=(",", ":"))
