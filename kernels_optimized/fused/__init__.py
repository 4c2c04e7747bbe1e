"""As ``captured``, with fewer and larger kernels that give the same bits.

Rows lie sorted by weight set, so nothing is gathered or scattered around a linear layer; keys and values go straight to
their places behind the contexts' own; norms, rotations and activations are a kernel each; what does not change over
steps is computed once; the two contexts that show the picture are prefilled as one. GEMM shapes of the denoise loop,
attention and rounding places are the baseline's.
"""

from dataclasses import replace

from kernels_optimized import captured
from kernels_optimized.captured.loop import CapturedLoop
from kernels_optimized.fused.contexts import pack_contexts
from kernels_optimized.fused.picture import encode_picture, norm_activate
from kernels_optimized.fused.prefill import prefill_layers
from kernels_optimized.fused.step import FusedStep

COMPONENTS = replace(
    captured.COMPONENTS,
    encode_picture=encode_picture,
    pack_contexts=pack_contexts,
    prefill_layers=prefill_layers,
    denoise_loop=CapturedLoop(FusedStep, recorded_components=()),
    norm_activate=norm_activate,
)
