"""A small denoising loop that waits for the GPU twice a step, and the same loop without these waits."""

import torch

CASES = {"small": {"rows": 16, "steps": 4}, "large": {"rows": 64, "steps": 10}}


def setup(device):
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) / 16
    return {"device": device, "weight": weight.to(device)}


def change(state, x, level):
    return level[:, None] * (x - torch.tanh(x @ state["weight"]))


def denoise_plain(state, case, x):
    for step in range(case["steps"]):
        level = torch.tensor([0.5**step] * case["rows"], device=x.device)  # waits: a Python list is copied to the GPU
        delta = change(state, x, level)
        largest = delta.abs().max().item()  # waits: the CPU cannot go on before it has this number
        x = x - delta * min(largest, 1.0)
    return x


def denoise_fast(state, case, x):
    for step in range(case["steps"]):
        level = torch.full((case["rows"],), 0.5**step, device=x.device)  # the GPU fills it
        delta = change(state, x, level)
        largest = delta.abs().max()  # the number stays on the GPU
        x = x - delta * largest.clamp(max=1.0)
    return x


def stages_of(denoise, state, case, seed):
    noise = torch.randn(case["rows"], 64, generator=torch.Generator().manual_seed(seed))
    yield "encode", lambda _: noise.to(state["device"])
    yield "denoise", lambda x: denoise(state, case, x)
    yield "decode", lambda x: x.clamp(-1, 1).cpu()


def plain(state, case, seed):
    yield from stages_of(denoise_plain, state, case, seed)


def fast(state, case, seed):
    yield from stages_of(denoise_fast, state, case, seed)
