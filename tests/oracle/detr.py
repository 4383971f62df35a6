#!/usr/bin/env python3
"""Writes tests/fixtures/detr: tiny DETRs with weights by recipe and what transformers makes of them, and masks with
the segments that its image processor merges them into.

    pip install torch transformers safetensors scipy; python tests/oracle/detr.py
"""

import os

import numpy as np
import torch
from recipe import FIXTURES, build, recipe, write
from safetensors.torch import save_file
from transformers import DetrConfig, DetrForObjectDetection, DetrForSegmentation, DetrImageProcessor, ResNetConfig
from transformers.models.detr.modeling_detr import DetrObjectDetectionOutput

OUT = os.path.join(FIXTURES, "detr")


def config(stages, **more):
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=stages,
        depths=[1] * len(stages),
        layer_type="basic",
        out_features=[f"stage{i + 1}" for i in range(len(stages))],
    )
    sizes = dict(encoder_layers=1, decoder_layers=2, encoder_ffn_dim=24, decoder_ffn_dim=40, num_queries=6)
    heads = dict(encoder_attention_heads=8, decoder_attention_heads=4, d_model=32)
    return DetrConfig(
        backbone_config=backbone,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        num_labels=4,
        **sizes | heads | more,
    )


def write_model(case, kind, config, seed):
    model, saved, entries = build(case, kind, config, seed, {"query_position": (2.0, 0.0)})
    pixels = torch.from_numpy(recipe(f"{seed}/{case}/pixel_values", 2 * 3 * 64 * 96, 1.0, 0.0)).view(2, 3, 64, 96)
    mask = torch.ones(2, 64, 96, dtype=torch.int64)
    mask[1, 48:] = 0
    mask[1, :, 72:] = 0
    pixels = pixels * mask[:, None]
    names = ["logits", "pred_boxes", "last_hidden_state", "encoder_last_hidden_state"]
    names += ["pred_masks"] if kind is DetrForSegmentation else []

    def answer(model, pixels):
        with torch.no_grad():
            answer = model(pixel_values=pixels, pixel_mask=mask, output_attentions=True)
        tensors = {f"out.{name}": answer[name] for name in names}
        for i, weights in enumerate(answer.cross_attentions):
            tensors[f"mid.cross_attention{i}"] = weights
        return tensors

    expected = answer(model, pixels)
    exact = answer(model.double(), pixels.double())
    write("detr", case, seed, saved, entries, {"pixel_values": pixels, "pixel_mask": mask}, expected, exact)


def blobs(rng, queries, rows, columns):
    """Masks with a smooth region each, so that some cover others."""
    y, x = np.mgrid[0:rows, 0:columns]
    made = []
    for _ in range(queries):
        at, size = rng.uniform(0, [rows, columns]), rng.uniform(2, rows / 2)
        distance = np.hypot(y - at[0], x - at[1])
        made.append((size - distance) * rng.uniform(0.5, 2))
    return torch.from_numpy(np.stack(made).astype(np.float32))


def write_segments():
    rng = np.random.default_rng(3)
    tensors = {}
    cases = [((37, 50), 0.5, []), ((96, 128), 0.85, []), ((40, 40), 0.3, [0, 1, 2])]
    for i, (size, threshold, fuse) in enumerate(cases):
        logits = torch.from_numpy(rng.normal(0, 1, (1, 12, 4)).astype(np.float32))
        logits[0, np.arange(12), rng.integers(0, 4, 12)] += 4
        masks = blobs(rng, 12, 24, 32)[None]
        answer = DetrObjectDetectionOutput(logits=logits)
        answer.pred_masks = masks
        found = DetrImageProcessor().post_process_panoptic_segmentation(
            answer, threshold=threshold, label_ids_to_fuse=set(fuse), target_sizes=[size]
        )[0]
        # With fused classes transformers numbers a segment like an earlier one, so that classes are compared alone.
        infos = found["segments_info"]
        labels = torch.full_like(found["segmentation"], -1)
        if fuse:
            scores, classes = logits[0].softmax(-1).max(-1)
            kept = (classes < 3) & (scores > threshold)
            large = torch.nn.functional.interpolate(masks.sigmoid(), size, mode="bilinear")[0][kept]
            large = large * scores[kept, None, None]
            own = torch.stack([(large.argmax(0) == k) for k in range(len(large))])
            whole = (large >= 0.5).sum((1, 2))
            for k, label in enumerate(classes[kept]):
                if own[k].sum() > 0 and whole[k] > 0 and own[k].sum() / whole[k] > 0.8:
                    labels[own[k]] = label.int()
        else:
            for info in infos:
                labels[found["segmentation"] == info["id"]] = info["label_id"]
        tensors |= {
            f"{i}.logits": logits[0].contiguous(),
            f"{i}.masks": masks[0].contiguous(),
            f"{i}.labels": labels.to(torch.int32),
            f"{i}.segmentation": found["segmentation"].to(torch.int32),
            f"{i}.scores": torch.tensor([info["score"] for info in infos]),
            f"{i}.threshold": torch.tensor([threshold]),
            f"{i}.fuse": torch.tensor(fuse or [-1], dtype=torch.int32),
        }
        print(i, size, len(infos), "segments of", int((logits[0].argmax(-1) < 3).sum()), "objects")
    save_file(tensors, os.path.join(OUT, "segments.safetensors"))


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    write_model("segmentation", DetrForSegmentation, config([8, 12, 16, 24]), 1)
    write_model("three_stages", DetrForObjectDetection, config([8, 12, 16], position_embedding_type="learned"), 2)
    write_segments()
