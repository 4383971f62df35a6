#!/usr/bin/env python3
"""Writes tests/fixtures/lora: LoRAs in every layout for the tiny pipeline of tests/fixtures/stable_diffusion/plain, and the
weights and pictures that diffusers makes with them.

    pip install torch transformers diffusers peft safetensors pillow; python tests/oracle/lora.py
"""

import os

import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers, convert_state_dict_to_peft
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from recipe import FIXTURES, recipe
from safetensors.torch import load_file, save_file
from stable_diffusion import SIZE, parts
from transformers.integrations import peft as of_transformers

OUT = os.path.join(FIXTURES, "lora")
# What is used here of PEFT is older than the version that transformers asks for.
of_transformers.check_peft_version = lambda **_: None
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
ATTENTION = [f"{BLOCK}.{attn}.{name}" for attn in ("attn1", "attn2") for name in ("to_q", "to_k", "to_v", "to_out.0")]
LAYER = "text_model.encoder.layers"
TEXT = [f"{LAYER}.0.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
# Each module by diffusers' name and by the original one.
CONVOLUTIONS = {
    "down_blocks.0.attentions.0.proj_in": "input_blocks.1.1.proj_in",
    "down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in_layers.2",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "mid_block.resnets.1.conv2": "middle_block.2.out_layers.3",
    "up_blocks.1.resnets.1.conv_shortcut": "output_blocks.3.0.skip_connection",
}
LINEAR = {
    f"{BLOCK}.attn1.to_q": "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    f"{BLOCK}.attn2.to_v": "input_blocks.1.1.transformer_blocks.0.attn2.to_v",
    f"{BLOCK}.ff.net.0.proj": "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj",
    "mid_block.resnets.0.time_emb_proj": "middle_block.0.emb_layers.1",
    "up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0": "output_blocks.3.1.transformer_blocks.0.attn1.to_out.0",
}
PROMPT = dict(prompt="a red three left of a blue seven", negative_prompt="blurry blue", num_inference_steps=4)


def pair(case, module, weight, rank):
    """The two matrices of a weight: a convolution's are a convolution of its size and one of 1x1."""
    rows, columns, *sides = weight.shape
    down, up = [rank, columns, *sides], [rows, rank, *(1 for _ in sides)]
    count = torch.Size(down[1:]).numel()
    first = recipe(f"{case}/{module}/down", rank * count, (3 / count) ** 0.5, 0.0)
    last = recipe(f"{case}/{module}/up", rows * rank, 0.5 * (3 / rank) ** 0.5, 0.0)
    return torch.from_numpy(first).view(down), torch.from_numpy(last).view(up)


def weight(made, part, module):
    module = module.removeprefix("text_model.") if part == "text_encoder" else module
    return made[part].get_submodule(module).weight


def kohya(made, case, names):
    """kohya's layout; ranks differ."""
    tensors = {}
    text = {module: module for module in [*TEXT, f"{LAYER}.1.mlp.fc1", f"{LAYER}.1.mlp.fc2"]}
    for prefix, part, modules in [("lora_unet", "unet", names), ("lora_te", "text_encoder", text)]:
        for i, (module, other) in enumerate(modules.items()):
            name = f"{prefix}_{other}".replace(".", "_")
            rank = 1 + i % 3
            tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = pair(case, module, weight(made, part, module), rank)
            # Where alphas differ, diffusers takes the most frequent one for attentions.
            tensors[f"{name}.alpha"] = torch.tensor(1.5)
    return tensors


def processors(made):
    tensors = {}
    for module in ATTENTION:
        attention, product = module.replace(".to_out.0", ".to_out").rsplit(".", 1)
        name = f"unet.{attention}.processor.{product}_lora"
        tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = pair("processors", module, weight(made, "unet", module), 2)
    for module, product in zip(TEXT, ("to_q", "to_k", "to_v", "to_out")):
        name = f"text_encoder.{LAYER}.0.self_attn.{product}_lora"
        tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = pair("processors", module, weight(made, "text_encoder", module), 2)
    return tensors


def layers(made):
    tensors = {}
    for part, modules, sign in [("unet", ATTENTION, "lora"), ("text_encoder", TEXT, "lora_linear_layer")]:
        for module in modules:
            down, up = pair("layers", module, weight(made, part, module), 2)
            tensors[f"{part}.{module}.{sign}.down.weight"], tensors[f"{part}.{module}.{sign}.up.weight"] = down, up
    return tensors


def peft(made):
    """Saved by diffusers, with PEFT's configuration in the metadata."""
    configs = {
        "unet": LoraConfig(
            r=2, lora_alpha=3, target_modules=["to_q", "to_v", "conv1"], alpha_pattern={"attn1.to_q": 1.0}, init_lora_weights=False
        ),
        "text_encoder": LoraConfig(r=4, lora_alpha=2, use_rslora=True, target_modules=["q_proj", "fc1"], init_lora_weights=False),
    }
    for part, config in configs.items():
        made[part].add_adapter(config)
        config.base_model_name_or_path = None
        for name, parameter in made[part].named_parameters():
            if "lora_" in name:
                scale = 0.5 * (3 / parameter[0].numel()) ** 0.5
                parameter.data = torch.from_numpy(recipe(f"peft/{part}/{name}", parameter.numel(), scale, 0.0)).view(parameter.shape)
    StableDiffusionPipeline.save_lora_weights(
        OUT,
        unet_lora_layers=get_peft_model_state_dict(made["unet"]),
        text_encoder_lora_layers=get_peft_model_state_dict(made["text_encoder"]),
        weight_name="peft.safetensors",
        **_collate_lora_metadata({part: made[part] for part in configs}),
    )


def pipeline():
    made = parts("plain", 4)
    object.__delattr__(made["text_encoder"], "text_model")
    return made


def fill(text_encoder, adapter, tensors):
    """Gives a text encoder's adapter its numbers, which these versions of transformers and PEFT lose on the way."""
    tensors = {key.removeprefix("text_encoder."): tensor for key, tensor in tensors.items() if key.startswith("text_encoder.")}
    tensors = convert_state_dict_to_peft(convert_state_dict_to_diffusers(tensors))
    parameters = {name: p for name, p in text_encoder.named_parameters() if "lora_" in name and f".{adapter}." in name}
    for key, tensor in tensors.items():
        name = key.removeprefix("text_model.").replace(".weight", f".{adapter}.weight")
        parameters.pop(name).data.copy_(tensor)
    assert not parameters, parameters.keys()


def picture(loras, fused):
    """A picture with LoRAs by name and scale, and some of the weights behind it where they are fused."""
    pipe = StableDiffusionPipeline(**pipeline(), safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    for name in loras:
        given = dict(pretrained_model_name_or_path_or_dict=OUT, weight_name=f"{name}.safetensors")
        if name == "numbered":
            # diffusers does this for Stable Diffusion XL alone.
            tensors = load_file(os.path.join(OUT, "numbered.safetensors"))
            given = dict(pretrained_model_name_or_path_or_dict=_maybe_map_sgm_blocks_to_diffusers(tensors, pipe.unet.config))
        pipe.load_lora_weights(**given, adapter_name=name)
        fill(pipe.text_encoder, name, pipe.lora_state_dict(**given)[0])
    if loras:
        pipe.set_adapters(list(loras), list(loras.values()))
    weights = {}
    if fused:
        pipe.fuse_lora(adapter_names=list(loras))
        for module in [*list(CONVOLUTIONS)[:2], f"{BLOCK}.attn1.to_q"]:
            weights[f"unet/{module}.weight"] = pipe.unet.get_submodule(module).base_layer.weight.detach().clone()
        module = "encoder.layers.0.self_attn.q_proj"
        weights[f"text_encoder/{module}.weight"] = pipe.text_encoder.get_submodule(module).base_layer.weight.detach().clone()
    image = pipe(generator=torch.Generator().manual_seed(3), height=SIZE, width=SIZE, output_type="np", **PROMPT).images
    print(loras, image.mean(), image.std())
    return torch.from_numpy((image * 255).round()).to(torch.uint8).contiguous(), weights


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    made = pipeline()
    save_file(kohya(made, "kohya", {module: module for module in [*LINEAR, *CONVOLUTIONS]}), os.path.join(OUT, "kohya.safetensors"))
    save_file(kohya(made, "numbered", LINEAR | CONVOLUTIONS), os.path.join(OUT, "numbered.safetensors"))
    save_file(processors(made), os.path.join(OUT, "processors.safetensors"))
    save_file(layers(made), os.path.join(OUT, "layers.safetensors"))
    peft(made)
    expected = {"none": picture({}, False)[0]}
    for name, scale in [("numbered", 0.7), ("processors", 1.0), ("layers", -0.5), ("peft", 0.7)]:
        expected[name], _ = picture({name: scale}, False)
    expected["kohya"], weights = picture({"kohya": 0.7}, True)
    expected["both"], _ = picture({"kohya": 0.6, "peft": 0.4}, False)
    save_file(expected | weights, os.path.join(OUT, "expected.safetensors"))
