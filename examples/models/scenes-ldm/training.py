"""What trainings of bundled models share: the time that a stage has, and an optimizer."""

import math
import time

import torch


class Clock:
    """The time that a stage has, and the learning rate at each moment: a warm-up over 200 steps, then a cosine."""

    def __init__(self, minutes, spent=0.0):
        self.seconds, self.started = minutes * 60, time.time() - spent

    def spent(self):
        return time.time() - self.started

    def share(self):
        return min(self.spent() / self.seconds, 1.0)

    def done(self):
        return self.spent() >= self.seconds

    def rate(self, step):
        return min(1.0, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.share())))


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal (Jordan 2024, <https://kellerjordan.github.io/posts/muon/>)."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, dict(lr=lr))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"].lerp_(p.grad, 0.05)
                update = p.grad.lerp(momentum, 0.95).flatten(1)
                tall = update.shape[0] > update.shape[1]
                m = update.T if tall else update
                m = (m / (m.norm() + 1e-7)).bfloat16()
                for _ in range(5):
                    square = m @ m.T
                    m = 3.4445 * m + (-4.775 * square + 2.0315 * square @ square) @ m
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                p.add_((m.T if tall else m).reshape(p.shape).float(), alpha=-group["lr"] * scale)
