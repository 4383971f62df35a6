#!/usr/bin/env python3
"""Writes tests/fixtures/single_file: tiny pipelines with the sizes that the paper's code has everywhere, which tensor of a
checkpoint in one file holds which of their weights (as diffusers' own conversion confirms), and pictures of them.

    pip install torch transformers diffusers safetensors pillow; python tests/oracle/single_file.py
"""

import json
import os
from types import SimpleNamespace

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from recipe import FIXTURES
from safetensors.torch import save_file
from stable_diffusion import OUT as PLAIN
from stable_diffusion import SIZE, run, weigh
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

OUT = os.path.join(FIXTURES, "single_file")
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
LAYERS = 1  # residual blocks of a stage on the way down


def unet_name(name, config):
    """The original name, as https://github.com/CompVis/latent-diffusion numbers blocks."""
    around = {
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
    }
    module, kind = name.rsplit(".", 1)
    if module in around:
        return f"{around[module]}.{kind}"
    side, *rest = name.split(".")
    if side == "mid_block":
        part, j, *rest = rest
        original = ["middle_block", "1" if part == "attentions" else str(2 * int(j))]
    else:
        i, part, j, *rest = rest
        i, j, down = int(i), int(j), side == "down_blocks"
        blocks = LAYERS + 1
        if part == "downsamplers":
            return f"input_blocks.{(i + 1) * blocks}.0.op.{rest[-1]}"
        if part == "upsamplers":
            behind = 2 if config["up_block_types"][i].startswith("CrossAttn") else 1
            return f"output_blocks.{i * blocks + blocks - 1}.{behind}.conv.{rest[-1]}"
        number = 1 + i * blocks + j if down else i * blocks + j
        original = [f"{'input' if down else 'output'}_blocks", str(number), "1" if part == "attentions" else "0"]
    if part == "resnets":
        rest[0] = RESNET[rest[0]]
    return ".".join(original + rest)


def vae_name(name, config):
    last = len(config["block_out_channels"]) - 1
    for ours, theirs in [
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_q", "mid.attn_1.q"),
        ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
        ("mid_block.attentions.0.to_v", "mid.attn_1.v"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("conv_norm_out", "norm_out"),
        ("conv_shortcut", "nin_shortcut"),
        ("downsamplers.0", "downsample"),
        ("upsamplers.0", "upsample"),
        (".resnets.", ".block."),
        ("down_blocks", "down"),
        *((f"up_blocks.{i}.", f"up.{last - i}.") for i in range(last + 1)),
    ]:
        name = name.replace(ours, theirs)
    return name


def open_clip_name(name):
    for ours, theirs in [
        ("embeddings.token_embedding.weight", "token_embedding.weight"),
        ("embeddings.position_embedding.weight", "positional_embedding"),
        ("final_layer_norm", "ln_final"),
        ("encoder.layers", "transformer.resblocks"),
        ("layer_norm", "ln_"),
        ("fc1", "c_fc"),
        ("fc2", "c_proj"),
        ("self_attn", "attn"),
    ]:
        name = name.replace(ours, theirs)
    return name


def original(made, second):
    """The tensors of a checkpoint in one file, and which weights each is made of."""
    tensors, made_of = {}, {}

    def put(name, parts, tensor):
        tensors[name], made_of[name] = tensor, parts

    for name, tensor in made["unet"].state_dict().items():
        put("model.diffusion_model." + unet_name(name, made["unet"].config), [f"unet/{name}"], tensor)
    for name, tensor in made["vae"].state_dict().items():
        product = "attentions.0.to_" in name and name.endswith(".weight")
        put("first_stage_model." + vae_name(name, made["vae"].config), [f"vae/{name}"], tensor[..., None, None] if product else tensor)
    text = made["text_encoder"].state_dict()
    for name, tensor in text.items():
        name = name.removeprefix("text_model.")
        if not second:
            put(f"cond_stage_model.transformer.text_model.{name}", [f"text_encoder/{name}"], tensor)
        elif ".q_proj." in name:
            three = [name.replace(".q_proj.", f".{x}_proj.") for x in "qkv"]
            fused = open_clip_name(name).replace("q_proj.", "in_proj_")
            put(f"cond_stage_model.model.{fused}", [f"text_encoder/{one}" for one in three], torch.cat([text[one] for one in three]))
        elif ".k_proj." not in name and ".v_proj." not in name:
            put(f"cond_stage_model.model.{open_clip_name(name)}", [f"text_encoder/{name}"], tensor)
    return tensors, made_of


def confirm(made, tensors, second):
    """diffusers makes the same weights of the tensors."""
    same = lambda converted, model: set(converted) == set(model) and all((converted[n] == model[n]).all() for n in model)
    assert same(convert_ldm_unet_checkpoint(dict(tensors), made["unet"].config), made["unet"].state_dict())
    assert same(convert_ldm_vae_checkpoint(dict(tensors), made["vae"].config), made["vae"].state_dict())
    if second:
        like = SimpleNamespace(config=SimpleNamespace(hidden_size=made["text_encoder"].config.hidden_size))
        text = convert_open_clip_checkpoint(like, dict(tensors))
    else:
        text = convert_ldm_clip_checkpoint(dict(tensors))
    bare = lambda weights: {name.removeprefix("text_model."): tensor for name, tensor in weights.items()}
    assert same(bare(text), bare(made["text_encoder"].state_dict()))


def parts(case, second):
    folder = os.path.join(OUT, case)
    tokenizer = CLIPTokenizer.from_pretrained(os.path.join(PLAIN, "plain", "tokenizer"), **(dict(pad_token="!") if second else {}))
    vocab, width = len(tokenizer), 64
    text = CLIPTextConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=48, num_hidden_layers=2, num_attention_heads=1,
        max_position_embeddings=16, bos_token_id=vocab - 2, eos_token_id=vocab - 1, pad_token_id=vocab - 1,
        hidden_act="gelu" if second else "quick_gelu",
    )
    channels = (64, 128) if second else (32, 64)
    unet = UNet2DConditionModel(
        sample_size=SIZE // 4, block_out_channels=channels, layers_per_block=LAYERS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width, attention_head_dim=(1, 2) if second else 8, use_linear_projection=second,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 64), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, sample_size=SIZE,
    )
    made, manifest = {"tokenizer": tokenizer}, {"case": case, "seed": 12, "weights": {}}
    for name, model, kind, file in [
        ("text_encoder", CLIPTextModel(text), CLIPTextModel, "model.safetensors"),
        ("unet", unet, UNet2DConditionModel, "diffusion_pytorch_model.safetensors"),
        ("vae", vae, AutoencoderKL, "diffusion_pytorch_model.safetensors"),
    ]:
        made[name], manifest["weights"][f"{name}/{file}"], _ = weigh(case, model, kind, file, seed=12)
    settings = dict(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", set_alpha_to_one=False, steps_offset=1
    )
    if second:
        made["scheduler"] = DDIMScheduler(**settings, clip_sample=False, prediction_type="v_prediction")
    else:
        made["scheduler"] = PNDMScheduler(**settings, skip_prk_steps=True)
    os.makedirs(folder, exist_ok=True)
    write(os.path.join(folder, "manifest.json"), manifest)
    return made


def write(path, value):
    with open(path, "w") as f:
        json.dump(value, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    for case, second in [("first", False), ("second", True)]:
        made = parts(case, second)
        tensors, made_of = original(made, second)
        confirm(made, tensors, second)
        write(os.path.join(OUT, case, "original.json"), made_of)
        prompt = dict(prompt="a red three left of a blue seven!", negative_prompt="blurry blue")
        picture = run(
            case, StableDiffusionPipeline, made, "text2image", num_inference_steps=4, height=SIZE, width=SIZE, **prompt
        )
        save_file({"text2image": (picture * 255).round().to(torch.uint8)}, os.path.join(OUT, case, "pictures.safetensors"))
