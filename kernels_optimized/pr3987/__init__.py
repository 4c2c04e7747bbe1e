"""vLLM-Omni's pull request 3987: its merged fixes, each in its component and nothing more; the rest is the baseline's.

https://github.com/vllm-project/vllm-omni/pull/3987
"""

from dataclasses import replace

import kernels_baseline
from kernels_optimized.pr3987.lengths import attention_lengths
from kernels_optimized.pr3987.merge import merge_kv
from kernels_optimized.pr3987.positions import adjust_positions
from kernels_optimized.pr3987.routing import route_experts
from kernels_optimized.pr3987.schedule import timestep_schedule

COMPONENTS = replace(
    kernels_baseline.COMPONENTS,
    adjust_positions=adjust_positions,
    route_experts=route_experts,
    attention_lengths=attention_lengths,
    merge_kv=merge_kv,
    timestep_schedule=timestep_schedule,
)
