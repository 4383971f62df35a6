#!/usr/bin/env python3
"""Writes tests/fixtures/uvit2d: tiny U-ViTs with weights by recipe and what diffusers makes of them.

    pip install torch diffusers safetensors; python tests/oracle/uvit2d.py
"""

import torch
from autoencoder import build, images
from diffusers import UVit2DModel
from recipe import write


def listen(model, heard):
    """Keeps what the modules give, by Kiln's names for it."""
    modules = {"encoder": model.encoder_proj_layer_norm, "cond_embed": model.cond_embed, "embed": model.embed}
    if model.down_block.downsample is not None:
        modules["downsample"] = model.down_block.downsample
    if model.up_block.upsample is not None:
        modules["upsample"] = model.up_block.upsample
    for side, block in [("down", model.down_block), ("up", model.up_block)]:
        modules |= {f"{side}_res{i}": module for i, module in enumerate(block.res_blocks)}
        modules |= {f"{side}_attn{i}": module for i, module in enumerate(block.attention_blocks)}
    modules |= {f"layer{i}": module for i, module in enumerate(model.transformer_layers)}
    for name, module in modules.items():
        module.register_forward_hook(lambda _, __, y, name=name: heard.update({name: y}))


@torch.no_grad()
def answer(model, runs):
    tensors, heard = {}, {}
    listen(model, heard)
    kind = next(model.parameters()).dtype
    for suffix, inputs in runs.items():
        heard.clear()
        # The sines of the numbers that describe a picture are f32 in either case.
        given = {k: v.to(kind) if v.is_floating_point() else v for k, v in inputs.items()}
        tensors["out.logits" + suffix] = model(**given).clone()
        tensors |= {f"mid.{name}{suffix}": y.clone() for name, y in heard.items()}
    return tensors


def write_model(case, seed, config, runs):
    model, saved, entries = build(case, UVit2DModel, config, seed)
    inputs = {name + suffix: x.contiguous() for suffix, given in runs.items() for name, x in given.items()}
    expected = answer(model, runs)
    write("uvit2d", case, seed, saved, entries, inputs, expected, answer(model.double(), runs))
    logits = expected["out.logits"]
    print(case, sorted(expected), sum(p.numel() for p in model.parameters()), "spread", logits.std().item())


def given(key, batch, size, tokens, ids, states, pooled, conds):
    codes = (images(f"{key}/ids", batch, *size, scale=0.5) + 0.5) * ids
    return dict(
        input_ids=codes.long().clamp(0, ids - 1),
        encoder_hidden_states=images(f"{key}/states", batch, tokens, states),
        pooled_text_emb=images(f"{key}/pooled", batch, pooled),
        micro_conds=torch.tensor(conds, dtype=torch.float32).expand(batch, -1),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    sizes = dict(
        hidden_size=16,
        cond_embed_dim=6,
        micro_cond_encode_dim=8,
        micro_cond_embed_dim=40,
        encoder_hidden_size=10,
        vocab_size=24,
        codebook_size=20,
        in_channels=8,
        block_out_channels=12,
        num_res_blocks=2,
        block_num_heads=3,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        sample_size=4,
    )
    first = given("41/first", 2, (4, 3), 5, 24, 10, 6, [512.0, 512.0, 0.0, 0.0, 6.0])
    one = given("41/one", 1, (1, 5), 3, 24, 10, 6, [96.0, 33.0, 7.0, 2.0, 4.5])
    write_model("flat", 41, sizes, {"": first, "_one": one})
    # Halved and doubled again, with biases and plain norms; as wide within as without.
    options = dict(downsample=True, upsample=True, use_bias=True, ln_elementwise_affine=False, layer_norm_eps=1e-4)
    sizes |= dict(num_res_blocks=1, num_hidden_layers=1, block_out_channels=16, block_num_heads=4)
    first = given("42/first", 2, (4, 6), 4, 24, 10, 6, [256.0, 200.0, 0.0, 16.0, 6.0])
    write_model("halved", 42, sizes | options, {"": first})
