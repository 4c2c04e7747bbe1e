"""A small diffusion loop, a text sampler and a training loop, as people write them; knows nothing of host syncs."""

import torch
import torch.nn.functional as F
from torch import nn

assert torch.cuda.is_available(), "this program needs a GPU"
device = torch.device("cuda")


class Denoiser(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.time = nn.Linear(1, width)
        self.body = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, t):
        return self.body(x + self.time(t[:, None]))


@torch.no_grad()
def denoise(model, num_tokens=16, width=32, num_steps=6, interval=(0.3, 1.0)):
    x = torch.randn(num_tokens, width, device=device)
    is_picture = torch.arange(num_tokens, device=device) >= 4
    times = torch.linspace(1.0, 0.0, num_steps + 1, device=device)
    for i, t in enumerate(times[:-1]):
        t_per_token = torch.tensor([t] * num_tokens, device=device)
        velocity = model(x, t_per_token)
        if t > interval[0] and t <= interval[1]:
            velocity = velocity + 0.5 * (velocity - model(torch.zeros_like(x), t_per_token))
        step = times[i + 1] - t
        x[is_picture] = x[is_picture] + step * velocity[is_picture]
    return x.clamp(-1, 1).mul(127.5).add(127.5).to(torch.uint8).cpu()


class Reader(nn.Module):
    def __init__(self, vocabulary=64, width=32):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, vocabulary)

    def forward(self, tokens, cache):
        q, k, v = self.qkv(self.embed(tokens)).chunk(3, dim=-1)
        if cache is not None:
            k, v = torch.cat([cache[0], k], dim=1), torch.cat([cache[1], v], dim=1)
        hidden = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None]).squeeze(1)
        return self.out(hidden[:, -1]), (k, v)


@torch.no_grad()
def write_text(model, prompt, end_token=63, max_tokens=12):
    tokens = torch.tensor([prompt], device=device)
    cache, text = None, []
    for number in range(max_tokens):
        logits, cache = model(tokens, cache)
        logits[:, end_token] = -1e4 if number < 7 else 1e4
        tokens = torch.multinomial(F.softmax(logits, dim=-1), 1)
        if tokens[0, 0] == end_token:
            break
        text.append(tokens[0, 0].item())
    lengths = torch.tensor([len(prompt), len(text)], device=device)
    padded = torch.zeros((max(lengths), 2), device=device)
    return text, padded.shape


def train(model, num_steps=5, max_norm=1.0):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    losses = []
    for _ in range(num_steps):
        x = torch.randn(16, 32).to(device)
        noise = torch.randn_like(x)
        t = torch.rand(16, device=device)
        loss = F.mse_loss(model(x + t[:, None] * noise, t), noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if not torch.isfinite(norm):
            raise RuntimeError("gradients are not finite")
    return losses


def main():
    torch.manual_seed(0)
    model, reader = Denoiser().to(device), Reader().cuda()
    picture = denoise(model)
    text, shape = write_text(reader, [1, 5, 9])
    losses = train(model)
    torch.cuda.synchronize()
    print(f"picture {tuple(picture.shape)}, {len(text)} tokens, padded {tuple(shape)}, {len(losses)} losses")


if __name__ == "__main__":
    main()
