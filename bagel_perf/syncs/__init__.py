"""Host syncs of any PyTorch program: counted, named by source line, and on a GPU with their predicted savings.

``watch_host_syncs`` is the whole of it, ``count_host_syncs`` only counts. ``region`` names a stretch of the program,
``allow_sync`` marks a wait that is meant, ``watch_capture`` names what prevents a CUDA graph of a region. While nobody
watches, entering a region takes a tenth of a microsecond and declaring a wait two.
"""

from bagel_perf.records.syncs import SyncBudgetExceeded
from bagel_perf.syncs.blockers import CaptureWatch, watch_capture
from bagel_perf.syncs.budgets import allow_sync
from bagel_perf.syncs.cuda import callbacks_fire
from bagel_perf.syncs.regions import region
from bagel_perf.syncs.sites import SyncCollector, count_host_syncs
from bagel_perf.syncs.watching import SyncWatch, watch_host_syncs

__all__ = [
    "CaptureWatch",
    "SyncBudgetExceeded",
    "SyncCollector",
    "SyncWatch",
    "allow_sync",
    "callbacks_fire",
    "count_host_syncs",
    "region",
    "watch_capture",
    "watch_host_syncs",
]
