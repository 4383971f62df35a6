#!/usr/bin/env python3
"""Writes tests/fixtures/amused: a tiny pipeline with weights by recipe, and the codes behind each step and the pictures that
diffusers makes of them.

    pip install torch transformers diffusers safetensors pillow; python tests/oracle/amused.py
"""

import os

import torch
from diffusers import AmusedImg2ImgPipeline, AmusedInpaintPipeline, AmusedPipeline, AmusedScheduler, UVit2DModel, VQModel
from PIL import Image
from recipe import FIXTURES
from safetensors.torch import save_file
from stable_diffusion import picture, tokenizer, weigh, write
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

OUT = os.path.join(FIXTURES, "amused")
SEED = 51
# Pixels along a side of a code, codes along a side of a picture, codes of the codebook.
FACTOR, SIDE, CODES = 4, 8, 60


def parts():
    vocab = tokenizer(os.path.join(OUT, "tokenizer"))
    text = CLIPTextConfig(
        vocab_size=vocab, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=vocab - 2, eos_token_id=vocab - 1, pad_token_id=vocab - 1,
        projection_dim=12,
    )
    transformer = UVit2DModel(
        hidden_size=24, cond_embed_dim=12, micro_cond_encode_dim=8, micro_cond_embed_dim=40, encoder_hidden_size=16,
        vocab_size=CODES + 4, codebook_size=CODES, in_channels=12, block_out_channels=16, num_res_blocks=1,
        block_num_heads=2, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32, sample_size=SIDE,
    )
    vqvae = VQModel(
        block_out_channels=(8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, norm_num_groups=4, latent_channels=6,
        num_vq_embeddings=CODES, mid_block_add_attention=False, lookup_from_codebook=True,
        sample_size=SIDE * FACTOR,
    )
    made, manifest = {}, {"case": "amused", "seed": SEED, "weights": {}}
    for name, model, kind, file in [
        ("text_encoder", CLIPTextModelWithProjection(text), CLIPTextModelWithProjection, "model.safetensors"),
        ("transformer", transformer, UVit2DModel, "diffusion_pytorch_model.safetensors"),
        ("vqvae", vqvae, VQModel, "diffusion_pytorch_model.safetensors"),
    ]:
        made[name], manifest["weights"][f"{name}/{file}"], config = weigh("amused", model, kind, file, SEED)
        os.makedirs(os.path.join(OUT, name), exist_ok=True)
        write(os.path.join(OUT, name, "config.json"), config)
    made["tokenizer"] = CLIPTokenizer.from_pretrained(os.path.join(OUT, "tokenizer"))
    made["scheduler"] = AmusedScheduler(mask_token_id=CODES + 3)
    made["scheduler"].save_config(os.path.join(OUT, "scheduler"))
    write(os.path.join(OUT, "manifest.json"), manifest)
    write(os.path.join(OUT, "model_index.json"), {"_class_name": "AmusedPipeline"})
    return made


def run(kind, made, name, seeds, **more):
    """The codes behind each step, `[steps, batch, height, width]`, and the pictures, each of a run of its own."""
    pipe = kind(**made | {"scheduler": AmusedScheduler(**{"mask_token_id": CODES + 3})})
    pipe.set_progress_bar_config(disable=True)
    codes, pictures = [], []
    for seed in seeds:
        steps = []
        made_of = pipe(
            generator=torch.Generator().manual_seed(seed), output_type="np",
            callback=lambda step, timestep, codes: steps.append(codes[0].clone()), **more,
        )
        codes.append(torch.stack(steps))
        pictures.append(torch.from_numpy((made_of.images[0] * 255).round()).half())
    codes, pictures = torch.stack(codes, 1).int(), torch.stack(pictures)
    masked = (codes == CODES + 3).flatten(1).sum(1) / len(seeds)
    print(name, tuple(codes.shape), "masked", masked.tolist(), "spread", pictures.float().std().item())
    return {f"{name}.codes": codes.contiguous(), f"{name}.pictures": pictures.contiguous()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    made = parts()
    prompt = dict(prompt="a red three left of a blue seven", negative_prompt="blurry blue")
    start, mask = picture("amused", (SIDE * FACTOR, SIDE * FACTOR)), Image.new("L", (SIDE * FACTOR,) * 2, 0)
    mask.paste(255, (8, 4, 24, 30))
    start.save(os.path.join(OUT, "start.png"))
    mask.convert("RGB").save(os.path.join(OUT, "mask.png"))
    expected = run(AmusedPipeline, made, "text2image", (3, 4), num_inference_steps=6, **prompt)
    expected |= run(
        AmusedPipeline, made, "unguided", (5,), num_inference_steps=3, guidance_scale=1.0, height=24, width=40,
        temperature=(4.5, 0.5), micro_conditioning_aesthetic_score=5, micro_conditioning_crop_coord=(8, 2), **prompt,
    )
    expected |= run(AmusedImg2ImgPipeline, made, "img2img", (8, 9), num_inference_steps=6, strength=0.7, image=start, **prompt)
    expected |= run(
        AmusedInpaintPipeline, made, "inpaint", (6, 7), num_inference_steps=7, strength=0.8, image=start, mask_image=mask, **prompt,
    )
    save_file(expected, os.path.join(OUT, "expected.safetensors"))
