#!/usr/bin/env python3
"""Writes tests/fixtures/unet: tiny UNets with weights by recipe and what diffusers makes of them.

    pip install torch diffusers safetensors; python tests/oracle/unet.py
"""

import json
import os
import tempfile

import torch
from diffusers import UNet2DConditionModel
from recipe import recipe, shape_of, write
from safetensors.torch import load_file, save_file


def build(case, seed, options):
    """A UNet with weights by recipe, its `config.json`, and the recipe."""
    with tempfile.TemporaryDirectory() as made:
        UNet2DConditionModel(**options).save_pretrained(made)
        path = os.path.join(made, "diffusion_pytorch_model.safetensors")
        entries, weights = [], {}
        for name, tensor in sorted(load_file(path).items()):
            scale, offset = shape_of(name, tensor, {})
            values = recipe(f"{seed}/{case}/{name}", tensor.numel(), scale, offset)
            weights[name] = torch.from_numpy(values).view(tensor.shape)
            entries.append(dict(name=name, shape=list(tensor.shape), scale=scale, offset=offset))
        save_file(weights, path, {"format": "pt"})
        unet = UNet2DConditionModel.from_pretrained(made).eval()
        with open(os.path.join(made, "config.json")) as f:
            saved = json.load(f)
    return unet, saved, entries


def listen(unet, heard):
    """Keeps what the modules give, by Kiln's names for it."""

    def keep(name):
        def hook(_, __, y):
            heard[name] = y[0] if isinstance(y, tuple) else y

        return hook

    modules = {"conv_in": unet.conv_in, "time_embedding": unet.time_embedding}
    if unet.class_embedding is not None:
        modules["class_embedding"] = unet.class_embedding
    if unet.mid_block is not None:
        modules["mid_block"] = unet.mid_block
        modules |= {f"mid_resnet{j}": resnet for j, resnet in enumerate(unet.mid_block.resnets)}
        modules |= {f"mid_attn{j}": attn for j, attn in enumerate(unet.mid_block.attentions)}
    for side, blocks, sampler in [("down", unet.down_blocks, "downsampler"), ("up", unet.up_blocks, "upsampler")]:
        for i, block in enumerate(blocks):
            modules |= {f"{side}{i}_resnet{j}": resnet for j, resnet in enumerate(block.resnets)}
            modules |= {f"{side}{i}_attn{j}": attn for j, attn in enumerate(getattr(block, "attentions", []))}
            if getattr(block, f"{sampler}s"):
                modules[f"{side}{i}_{sampler}"] = getattr(block, f"{sampler}s")[0]
    for name, module in modules.items():
        module.register_forward_hook(keep(name))


def answer(unet, runs, wanted):
    """The prediction of each run, and the hidden layers that are wanted."""
    tensors, heard = {}, {}
    listen(unet, heard)
    kind = next(unet.parameters()).dtype
    for suffix, inputs in runs.items():
        heard.clear()
        given = {k: v.to(kind) if v.is_floating_point() else v for k, v in inputs.items()}
        with torch.no_grad():
            tensors["out.sample" + suffix] = unet(**given).sample.clone()
        tensors |= {f"mid.{name}{suffix}": y.clone() for name, y in heard.items() if name in wanted(suffix)}
    return tensors


def write_unet(case, seed, options, runs, wanted):
    unet, saved, entries = build(case, seed, options)
    inputs = {name + suffix: x.contiguous() for suffix, given in runs.items() for name, x in given.items()}
    expected = answer(unet, runs, wanted)
    exact = answer(unet.double(), runs, wanted)
    write("unet", case, seed, saved, entries, inputs, expected, exact)
    print(case, len(expected), sorted(expected), sum(p.numel() for p in unet.parameters()))


def tensor(key, *shape):
    count = 1
    for extent in shape:
        count *= extent
    return torch.from_numpy(recipe(key, count, 1.7, 0.0)).view(shape)


if __name__ == "__main__":
    CROSS, PLAIN = ["CrossAttnDownBlock2D", "CrossAttnUpBlock2D"], ["DownBlock2D", "UpBlock2D"]

    # Stable Diffusion 2.x's: a list of heads, linear projections; sides that halve to odd ones; one timestep for all.
    options = dict(
        sample_size=12,
        block_out_channels=[8, 16, 24],
        down_block_types=[CROSS[0], CROSS[0], PLAIN[0]],
        up_block_types=[PLAIN[1], CROSS[1], CROSS[1]],
        layers_per_block=[1, 2, 1],
        attention_head_dim=[1, 2, 4],
        cross_attention_dim=20,
        transformer_layers_per_block=[1, 2, 1],
        use_linear_projection=True,
        upcast_attention=True,
        norm_num_groups=4,
    )
    first = dict(
        sample=tensor("1/sample", 2, 4, 6, 11),
        timestep=torch.tensor([951]),
        encoder_hidden_states=tensor("1/states", 2, 5, 20),
    )
    odd = dict(
        sample=tensor("1/odd", 1, 4, 5, 7),
        timestep=torch.tensor([20.25]),
        encoder_hidden_states=tensor("1/odd states", 1, 7, 20),
    )
    some = ["time_embedding", "down0_attn0", "down1_resnet1", "down1_downsampler", "mid_attn0", "up0_upsampler"]
    wanted = lambda suffix: some if suffix else some + ["up1_resnet2", "up2_attn1"]
    write_unet("linear", 1, options, {"": first, "_odd": odd}, wanted)

    # Inpainting's nine channels, a table of classes, every option besides.
    options = dict(
        in_channels=9,
        block_out_channels=[8, 12],
        down_block_types=CROSS[:1] * 2,
        up_block_types=CROSS[1:] * 2,
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=12,
        only_cross_attention=[True, False],
        center_input_sample=True,
        conv_in_kernel=5,
        conv_out_kernel=1,
        downsample_padding=0,
        mid_block_scale_factor=1.5,
        act_fn="mish",
        norm_num_groups=4,
        norm_eps=1e-3,
        encoder_hid_dim=14,
        num_class_embeds=6,
        resnet_time_scale_shift="scale_shift",
        flip_sin_to_cos=False,
        freq_shift=1,
        time_embedding_dim=20,
        timestep_post_act="gelu",
        time_embedding_act_fn="silu",
        time_cond_proj_dim=10,
    )
    both = dict(
        sample=tensor("2/sample", 2, 9, 8, 8),
        timestep=torch.tensor([999, 1]),
        encoder_hidden_states=tensor("2/states", 2, 3, 14),
        class_labels=torch.tensor([4, 0]),
        timestep_cond=tensor("2/cond", 2, 10),
    )
    some = ["conv_in", "time_embedding", "class_embedding", "down0_attn0", "down0_downsampler", "mid_resnet0"]
    write_unet("inpainting", 2, options, {"": both}, lambda _: some + ["mid_block", "up0_attn0", "up1_resnet1"])

    # The other class embeddings, and no middle; a class for all, and one each.
    plain = dict(
        block_out_channels=[8, 12],
        down_block_types=[PLAIN[0], CROSS[0]],
        up_block_types=[CROSS[1], PLAIN[1]],
        mid_block_type=None,
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=6,
        norm_num_groups=4,
        act_fn="relu",
    )
    kinds = {
        "timestep": ({}, torch.tensor([400.0, 3.0])),
        "identity": ({}, tensor("3/identity", 2, 32)),
        "projection": ({"projection_class_embeddings_input_dim": 7}, tensor("3/projection", 2, 7)),
        "simple_projection": ({"projection_class_embeddings_input_dim": 9}, tensor("3/simple", 2, 9)),
    }
    for kind, (more, labels) in kinds.items():
        given = dict(
            sample=tensor("3/sample", 2, 4, 4, 6),
            timestep=torch.tensor([700, 31]),
            encoder_hidden_states=tensor("3/states", 2, 2, 6),
            class_labels=labels,
        )
        options = plain | more | {"class_embed_type": kind}
        write_unet(f"class_{kind}", 3, options, {"": given}, lambda _: ["class_embedding", "up0_attn1"])
