#!/usr/bin/env python3
"""Writes tests/fixtures/clip_text: tiny text encoders of CLIP with weights by recipe and what transformers makes of them.

    pip install torch transformers safetensors; python tests/oracle/clip_text.py
"""

import torch
from recipe import build, recipe, write
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

PADDING = 1


def tokens(key, rows, length, vocab, end):
    """Texts of these lengths between a start and `end`, padded."""
    ids = torch.full((len(rows), length), PADDING, dtype=torch.int64)
    for i, count in enumerate(rows):
        words = torch.from_numpy(recipe(f"{key}/{i}", count, 0.5, 0.5) * (vocab - 8)).long() + 6
        ids[i, : count + 1] = torch.cat([torch.tensor([vocab - 2]), words])
        if count + 1 < length:
            ids[i, count + 1] = end
    return ids


def answer(model, runs):
    """Outputs and hidden layers of each run: suffix, ids, and a mask or none."""
    text = getattr(model, "text_model", model)
    tensors, mlps = {}, []
    for i, layer in enumerate(text.encoder.layers):
        layer.mlp.register_forward_hook(lambda _, __, y, i=i: mlps.append((i, y)))
    for suffix, ids, mask in runs:
        mlps.clear()
        with torch.no_grad():
            found = text(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        states = found.hidden_states
        made = {"out.last_hidden_state": found.last_hidden_state, "out.pooler_output": found.pooler_output}
        if text is not model:
            with torch.no_grad():
                made["out.text_embeds"] = model(input_ids=ids, attention_mask=mask).text_embeds
        made |= {"mid.embeddings": states[0], "mid.penultimate": states[-2]}
        made |= {f"mid.layer{i}": state for i, state in enumerate(states[1:])}
        made |= {f"mid.mlp{i}": y for i, y in mlps[: len(states) - 1]}
        tensors |= {name + suffix: tensor.clone() for name, tensor in made.items()}
    return tensors


def write_model(case, kind, config, seed, runs):
    model, saved, entries = build(case, kind, config, seed)
    inputs = {}
    for suffix, ids, mask in runs:
        inputs |= {"input_ids" + suffix: ids} | ({"attention_mask" + suffix: mask} if mask is not None else {})
    expected = answer(model, runs)
    write("clip_text", case, seed, saved, entries, inputs, expected, answer(model.double(), runs))
    print(case, sorted(expected), [entry["name"] for entry in entries][:1])


if __name__ == "__main__":
    sizes = dict(vocab_size=70, max_position_embeddings=20, bos_token_id=68, pad_token_id=PADDING)
    config = CLIPTextConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        hidden_act="quick_gelu",
        eos_token_id=2,
        **sizes,
    )
    # As long as they may be; and short ones whose padding is not looked at, nor a word in the midst.
    whole = tokens("1/whole", [11, 19], 20, 70, 69)
    short = tokens("1/short", [5, 2, 3], 7, 70, 69)
    mask = (short != PADDING).long()
    mask[0, 3] = 0
    write_model("quick_gelu", CLIPTextModel, config, 1, [("", whole, None), ("_short", short, mask)])

    config = CLIPTextConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        hidden_act="gelu",
        projection_dim=20,
        eos_token_id=5,
        **sizes,
    )
    # The last text of the first run has no end.
    texts = tokens("2/texts", [4, 9, 12], 13, 70, 5)
    one = tokens("2/one", [3], 18, 70, 5)
    runs = [("", texts, None), ("_one", one, None)]
    write_model("gelu_projection", CLIPTextModelWithProjection, config, 2, runs)
