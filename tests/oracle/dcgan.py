#!/usr/bin/env python3
"""Writes tests/fixtures/dcgan: tiny generators of DCGAN and WGAN, weights by recipe, and what PyTorch makes of them.

    pip install torch safetensors; python tests/oracle/dcgan.py
"""

import torch
from recipe import recipe, write
from torch import nn


class Dcgan(nn.Module):
    """The generator of https://github.com/pytorch/examples/tree/main/dcgan, of any depth."""

    def __init__(self, nz, ngf, nc, size):
        super().__init__()
        widths = [ngf]
        while size >> len(widths) > 4:
            widths.insert(0, widths[0] * 2)
        layers = [nn.ConvTranspose2d(nz, widths[0], 4, 1, 0, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(True)]
        for inputs, outputs in zip(widths, widths[1:]):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
        layers += [nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, z):
        return self.main(z)


class Wgan(nn.Module):
    """The generator of https://github.com/martinarjovsky/WassersteinGAN, with or without batch norms."""

    def __init__(self, isize, nz, nc, ngf, n_extra_layers=0, norms=True, bias=False):
        super().__init__()
        cngf, tisize = ngf // 2, 4
        while tisize != isize:
            cngf, tisize = cngf * 2, tisize * 2
        self.main = nn.Sequential()

        def add(stage, name, layer, channels):
            self.main.add_module(f"{stage}:{name}", layer)
            if norms:
                self.main.add_module(f"{stage}:{channels}:batchnorm", nn.BatchNorm2d(channels))
            self.main.add_module(f"{stage}:{channels}:relu", nn.ReLU(True))

        add("initial", f"{nz}-{cngf}:convt", nn.ConvTranspose2d(nz, cngf, 4, 1, 0, bias=bias), cngf)
        csize = 4
        while csize < isize // 2:
            half = cngf // 2
            add("pyramid", f"{cngf}-{half}:convt", nn.ConvTranspose2d(cngf, half, 4, 2, 1, bias=bias), half)
            cngf, csize = half, csize * 2
        for t in range(n_extra_layers):
            add(f"extra-layers-{t}", f"{cngf}:conv", nn.Conv2d(cngf, cngf, 3, 1, 1, bias=bias), cngf)
        self.main.add_module(f"final:{cngf}-{nc}:convt", nn.ConvTranspose2d(cngf, nc, 4, 2, 1, bias=bias))
        self.main.add_module(f"final:{nc}:tanh", nn.Tanh())

    def forward(self, z):
        return self.main(z)


def fill(model, case, seed):
    """Weights by recipe, and the recipe."""
    entries, weights = [], {}
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_floating_point():
            weights[name] = tensor
            continue
        if name.endswith("running_var"):
            scale, offset = 0.5, 1.0
        elif tensor.ndim == 1:
            scale, offset = (0.2, 1.0) if name.endswith("weight") else (0.1, 0.0)
        else:
            # A quarter of a doubling kernel's taps reach a pixel.
            scale, offset = (3.0 / (tensor.shape[0] * (1 if "0" == name[5] else 4))) ** 0.5, 0.0
        values = recipe(f"{seed}/{case}/{name}", tensor.numel(), scale, offset)
        weights[name] = torch.from_numpy(values).view(tensor.shape)
        entries.append(dict(name=name, shape=list(tensor.shape), scale=scale, offset=offset))
    model.load_state_dict(weights)
    return entries


@torch.no_grad()
def answer(model, inputs):
    dtype = next(model.parameters()).dtype
    tensors, layers = {}, []
    for module in model.main:
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, __, y: layers.append(y.clone()))
    for name, z in inputs.items():
        layers.clear()
        suffix = name.removeprefix("latents")
        tensors["out.image" + suffix] = model(z.to(dtype).view(len(z), -1, 1, 1))
        tensors |= {f"mid.layer{i}{suffix}": y for i, y in enumerate(layers)}
    return tensors


def write_model(case, model, seed, config, **inputs):
    entries = fill(model.eval(), case, seed)
    expected = answer(model, inputs)
    write("dcgan", case, seed, config, entries, inputs, expected, answer(model.double(), inputs))
    image = expected["out.image"]
    print(case, sorted(expected), "spread", image.std().item(), "largest", image.abs().max().item())


def noise(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


if __name__ == "__main__":
    torch.set_num_threads(1)
    config = {"model_type": "dcgan"}
    write_model("example", Dcgan(10, 4, 3, 32), 31, config, latents=noise(1, 2, 10, 1, 1), latents_one=noise(2, 1, 10))
    config = {"architectures": ["DCGAN_G"]}
    write_model("wgan", Wgan(32, 7, 1, 3, 2), 32, config, latents=noise(3, 1, 7, 1, 1))
    config = {"architectures": ["Generator"]}
    write_model("no_norms", Wgan(32, 12, 3, 2, 1, norms=False, bias=True), 33, config, latents=noise(4, 1, 12))
