#!/usr/bin/env python3
"""Writes tests/fixtures/vq_model: tiny autoencoders with a codebook, weights by recipe, and what diffusers makes of them.

    pip install torch diffusers safetensors; python tests/oracle/vq_model.py
"""

import re

import torch
from autoencoder import hook, images
from diffusers import VQModel
from recipe import recipe, shape_of, write

# Wide enough that every code is used, and narrower than latents are spread.
CODEBOOK = (1.5, 0.0)
# The paper's names of modules: regular expressions over them, and diffusers' names.
ORIGINAL = [
    (r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1."),
    (r"\.block\.(\d+)\.", r".resnets.\1."),
    (r"\.attn\.(\d+)\.", r".attentions.\1."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
    (r"\.downsample\.", ".downsamplers.0."),
    (r"\.upsample\.", ".upsamplers.0."),
    (r"nin_shortcut", "conv_shortcut"),
    (r"\.norm_out\.", ".conv_norm_out."),
]


class Gumbel(torch.nn.Module):
    """The paper's quantiser of that name as it is used behind training: without noise."""

    def __init__(self, codes, width):
        super().__init__()
        self.proj = torch.nn.Conv2d(width, codes, 1)
        self.embed = torch.nn.Embedding(codes, width)

    def scores(self, z):
        return self.proj(z)

    def rows(self, codes):
        return self.embed(codes)


class Nearest(torch.nn.Module):
    def __init__(self, codes, width):
        super().__init__()
        self.embedding = torch.nn.Embedding(codes, width)

    def scores(self, z):
        rows = z.permute(0, 2, 3, 1).flatten(0, 2)
        distances = torch.cdist(rows, self.embedding.weight)
        return -distances.view(z.shape[0], z.shape[2], z.shape[3], -1).permute(0, 3, 1, 2)

    def rows(self, codes):
        return self.embedding(codes)


def diffusers_name(name, stages):
    """diffusers' name of a weight by the paper's, which counts the decoder's blocks from the end."""
    name = re.sub(r"^decoder\.up\.(\d+)\.", lambda found: f"decoder.up_blocks.{stages - 1 - int(found[1])}.", name)
    for theirs, ours in ORIGINAL:
        name = re.sub(theirs, ours, name)
    return name


def original_name(name, stages):
    """The paper's name of a weight by diffusers'."""
    name = re.sub(r"^decoder\.up_blocks\.(\d+)\.", lambda found: f"decoder.up.{stages - 1 - int(found[1])}.", name)
    name = name.replace("encoder.down_blocks.", "encoder.down.")
    for ours, theirs in [
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
        ("mid_block.attentions.0", "mid.attn_1"),
        ("resnets", "block"),
        ("attentions", "attn"),
        ("group_norm", "norm"),
        ("to_out.0", "proj_out"),
        (".to_", "."),
        ("downsamplers.0", "downsample"),
        ("upsamplers.0", "upsample"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
    ]:
        name = name.replace(ours, theirs)
    return name


def build(case, config, seed, gumbel=False, original=False):
    """A model with weights by recipe, and the recipe, by the paper's names where that is wanted."""
    model = VQModel(**config).eval()
    codes, width = model.config.num_vq_embeddings, model.quantize.vq_embed_dim
    model.quantize = (Gumbel if gumbel else Nearest)(codes, width)
    stages = len(model.config.block_out_channels)
    entries, weights = [], {}
    for ours, tensor in sorted(model.state_dict().items()):
        name, shape = ours, list(tensor.shape)
        if original:
            name = original_name(ours, stages)
            assert diffusers_name(name, stages) == ours, (name, ours)
            if ".attn" in name and tensor.ndim == 2:
                shape += [1, 1]
        scale, offset = shape_of(ours, tensor, {"quantize.embed": CODEBOOK})
        values = recipe(f"{seed}/{case}/{name}", tensor.numel(), scale, offset)
        weights[ours] = torch.from_numpy(values).view(tensor.shape)
        entries.append(dict(name=name, shape=shape, scale=scale, offset=offset))
    if original and not gumbel:
        # What a training with moving averages leaves.
        entries.append(dict(name="quantize.embedding.cluster_size", shape=[codes], scale=1.0, offset=2.0))
        entries.append(dict(name="quantize.embedding.embed_avg", shape=[codes, width], scale=1.0, offset=0.0))
    model.load_state_dict(weights)
    saved = {key: value for key, value in model.config.items() if key != "_use_default_values"}
    return model, {"_class_name": "VQModel"} | saved, entries


def taming(config, target):
    """The paper's configuration of the same model, with a side of 32 pixels."""
    widths = config["block_out_channels"]
    kinds = enumerate(config["down_block_types"])
    return {
        "model": {
            "target": f"taming.models.vqgan.{target}",
            "params": {
                "embed_dim": config["vq_embed_dim"],
                "n_embed": config["num_vq_embeddings"],
                "num_groups": config["norm_num_groups"],
                "ddconfig": {
                    "double_z": False,
                    "z_channels": config["latent_channels"],
                    "resolution": 32,
                    "in_channels": 3,
                    "out_ch": 3,
                    "ch": widths[0],
                    "ch_mult": [width // widths[0] for width in widths],
                    "num_res_blocks": config["layers_per_block"],
                    "attn_resolutions": [32 >> i for i, kind in kinds if kind.startswith("Attn")],
                    "dropout": 0.0,
                },
            },
        }
    }


@torch.no_grad()
def answer(model, inputs):
    layers, tensors, margins = [], {}, []
    for i, block in enumerate(model.encoder.down_blocks):
        hook(block, f"enc_level{i}", layers)
        if hasattr(block, "attentions"):
            innermost = block
    if any(hasattr(block, "attentions") for block in model.encoder.down_blocks):
        hook(innermost, "enc_attn_level", layers)
    for i, block in enumerate(model.decoder.up_blocks):
        hook(block, f"dec_up{i}", layers)
    for half, short in [(model.encoder, "enc"), (model.decoder, "dec")]:
        hook(half.mid_block, f"{short}_mid", layers)
        for attention in half.mid_block.attentions or []:
            if attention is not None:
                hook(attention, f"{short}_mid_attn", layers)
    dtype = next(model.parameters()).dtype
    for name, x in inputs.items():
        layers.clear()
        base, _, suffix = name.partition("_")
        suffix = suffix and "_" + suffix
        made = {}
        if base == "image":
            latents = model.encode(x.to(dtype)).latents
            scores = model.quantize.scores(latents)
            best = scores.topk(2, dim=1).values
            margins.append((best[:, 0] - best[:, 1]).min().item())
            codes = scores.argmax(1)
            made = dict(latents=latents, indices=codes.flatten(1))
        else:
            codes = x.long()
        quantized = model.quantize.rows(codes).permute(0, 3, 1, 2)
        made |= dict(quantized=quantized, image=model.decode(quantized, force_not_quantize=True).sample)
        tensors |= {f"out.{key}{suffix}": y.clone() for key, y in made.items()}
        tensors |= {f"mid.{key}{suffix}": y.clone() for key, y in layers}
    return tensors, margins


def write_model(case, config, seed, inputs, target=None):
    options = dict(gumbel=target == "GumbelVQ", original=target is not None)
    model, saved, entries = build(case, config, seed, **options)
    expected, margins = answer(model, inputs)
    exact, _ = answer(build(case, config, seed, **options)[0].double(), inputs)
    if target:
        saved = taming(config, target)
    for name in expected:
        assert not name.startswith("out.indices") or (expected[name] == exact[name]).all(), name
    write("vq_model", case, seed, saved, entries, inputs, expected, exact)
    codes = torch.cat([y.flatten() for name, y in expected.items() if "indices" in name] or [torch.tensor([])])
    print(case, sorted(expected), len(codes), "codes,", len(codes.unique()), "of them different, margins", margins)


def blocks(*attends):
    return dict(
        down_block_types=[("Attn" if a else "") + "DownEncoderBlock2D" for a in attends],
        up_block_types=[("Attn" if a else "") + "UpDecoderBlock2D" for a in attends[::-1]],
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    # Attentions in two blocks of three, images of several sizes, one of them not of whole codes.
    config = dict(
        block_out_channels=[8, 8, 16],
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=6,
        vq_embed_dim=5,
        num_vq_embeddings=37,
        sample_size=32,
        **blocks(False, True, True),
    )
    inputs = {"image": images("11/image", 2, 3, 8, 16), "image_odd": images("11/odd", 1, 3, 27, 14)}
    write_model("diffusers", config, 11, inputs)

    # The paper's names and configuration, with moving averages of the codebook, and with Gumbel's quantiser.
    config |= dict(block_out_channels=[8, 16, 24], **blocks(False, False, True))
    write_model("original", config, 12, {"image": images("12/image", 1, 3, 8, 24)}, "EMAVQ")
    config |= dict(block_out_channels=[4, 8], latent_channels=8, vq_embed_dim=8, layers_per_block=2, **blocks(False, True))
    write_model("gumbel", config, 13, {"image": images("13/image", 2, 3, 10, 6)}, "GumbelVQ")

    # No attention at all; other activations and channels.
    config = dict(
        in_channels=4,
        out_channels=2,
        block_out_channels=[8, 12],
        layers_per_block=2,
        norm_num_groups=2,
        act_fn="mish",
        latent_channels=3,
        num_vq_embeddings=16,
        mid_block_add_attention=False,
        **blocks(False, False),
    )
    write_model("no_attention", config, 14, {"image": images("14/image", 1, 4, 10, 14)})

    # Codes to images, a code for each pixel.
    config |= dict(block_out_channels=[8], layers_per_block=1, act_fn="silu", **blocks(False))
    write_model("codes", config, 15, {"indices": (images("15/indices", 2, 3, 5).abs() * 16).to(torch.int32)})
