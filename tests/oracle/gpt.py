#!/usr/bin/env python3
"""Writes tests/fixtures/gpt: tiny GPT-2s, one of them by minGPT's names, weights by recipe, and what transformers makes of
them: logits, and the likeliest tokens behind the first half of each text.

    pip install torch transformers safetensors; python tests/oracle/gpt.py
"""

import copy

import torch
from recipe import build, recipe, write
from transformers import GPT2Config, GPT2LMHeadModel

# A layer of GPT-2 and the layers of minGPT that it is; the latter have rows for columns.
LAYERS = {"attn.c_attn": ["attn.query", "attn.key", "attn.value"], "attn.c_proj": ["attn.proj"]}
LAYERS |= {"mlp.c_fc": ["mlp.0"], "mlp.c_proj": ["mlp.2"], "ln_1": ["ln1"], "ln_2": ["ln2"]}


@torch.no_grad()
def answer(model, ids, length):
    tensors, decoder = {}, model.transformer
    hooks = [(module, name) for i, block in enumerate(decoder.h) for module, name in
             ((block.attn, f"attn{i}"), (block.mlp, f"mlp{i}"), (block, f"block{i}"))] + [(decoder.ln_f, "ln_f")]

    def keep(name):
        def hook(_, __, y):
            tensors[f"mid.{name}"] = (y[0] if isinstance(y, tuple) else y).clone()

        return hook

    handles = [module.register_forward_hook(keep(name)) for module, name in hooks]
    tensors["out.logits"] = model(ids, use_cache=False).logits
    for handle in handles:
        handle.remove()
    greedy = ids[:, : ids.shape[1] // 2]
    lead = float("inf")
    while greedy.shape[1] < length:
        best = model(greedy, use_cache=False).logits[:, -1].topk(2)
        lead = min(lead, (best.values[:, 0] - best.values[:, 1]).min().item())
        greedy = torch.cat([greedy, best.indices[:, :1]], 1)
    tensors["out.greedy"] = greedy
    return tensors, lead


def write_case(case, seed, config, mingpt=False):
    model, saved, entries = build(case, GPT2LMHeadModel, config, seed, {"wpe": (0.5, 0.0), "wte": (0.5, 0.0)})
    if mingpt:
        entries = rename(case, seed, model, config)
    ids = torch.randint(config.vocab_size, (2, 14), generator=torch.Generator().manual_seed(seed))
    expected, lead = answer(model, ids, config.n_positions)
    exact, _ = answer(copy.deepcopy(model).double(), ids, config.n_positions)
    write("gpt", case, seed, saved, entries, {"input_ids": ids}, expected, exact)
    print(case, "the closest choice leads by", lead, "logits up to", expected["out.logits"].abs().max().item())


def rename(case, seed, model, config):
    """The recipe by minGPT's names, whose numbers are then the model's."""
    entries, state = [], {}

    def made(name, shape, scale, offset):
        entries.append(dict(name=name, shape=list(shape), scale=scale, offset=offset))
        return torch.from_numpy(recipe(f"{seed}/{case}/{name}", torch.Size(shape).numel(), scale, offset)).view(shape)

    width = config.n_embd
    state["transformer.wte.weight"] = made("tok_emb.weight", [config.vocab_size, width], 0.5, 0.0)
    state["transformer.wpe.weight"] = made("pos_emb", [1, config.n_positions, width], 0.5, 0.0)[0]
    state["lm_head.weight"] = made("head.weight", [config.vocab_size, width], (3 / width) ** 0.5, 0.0)
    for kind in ("weight", "bias"):
        norm = (0.2, 1.0) if kind == "weight" else (0.1, 0.0)
        state[f"transformer.ln_f.{kind}"] = made(f"ln_f.{kind}", [width], *norm)
        for i in range(config.n_layer):
            for layer, parts in LAYERS.items():
                own = f"transformer.h.{i}.{layer}.{kind}"
                shape = list(model.state_dict()[own].shape)
                if len(shape) == 1:
                    scale, offset = norm if layer.startswith("ln") else (0.1, 0.0)
                    pieces = [made(f"blocks.{i}.{part}.{kind}", [shape[0] // len(parts)], scale, offset) for part in parts]
                    state[own] = torch.cat(pieces)
                    continue
                inputs, outputs = shape[0], shape[1] // len(parts)
                scale = (3 / inputs) ** 0.5
                pieces = [made(f"blocks.{i}.{part}.{kind}", [outputs, inputs], scale, 0.0) for part in parts]
                state[own] = torch.cat(pieces).T.contiguous()
    model.load_state_dict(state, strict=False)
    return entries


if __name__ == "__main__":
    torch.set_num_threads(1)
    sizes = dict(n_layer=2, n_positions=22, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    write_case("gpt2", 51, GPT2Config(vocab_size=53, n_embd=24, n_head=3, **sizes))
    odd = dict(n_inner=31, scale_attn_by_inverse_layer_idx=True, scale_attn_weights=False)
    untied = dict(tie_word_embeddings=False, activation_function="relu")
    write_case("untied", 52, GPT2Config(vocab_size=40, n_embd=21, n_head=3, **sizes, **odd, **untied))
    mingpt = dict(tie_word_embeddings=False, activation_function="gelu")
    write_case("mingpt", 53, GPT2Config(vocab_size=47, n_embd=32, n_head=4, **sizes, **mingpt), mingpt=True)
