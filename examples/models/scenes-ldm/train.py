#!/usr/bin/env python3
"""Trains, saves and measures the bundled text-to-picture model: a tiny latent diffusion pipeline that draws digits.

    python train.py                          all stages below, one after another, into this folder
    python train.py STAGE... [--out DIR]     some of them

    vae        the autoencoder
    cache      latents of scenes by its encoder, which stays as it is from then on
    decoder    its decoder again, on those latents (may run beside `unet`)
    text       the text encoder, which is to say what is where
    unet       the UNet, on the latents and what the text encoder says
    export     what was learned, as a pipeline of diffusers
    evaluate   the pipeline's pictures of the held-out prompts, judged by the bundled detector
    samples    the first of those pictures
    real       the same judge on scenes of the generator: what a perfect model would get

Stages take as long as they are told (--minutes), and their learning rates follow the clock. An interrupted `unet` goes on
from its checkpoint.
"""

import argparse
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from captions import COLOURS, SIZE, Captioned, caption, contents, held_out, seen
from training import Clock, Muon

HERE = os.path.dirname(os.path.abspath(__file__))
LENGTH = 16  # tokens of a prompt
MINUTES = {"vae": 9, "decoder": 25, "unet": 92}
SCHEDULE = dict(num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
SAMPLING = dict(prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False)
SAMPLING |= dict(set_alpha_to_one=False, steps_offset=1)
GUIDANCE, STEPS = 3.0, 20


# ---------------------------------------------------------------------------------------------
# Parts


def new_vae():
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def new_unet():
    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_text(tokenizer):
    ends = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            hidden_act="quick_gelu",
            pad_token_id=tokenizer.pad_token_id,
            **ends,
        )
    )


def write_tokenizer(folder):
    """CLIP's vocabulary in small: all bytes, alone and at the end of a word, and merges that make the captions' words."""
    os.makedirs(folder, exist_ok=True)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    signs = [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]
    tokens, merges = signs + [sign + "</w>" for sign in signs], []
    for word in [*COLOURS, "left", "right", "of", "above", "below"]:
        parts = [*word[:-1], word[-1] + "</w>"]
        for merge in merges:
            first, second = merge.split(" ")
            while (first, second) in zip(parts, parts[1:]):
                at = list(zip(parts, parts[1:])).index((first, second))
                parts[at : at + 2] = [first + second]
        while len(parts) > 1:
            pair, whole = parts[:2], parts[0] + parts[1]
            if whole not in tokens:
                tokens.append(whole)
                merges.append(" ".join(pair))
            parts[:2] = [whole]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump({token: i for i, token in enumerate(tokens)}, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(merge + "\n" for merge in merges))
    ends = {"bos_token": tokens[-2], "eos_token": tokens[-1], "unk_token": tokens[-1], "pad_token": tokens[-1]}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True, **ends}
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", ends)):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(content, f, indent=2)
            f.write("\n")
    return CLIPTokenizer.from_pretrained(folder)


def token_ids(tokenizer, captions):
    padded = tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    return padded.input_ids


def work(a, name):
    """Where stages leave what is not part of the model."""
    os.makedirs(os.path.join(a.out, "work"), exist_ok=True)
    return os.path.join(a.out, "work", name)


def pixels(scenes):
    x = torch.from_numpy(scenes).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def save_file(state, path):
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)


# ---------------------------------------------------------------------------------------------
# The autoencoder


def restore_loss(shown, x):
    return (shown - x).abs().mean() + 2 * F.mse_loss(shown, x)


def vae(a):
    torch.manual_seed(a.seed)
    model, data = new_vae().to(memory_format=torch.channels_last), Captioned(a.seed * 1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    clock, step = Clock(a.minutes or MINUTES["vae"]), 0
    while not clock.done():
        x = pixels(data.batch(16)[0])
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * clock.rate(step)
        latents = model.encode(x).latent_dist
        shown = model.decode(latents.sample()).sample
        loss = restore_loss(shown, x) + 3e-4 * latents.kl().mean() / latents.mean[0].numel()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 200 == 0 or clock.done():
            psnr = 10 * math.log10(4 / F.mse_loss(shown.detach().clamp(-1, 1), x).item())
            mean, std = latents.mean.mean((0, 2, 3)), latents.mean.std((0, 2, 3))
            spread = f"means {mean.tolist()}, deviations {std.tolist()}"
            print(f"vae {clock.spent() / 60:.1f} min, {step * 16} scenes, PSNR {psnr:.2f}, {spread}", flush=True)
            save_file(model.state_dict(), work(a, "vae.pt"))


@torch.no_grad()
def cache(a):
    """Latents f16 [scenes, 4, 16, 16] and two captions of each scene, as tokens."""
    model = new_vae()
    model.load_state_dict(torch.load(work(a, "vae.pt")))
    save_file(model.state_dict(), work(a, "frozen.pt"))
    model.eval().to(memory_format=torch.channels_last)
    tokenizer, data = write_tokenizer(os.path.join(a.out, "tokenizer")), Captioned(a.seed * 1000 + 100, variants=24)
    latents, ids = [], []
    for _ in range(a.scenes // 100):
        scenes, whats = data.batch(100)
        latents.append(model.encode(pixels(scenes)).latent_dist.mean.half().contiguous())
        both = [token_ids(tokenizer, [caption(what, turned) for what in whats]) for turned in (False, True)]
        ids.append(torch.stack(both, 1).short())
    latents, ids = torch.cat(latents), torch.cat(ids)
    std = latents.float().std().item()
    mean = latents.float().mean((0, 2, 3)).tolist()
    print(f"cache: {len(latents)} scenes, means {mean}, deviation {std:.4f}", flush=True)
    save_file({"latents": latents, "ids": ids, "scale": 1 / std}, work(a, "cache.pt"))


def decoder(a):
    torch.manual_seed(a.seed + 1)
    model, data = new_vae(), Captioned(a.seed * 1000 + 200)
    model.load_state_dict(torch.load(work(a, "frozen.pt")))
    model.to(memory_format=torch.channels_last)
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    clock, step, sum_ = Clock(a.minutes or MINUTES["decoder"]), 0, 0.0
    while not clock.done():
        x = pixels(data.batch(16)[0])
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * clock.rate(step)
        with torch.no_grad():
            latents = model.encode(x).latent_dist
            # Some noise, for the latents of a diffusion model are never quite right.
            z = latents.mean + 0.5 * latents.std * torch.randn_like(latents.mean)
        shown = model.decode(z).sample
        loss = restore_loss(shown, x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step, sum_ = step + 1, sum_ + F.mse_loss(shown.detach().clamp(-1, 1), x).item()
        if step % 200 == 0 or clock.done():
            psnr = 10 * math.log10(4 * (step % 200 or 200) / sum_)
            print(f"decoder {clock.spent() / 60:.1f} min, {step * 16} scenes, PSNR {psnr:.2f}", flush=True)
            sum_ = 0.0
            save_file(model.state_dict(), work(a, "vae.pt"))


# ---------------------------------------------------------------------------------------------
# Text encoder and UNet


PLACES = {"across": (0, 1), "down": (2, 3)}  # and 4, the middle
FIRST_PLACE = 11  # the token that tells of the first place; captions end before it


def told(whats):
    """What the last five tokens have to tell: the digit and the colour at the left, right, top, bottom and middle."""
    target = torch.zeros(len(whats), 5, 32)
    target[:, range(5), range(17, 22)] = 1
    for row, what in zip(target, whats):
        places = PLACES[what[0]] if len(what) == 3 else (4,)
        for place, (colour, digit) in zip(places, what[-2:]):
            row[place, digit] = row[place, 10 + list(COLOURS).index(colour)] = row[place, 16] = 1
    return target * 3 - 0.5


def text(a):
    """The text encoder learns to say plainly what is where: a UNet finds the colours without that, but not the digits."""
    torch.manual_seed(a.seed + 3)
    tokenizer, random = write_tokenizer(os.path.join(a.out, "tokenizer")), np.random.default_rng(a.seed)
    model = new_text(tokenizer)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
    singles, pairs, _, _ = contents()
    everything = [(what, turned) for what in singles * 20 + pairs for turned in (False, True)]
    ids = token_ids(tokenizer, [caption(*one) for one in everything] + [""])
    wanted = told([what for what, _ in everything])
    nothing = torch.zeros(1, 5, 32)
    nothing[0, range(5), range(17, 22)] = 1
    wanted = torch.cat([wanted, nothing * 3 - 0.5])
    steps = 600
    for step in range(steps):
        pick = torch.from_numpy(random.integers(len(ids), size=96))
        pick[0] = len(ids) - 1
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = F.mse_loss(model(ids[pick]).last_hidden_state[:, FIRST_PLACE:, :32], wanted[pick])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"text {step + 1} steps, loss {loss.item():.5f}", flush=True)
            save_file(model.state_dict(), work(a, "text.pt"))


class Both(torch.nn.Module):
    def __init__(self, tokenizer):
        super().__init__()
        self.text, self.unet = new_text(tokenizer), new_unet()

    def forward(self, x, t, ids):
        return self.unet(x, t, self.text(ids).last_hidden_state).sample


def optimizers(model, lr):
    """Muon for the matrices inside, AdamW for the rest, with their learning rates."""
    inner = lambda name, p: p.ndim >= 2 and not any(part in name for part in ("embed", "conv_in", "conv_out"))
    named = list(model.named_parameters())
    matrices, rest = [p for n, p in named if inner(n, p)], [p for n, p in named if not inner(n, p)]
    return [
        (Muon(matrices, lr=0.02), 0.02),
        (torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0, fused=True), lr),
    ]


class Latents:
    """Batches of cached latents with captions; the file is read again where it has grown."""

    def __init__(self, path, seed):
        self.path, self.read, self.gen = path, None, torch.Generator().manual_seed(seed)
        self.scale = None
        self.refresh()

    def refresh(self):
        stamp = os.stat(self.path).st_mtime
        if stamp != self.read:
            saved = torch.load(self.path)
            self.read, self.latents, self.ids = stamp, saved["latents"], saved["ids"]
            self.scale = self.scale or saved["scale"]
            self.single = (self.ids[:, 0] != self.ids[0, 0, -1]).sum(1) == 4  # its caption is shorter
            print(f"{len(self.latents)} latents, {self.single.sum().item()} of single digits", flush=True)

    def batch(self, count, single):
        """`count` latents, of single digits more or less often than they are there."""
        share = self.single.float().mean()
        weights = torch.where(self.single, single / share, (1 - single) / (1 - share))
        pick = torch.multinomial(weights, count, generator=self.gen)
        side = torch.randint(2, (count,), generator=self.gen)
        return self.latents[pick].float() * self.scale, self.ids[pick, side].long()


def timesteps(count, gen):
    """Evenly spread quantiles: most where the layout, the digits and the colours are decided, some everywhere."""
    u = (torch.arange(count) + torch.rand(count, generator=gen)) / count
    u = u[torch.randperm(count, generator=gen)]
    normal = torch.sigmoid(-0.5 + 1.0 * math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-0.9999, 0.9999)))
    plain = torch.rand(count, generator=gen) < 0.2
    return (torch.where(plain, u, normal) * 1000).long().clamp(0, 999)


def unet(a):
    torch.manual_seed(a.seed + 2)
    tokenizer = write_tokenizer(os.path.join(a.out, "tokenizer"))
    empty = token_ids(tokenizer, [""])
    model, average = Both(tokenizer), Both(tokenizer)
    model.text.load_state_dict(torch.load(work(a, "text.pt")))
    model.text.requires_grad_(False)
    average.load_state_dict(model.state_dict())
    model.to(memory_format=torch.channels_last)
    pairs = optimizers(model.unet, a.lr)
    data, gen = Latents(work(a, "cache.pt"), a.seed), torch.Generator().manual_seed(a.seed)
    kept = DDIMScheduler(**SCHEDULE).alphas_cumprod
    path, step, spent = work(a, "unet.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        for (optimizer, _), state in zip(pairs, saved["optimizers"] or []):
            optimizer.load_state_dict(state)
        step, spent, data.scale = saved["step"], saved["spent"], saved["scale"]
        data.gen.manual_seed(a.seed + step)
        gen.manual_seed(a.seed + step)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    clock, saved_at, losses = Clock(a.minutes or MINUTES["unet"], spent), time.time(), []
    while not clock.done():
        # Single digits first, to learn digits and colours by.
        share = clock.spent() / clock.seconds
        x, ids = data.batch(a.batch, single=max(0.2, 0.6 - 4 * share))
        ids = torch.where(torch.rand(a.batch, 1, generator=gen) < 0.1, empty, ids)
        t = timesteps(a.batch, gen)
        noise, keep = torch.randn(x.shape, generator=gen), kept[t][:, None, None, None]
        noisy, velocity = keep.sqrt() * x + (1 - keep).sqrt() * noise, keep.sqrt() * noise - (1 - keep).sqrt() * x
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = model(noisy.contiguous(memory_format=torch.channels_last), t, ids)
        loss = F.mse_loss(answer.float(), velocity)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, lr in pairs:
            for group in optimizer.param_groups:
                group["lr"] = lr * clock.rate(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        keep = min(a.keep, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        losses.append(loss.item())
        if step % 100 == 0 or clock.done():
            mean = np.mean(losses[-100:])
            print(f"unet {clock.spent() / 60:.1f} min, {step * a.batch} samples, loss {mean:.4f}", flush=True)
        if time.time() - saved_at > 240 or clock.done():
            saved_at = time.time()
            state = {"model": model.state_dict(), "average": average.state_dict(), "scale": data.scale}
            state |= {"optimizers": [o.state_dict() for o, _ in pairs], "step": step, "spent": clock.spent()}
            state |= {"samples": step * a.batch, "loss": float(np.mean(losses[-500:]))}
            save_file(state, path)
            data.refresh()


# ---------------------------------------------------------------------------------------------
# Saving and measuring


def export(a):
    tokenizer = write_tokenizer(os.path.join(a.out, "tokenizer"))
    saved, codec, model = torch.load(work(a, "unet.pt")), new_vae(), Both(tokenizer)
    codec.load_state_dict(torch.load(work(a, "vae.pt")))
    codec.register_to_config(scaling_factor=round(saved["scale"], 6))
    model.load_state_dict(saved["average"])
    scheduler = DDIMScheduler(**SCHEDULE, **SAMPLING)
    pipeline = StableDiffusionPipeline(
        vae=codec,
        text_encoder=model.text,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(a.out)
    write_tokenizer(os.path.join(a.out, "tokenizer"))
    if os.path.exists(os.path.join(a.out, "tokenizer", "tokenizer.json")):
        os.remove(os.path.join(a.out, "tokenizer", "tokenizer.json"))
    for folder, _, names in os.walk(a.out):
        for name in names:
            os.chmod(os.path.join(folder, name), 0o644)
    with open(os.path.join(a.out, "heldout.txt"), "w") as f:
        f.writelines(prompt + "\n" for prompt, _ in held_out())
    with open(work(a, "exported.json"), "w") as f:
        json.dump({"minutes": saved["spent"] / 60, "samples": saved["samples"], "loss": saved["loss"]}, f)


def draw(a, prompts):
    """Pictures u8 [SIZE, SIZE, 3] of the prompts, by diffusers, with the seeds 0, 1, 2, ..."""
    pipeline = StableDiffusionPipeline.from_pretrained(a.out, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    images = []
    for start in range(0, len(prompts), 20):
        some = prompts[start : start + 20]
        answer = pipeline(
            some,
            height=SIZE,
            width=SIZE,
            num_inference_steps=a.steps,
            guidance_scale=a.guidance,
            generator=[torch.Generator().manual_seed(start + i) for i in range(len(some))],
            output_type="np",
        )
        images += [(image * 255).round().astype(np.uint8) for image in answer.images]
    return images


def sheet(images, columns, path):
    rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images) - columns + 1, columns)]
    large = Image.fromarray(np.concatenate(rows))
    large.resize((large.width * 2, large.height * 2), Image.NEAREST).save(path)


def evaluate(a):
    from judge import Judge, verdict

    asked = (seen() if a.seen else held_out())[: a.count]
    images = draw(a, [prompt for prompt, _ in asked])
    verdicts = [verdict(what, found) for (_, what), found in zip(asked, Judge().find(images))]
    digits, everything = (sum(one[i] for one in verdicts) for i in (0, 1))
    print(
        f"{len(asked)} {'seen' if a.seen else 'held-out'} prompts, {a.steps} steps, guidance {a.guidance}: "
        f"the right digits in {digits}, of those the right colours and places in {everything}",
        flush=True,
    )
    print("not right:", ", ".join(prompt for (prompt, _), (_, right) in zip(asked, verdicts) if not right))
    sheet(images[:64], 8, work(a, "sheet.png"))
    if a.curve:
        with open(work(a, "exported.json")) as f:
            then = json.load(f)
        row = [f"{then['minutes']:.1f}", then["samples"], f"{then['loss']:.4f}", len(asked)]
        row += [f"{100 * digits / len(asked):.1f}", f"{100 * everything / max(digits, 1):.1f}"]
        path = os.path.join(a.out, "curve.csv")
        head = "" if os.path.exists(path) else "minutes,samples,loss,prompts,digits %,colours and places % of those\n"
        with open(path, "a") as f:
            f.write(head)
            f.write(",".join(map(str, row)) + "\n")


def samples(a):
    """The first sixteen held-out prompts' pictures, as files and on one sheet."""
    folder = os.path.join(a.out, "samples")
    os.makedirs(folder, exist_ok=True)
    asked = held_out()[:16]
    images = draw(a, [prompt for prompt, _ in asked])
    for seed, ((prompt, _), image) in enumerate(zip(asked, images)):
        Image.fromarray(image).save(os.path.join(folder, f"{seed:02}-{prompt.replace(' ', '-')}.png"), optimize=True)
    sheet(images, 4, os.path.join(a.out, "sheet.png"))


def real(a):
    from judge import Judge, verdict

    scenes, whats = Captioned(5).batch(1000)
    verdicts = [verdict(what, found) for what, found in zip(whats, Judge().find(list(scenes)))]
    digits, everything = (sum(one[i] for one in verdicts) for i in (0, 1))
    print(f"1000 scenes: the right digits in {digits}, of those the right colours and places in {everything}")


# ---------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = {f.__name__: f for f in (vae, cache, decoder, text, unet, export, evaluate, samples, real)}
    parser.add_argument("stages", nargs="*", default="all", choices=[*stages, "all"], metavar="STAGE")
    parser.add_argument("--out", default=HERE)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, help="instead of the stage's own time")
    parser.add_argument("--scenes", type=int, default=44_000, help="how many are cached")
    parser.add_argument("--lr", type=float, default=1e-3, help="AdamW's")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--keep", type=float, default=0.998, help="of the average of the weights, at each step")
    parser.add_argument("--count", type=int, default=200, help="prompts of the measurement")
    parser.add_argument("--seen", action="store_true", help="measure on prompts of what was learned from, to choose by")
    parser.add_argument("--curve", action="store_true", help="add the measurement to curve.csv")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    a = parser.parse_args()
    torch.set_num_threads(1)
    chosen = list(stages)[:-1] if "all" in a.stages else a.stages
    for stage in chosen:
        stages[stage](a)


if __name__ == "__main__":
    main()
