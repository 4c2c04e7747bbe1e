"""The denoise step as a CUDA graph: recorded once a shape, replayed step by step; the rest is as in ``sync_free``.

The same kernels run in the same order, so the picture is bitwise the same; what goes is the time that the host takes to
launch them. The prefill is not recorded: its kernels are so long that the host is ahead of the GPU.
"""

from dataclasses import replace

from kernels_optimized import sync_free
from kernels_optimized.captured.loop import CapturedLoop
from kernels_optimized.captured.step import ComponentStep

COMPONENTS = replace(sync_free.COMPONENTS, denoise_loop=CapturedLoop(ComponentStep))
