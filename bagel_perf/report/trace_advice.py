"""What to do about idle time, by its cause."""

from __future__ import annotations

from bagel_perf.schema.traces import Cause

ADVICE: dict[Cause, str] = {
    "host_sync": "take the waits of the table out of the loop",
    "after_sync": "take the waits of the table out of the loop",
    "unrecorded_work": "record what is missing (the other process, the kernels of graphs, a shorter stretch that loses "
    "no rows); until then busy time is a lower bound",
    "one_time_setup": "it is paid once; warm up before you record or time, and look at the steady steps",
    "graph_capture": "capture before the steps that count, once for each shape, and replay afterwards",
    "allocator": "keep the memory (no empty_cache() in the loop, buffers made once; "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True)",
    "data_loader": "load ahead while the GPU works (num_workers, prefetch_factor, pin_memory)",
    "cpu_elsewhere": "see what the CPU does there; do it ahead, on another thread, or on the GPU",
    "launch_bound": "launch less or faster (CUDA graphs, torch.compile, larger batches)",
    "launch_overhead": "launch less (CUDA graphs, fused kernels, larger batches)",
    "queued": "it was launched in time and waited on the device; see what the stream waits for (the event before the "
    "launch: another stream, device or process, or a host function); faster launches would not help",
    "unknown": "record the runtime calls with their correlation",
}
