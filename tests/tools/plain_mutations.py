"""What ``mutations.py`` puts into copies of the tree, one at a time: mistakes as people make them.

Each leaves alone what would give it away besides: those of pictures wait and count as before, those of counters give
the same picture. ``before`` is the text of the tree to the letter; where a line of it changes, it has to change here.
"""

from __future__ import annotations

from hidden_mutations import HIDDEN
from mutation_records import Mutation

OF_COUNTERS = (
    Mutation(
        name="an .item() in a decoder layer",
        file="bagel_perf/subjects/bagel/model/decoder.py",
        before="        x_TD = x_TD + _feed_forward(layer, x_TD, rows)\n",
        after="        x_TD = x_TD + _feed_forward(layer, x_TD, rows)\n        assert x_TD.isfinite().all().item()\n",
        line="assert",
        kind="counter",
        words=("scalar read",),
    ),
    Mutation(
        name="a gather by a bool mask",
        file="kernels_optimized/sync_free/loop.py",
        before="latents_NC.split(lengths)\n",
        after="latents_NC[latents_NC.isfinite().all(dim=1)].split(lengths)\n",
        line="latents_NC[",
        kind="counter",
        words=("new host syncs", "bool-mask gather"),
    ),
    Mutation(
        name="an upload from pageable memory per step",
        file="kernels_optimized/sync_free/schedule.py",
        before="        t_N = times[i].repeat(num_latents)\n",
        after="        t_N = torch.tensor([t] * num_latents, device=device)\n",
        line="t_N = ",
        kind="counter",
        words=("new host syncs", "pageable upload"),
    ),
    Mutation(
        name="work moved to a side stream",
        file="kernels_optimized/sync_free/routing.py",
        before="    return route_by_rows(x, und_rows, gen_rows, und, gen)\n",
        after=(
            "    with torch.cuda.stream(torch.cuda.Stream() if x.is_cuda else None):\n"
            "        return route_by_rows(x, und_rows, gen_rows, und, gen)\n"
        ),
        line="with",
        kind="counter",
        words=("side streams",),
    ),
    Mutation(
        name="a sync removed without record",
        file="kernels_baseline/merge.py",
        before="    num_rows = sum(layout.past.device_B) + sum(layout.queries.device_B)\n",
        after="    num_rows = sum(layout.past.host) + sum(layout.queries.host)\n",
        kind="counter",
        words=("fewer host syncs", "kernels_baseline/merge.py merge_kv", "tensor as size"),
    ),
)
"""One that is gone leaves no line behind, so its file and function have to do."""

OF_PICTURES = (
    Mutation(
        name="a flipped pixel",
        file="bagel_perf/subjects/bagel/edit.py",
        before="                pixels_HW3 = download_picture(pixels)\n",
        after=(
            "                pixels_HW3 = download_picture(pixels)\n"
            '            if components.merge_kv.__module__ == "kernels_optimized.sync_free.merge":\n'
            "                pixels_HW3[0, 0, 0] ^= 1\n"
        ),
        kind="picture",
        words=("sync_free gives another picture than baseline",),
    ),
    Mutation(
        name="one latent rounded differently",
        file="kernels_optimized/sync_free/loop.py",
        before="    return first_picture(latents_NC, state)\n",
        after="    latents_NC[:1, :1] *= 1 + 2**-23\n    return first_picture(latents_NC, state)\n",
        kind="picture",
        words=("sync_free gives other latents than baseline", "8 bits of a picture hide it"),
    ),
    Mutation(
        name="a picture served from a cache",
        file="kernels_baseline/picture.py",
        before=(
            "def download_picture(pixels_HW3: Tensor) -> Tensor:\n"
            '    """Pixels uint8 [H, W, 3] on the host; waits once, the one wait that a request cannot do without."""\n'
            "    return pixels_HW3.cpu()  # wait (pb:320)\n"
        ),
        after=(
            "_PICTURES: dict[str, Tensor] = {}\n\n\n"
            "def download_picture(pixels_HW3: Tensor) -> Tensor:\n"
            '    """Pixels uint8 [H, W, 3] on the host; waits once, the one wait that a request cannot do without."""\n'
            '    return _PICTURES.setdefault("picture", pixels_HW3.cpu())  # wait (pb:320)\n'
        ),
        kind="picture",
        words=("baseline at 48x64 gives the same picture for different latents",),
    ),
    Mutation(
        name="a picture of NaN",
        file="bagel_perf/subjects/bagel/model/weights.py",
        before="    omega = 10000.0 ** (-torch.arange(",
        after="    omega = (-10000.0) ** (-torch.arange(",
        kind="picture",
        words=("latents that are not finite", "baseline"),
    ),
    Mutation(
        name="a changed seed",
        file="bagel_perf/subjects/bagel/edit.py",
        before="    generator = torch.Generator().manual_seed(seed)\n",
        after="    generator = torch.Generator().manual_seed(request.seed)\n",
        kind="picture",
        words=("baseline at 48x64 gives the same latents for different seeds",),
    ),
)

OF_THE_ENVIRONMENT = (
    Mutation(
        name="an environment that changes half-way",
        file="kernels_optimized/sync_free/routing.py",
        before="    und_rows, gen_rows = routing.und_rows, routing.gen_rows\n",
        after=(
            "    torch.backends.cudnn.benchmark = True\n    und_rows, gen_rows = routing.und_rows, routing.gen_rows\n"
        ),
        kind="environment",
        line="torch.backends",
        words=("settings changed", "cuDNN benchmark from False to True", "in i2i 48x64 sync_free"),
    ),
)

MUTATIONS = (*OF_COUNTERS, *OF_PICTURES, *OF_THE_ENVIRONMENT, *HIDDEN)
"""In the order in which they are tried."""
