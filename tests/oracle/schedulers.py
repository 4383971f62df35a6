#!/usr/bin/env python3
"""Writes tests/fixtures/schedulers: timesteps, noise levels and every step's latents of diffusers' schedulers.

The model is a recipe that tests/schedulers.rs repeats; noise is given, not drawn.

    pip install torch diffusers scipy torchsde; python tests/oracle/schedulers.py
"""

import json
import os
import warnings

import diffusers
import numpy as np
import torch

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "schedulers")
COUNTS = [1, 2, 4, 7, 20, 50]
START = torch.tensor([-1.25, 0.5, 2.0]).reshape(1, 3, 1, 1)
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
STABLE = SCALED | {"steps_offset": 1}
VELOCITY = SCALED | {"prediction_type": "v_prediction"}
ZERO = VELOCITY | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
UNCLIPPED = {"clip_sample": False}
BETAS = {"num_train_timesteps": 60, "trained_betas": [round(0.002 + 0.0011 * i, 6) for i in range(60)]}
LEADING, TRAILING, LINSPACE = ({"timestep_spacing": s} for s in ("leading", "trailing", "linspace"))
KARRAS, EXPONENTIAL = {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}
LEAST = {"final_sigmas_type": "sigma_min"}


def named(key, *values):
    return [{key: value} for value in values]


SAMPLE = {"prediction_type": "sample"}
IN_LEVELS = [{}, STABLE, STABLE | LEADING, VELOCITY | TRAILING, STABLE | KARRAS, SCALED | EXPONENTIAL, COSINE, BETAS]
CASES = {
    "DDIMScheduler": [
        *[{}, STABLE | UNCLIPPED | {"set_alpha_to_one": False}, VELOCITY | UNCLIPPED, ZERO | UNCLIPPED],
        *[SAMPLE | LINSPACE, TRAILING | {"clip_sample_range": 0.75}, COSINE | UNCLIPPED, BETAS | UNCLIPPED],
        *[STABLE | UNCLIPPED | {"eta": 1.0}, {"eta": 0.5}],
    ],
    "PNDMScheduler": [
        *[STABLE | {"skip_prk_steps": True}, STABLE, {"skip_prk_steps": True, "set_alpha_to_one": True}],
        *[VELOCITY | {"skip_prk_steps": True} | TRAILING, VELOCITY | LINSPACE, LINSPACE | {"skip_prk_steps": True}],
    ],
    "EulerDiscreteScheduler": [
        *[*IN_LEVELS, SAMPLE, ZERO, LEAST, STABLE | KARRAS | {"sigma_min": 0.1, "sigma_max": 10.0}],
        *[VELOCITY | KARRAS | {"timestep_type": "continuous"}, COSINE | LEADING],
    ],
    "EulerAncestralDiscreteScheduler": [{}, STABLE, STABLE | LEADING, VELOCITY | TRAILING, ZERO, COSINE],
    "DPMSolverMultistepScheduler": [
        *[*IN_LEVELS, ZERO, SAMPLE, COSINE | KARRAS, COSINE | {"lambda_min_clipped": -5.1}, SCALED | LEAST],
        *[SCALED | KARRAS | {"algorithm_type": "sde-dpmsolver++"}, SCALED | {"use_lu_lambdas": True}],
        *[SCALED | o for o in named("solver_order", 1, 3)],
        *[SCALED | {"solver_type": "heun"} | o for o in named("algorithm_type", "dpmsolver++", "sde-dpmsolver++")],
        *[SCALED | LEAST | o for o in named("algorithm_type", "dpmsolver", "sde-dpmsolver")],
        *[SCALED | LEAST | {"solver_type": "heun", "algorithm_type": a} for a in ("dpmsolver", "sde-dpmsolver")],
        *[SCALED | {"solver_order": 3, "algorithm_type": "sde-dpmsolver++", "euler_at_final": True}],
        *[VELOCITY | LEAST | {"solver_order": 3, "algorithm_type": "dpmsolver", "lower_order_final": False}],
    ],
    "HeunDiscreteScheduler": [
        # With the cosine's highest noise level, 40,000, few steps have no digit left in f32.
        *[config for config in IN_LEVELS if config != COSINE],
        *[SAMPLE, {"clip_sample": True, "clip_sample_range": 2.0}],
    ],
    "LMSDiscreteScheduler": [*IN_LEVELS, SAMPLE],
    "DDPMScheduler": [
        *[{}, STABLE | UNCLIPPED, VELOCITY | TRAILING | UNCLIPPED, SAMPLE | LINSPACE, COSINE, ZERO | UNCLIPPED],
        *named("variance_type", "fixed_small_log", "fixed_large"),
    ],
    "UniPCMultistepScheduler": [
        *[*IN_LEVELS, ZERO, SAMPLE, SCALED | LEAST, SCALED | LEAST | KARRAS],
        *[SCALED | o for o in named("solver_order", 1, 3)],
        *[SCALED | LEAST | {"solver_type": "bh1", "solver_order": order} for order in (2, 3)],
        *[SCALED | LEAST | {"predict_x0": False, "prediction_type": p} for p in ("epsilon", "v_prediction")],
        *[SCALED | {"disable_corrector": [0, 3]}, SCALED | LEAST | {"lower_order_final": False}],
    ],
    "LCMScheduler": [{}, VELOCITY | UNCLIPPED, {"clip_sample": True}, {"original_inference_steps": 100}],
    "DPMSolverSDEScheduler": [{}, STABLE | LEADING, VELOCITY | TRAILING, STABLE | KARRAS, SCALED | EXPONENTIAL],
}


def model(latents, timestep):
    return latents / (1 + latents.abs()) * (0.5 + float(timestep) / 2048)


def noise(evaluation):
    return torch.tensor([((37 * evaluation + 11 * i + 5) % 64 - 31.5) / 32 for i in range(3)]).reshape(1, 3, 1, 1)


class Path:
    """A Brownian path over sigma, of which each evaluation adds the stretch that it needs."""

    def __call__(self, sigma, sigma_next):
        own = noise(self.evaluation)
        if self.evaluation % 2 == 0:
            self.half, self.middle = own, sigma_next
            return own
        first, second = (sigma - self.middle) ** 0.5, (self.middle - sigma_next) ** 0.5
        return (first * self.half + second * own) / (sigma - sigma_next) ** 0.5


def run(scheduler, steps, eta, first):
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        # Else a first timestep that occurs twice is skipped.
        scheduler.set_begin_index(first)
    latents = START * float(scheduler.init_noise_sigma)
    if first:
        latents = scheduler.add_noise(START, noise(99), scheduler.timesteps[first : first + 1])
    trajectory, path = [], Path()
    for i, timestep in enumerate(scheduler.timesteps[first:]):
        output = model(scheduler.scale_model_input(latents, timestep), timestep)
        options = {} if eta is None else {"eta": eta}
        module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
        if hasattr(module, "randn_tensor"):
            module.randn_tensor = lambda *_, **__: noise(i)
        path.evaluation = i
        scheduler.noise_sampler = path
        latents = scheduler.step(output, timestep, latents, **options).prev_sample
        if not latents.isfinite().all():
            print(f"passed over, not finite: {type(scheduler).__name__} in {steps} steps, {scheduler.config}")
            return None
        trajectory.extend(numbers(latents))
    return {
        "timesteps": numbers(scheduler.timesteps),
        "sigmas": numbers(scheduler.sigmas) if hasattr(scheduler, "sigmas") else [],
        "initial_sigma": numbers(torch.tensor(float(scheduler.init_noise_sigma)))[0],
        "latents": trajectory,
    }


def numbers(tensor):
    return [int(v) if v == int(v) and abs(v) < 1e6 else float(f"{v:.7g}") for v in tensor.flatten().tolist()]


warnings.simplefilter("ignore")
diffusers.logging.set_verbosity_error()
os.makedirs(OUT, exist_ok=True)
for name, configs in CASES.items():
    cases = []
    # The first once more from its third evaluation on, as a noised picture starts there.
    for number, config in enumerate([*configs, configs[0] | {"first": 2}]):
        eta, first = config.get("eta"), config.get("first", 0)
        settings = {key: value for key, value in config.items() if key not in ("eta", "first")}
        runs = {}
        # The longest run only of some, to keep the files small.
        for steps in COUNTS if number % 3 == 0 and not first else COUNTS[:-1]:
            if steps <= first:
                continue
            scheduler = getattr(diffusers, name)(**settings)
            if name == "PNDMScheduler" and not config.get("skip_prk_steps") and steps < 4:
                continue
            if (found := run(scheduler, steps, eta, first)) is not None:
                runs[steps] = found
        cases.append({"config": {"_class_name": name} | settings, "eta": eta or 0.0, "first": first, "runs": runs})
    with open(os.path.join(OUT, f"{name}.json"), "w") as file:
        json.dump(cases, file, separators=(",", ":"))
