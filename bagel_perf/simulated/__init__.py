"""A device without hardware: runs real values on the CPU and tells where a CUDA program's host would wait."""

from bagel_perf.simulated.cuda import SimulatedCuda
from bagel_perf.simulated.device import SimulatedDevice, active_device
from bagel_perf.simulated.patches import NotSimulated
from bagel_perf.simulated.tensor import SimulatedTensor

__all__ = ["NotSimulated", "SimulatedCuda", "SimulatedDevice", "SimulatedTensor", "active_device"]
