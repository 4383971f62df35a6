#!/usr/bin/env python3
"""Trains, saves and measures the bundled VQGAN: an autoencoder with a codebook, and a transformer that writes its codes.

    python train.py                          all stages below, one after another, into this folder
    python train.py STAGE... [--out DIR]     some of them

    codec         the autoencoder: first without a codebook, then with one, at last against a discriminator
    cache         codes of pictures by its encoder
    transformer   the transformer, on those codes
    export        what was learned, by the names and the configuration of taming-transformers
    held          the held-out pictures, and PyTorch's codes
    evaluate      reconstructions of those, and samples read by the bundled classifier; writes sheet.png
    real          the same reader on pictures of held-out digits: what a perfect model would get

Stages take as long as they are told (--minutes), and their learning rates follow the clock. An interrupted `transformer`
goes on from its checkpoint.
"""

import argparse
import copy
import csv
import json
import os
import re

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import VQModel
from PIL import Image
from safetensors.torch import save_file
from sklearn.cluster import KMeans

from gpt import GPT
from pictures import CLASSES, HERE, SIZE, Pictures, held_out
from training import Clock, Muon

MINUTES = {"codec": 36, "cache": 15, "transformer": 55}
CODES, CODE_CHANNELS, LATENT_CHANNELS = 1024, 16, 64
CHANNELS, FACTOR = (32, 32, 64, 64), 8
GRID = SIZE // FACTOR
GPT_SIZES = dict(vocab_size=CODES, block_size=GRID * GRID, n_layer=6, n_head=5, n_embd=160)


def new_codec():
    return VQModel(
        block_out_channels=CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(CHANNELS),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        num_vq_embeddings=CODES,
        vq_embed_dim=CODE_CHANNELS,
        norm_num_groups=32,
        sample_size=SIZE,
    )


def work(a, name):
    """Where stages leave what is not part of the model."""
    os.makedirs(os.path.join(a.out, "work"), exist_ok=True)
    return os.path.join(a.out, "work", name)


def save(state, path):
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)


def pixels(pictures):
    x = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def bytes_of(x):
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


class Curve:
    """Rows of a CSV file beside the model."""

    def __init__(self, a, name, head, fresh):
        self.path = os.path.join(a.out, name)
        if fresh or not os.path.exists(self.path):
            with open(self.path, "w") as f:
                f.write(head + "\n")

    def add(self, *row):
        with open(self.path, "a", newline="") as f:
            csv.writer(f, lineterminator="\n").writerow(row)


def optimizers(model, lr, outer):
    """Muon for the matrices inside, AdamW for the rest (those whose names have a word of `outer`), with their rates."""
    inner = lambda name, p: p.ndim >= 2 and not any(part in name for part in outer)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices, rest = [p for n, p in named if inner(n, p)], [p for n, p in named if not inner(n, p)]
    return [
        (Muon(matrices, lr=0.02), 0.02),
        (torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True), lr),
    ]


def update(pairs, rate):
    for optimizer, lr in pairs:
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def average(kept, model, keep):
    with torch.no_grad():
        torch._foreach_lerp_(list(kept.parameters()), list(model.parameters()), 1 - keep)


# ---------------------------------------------------------------------------------------------
# The autoencoder


class Codebook:
    """The codebook while it is learned: each code follows the mean of the latents that choose it (van den Oord et al.
    2017, appendix A.1), and one that nobody has chosen for long starts anew at some latent."""

    def __init__(self, latents, seed):
        means = KMeans(CODES, n_init=1, max_iter=20, random_state=seed).fit(latents.numpy()).cluster_centers_
        self.codes = torch.from_numpy(means).float()
        self.count, self.sum = torch.ones(CODES), self.codes.clone()
        self.gen = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def nearest(self, latents):
        distance = (self.codes**2).sum(1) - 2 * latents @ self.codes.T
        return distance.argmin(1)

    @torch.no_grad()
    def follow(self, latents, chosen, keep=0.99):
        count = torch.bincount(chosen, minlength=CODES).float()
        total = torch.zeros_like(self.codes).index_add_(0, chosen, latents)
        self.count.lerp_(count, 1 - keep)
        self.sum.lerp_(total, 1 - keep)
        dead = (self.count < 0.03).nonzero().flatten()
        if len(dead):
            fresh = latents[torch.randint(len(latents), (len(dead),), generator=self.gen)]
            self.count[dead], self.sum[dead] = 1.0, fresh
        self.codes = self.sum / self.count[:, None]


def new_discriminator():
    """Of patches (Isola et al. 2016, <https://arxiv.org/abs/1611.07004>): a score for each 4x4 pixels."""
    layers, channels = [], 3
    for width in (32, 64):
        layers += [nn.Conv2d(channels, width, 4, 2, 1), nn.GroupNorm(8, width), nn.LeakyReLU(0.2)]
        channels = width
    layers += [nn.Conv2d(channels, 64, 3, 1, 1), nn.GroupNorm(8, 64), nn.LeakyReLU(0.2), nn.Conv2d(64, 1, 3, 1, 1)]
    return nn.Sequential(*layers)


def codec(a):
    """L1 + 4 MSE + commitment, without a codebook for the first tenth; for the last third against a discriminator."""
    torch.manual_seed(a.seed)
    model, data = new_codec().to(memory_format=torch.channels_last), Pictures("train", a.seed * 1000)
    model.quantize.requires_grad_(False)
    kept, judge = copy.deepcopy(model), new_discriminator()
    pairs = optimizers(model, 2e-3, ("conv_in", "conv_out", "quant_conv"))
    judging = torch.optim.AdamW(judge.parameters(), lr=1e-3, betas=(0.5, 0.9), fused=True)
    clock, codebook, step, psnr, seen, shown_at = Clock(a.minutes or MINUTES["codec"]), None, 0, 0.0, [], 0
    curve = Curve(a, "codec.csv", "minutes,pictures,dB of held-out,codes used,phase", fresh=True)
    while not clock.done():
        x = pixels(data.batch(16)[0])
        latents = model.quant_conv(model.encoder(x))
        rows = latents.permute(0, 2, 3, 1).reshape(-1, CODE_CHANNELS)
        loss, phase = 0.0, "no codebook"
        if codebook is None:
            loss = loss + 1e-3 * (latents**2).mean()
            seen = (seen + [rows.detach()])[-400:]
            if clock.share() > 0.1:
                codebook = Codebook(torch.cat(seen), a.seed)
            quantized = latents
        else:
            phase = "codebook"
            chosen = codebook.nearest(rows.detach())
            picked = codebook.codes[chosen].reshape(16, GRID, GRID, CODE_CHANNELS).permute(0, 3, 1, 2)
            loss = loss + 0.25 * F.mse_loss(latents, picked)
            codebook.follow(rows.detach(), chosen)
            quantized = latents + (picked - latents).detach()
        shown = model.decoder(model.post_quant_conv(quantized.contiguous(memory_format=torch.channels_last)))
        loss = loss + (shown - x).abs().mean() + 4 * F.mse_loss(shown, x)
        if clock.share() > 0.67:
            phase = "discriminator"
            loss = loss - 0.01 * min(1.0, (clock.share() - 0.67) * 10) * judge(shown).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        update(pairs, clock.rate(step))
        if phase == "discriminator":
            judging.zero_grad(set_to_none=True)
            (F.relu(1 - judge(x)).mean() + F.relu(1 + judge(shown.detach())).mean()).backward()
            judging.step()
        step += 1
        average(kept, model, min(0.998, (step + 1) / (step + 10)))
        if step % 200 == 0 or clock.done():
            if codebook:
                kept.quantize.embedding.weight.data.copy_(codebook.codes)
            psnr, used = measure(kept, Pictures("choose", 2).batch(64)[0], bool(codebook))
            row = [f"{clock.spent() / 60:.1f}", step * 16, f"{psnr:.2f}", used, phase]
            print("codec", *row, f"loss {loss.item():.4f}", flush=True)
            curve.add(*row)
            save(kept.state_dict(), work(a, "codec.pt"))


@torch.no_grad()
def codes_of(model, x):
    latents = model.encode(x).latents
    rows = latents.permute(0, 2, 3, 1).reshape(-1, CODE_CHANNELS)
    return torch.cdist(rows, model.quantize.embedding.weight).argmin(1).reshape(len(x), GRID, GRID)


@torch.no_grad()
def decoded(model, codes):
    quantized = model.quantize.embedding(codes).permute(0, 3, 1, 2)
    return model.decoder(model.post_quant_conv(quantized))


@torch.no_grad()
def measure(model, pictures, quantize=True):
    """Mean PSNR in dB of 8-bit pictures, and how many codes they use."""
    x = pixels(pictures)
    if quantize:
        codes = codes_of(model, x)
        shown, used = decoded(model, codes), len(codes.unique())
    else:
        shown, used = model.decoder(model.post_quant_conv(model.encode(x).latents)), 0
    error = (bytes_of(shown).float() - pictures.float()).pow(2).mean((1, 2, 3))
    return (10 * torch.log10(255**2 / error)).mean().item(), used


def load_codec(a):
    model = new_codec()
    model.load_state_dict(torch.load(work(a, "codec.pt")))
    return model.eval().to(memory_format=torch.channels_last)


# ---------------------------------------------------------------------------------------------
# The transformer


def cache(a):
    """Codes i16 [pictures, GRID * GRID] and classes, added to until the time is over."""
    model, data = load_codec(a), Pictures("train", a.seed * 1000 + 100)
    clock, codes, classes = Clock(a.minutes or MINUTES["cache"]), [], []
    while not clock.done():
        pictures, of = data.batch(100)
        codes.append(codes_of(model, pixels(pictures)).flatten(1).short())
        classes.append(of)
        if len(codes) % 50 == 0 or clock.done():
            save({"codes": torch.cat(codes), "classes": torch.cat(classes)}, work(a, "cache.pt"))
            print(f"cache {len(codes) * 100} pictures", flush=True)


class Cached:
    def __init__(self, path, seed):
        self.path, self.read, self.gen = path, None, torch.Generator().manual_seed(seed)
        self.refresh()

    def refresh(self):
        stamp = os.stat(self.path).st_mtime
        if stamp != self.read:
            saved = torch.load(self.path)
            self.read, self.codes, self.classes = stamp, saved["codes"].long(), saved["classes"]

    def batch(self, count):
        pick = torch.randint(len(self.codes), (count,), generator=self.gen)
        return self.codes[pick], self.classes[pick]


def guess(model, codes, classes):
    """Logits of every code from the class and the codes before it."""
    return model(torch.cat([classes[:, None], codes[:, :-1]], 1))


def transformer(a):
    torch.manual_seed(a.seed + 1)
    model, data = GPT(**GPT_SIZES), Cached(work(a, "cache.pt"), a.seed)
    kept, codec_ = copy.deepcopy(model), load_codec(a)
    pairs = optimizers(model, 2e-3, ("emb", "head"))
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(data.codes)} pictures", flush=True)
    pictures, classes = Pictures("choose", 3).batch(200)
    held, path, step, spent = codes_of(codec_, pixels(pictures)).flatten(1), work(a, "transformer.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        kept.load_state_dict(saved["kept"])
        for (optimizer, _), state in zip(pairs, saved["optimizers"]):
            optimizer.load_state_dict(state)
        step, spent = saved["step"], saved["spent"]
        data.gen.manual_seed(a.seed + step)
    clock, losses = Clock(a.minutes or MINUTES["transformer"], spent), []
    curve = Curve(a, "transformer.csv", "minutes,pictures,loss,loss of held-out", fresh=step == 0)
    while not clock.done():
        codes, of = data.batch(a.batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = guess(model, codes, of).float()
        loss = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        update(pairs, clock.rate(step))
        step += 1
        average(kept, model, min(0.998, (step + 1) / (step + 10)))
        losses.append(loss.item())
        if step % 250 == 0 or clock.done():
            with torch.no_grad():
                unseen = F.cross_entropy(guess(kept, held, classes).flatten(0, 1), held.flatten()).item()
            row = [f"{clock.spent() / 60:.1f}", step * a.batch, f"{np.mean(losses[-250:]):.4f}", f"{unseen:.4f}"]
            print("transformer", *row, flush=True)
            curve.add(*row)
            state = {"model": model.state_dict(), "kept": kept.state_dict(), "step": step, "spent": clock.spent()}
            save(state | {"optimizers": [o.state_dict() for o, _ in pairs]}, path)
            data.refresh()


@torch.no_grad()
def sample(model, classes, seed, temperature=1.0, top_k=None, top_p=None):
    """Codes [classes, GRID * GRID], one after another."""
    gen, codes = torch.Generator().manual_seed(seed), classes[:, None]
    for _ in range(GRID * GRID):
        logits = model(codes)[:, -1] / temperature
        if top_k:
            logits[logits < logits.topk(top_k).values[:, -1:]] = -float("inf")
        p = logits.softmax(-1)
        if top_p:
            order, at = p.sort(descending=True)
            order[order.cumsum(-1) - order >= top_p] = 0
            p = torch.zeros_like(p).scatter_(1, at, order)
        codes = torch.cat([codes, torch.multinomial(p, 1, generator=gen)], 1)
    return codes[:, 1:]


# ---------------------------------------------------------------------------------------------
# Saving


def load_transformer(a):
    model = GPT(**GPT_SIZES)
    model.load_state_dict(torch.load(work(a, "transformer.pt"))["kept"])
    return model.eval()


def original_name(name):
    """The name that taming-transformers has for a weight of diffusers' VQModel."""
    last = len(CHANNELS) - 1
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{last - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
    for theirs, ours in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"mid_block.attentions.0.{theirs}", f"mid.attn_1.{ours}")
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def write_tensors(tensors, path):
    save_file(tensors, path)
    os.chmod(path, 0o644)


def export(a):
    """Both stages in one file of f16, and what taming-transformers is told of them, as JSON."""
    tensors = {}
    for name, tensor in load_codec(a).state_dict().items():
        name = original_name(name)
        if ".attn_1." in name and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        tensors["first_stage_model." + name] = tensor
    tensors |= {"transformer." + name: tensor for name, tensor in load_transformer(a).state_dict().items()}
    halves = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    write_tensors(halves, os.path.join(a.out, "model.safetensors"))
    sizes = dict(double_z=False, z_channels=LATENT_CHANNELS, resolution=SIZE, in_channels=3, out_ch=3)
    sizes |= dict(ch=CHANNELS[0], ch_mult=[width // CHANNELS[0] for width in CHANNELS])
    sizes |= dict(num_res_blocks=1, attn_resolutions=[], dropout=0.0)
    part = lambda target, **params: {"target": target, "params": params}
    model = part(
        "taming.models.cond_transformer.Net2NetTransformer",
        cond_stage_key="class_label",
        transformer_config=part("taming.modules.transformer.mingpt.GPT", **GPT_SIZES),
        first_stage_config=part("taming.models.vqgan.VQModel", embed_dim=CODE_CHANNELS, n_embed=CODES, ddconfig=sizes),
        cond_stage_config=part("taming.modules.util.Labelator", n_classes=len(CLASSES)),
    )
    labels = {str(i): name for i, name in enumerate(CLASSES)}
    with open(os.path.join(a.out, "config.json"), "w") as f:
        json.dump({"model": model, "id2label": labels}, f, indent=2)
        f.write("\n")
    print(f"{sum(t.numel() for t in halves.values())} parameters", flush=True)


def rounded(model):
    """A model with the weights that are saved."""
    for p in model.parameters():
        p.data = p.data.half().float()
    return model


@torch.no_grad()
def held(a):
    """The 200 held-out pictures, and what PyTorch makes of them and of each class: codes for tests to be equal to."""
    codec_, model = rounded(load_codec(a)), rounded(load_transformer(a))
    pictures, classes = held_out()
    folder = os.path.join(a.out, "heldout")
    os.makedirs(folder, exist_ok=True)
    for i, (picture, of) in enumerate(zip(pictures, classes.tolist())):
        name = f"{i:03}-{CLASSES[of].replace(' ', '-')}.png"
        Image.fromarray(picture.numpy()).save(os.path.join(folder, name), optimize=True)
    codes = codes_of(codec_, pixels(pictures)).flatten(1)
    shown = bytes_of(decoded(codec_, codes.reshape(-1, GRID, GRID))).float()
    psnr = 10 * torch.log10(255**2 / (shown - pictures.float()).pow(2).mean((1, 2, 3)))
    every = torch.arange(len(CLASSES))
    greedy, lead = every[:, None], torch.full((len(CLASSES),), float("inf"))
    for _ in range(GRID * GRID):
        best = model(greedy)[:, -1].topk(2)
        lead = torch.minimum(lead, best.values[:, 0] - best.values[:, 1])
        greedy = torch.cat([greedy, best.indices[:, :1]], 1)
    tensors = {"codes": codes.int(), "psnr": psnr, "greedy": greedy[:, 1:].int().contiguous(), "greedy_lead": lead}
    write_tensors(tensors, os.path.join(a.out, "heldout.safetensors"))
    print(f"held-out: {psnr.mean():.2f} dB, the closest greedy choice leads by {lead.min():.2e}", flush=True)


# ---------------------------------------------------------------------------------------------
# Measuring


def write_sheet(pairs, samples, path, columns=10):
    """Pictures beside their reconstructions, and samples below them."""
    images = [*pairs, *samples]
    rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images), columns)]
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


def evaluate(a):
    from reader import Reader

    codec_, (pictures, _) = rounded(load_codec(a)), held_out()
    psnr, used = measure(codec_, pictures)
    print(f"{len(pictures)} held-out pictures: {psnr:.2f} dB, {used} codes used", flush=True)
    shown = bytes_of(decoded(codec_, codes_of(codec_, pixels(pictures[:10]))))
    pairs = [image.numpy() for pair in zip(pictures[:10], shown) for image in pair]
    model, reader = rounded(load_transformer(a)), Reader()
    classes = torch.arange(200) % len(CLASSES)
    images = bytes_of(decoded(codec_, sample(model, classes, 0, a.temperature, a.top_k, a.top_p).reshape(-1, GRID, GRID)))
    digits, colours = reader.right(images, classes)
    print(
        f"200 samples, temperature {a.temperature}, top-k {a.top_k}, top-p {a.top_p}: "
        f"the right digit in {digits}, of those the right colour in {colours}"
    )
    write_sheet(pairs, images[:60].numpy(), os.path.join(a.out, "sheet.png"))


def real(a):
    from reader import Reader

    pictures, classes = Pictures("report", 5).batch(1000)
    digits, colours = Reader().right(pictures, classes)
    print(f"1000 pictures of held-out digits: the right digit in {digits}, of those the right colour in {colours}")


def main():
    stages = {f.__name__: f for f in (codec, cache, transformer, export, held, evaluate, real)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default="all", choices=[*stages, "all"], metavar="STAGE")
    parser.add_argument("--out", default=HERE)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="instead of the stage's own time")
    parser.add_argument("--batch", type=int, default=32, help="pictures that the transformer learns from at once")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    a = parser.parse_args()
    torch.set_num_threads(1)
    for stage in list(stages)[:6] if "all" in a.stages else a.stages:
        stages[stage](a)


if __name__ == "__main__":
    main()
