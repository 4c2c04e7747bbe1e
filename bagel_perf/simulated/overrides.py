"""Functions whose CPU operators do not show what CUDA's do, and functions that torch wrote in Python.

The waits of the first are told from their arguments, measured as the rules were (``rules.table``); what was not
measured is named as unjudged.

A function written in Python first offers itself to tensor types and modes, and would so for ever: it is ours that it
meets again. So a twin of it is made whose check for them says no. What the twin calls is offered as usual, one function
at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bagel_perf.records.sites import Kind
from bagel_perf.rules.calls import has_place_for
from bagel_perf.rules.copies import host_scalar_sizes, scalar_sizes
from bagel_perf.rules.torch_versions import release
from bagel_perf.simulated.calls import Args, Func, Handler, Kwargs, holds_simulated, name_of, plain, watched
from bagel_perf.simulated.creation import create
from bagel_perf.simulated.tensor import SimulatedTensor, hidden, is_simulated, wrap

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice

_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def _says_no(*tensors: Any) -> bool:
    return False


class Composites:
    """Makes twins; all of one module share one copy of its globals."""

    def __init__(self) -> None:
        self._globals: dict[int, dict[str, Any]] = {}

    def of(self, func: Callable[..., Any]) -> Callable[..., Any] | None:
        """The twin of ``func``; None where it is no Python function that checks by a name of its module.

        One that calls ``super()`` has none either: what it calls is offered under its own name again.
        """
        if not isinstance(func, FunctionType) or "__class__" in func.__code__.co_freevars:
            return None
        if not any(name in func.__code__.co_names and name in func.__globals__ for name in _CHECKS):
            return None
        found = self._globals.get(id(func.__globals__))
        if found is None:
            found = self._globals[id(func.__globals__)] = {**func.__globals__, **dict.fromkeys(_CHECKS, _says_no)}
        twin = FunctionType(func.__code__, found, func.__name__, func.__defaults__, func.__closure__)
        twin.__kwdefaults__ = func.__kwdefaults__
        return twin


def _one_hot(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Reads the largest element unless the number of classes is given; never the smallest, as the CPU does."""
    if SimulatedTensor not in types:
        return func(*args, **kwargs)
    num_classes = args[1] if len(args) > 1 else kwargs.get("num_classes", -1)
    if num_classes == -1:
        device.waits("nonzero")
    return plain(device, func, args, kwargs)


def _where(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Uploads each 0-d host tensor among the condition and the values; with a condition alone it is ``nonzero``."""
    tensors = (*args, *kwargs.values())
    if SimulatedTensor not in types or len(tensors) == 1:
        return watched(device, func, types, args, kwargs)
    if not any(map(_is_host_scalar, tensors)):
        return plain(device, func, args, kwargs)
    with hidden():
        sizes = host_scalar_sizes(tensors, is_simulated)
    device.reads("pageable_upload", sizes)
    with hidden():
        return wrap(func(*args, **kwargs))


def _is_host_scalar(value: Any) -> bool:
    if not isinstance(value, Tensor) or type(value) is SimulatedTensor:
        return False
    with hidden():
        return value.dim() == 0


_CTC_KINDS: tuple[Kind, ...] = ("d2h_copy", *("pageable_upload",) * 4)


def _ctc_loss(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Of log_probs, targets, input_lengths, target_lengths, blank, reduction: measured for the mean alone.

    Lengths that are host tensors are uploaded once more than numbers are; those on the device are read.
    """
    if SimulatedTensor not in types:
        return func(*args, **kwargs)
    kinds = [type(value) for value in args[1:4]]
    has_mean = (args[5] if len(args) > 5 else kwargs.get("reduction", "mean")) in (1, "mean")
    if len(kinds) < 3 or kinds[0] is not SimulatedTensor or kinds[1] is not kinds[2] or not has_mean:
        device.cannot_judge("aten.ctc_loss")
    else:
        device.waits("d2h_copy", 3 if kinds[1] is SimulatedTensor else 0)
        device.waits("pageable_upload", kinds[1] is Tensor)
        for kind in _CTC_KINDS:
            device.waits(kind)
    with hidden():
        return wrap(func(*args, **kwargs))


def _with_host_tensors(num_on_device: int) -> Handler:
    """A function that takes host tensors beside device tensors; its results after ``num_on_device`` are on the host."""

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        if SimulatedTensor not in types:
            return func(*args, **kwargs)
        if type(args[1]) is SimulatedTensor:
            raise RuntimeError("'lengths' argument should be a 1D CPU int64 tensor, but got 1D cuda:0 Long tensor")
        with hidden(), device.watch():
            results = func(*args, **kwargs)
        return (*map(wrap, results[:num_on_device]), *results[num_on_device:])

    return run


def _recurrent(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """cuDNN runs these on CUDA, and does not wait; lengths of packed sequences are on the host."""
    with hidden():
        result = func(*args, **kwargs)
        return wrap(result) if SimulatedTensor in types else result


def _of_first(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """A function that asks other tensors for their shape alone, wherever they are."""
    with hidden():
        result = func(*args, **kwargs)
        return wrap(result) if type(args[0]) is SimulatedTensor else result


def _fill(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """A host tensor is filled with what is read from the device."""
    if type(args[0]) is SimulatedTensor:
        return plain(device, func, args, kwargs)
    with hidden():
        sizes = scalar_sizes((args, tuple(kwargs.values())), is_simulated)
    device.reads("scalar_read", sizes)
    with hidden():
        return func(*args, **kwargs)


Tell = Callable[["SimulatedDevice"], None]


def _backward_waits(tell_of: Callable[[Args, Kwargs], Tell]) -> Handler:
    """A function that waits in its backward pass, where the CPU's would too, did nobody watch it."""

    def run(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
        result = watched(device, func, types, args, kwargs)
        if type(result) is SimulatedTensor and result.grad_fn is not None:
            tell = tell_of(args, kwargs)
            result.grad_fn.register_prehook(lambda gradients: tell(device))
        return result

    return run


def _tell_of_prod(args: Args, kwargs: Kwargs) -> Tell:
    """Looks for zeros: for their places over all elements, for their number along a dimension."""
    has_dim = (len(args) > 1 and isinstance(args[1], int)) or "dim" in kwargs
    kind: Kind = "scalar_read" if has_dim else "nonzero"
    with hidden():
        is_scalar = args[0].dim() == 0
    return lambda device: device.waits(kind, not is_scalar)


def _tell_of_cumprod(args: Args, kwargs: Kwargs) -> Tell:
    """Asks whether there is a zero; how often it waits where there is one, nobody measured."""
    with hidden():
        has_zero, is_single = bool((args[0] == 0).any()), args[0].numel() <= 1
    if has_zero and not is_single:
        return lambda device: device.cannot_judge("backward of cumprod with a zero")
    return lambda device: device.waits("scalar_read", not is_single)


def _tell_of_masked_fill(args: Args, kwargs: Kwargs) -> Tell:
    """Selects what was filled in, for the gradient of the value."""
    value = args[2] if len(args) > 2 else kwargs["value"]
    needs_gradient = isinstance(value, Tensor) and value.requires_grad
    return lambda device: device.waits("mask_gather", needs_gradient)


def _sparse(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Without a size the largest indices are copied to the host, of a list of places in two steps."""
    num_parts = 2 if name_of(func) == "sparse_coo_tensor" else 3
    has_size = len(args) > num_parts or "size" in kwargs
    if not has_size and holds_simulated((*args, *kwargs.values())):
        if num_parts == 2:
            device.waits("d2h_copy", 2)
        else:
            device.cannot_judge(f"{name_of(func)} without a size")
    return create(device, func, types, args, kwargs)


def _new(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """``Tensor.new``: of data a copy of it, which is uploaded; of sizes nothing is."""
    data = args[1] if len(args) > 1 else None
    if type(args[0]) is not SimulatedTensor or not isinstance(data, list | tuple) or isinstance(data, torch.Size):
        return watched(device, func, types, args, kwargs)
    return args[0].new_tensor(data, dtype=args[0].dtype)


def _sdpa(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Any of CUDA's backends may be asked for; the CPU has two, of which the plain one takes everything."""
    if SimulatedTensor not in types:
        return func(*args, **kwargs)
    is_plain = has_place_for("scaled_dot_product_attention", args, kwargs, is_simulated)
    has_plain_backend = torch.backends.cuda.math_sdp_enabled()
    torch.backends.cuda.enable_math_sdp(True)
    try:
        return plain(device, func, args, kwargs) if is_plain else watched(device, func, types, args, kwargs)
    finally:
        torch.backends.cuda.enable_math_sdp(has_plain_backend)


def _quantile(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """CUDA looks at no quantile; the CPU of torch 2.11 reads whether they are within [0, 1]."""
    return plain(device, func, args, kwargs) if SimulatedTensor in types else func(*args, **kwargs)


_COMBINATIONS = "torch.combinations was counted as measured with torch 2.11; newer operators of torch's may not wait"


def _combinations(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Selects by a mask once a column, as measured with torch 2.11; from 2.14 on torch runs other operators."""
    if SimulatedTensor not in types:
        return func(*args, **kwargs)
    device.waits("mask_gather", int(args[1] if len(args) > 1 else kwargs.get("r", 2)))
    if release() >= (2, 14):
        device.remarks(_COMBINATIONS)
    return plain(device, func, args, kwargs)


def _tensor_split(device: SimulatedDevice, func: Func, types: Any, args: Args, kwargs: Kwargs) -> Any:
    """Takes the places to split at from a tensor on the host, which is read there."""
    if SimulatedTensor not in types:
        return func(*args, **kwargs)
    if holds_simulated(args[1:]) or holds_simulated(kwargs.values()):
        raise RuntimeError("tensor_split expected tensor_indices_or_sections to be on cpu, but it's on cuda:0")
    with hidden():
        return wrap(func(*args, **kwargs))


_COMPRESSED = ("csr", "csc", "bsr", "bsc", "compressed")

HANDLERS: dict[str, Handler] = {
    "one_hot": _one_hot,
    "where": _where,
    "ctc_loss": _ctc_loss,
    "combinations": _combinations,
    **dict.fromkeys(("quantile", "nanquantile"), _quantile),
    "_pack_padded_sequence": _with_host_tensors(1),
    "_pad_packed_sequence": _with_host_tensors(1),
    "tensor_split": _tensor_split,
    **dict.fromkeys(("view_as", "expand_as", "reshape_as", "resize_as_", "result_type"), _of_first),
    "fill_": _fill,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    "prod": _backward_waits(_tell_of_prod),
    "cumprod": _backward_waits(_tell_of_cumprod),
    "linalg_vander": _backward_waits(_tell_of_cumprod),
    **dict.fromkeys(("masked_fill", "masked_fill_"), _backward_waits(_tell_of_masked_fill)),
    "new": _new,
    **dict.fromkeys(("sparse_coo_tensor", *(f"sparse_{name}_tensor" for name in _COMPRESSED)), _sparse),
    "scaled_dot_product_attention": _sdpa,
}
