"""What to write instead, by pattern; ``tests/verdicts/test_hints.py`` runs both forms of each."""

from __future__ import annotations

from bagel_perf.records.sites import Hint

PATTERN_HINTS: dict[str, Hint] = {
    "reduction": Hint(
        label="Python's max, min, any, all over a tensor",
        waits="max(lengths).item()    # waits for each element",
        instead="lengths.max().item(), one wait in all; or max(host_lengths), of the list the lengths were made from",
        why_equal="the same elements are compared, on the device",
    ),
    "printing": Hint(
        label="tensor as text",
        waits="print(t), str(t)    # reads what it prints number by number",
        instead="print(t.cpu()), one wait in all",
        why_equal="the same numbers are formatted on the host; only device= is missing from the text",
    ),
    "equality": Hint(
        label="comparison of whole tensors",
        waits="torch.equal(a, b), torch.allclose(a, b)",
        instead="(a == b).all(), torch.isclose(a, b).all(): tensors that are read once, all together, at the end",
        why_equal="the same elements are compared, the answer is read later",
    ),
    "fill": Hint(
        label="fill with a device scalar",
        waits="x.masked_fill(mask, t)    # t on the device",
        instead="torch.where(mask, t, x)",
        why_equal="the same elements get the same value, which stays on the device",
    ),
    "constant": Hint(
        label="tensor full of a device scalar",
        waits="torch.full((n,), t)    # t on the device",
        instead="t.repeat(n), or t.expand(n) where nobody writes to it",
        why_equal="the same bits are copied on the device instead of through the host",
    ),
    "range": Hint(
        label="range between device scalars",
        waits="torch.linspace(start, end, n)    # start, end on the device",
        instead="torch.linspace(host_start, host_end, n, device=d), with both numbers kept on the host as well",
        why_equal="the same numbers reach the same kernel",
    ),
    "slice": Hint(
        label="slice up to a device scalar",
        waits="x[:n], x.narrow(0, 0, n)    # n on the device",
        instead="x[:host_n], with the length kept on the host; or all of x, with the rest masked by torch.where",
        why_equal="both copies of the length come from the same int",
    ),
    "element": Hint(
        label="element of a schedule",
        waits="times[i].item(), int(times[i]), if times[i] > limit    # in a loop",
        instead="host_times = times.tolist() once, before the loop, then host_times[i]; "
        "no wait at all where times was made from numbers that the host still has",
        why_equal="tolist gives the same numbers in one copy",
        must_hold="nobody writes to times inside the loop",
    ),
    "stop": Hint(
        label="stop check",
        waits="if done.all(): break    # in every step",
        instead="if step % 8 == 7 and done.all(): break; or without a wait by the flag of an earlier step: "
        "if event.query() and flag: break, then flag.copy_(done.all(), non_blocking=True); event.record()",
        why_equal="rows that are done stay as they are, so that later steps change nothing",
        must_hold="steps after the stop leave the result alone or are cut off; flag is pinned, made once, and read "
        "only where event.query() is true, before the next copy into it",
    ),
    "check": Hint(
        label="check that may raise",
        waits="assert x.isfinite().all(), if bad.any(): raise    # in every step",
        instead="bad |= ~x.isfinite().all() in the steps, if bad: raise once after them",
        why_equal="the same values are looked at; the error comes later",
    ),
    "number_of_true": Hint(
        label="number of True elements",
        waits="n = int(mask.sum()), n = mask.sum().item()",
        instead="n = mask.sum(), a tensor, where only the device uses it (total / n); else sum(host_lengths)",
        why_equal="the same number is divided by, without leaving the device",
    ),
    "log": Hint(
        label="number for a log",
        waits='losses.append(loss.item()), total += float(loss), print(f"{loss:.3f}")    # in every step',
        instead="losses.append(loss.detach()) in the loop, torch.stack(losses).tolist() once where they are shown",
        why_equal="the same numbers are read, in one copy",
        must_hold="nobody writes to what is kept (clone it where the tensor is reused, as in a CUDA graph)",
    ),
    "scalar_index": Hint(
        label="index by a device scalar",
        waits="x[s], x[s] = 7    # s one element on the device",
        instead="x.index_select(0, s.view(1))[0], x.index_fill_(0, s.view(1), 7)",
        why_equal="an index vector of one element picks the same row, on the device",
    ),
    "gather_to_count": Hint(
        label="gather of which only the length is used",
        waits="len(x[mask]), x[mask].shape[0]",
        instead="mask.sum(), a tensor; or the number from host lengths",
        why_equal="a mask picks as many rows as it has True elements",
    ),
    "masked_update": Hint(
        label="update of masked rows",
        waits="x[mask] += y",
        instead="x = torch.where(mask[:, None], x + y, x)    # y as one row, or as all rows",
        why_equal="masked rows get the same sums, the others stay bit for bit",
    ),
    "repeat": Hint(
        label="repeat by device lengths",
        waits="x.repeat_interleave(lengths)",
        instead="x.repeat_interleave(lengths, output_size=n), with n = sum(host_lengths)",
        why_equal="the size is what would be read: the sum of the lengths",
        must_hold="n is exactly that sum",
    ),
    "one_hot": Hint(
        label="one-hot of unknown width",
        waits="F.one_hot(t)",
        instead="F.one_hot(t, num_classes=n)",
        why_equal="the same columns, where n is the largest value plus 1",
        must_hold="every value is below n",
    ),
    "bins": Hint(
        label="count of each value",
        waits="torch.bincount(t)",
        instead="torch.zeros(n, dtype=torch.long, device=d).index_add_(0, t, torch.ones_like(t))",
        why_equal="the same integers are counted, into n bins",
        must_hold="t holds integers below n, and n is the largest plus 1",
    ),
    "nonzero_to_count": Hint(
        label="indices of which only the number is used",
        waits="len(mask.nonzero())",
        instead="mask.sum(), a tensor; or the number from host lengths",
        why_equal="there is one index for each True element",
    ),
    "unique_to_count": Hint(
        label="distinct values of which only the number is used",
        waits="len(t.unique())",
        instead="s = t.sort().values; (s[1:] != s[:-1]).sum() + 1, a tensor",
        why_equal="in sorted order a new value begins wherever neighbours differ",
        must_hold="t is not empty",
    ),
    "list": Hint(
        label="tensor to list",
        waits="lengths.tolist()",
        instead="the list that the tensor was made from; or torch.cat([a, b]).tolist(), one wait for several",
        why_equal="the same numbers, in one copy",
    ),
    "copies_in_loop": Hint(
        label="copy to the host in a loop",
        waits="outs.append(y.cpu())    # in every step",
        instead="outs.append(y) in the loop, torch.stack(outs).cpu() once after it",
        why_equal="the same bytes are copied, all together",
        must_hold="the device has room for all of them, and nobody writes to y afterwards",
    ),
    "host_index": Hint(
        label="index from the host",
        waits="x[[1, 2]], x[host_index]",
        instead="x[rows] with rows = torch.tensor([1, 2], device=d) made once; x[1:3] where they are neighbours",
        why_equal="the same rows in the same order, from an index that is on the device already",
    ),
    "construction": Hint(
        label="tensor from host values",
        waits="torch.tensor([0, 1, 2], device=d), torch.tensor(5.0, device=d)",
        instead="torch.arange(3, device=d), torch.full((), 5.0, device=d); other values once, before the loop",
        why_equal="a kernel writes the same values that would be copied",
    ),
    "batch": Hint(
        label="upload in a loop",
        waits="for batch in loader: batch.to(d)",
        instead="DataLoader(..., pin_memory=True), batch.to(d, non_blocking=True)",
        why_equal="the same bytes are copied, queued like a kernel instead of waited for",
        must_hold="the batch is in pinned memory that is reused (the loader sees to it), and nobody writes to it or "
        "reads it on another stream before the copy is done, which an event says",
    ),
    "timing": Hint(
        label="synchronization in a loop",
        waits="torch.cuda.synchronize(); t = time.perf_counter()    # in every step",
        instead="start.record() and end.record() of events with enable_timing=True in the loop; after it one "
        "torch.cuda.synchronize(), then start.elapsed_time(end)",
        why_equal="the device notes the times itself; results do not depend on them",
    ),
}
"""By the names of ``hints.PATTERNS``."""
