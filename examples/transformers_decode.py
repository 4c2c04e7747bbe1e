"""Greedy decoding with a stop check: transformers' `generate`, and loops that check it every 8 tokens, or never.

A Llama with tiny random weights: needs `pip install transformers`, and no download. After its end-of-sequence token a
row is padded, so all three give the same token ids.
"""

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

CASES = {
    "stops early": {"rows": 1, "new_tokens": 32},
    "many rows": {"rows": 4, "new_tokens": 16},
}
EOS, PAD = 2, 0


def setup(device):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config).eval().to(device)


def prompt(model, case, seed):
    ids = torch.randint(3, 32, (case["rows"], 6), generator=torch.Generator().manual_seed(seed))
    return ids.to(model.device)


def padded(ids, case):
    return torch.nn.functional.pad(ids, (0, case["new_tokens"] - ids.shape[1]), value=PAD)


def as_released(model, case, seed):
    ids = prompt(model, case, seed)
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=case["new_tokens"], do_sample=False)
    return padded(out[:, ids.shape[1] :], case).cpu()


@torch.no_grad()
def decode(model, case, seed, tokens_between_checks):
    cache, ids, new = DynamicCache(config=model.config), prompt(model, case, seed), []
    done = torch.zeros(case["rows"], dtype=torch.bool, device=model.device)
    for number in range(1, case["new_tokens"] + 1):
        logits = model(ids, past_key_values=cache, logits_to_keep=1).logits[:, -1]
        token = torch.where(done, PAD, logits.argmax(-1))
        done = done | (token == EOS)
        new.append(token)
        ids = token[:, None]
        if number % tokens_between_checks == 0 and done.all():  # waits: the CPU has to know the answer
            break
    return padded(torch.stack(new, 1), case).cpu()


def every_8_tokens(model, case, seed):
    return decode(model, case, seed, tokens_between_checks=8)


def no_check(model, case, seed):
    return decode(model, case, seed, tokens_between_checks=case["new_tokens"] + 1)
