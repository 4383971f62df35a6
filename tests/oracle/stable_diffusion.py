#!/usr/bin/env python3
"""Writes tests/fixtures/stable_diffusion: tiny pipelines with weights by recipe and the pictures that diffusers makes of them.

    pip install torch transformers diffusers safetensors pillow; python tests/oracle/stable_diffusion.py
"""

import json
import os
import tempfile

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from recipe import FIXTURES, recipe, shape_of
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

OUT = os.path.join(FIXTURES, "stable_diffusion")
SEED = 11
SIZE = 32
WORDS = ["red", "blue", "three", "seven", "left", "of"]


def tokenizer(folder):
    """A vocabulary of bytes and a few words, as CLIP's is built."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    units = [chr(b) for b in visible] + [chr(256 + i) for i in range(256 - len(visible))]
    merges, tokens = [], []
    for word in WORDS:
        left = word[0]
        for i, letter in enumerate(word[1:], 1):
            right = letter + "</w>" if i + 1 == len(word) else letter
            if left + right not in tokens:
                merges.append(f"{left} {right}")
                tokens.append(left + right)
            left += letter
    vocab = units + [unit + "</w>" for unit in units] + tokens + ["<|startoftext|>", "<|endoftext|>"]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "vocab.json"), "w") as f:
        json.dump({token: i for i, token in enumerate(vocab)}, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "".join(merge + "\n" for merge in merges))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        names = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>")
        json.dump(names | dict(unk_token="<|endoftext|>", model_max_length=16, tokenizer_class="CLIPTokenizer"), f)
    return len(vocab)


def weigh(case, model, kind, file, seed=SEED):
    """The model with weights by recipe, the recipe, and its `config.json`."""
    with tempfile.TemporaryDirectory() as made:
        model.save_pretrained(made)
        path = os.path.join(made, file)
        entries, weights = [], {}
        for name, tensor in sorted(load_file(path).items()):
            if tensor.is_floating_point():
                scale, offset = shape_of(name, tensor, {})
                values = recipe(f"{seed}/{case}/{name}", tensor.numel(), scale, offset)
                weights[name] = torch.from_numpy(values).view(tensor.shape)
                entries.append(dict(name=name, shape=list(tensor.shape), scale=scale, offset=offset))
        save_file(weights, path, {"format": "pt"})
        with open(os.path.join(made, "config.json")) as f:
            config = json.load(f)
        return kind.from_pretrained(made).eval(), entries, config


def parts(case, channels):
    folder = os.path.join(OUT, case)
    vocab = tokenizer(os.path.join(folder, "tokenizer"))
    text = CLIPTextConfig(
        vocab_size=vocab, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=vocab - 2, eos_token_id=vocab - 1, pad_token_id=vocab - 1,
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 4, in_channels=channels, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2, norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, norm_num_groups=4, sample_size=SIZE,
    )
    made, manifest = {}, {"case": case, "seed": SEED, "weights": {}}
    for name, model, kind, file in [
        ("text_encoder", CLIPTextModel(text), CLIPTextModel, "model.safetensors"),
        ("unet", unet, UNet2DConditionModel, "diffusion_pytorch_model.safetensors"),
        ("vae", vae, AutoencoderKL, "diffusion_pytorch_model.safetensors"),
    ]:
        made[name], manifest["weights"][f"{name}/{file}"], config = weigh(case, model, kind, file)
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        write(os.path.join(folder, name, "config.json"), config)
    # diffusers looks for the final norm where older transformers had it.
    object.__setattr__(made["text_encoder"], "text_model", made["text_encoder"])
    made["tokenizer"] = CLIPTokenizer.from_pretrained(os.path.join(folder, "tokenizer"))
    made["scheduler"] = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )
    made["scheduler"].save_config(os.path.join(folder, "scheduler"))
    # Settings that a file names go over to another class; those that are defaults of a class in memory do not.
    made["scheduler"] = DDIMScheduler.from_pretrained(os.path.join(folder, "scheduler"))
    write(os.path.join(folder, "manifest.json"), manifest)
    return made


def write(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def picture(key, size):
    """A smooth picture with some noise."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / max(size)
    noise = recipe(key, size[0] * size[1] * 3, 20.0, 0.0).reshape(size[1], size[0], 3)
    waves = np.stack([np.sin(5 * x), np.cos(4 * y), np.sin(3 * (x + y))], -1) * 90 + 128
    return Image.fromarray(np.clip(waves + noise, 0, 255).round().astype(np.uint8))


def run(case, kind, made, name, scheduler=None, seeds=(3,), **more):
    """Pictures of a pipeline, from 0 to 1, `[batch, height, width, 3]`."""
    use = dict(made)
    if scheduler is not None:
        use["scheduler"] = scheduler.from_config(made["scheduler"].config)
    use |= dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe = kind(**use)
    pipe.set_progress_bar_config(disable=True)
    count = len(seeds)
    for key in ("prompt", "negative_prompt", "image", "mask_image"):
        if key in more:
            more[key] = [more[key]] * count
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    pictures = pipe(generator=generators, output_type="np", **more).images
    print(case, name, pictures.shape, pictures.mean(), pictures.std())
    return torch.from_numpy(pictures).float().contiguous()


if __name__ == "__main__":
    prompt = dict(prompt="a red three left of a blue seven", negative_prompt="blurry blue")
    made = parts("plain", 4)
    start, mask = picture("start", (40, 36)), Image.new("L", (SIZE, SIZE), 0)
    mask.paste(255, (8, 4, 24, 30))
    start.save(os.path.join(OUT, "start.png"))
    mask.convert("RGB").save(os.path.join(OUT, "mask.png"))
    t2i, i2i, inpaint = StableDiffusionPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
    sized = dict(height=SIZE, width=SIZE)
    fitted = start.resize((SIZE, SIZE), Image.LANCZOS)
    expected = {
        "text2image": run("plain", t2i, made, "text2image", seeds=(3, 4), num_inference_steps=6, **sized, **prompt),
        "wide": run("plain", t2i, made, "wide", num_inference_steps=4, height=24, width=40, eta=0.5, **prompt),
        "ancestral": run(
            "plain", t2i, made, "ancestral", EulerAncestralDiscreteScheduler, seeds=(3, 4), num_inference_steps=5,
            guidance_scale=5.0, guidance_rescale=0.6, clip_skip=1, **sized, **prompt,
        ),
        "unguided": run("plain", t2i, made, "unguided", LCMScheduler, num_inference_steps=3, guidance_scale=1.0, **sized, **prompt),
        "img2img": run(
            "plain", i2i, made, "img2img", DPMSolverMultistepScheduler, seeds=(3, 4), image=fitted, strength=0.6,
            num_inference_steps=7, **prompt,
        ),
        "img2img_heun": run(
            "plain", i2i, made, "img2img_heun", HeunDiscreteScheduler, image=fitted, strength=0.5, num_inference_steps=4, **prompt
        ),
        "inpaint": run(
            "plain", inpaint, made, "inpaint", seeds=(3, 4), image=start, mask_image=mask, strength=0.8, num_inference_steps=6,
            **sized, **prompt,
        ),
        "inpaint_all": run(
            "plain", inpaint, made, "inpaint_all", image=start, mask_image=mask, strength=1.0, num_inference_steps=5, **sized, **prompt
        ),
    }
    save_file(expected, os.path.join(OUT, "plain", "pictures.safetensors"))
    write(os.path.join(OUT, "plain", "model_index.json"), {"_class_name": "StableDiffusionPipeline"})
    made = parts("inpainting", 9)
    expected = {
        "inpaint": run(
            "inpainting", inpaint, made, "inpaint", seeds=(3, 4), image=start, mask_image=mask, strength=1.0,
            num_inference_steps=5, **sized, **prompt,
        ),
        "inpaint_part": run(
            "inpainting", inpaint, made, "inpaint_part", image=start, mask_image=mask, strength=0.7, num_inference_steps=6,
            **sized, **prompt,
        ),
    }
    save_file(expected, os.path.join(OUT, "inpainting", "pictures.safetensors"))
    write(os.path.join(OUT, "inpainting", "model_index.json"), {"_class_name": "StableDiffusionInpaintPipeline"})
