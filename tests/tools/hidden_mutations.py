"""More of what ``mutations.py`` puts into copies: mistakes that hide from whoever looks once, or by name.

They wait, work or differ in a later request, at one size, on another thread or stream, under another name, or in all
variants alike.
"""

from __future__ import annotations

from mutation_records import Mutation

_LOOP = (
    "def denoise_loop(state: Denoising, components: Components) -> Tensor:\n"
    '    """Clean latents, fp32 [N, 64]."""\n'
    "    latents_NC = state.noise_NC\n"
)


def _in_loop(name: str, body: str, line: str, *words: str, top: str = "") -> Mutation:
    """A statement at the begin of a loop, and what it needs before the function."""
    return Mutation(
        name=name,
        file="kernels_optimized/sync_free/loop.py",
        before=_LOOP,
        after=f"{top}\n\n{_LOOP}    {body}\n" if top else f"{_LOOP}    {body}\n",
        line=line,
        kind="counter",
        words=words,
    )


OF_LATER_REQUESTS = (
    Mutation(
        name="a wait when a recording is used again",
        file="kernels_optimized/captured/loop.py",
        before="            recording.replay()\n",
        after="            recording.replay()\n            assert shape.step.latents_NC.isfinite().all().item()\n",
        line="assert",
        kind="counter",
        words=("new host syncs", "scalar read"),
    ),
    _in_loop(
        "a wait when a shape comes again",
        "if len(latents_NC) in _SEEN or _SEEN.append(len(latents_NC)):\n        latents_NC.sum().item()",
        "latents_NC.sum",
        "new host syncs",
        "scalar read",
        top="_SEEN: list[int] = []\n",
    ),
    _in_loop(
        "a wait at one size alone",
        "assert len(latents_NC) > 8 or latents_NC.isfinite().all().item()",
        "assert",
        "new host syncs",
        "32x48",
    ),
    Mutation(
        name="a prefill kept for later requests",
        file="bagel_perf/subjects/bagel/model/prefill.py",
        before=(
            "    encoded = components.encode_picture(EncodingState(model=model, picture=picture))"
            " if picture else None\n"
        ),
        after=(
            "    kept = prefill.__dict__.setdefault((id(model), picture and picture.vae_pixels.shape), [])\n"
            "    if picture and not kept:\n"
            "        kept.append(components.encode_picture(EncodingState(model=model, picture=picture)))\n"
            "    encoded = kept[0] if kept else None\n"
        ),
        kind="counter",
        words=("fewer products", "again"),
    ),
)
"""The last one leaves no line behind."""

ELSEWHERE = (
    _in_loop(
        "a side stream by an alias of an import",
        "with _beside(_Stream()):\n        latents_NC = latents_NC + 0.0",
        "with _beside",
        "new side streams",
        top="from torch.cuda import Stream as _Stream, stream as _beside\n",
    ),
    _in_loop(
        "a side stream by StreamContext",
        "with _Context(_Stream()):\n        latents_NC = latents_NC + 0.0",
        "with _Context",
        "new side streams",
        top="from torch.cuda import Stream as _Stream, StreamContext as _Context\n",
    ),
    _in_loop(
        "a synchronization by an alias",
        "_settle()",
        "_settle()",
        "new host syncs",
        "explicit synchronization",
        top="from torch.cuda import synchronize as _settle\n",
    ),
    _in_loop(
        "a wait on a thread of its own",
        "(t := Thread(target=latents_NC.sum().item)).start() or t.join()",
        "Thread(target",
        "new host syncs",
        "scalar read",
        top="from threading import Thread\n",
    ),
    _in_loop(
        "a wait in a pool",
        "_POOL.submit(latents_NC.sum().item).result()",
        "_POOL.submit",
        "new host syncs",
        "scalar read",
        top="from concurrent.futures import ThreadPoolExecutor\n\n_POOL = ThreadPoolExecutor(1)\n",
    ),
    _in_loop(
        "a wait in a finalizer",
        "_finalize(set(), latents_NC.sum().item)",
        "_finalize(set",
        "new host syncs",
        "scalar read",
        top="from weakref import finalize as _finalize\n",
    ),
    _in_loop(
        "an event that is polled",
        "_DONE.record()\n    while not _DONE.query():\n        pass",
        "while not",
        "hazard",
        "query",
        top="from torch.cuda import Event\n\n_DONE = Event()\n",
    ),
)

BY_ANOTHER_NAME = (
    _in_loop("a product by tensordot", "_product(latents_NC, latents_NC, 2)", "_product(lat", "new products",
             top="from torch import tensordot as _product\n"),
    _in_loop("a product by mv", "latents_NC.mv(latents_NC[0])", ".mv(", "new products"),
    _in_loop("a product by einsum", "_product('nc,mc->nm', latents_NC, latents_NC)", "_product('", "new products",
             top="from torch import einsum as _product\n"),
    _in_loop("a convolution by conv1d", "_convolved(latents_NC[None], latents_NC[None, :, :1])", "_convolved(lat",
             "new convolutions", top="from torch.nn.functional import conv1d as _convolved\n"),
    _in_loop("a product spelled out", "(latents_NC[:, None] * latents_NC).sum(-1)", "(latents_NC[:, None]",
             "operators"),
    _in_loop("a draw from the default generator", "_drawn(3)", "_drawn(3)", "new random numbers",
             top="from torch import rand as _drawn\n"),
)  # fmt: skip

OF_ALL_VARIANTS = (
    Mutation(
        name="a setting changed and put back",
        file="kernels_optimized/sync_free/loop.py",
        before=_LOOP,
        after=(
            "import torch\n\n\n"
            + _LOOP
            + "    torch.backends.cudnn.benchmark = True\n    latents_NC = latents_NC + 0.0\n"
            + "    torch.backends.cudnn.benchmark = not latents_NC.shape\n"
        ),
        line="torch.backends.cudnn.benchmark = True",
        kind="environment",
        words=("settings changed", "cuDNN benchmark from False to True"),
    ),
    Mutation(
        name="another activation in all variants, on another CPU",
        file="bagel_perf/subjects/bagel/model/vit.py",
        before='    return second(F.gelu(first(x), approximate="tanh"))\n',
        after="    return second(F.silu(first(x)))\n",
        kind="picture",
        words=("the contexts of the reference", "off the last record's fingerprint"),
        on_other_cpu=True,
    ),
    Mutation(
        name="another guidance scale in all variants, on another CPU",
        file="bagel_perf/subjects/bagel/edit.py",
        before="        text_scale=guidance.text_scale,\n",
        after="        text_scale=guidance.text_scale + 0.25,\n",
        kind="picture",
        words=("the latents of the reference", "off the last record's fingerprint"),
        on_other_cpu=True,
    ),
)

HIDDEN = (*OF_LATER_REQUESTS, *ELSEWHERE, *BY_ANOTHER_NAME, *OF_ALL_VARIANTS)
