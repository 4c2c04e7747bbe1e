"""Operators that CUDA has and the CPU lacks: run in a wider type, or made of other operators, and noted.

Most fail for one type only (``"histogram_cpu" not implemented for 'Long'``). These run on wider copies; what comes out
in the wider type is cast back, so types are CUDA's. Operators without any CPU kernel (products into a wider type,
attention by name) are made of others; what is neither is refused by name. An operator that failed has been judged
already, so it is not judged again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from bagel_perf.rules import torch_names
from bagel_perf.rules.torch_inner_names import decompositions
from bagel_perf.simulated import attention
from bagel_perf.simulated.patches import NotSimulated
from bagel_perf.simulated.tensor import SimulatedTensor, hidden, wrap

if TYPE_CHECKING:
    from bagel_perf.simulated.device import SimulatedDevice


def _product_into(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A matrix product whose factors are cast to the type of its result, as is the accumulator of CUDA's."""

    def run(left: Tensor, right: Tensor, out_dtype: torch.dtype, *, out: Tensor | None = None) -> Tensor:
        result = product(left.to(out_dtype), right.to(out_dtype))
        return result if out is None else out.copy_(result)

    return run


def _sum_into(product: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A matrix product into a wider type that is added to a tensor."""

    def run(
        bias: Tensor, left: Tensor, right: Tensor, out_dtype: torch.dtype, *, beta: Any = 1, alpha: Any = 1
    ) -> Tensor:
        scaled = product(left.to(out_dtype), right.to(out_dtype)) * alpha
        result: Tensor = scaled if beta == 0 else bias.to(out_dtype) * beta + scaled
        return result

    return run


def _nansum(values: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    """Complex numbers, which only CUDA's sums without nan take."""
    return torch.sum(values.masked_fill(values.isnan(), 0), dim=dim, keepdim=keepdim, dtype=dtype)


def _convolution(
    values: Tensor, weight: Tensor, padding: Any, stride: Any, dilation: Any, groups: int, *settings: bool
) -> Tensor:
    no_output_padding = [0] * len(padding)
    return torch.convolution(values, weight, None, stride, padding, dilation, False, no_output_padding, groups)


_MADE: dict[str, Callable[..., Any]] = {
    **attention.OPERATORS,
    "aten::mm.dtype": _product_into(torch.mm),
    "aten::mm.dtype_out": _product_into(torch.mm),
    "aten::bmm.dtype": _product_into(torch.bmm),
    "aten::bmm.dtype_out": _product_into(torch.bmm),
    "aten::addmm.dtype": _sum_into(torch.mm),
    "aten::baddbmm.dtype": _sum_into(torch.bmm),
    "aten::nansum": _nansum,
    "aten::_masked_scale": lambda values, mask, scale: values * mask * scale,
    "aten::cudnn_convolution": _convolution,
}


@lru_cache(maxsize=512)
def equivalent_of(operator: Any) -> Callable[..., Any] | None:
    """What runs in place of an operator that the CPU has no kernel for; None where nothing is known."""
    schema = operator._schema
    name = f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
    return _MADE.get(name) or decompositions().get(operator)


Operator = Any
Wider = dict[torch.dtype, torch.dtype]

_DispatchMode: Any = torch_names.DISPATCH_MODE.find()
_LACKS = re.compile(r"not implemented for '(?P<type>\w+)'|MKL FFT doesn't support tensors of type: (?P<fft>\w+)")
_REFUSES = re.compile(r"Unsupported dtype (?P<type>Half|ComplexHalf)\b")
"""What a function says that checks types before any of its operators has run."""
_NO_KERNEL = re.compile(r"Could not run '[\w:.]+' with arguments from the 'CPU' backend|\w+ on CPU does not support")
_FINAL = "_is_final"
_HALF = {torch.float16: torch.float32, torch.complex32: torch.complex64}
_HALVES = {"Half": _HALF, "ComplexHalf": _HALF, "BFloat16": {torch.bfloat16: torch.float32}}
_INTEGERS = {
    "Byte": {torch.uint8: torch.float64},
    "Char": {torch.int8: torch.float64},
    "Short": {torch.int16: torch.float64},
    "Int": {torch.int32: torch.float64},
    "Long": {torch.int64: torch.float64},
}
_BOOL = {"Bool": {torch.bool: torch.uint8}}
_MORE_TYPES = {"histc": _INTEGERS, "trace": _BOOL, "abs": _BOOL, "sgn": _BOOL}
"""Types beside the halves in which CUDA has an operator (torch's OpInfo database, ``dtypesIfCUDA``)."""
_CUDA_LACKS_TOO = ("linalg_", "_linalg_", "cholesky", "_cholesky", "lu_", "geqrf", "ormqr", "orgqr", "triangular_solve")


def run_operator(device: SimulatedDevice, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs one operator on CPU tensors, in the way that is left to it."""
    try:
        return operator(*args, **kwargs)
    except RuntimeError as error:
        return _instead(device, operator, args, kwargs, error)


def run_again(
    device: SimulatedDevice, handler: Callable[..., Any], func: Any, types: Any, given: Any, error: RuntimeError
) -> Any:
    """Runs a torch call anew that failed in its first operator, if that is lacking; its waits are counted already."""
    if getattr(error, _FINAL, False):
        raise error
    try:
        return _another_way(device, handler, func, types, given, error)
    except RuntimeError as last:
        setattr(last, _FINAL, True)  # the functions around this one must not run again for it
        raise


def _another_way(
    device: SimulatedDevice, handler: Callable[..., Any], func: Any, types: Any, given: Any, error: RuntimeError
) -> Any:
    args, kwargs = given
    if SimulatedTensor not in types and not _holds_simulated((*args, *kwargs.values())):
        raise error  # a call of the host
    message = str(error)
    refuses = _REFUSES.search(message)
    if refuses is not None:
        return _call_widened(device, handler, func, types, given, _HALVES[refuses["type"]])
    if not (_LACKS.search(message) or _NO_KERNEL.search(message)):
        raise error
    with _Lacking(device):
        return handler(cast("SimulatedDevice", _Silent(device)), func, types, args, kwargs)


def _holds_simulated(values: Any) -> bool:
    return any(
        type(value) is SimulatedTensor or (isinstance(value, list | tuple) and _holds_simulated(value))
        for value in values
    )


def _call_widened(
    device: SimulatedDevice, handler: Callable[..., Any], func: Any, types: Any, given: Any, wider: Wider
) -> Any:
    wide = _Widening(wider)
    with hidden():
        args, kwargs = wide.widened(given[0]), wide.widened(given[1])
    if wide.was_needed:
        device.remarks(wide.note(getattr(func, "__name__", str(func))))
    result = handler(device, func, types, args, kwargs)
    with hidden():
        return wide.narrowed(result)


class _Lacking(_DispatchMode):  # type: ignore[misc]
    """Runs each operator inside it in the way that is left to it."""

    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self, func: Operator, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return run_operator(self._device, func, args, kwargs or {})


class _Silent:
    """The device as a handler sees it that has told its waits before."""

    def __init__(self, device: SimulatedDevice) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        return None

    waits = on_copy = cannot_judge = warns = _nothing


class _Widening:
    """Casts values of some types to wider ones, and back."""

    def __init__(self, wider: Wider) -> None:
        self._wider = wider
        self._narrower = {wide: narrow for narrow, wide in wider.items()}
        self._found: torch.dtype | None = None

    @property
    def was_needed(self) -> bool:
        return self._found is not None

    def note(self, name: str) -> str:
        assert self._found is not None
        wide, narrow = (str(dtype).removeprefix("torch.") for dtype in (self._wider[self._found], self._found))
        return f"{name} ran in {wide}: the CPU has none in {narrow}"

    def widened(self, value: Any) -> Any:
        if isinstance(value, torch.dtype) and value in self._wider:
            self._found = value
            return self._wider[value]
        if isinstance(value, Tensor):
            return self._cast(value, self._wider)
        if isinstance(value, dict):
            return {name: self.widened(item) for name, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(map(self.widened, value))
        return value

    def narrowed(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._cast(value, self._narrower)
        if isinstance(value, list | tuple):
            items = [self.narrowed(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return value

    def _cast(self, tensor: Tensor, types: Wider) -> Tensor:
        dtype = tensor.dtype
        if dtype not in types:
            return tensor
        if types is self._wider:
            self._found = dtype
        changed = tensor.to(types[dtype])
        return wrap(changed) if type(tensor) is SimulatedTensor else changed


def _instead(
    device: SimulatedDevice, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any], error: RuntimeError
) -> Any:
    message = str(error)
    if _NO_KERNEL.search(message) is not None:
        return _by_others(device, operator, args, kwargs, error)
    wide = _widening_for(operator, message)
    if wide is None:
        raise error
    wide_args, wide_kwargs = wide.widened(args), wide.widened(kwargs)
    if not wide.was_needed:
        raise error
    device.remarks(wide.note(_name_of(operator)))
    result = run_operator(device, operator, wide_args, wide_kwargs)
    written = _write_back(operator, args, wide_args, kwargs, wide_kwargs)
    return wide.narrowed(result) if not written else _with_originals(wide, result, written)


def _widening_for(operator: Operator, message: str) -> _Widening | None:
    name = operator._schema.name.removeprefix("aten::")
    lacks = _LACKS.search(message)
    if lacks is None or name.startswith(_CUDA_LACKS_TOO):
        return None
    types = {**_HALVES, **_MORE_TYPES.get(name.rstrip("_"), {})}.get(lacks["type"] or lacks["fft"])
    return None if types is None else _Widening(types)


def _write_back(
    operator: Operator, args: tuple[Any, ...], wide_args: tuple[Any, ...], kwargs: Any, wide_kwargs: Any
) -> dict[int, Tensor]:
    """Copies what was written into wider copies to where it belongs; the originals by the ids of the copies."""
    originals: dict[int, Tensor] = {}
    for place, argument in enumerate(operator._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        original, copy = (
            given[place] if place < len(given) else named.get(argument.name)
            for given, named in ((args, kwargs), (wide_args, wide_kwargs))
        )
        for one, other in zip(_as_list(original), _as_list(copy), strict=True):
            if one is not other:
                one.copy_(other)
            originals[id(other)] = one
    return originals


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _with_originals(wide: _Widening, result: Any, originals: dict[int, Tensor]) -> Any:
    if isinstance(result, tuple | list):
        return type(result)(_with_originals(wide, item, originals) for item in result)
    return originals[id(result)] if id(result) in originals else wide.narrowed(result)


def _by_others(
    device: SimulatedDevice, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any], error: RuntimeError
) -> Any:
    made = equivalent_of(operator)
    if made is None:
        raise NotSimulated(_name_of(operator), "the CPU has no such operator") from error
    device.remarks(f"{_name_of(operator)} was made of other operators: the CPU has none")
    with _Lacking(device):
        return made(*args, **kwargs)


def _name_of(operator: Operator) -> str:
    return str(operator).removesuffix(".default")
