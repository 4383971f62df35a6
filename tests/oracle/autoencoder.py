#!/usr/bin/env python3
"""Writes tests/fixtures/autoencoder: tiny autoencoders with weights by recipe and what diffusers makes of them.

    pip install torch diffusers safetensors; python tests/oracle/autoencoder.py
"""

import os

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from recipe import FIXTURES, recipe, shape_of, write
from safetensors.torch import save_file


def build(case, kind, config, seed):
    """A model with weights by recipe, and the recipe."""
    model = kind(**config).eval()
    entries, weights = [], {}
    for name, tensor in sorted(model.state_dict().items()):
        scale, offset = shape_of(name, tensor, {})
        values = recipe(f"{seed}/{case}/{name}", tensor.numel(), scale, offset)
        weights[name] = torch.from_numpy(values).view(tensor.shape)
        entries.append(dict(name=name, shape=list(tensor.shape), scale=scale, offset=offset))
    model.load_state_dict(weights)
    saved = {key: value for key, value in model.config.items() if key != "_use_default_values"}
    return model, {"_class_name": kind.__name__} | saved, entries


def images(key, *shape, scale=1.0):
    size = torch.Size(shape)
    return torch.from_numpy(recipe(key, size.numel(), scale, 0.0)).view(size)


def hook(module, name, layers):
    module.register_forward_hook(lambda _, __, y: layers.append((name, y)))


@torch.no_grad()
def kl(model, inputs):
    layers, tensors = [], {}
    for half, short, blocks in [(model.encoder, "enc", "down"), (model.decoder, "dec", "up")]:
        for i, block in enumerate(getattr(half, f"{blocks}_blocks")):
            hook(block, f"{short}_{blocks}{i}", layers)
        hook(half.mid_block, f"{short}_mid", layers)
        for attention in half.mid_block.attentions or []:
            if attention is not None:
                hook(attention, f"{short}_mid_attn", layers)
    dtype = next(model.parameters()).dtype
    for name, x in inputs.items():
        layers.clear()
        base, _, suffix = name.partition("_")
        suffix = suffix and "_" + suffix
        if base == "image":
            found = model.encode(x.to(dtype)).latent_dist
            made = dict(moments=found.parameters, mean=found.mean, logvar=found.logvar, std=found.std)
        else:
            made = dict(image=model.decode(x.to(dtype)).sample)
        tensors |= {f"out.{key}{suffix}": y.clone() for key, y in made.items()}
        tensors |= {f"mid.{key}{suffix}": y.clone() for key, y in layers}
    return tensors


@torch.no_grad()
def tiny(model, inputs):
    dtype = next(model.parameters()).dtype
    tensors = {}
    for name, x in inputs.items():
        base, _, suffix = name.partition("_")
        suffix = suffix and "_" + suffix
        if base == "image":
            tensors["out.latents" + suffix] = model.encode(x.to(dtype)).latents
        else:
            tensors["out.image" + suffix] = model.decode(x.to(dtype)).sample
    return tensors


@torch.no_grad()
def tiled(case, model, side, image, latents):
    """What diffusers makes of them in tiles of `side` latents along a side."""
    model = model.float()
    factor = 2 ** (len(model.config.block_out_channels) - 1)
    model.spatial_scale_factor = factor
    model.tile_latent_min_size, model.tile_sample_min_size = side, side * factor
    model.enable_tiling()
    encoded = model.encode(image)
    moments = encoded.latent_dist.parameters if case.startswith("kl") else encoded.latents
    made = {
        "latents": latents,
        "image": image,
        "decoded": model.decode(latents).sample,
        "encoded": moments,
        "side": torch.tensor([float(side)]),
    }
    made = {name: tensor.contiguous() for name, tensor in made.items()}
    save_file(made, os.path.join(FIXTURES, "autoencoder", case, "tiled.safetensors"))


def write_model(case, kind, answer, config, seed, inputs):
    model, saved, entries = build(case, kind, config, seed)
    expected = answer(model, inputs)
    exact = answer(build(case, kind, config, seed)[0].double(), inputs)
    write("autoencoder", case, seed, saved, entries, inputs, expected, exact)
    print(case, sorted(expected), sum(p.numel() for p in model.parameters()))
    return model


if __name__ == "__main__":
    torch.set_num_threads(1)
    blocks = lambda count: dict(
        down_block_types=["DownEncoderBlock2D"] * count, up_block_types=["UpDecoderBlock2D"] * count
    )
    # Blocks that widen, one layer each; images of several sizes, odd ones among them.
    config = dict(
        block_out_channels=[8, 12, 12, 16],
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.5,
        **blocks(4),
    )
    inputs = {
        "image": images("1/image", 2, 3, 8, 16),
        "image_odd": images("1/odd", 1, 3, 19, 10),
        "latents": images("1/latents", 2, 4, 1, 2, scale=2.0),
        "latents_odd": images("1/odd_latents", 1, 4, 2, 1, scale=2.0),
    }
    write_model("kl", AutoencoderKL, kl, config, 1, inputs)

    # Neither convolutions around the latents nor attention; other activations, channels and ways to scale.
    config = dict(
        in_channels=4,
        out_channels=2,
        block_out_channels=[8, 8],
        layers_per_block=2,
        norm_num_groups=2,
        latent_channels=3,
        act_fn="mish",
        sample_size=16,
        shift_factor=0.25,
        latents_mean=[0.5, -0.25, 0.0],
        latents_std=[2.0, 1.0, 0.5],
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        **blocks(2),
    )
    inputs = {"image": images("2/image", 1, 4, 10, 6), "latents": images("2/latents", 1, 3, 5, 3)}
    model = write_model("kl_no_quant", AutoencoderKL, kl, config, 2, inputs)
    # Tiles at the ends, one of which is smaller than a seam.
    image, latents = images("2/tiled", 1, 4, 26, 34), images("2/tiled_latents", 2, 3, 15, 13)
    tiled("kl_no_quant", model, 8, image, latents)

    config = dict(
        encoder_block_out_channels=[8] * 4,
        decoder_block_out_channels=[12] * 4,
        num_encoder_blocks=[1, 2, 1, 1],
        num_decoder_blocks=[1, 1, 2, 1],
        latent_magnitude=2,
        latent_shift=0.25,
    )
    inputs = {
        "image": images("3/image", 2, 3, 16, 24),
        "latents": images("3/latents", 2, 4, 3, 2, scale=4.0),
    }
    write_model("tiny", AutoencoderTiny, tiny, config, 3, inputs)

    config = dict(
        encoder_block_out_channels=[4] * 2,
        decoder_block_out_channels=[8] * 2,
        num_encoder_blocks=[1, 1],
        num_decoder_blocks=[2, 1],
        act_fn="gelu",
        scaling_factor=0.5,
    )
    inputs = {"image": images("4/image", 1, 3, 7, 10), "latents": images("4/latents", 1, 4, 4, 3)}
    model = write_model("tiny_two_stages", AutoencoderTiny, tiny, config, 4, inputs)
    image, latents = images("4/tiled", 1, 3, 60, 34), images("4/tiled_latents", 1, 4, 30, 17, scale=4.0)
    tiled("tiny_two_stages", model, 16, image, latents)
