from collections.abc import Callable
from mmap import mmap
from typing import Any, Required, TypedDict, Unpack

import numpy as np
import numpy.typing as npt

COMPILER: str
OPENMP: int
OPENMP_IS_DYNAMIC: bool
LEVELS: tuple[str, ...]
MACHINE_LEVEL: int
MACHINE_HAS_BFLOAT16: bool
BUILT_LEVELS: tuple[int, ...]
CACHES: tuple[int, ...]
CROSS_ENTROPY: int
NEGATIVE_BINOMIAL: int
STUDENT_T: int
NORMAL: int
SOFTMAX: int
LOG_SOFTMAX: int
LOGSUMEXP: int
ENTROPY: int
UNFOCUSED: int
FOCAL: int
POLY: int
GENERALIZED: int
ELEMENTWISE: dict[str, tuple[int, int]]
EXPECTED: tuple[str, ...]
ANY: int
UNIT: int
SIGN: int
NONNEGATIVE: int
STRICTLY_POSITIVE: int
ABOVE_MINUS_ONE: int
KEPT: int
BFLOAT16_BITS: np.dtype[Any]

class Lent:
    def __new__(cls, mapping: mmap, size: int, give_back: Callable[[mmap], None]) -> Lent: ...

def use_level(level: int) -> int: ...
def use_bfloat16_instruction(use: bool) -> bool: ...
def stream_from(bytes: int | None = ...) -> int: ...
def streamed(largest_cache: int) -> int: ...
def openmp_library() -> str | None: ...
def register_bfloat16(dtype: np.dtype[Any]) -> None: ...
def is_floating(array: object) -> bool: ...
def is_index(array: object) -> bool: ...

class _RowOptions(TypedDict, total=False):
    threads: Required[int]
    output: npt.NDArray[Any] | None
    indices: npt.NDArray[Any] | None
    ignored: int | None
    weight: npt.NDArray[Any] | None
    sample_weight: npt.NDArray[Any] | None
    grad_output: npt.NDArray[Any] | None
    grad_scale: float
    mean: bool
    accumulate: bool
    row_loss: npt.NDArray[Any] | None

class _MarginOptions(_RowOptions):
    margin: float
    power: float

def softmax(
    operation: int, input: npt.NDArray[Any], axis: int, **options: Any
) -> tuple[int, float, float]: ...
def nll(input: npt.NDArray[Any], axis: int, **options: Unpack[_RowOptions]) -> tuple[int, float, float]: ...
def sparsemax(
    input: npt.NDArray[Any], axis: int, **options: Unpack[_RowOptions]
) -> tuple[int, float, float]: ...
def multi_margin(
    input: npt.NDArray[Any], axis: int, **options: Unpack[_MarginOptions]
) -> tuple[int, float, float]: ...

STATISTICS: int
ROW_ENTROPY: int
SHORT_ROW: int

def statistics(input: npt.NDArray[Any], axis: int, found: npt.NDArray[np.float64], **options: Any) -> int: ...

KL: int
JS: int
TV: int

def divergence(
    operation: int,
    x: npt.NDArray[Any],
    t: npt.NDArray[Any],
    axis: int,
    *,
    threads: int,
    x_gradient: npt.NDArray[Any] | None = ...,
    t_gradient: npt.NDArray[Any] | None = ...,
    counted: npt.NDArray[Any] | None = ...,
    grad_output: npt.NDArray[Any] | None = ...,
    grad_scale: float = ...,
    beta: float = ...,
    x_temperature: float = ...,
    t_temperature: float = ...,
    x_softcap: float = ...,
    t_softcap: float = ...,
    accumulate: int = ...,
    row_loss: npt.NDArray[Any] | None = ...,
) -> float: ...
def contrast_columns(
    z: npt.NDArray[Any], rate: float, top: npt.NDArray[Any], sum: npt.NDArray[Any], threads: int
) -> None: ...
def contrast_both(
    z: npt.NDArray[Any],
    rate: float,
    factor: npt.NDArray[Any],
    row_lse: npt.NDArray[Any],
    columns: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
    threads: int,
) -> None: ...
def contrast_pairs(
    z: npt.NDArray[Any],
    scale: float,
    bias: float,
    factor: npt.NDArray[Any] | None,
    row_sums: npt.NDArray[Any],
    threads: int,
) -> None: ...
def list_net(
    scores: npt.NDArray[Any],
    relevance: npt.NDArray[Any],
    bounds: npt.NDArray[Any],
    longest: int,
    *,
    gradient: npt.NDArray[Any] | None,
    upstream: npt.NDArray[Any] | None,
    scale: float,
    losses: npt.NDArray[Any] | None,
    accumulate: bool,
    threads: int,
) -> float: ...
def lambda_rank(
    scores: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    bounds: npt.NDArray[Any],
    longest: int,
    *,
    label_gain: npt.NDArray[Any],
    discounts: npt.NDArray[Any],
    sigmoid: float,
    truncation_level: int,
    normalize: bool,
    gradient: npt.NDArray[Any] | None,
    hessian: npt.NDArray[Any] | None,
    upstream: npt.NDArray[Any] | None,
    scale: float,
    losses: npt.NDArray[Any] | None,
    accumulate: bool,
    threads: int,
    has_value: bool = ...,
) -> float: ...
def order_by_time(
    time: npt.NDArray[Any],
    items: npt.NDArray[Any],
    sorted: npt.NDArray[Any],
    order: npt.NDArray[Any],
    threads: int,
) -> int: ...
def cox(
    log_hazard: npt.NDArray[Any],
    sorted_by_time: tuple[npt.NDArray[Any] | None, ...],
    event: npt.NDArray[Any],
    weight: npt.NDArray[Any] | None,
    upstream: npt.NDArray[Any] | None,
    scale: float,
    is_efron: bool,
    outputs: tuple[npt.NDArray[Any] | None, ...],
    room: tuple[npt.NDArray[Any] | None, ...],
    accumulate: bool,
    threads: int,
) -> float: ...
def pairs(
    vectors: tuple[npt.NDArray[Any], ...],
    gradients: tuple[npt.NDArray[Any] | None, ...],
    *,
    threads: int,
    margin: float,
    eps: float,
    target: npt.NDArray[np.float64] | None = ...,
    p: float = ...,
    swap: bool = ...,
    grad_output: npt.NDArray[Any] | None = ...,
    grad_scale: float = ...,
    accumulate: int = ...,
    row_loss: npt.NDArray[Any] | None = ...,
) -> float: ...
def multilabel_margin(
    input: npt.NDArray[Any],
    target: npt.NDArray[np.int64],
    *,
    threads: int,
    output: npt.NDArray[Any] | None = ...,
    grad_output: npt.NDArray[Any] | None = ...,
    grad_scale: float = ...,
    accumulate: bool = ...,
    row_loss: npt.NDArray[Any] | None = ...,
) -> tuple[int, float]: ...
def ctc(
    input: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    starts: npt.NDArray[Any],
    labels_of: npt.NDArray[Any],
    steps_of: npt.NDArray[Any],
    losses: npt.NDArray[Any],
    *,
    blank: int,
    has_logits: bool,
    zero_infinity: bool,
    threads: int,
    output: npt.NDArray[Any] | None = None,
    factor: npt.NDArray[Any] | None = None,
    accumulate: bool = False,
) -> None: ...
def plain_cross_entropy(
    logits: object,
    target: object,
    axis: object,
    ignore_index: object,
    reduction: object,
    return_grad: object,
    out: object,
    num_threads: Callable[[], int],
    grad_output: float = 1.0,
) -> Any: ...
def elementwise(
    loss: int,
    wide: bool,
    arrays: tuple[npt.NDArray[Any] | None, ...],
    domains: tuple[int, ...],
    target_value: float,
    third_value: float,
    a: float,
    b: float,
    grad_scale: float,
    is_fresh: bool,
    mean: bool,
    mean_over_weights: bool,
    accumulate: int,
    threads: int,
) -> tuple[int, tuple[int, ...], float, float]: ...
def distribution(
    kind: int,
    arrays: tuple[npt.NDArray[Any] | None, ...],
    target_value: float,
    third_value: float,
    fourth_value: float,
    is_full: bool,
    grad_scale: float,
    mean: bool,
    counts: bool,
    sums: bool,
    accumulate: int,
    threads: int,
) -> tuple[float, float, tuple[float, float]]: ...
def objective(
    kind: int,
    scores: npt.NDArray[Any],
    label: npt.NDArray[Any],
    weight: npt.NDArray[Any] | None,
    gradient: npt.NDArray[Any],
    hessian: npt.NDArray[Any],
    threads: int,
) -> None: ...
def first_outside(
    arrays: tuple[npt.NDArray[Any] | None, ...], domains: tuple[int, int, int], threads: int
) -> tuple[int, tuple[int, ...]]: ...
def is_outside(domain: int, value: float) -> bool: ...
def plain_elementwise(
    loss: int,
    wide: bool,
    input_domain: int,
    target_domain: int,
    a: float,
    b: float,
    values: object,
    target: object,
    reduction: object,
    return_grad: object,
    out: object,
    num_threads: Callable[[], int],
) -> Any: ...
def total(values: npt.NDArray[Any], threads: int) -> float: ...
def plain_pairs(
    loss: int,
    a: float,
    b: float,
    target: float,
    scale: float,
    offset: float,
    arrays: tuple[object, ...],
    reduction: object,
    return_grad: object,
) -> Any: ...
def vecmath(name: str, x: npt.NDArray[Any], out: npt.NDArray[Any]) -> None: ...
