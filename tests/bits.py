"""Whether a change keeps every bit: records the results of some thousand calls, and compares them later.

``python tests/bits.py record FILE`` before the change, ``python tests/bits.py compare FILE`` after it, with
the same compiler and libraries. Calls differ in function, options, dtype, shape, reduction, buffers,
instruction set and number of threads. The hash of all that a call returns is kept.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import fastloss
from fastloss import _kernels

DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
ROWS = [(7, 2), (40, 10), (33, 64), (5, 65), (3, 5000), (2, 70_000), (2, 3, 17), (400, 130)]
ELEMENTS = [(1,), (1000,), (40, 50, 3), (140_000,)]

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def numbers(shape: tuple[int, ...], seed: int, dtype: Any, scale: float = 2.0) -> Any:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def row_calls(shape: tuple[int, ...], dtype: Any) -> Iterator[Call]:
    rows, classes = shape[:-1], shape[-1]
    x = numbers(shape, 1, dtype)
    teacher = numbers(shape, 2, dtype)
    rng = np.random.default_rng(3)
    y = rng.integers(classes, size=rows)
    y.flat[0] = -100
    weight, sample = rng.random(classes) + 0.1, rng.random(rows)
    q = fastloss.softmax(numbers(shape, 4, np.float64)).astype(dtype)
    options: list[dict[str, Any]] = [
        {}, {"weight": weight}, {"sample_weight": sample}, {"label_smoothing": 0.1}, {"z_loss": 0.01},
        {"softcap": 3.0}, {"temperature": 1.7}, {"return_hessian": True},
        {"weight": weight, "sample_weight": sample, "label_smoothing": 0.2, "z_loss": 1e-3, "softcap": 4.0,
         "temperature": 0.6, "return_hessian": True},
    ]  # fmt: skip
    for one in options:
        yield "cross_entropy", (x, y), {"return_grad": True, **one}
        yield "cross_entropy", (x, q), {"return_grad": True, **one}
    for reduction in ("sum", "none"):
        yield "cross_entropy", (x, y), {"reduction": reduction}
        yield "cross_entropy", (x, y), {"reduction": reduction, "return_grad": True, "grad_output": 0.7}
    yield "cross_entropy", (x, y), {"reduction": "none", "return_grad": True, "grad_output": sample}
    yield "cross_entropy", (x, y), {"return_grad": True, "out": "own"}
    yield "cross_entropy", (x, y), {"return_grad": True, "out": "other", "accumulate": True}
    yield "cross_entropy", (np.moveaxis(x, -1, 0), y), {"return_grad": True, "axis": 0}
    yield "cross_entropy", (x[..., ::-1], y), {"return_grad": True}
    yield "nll_loss", (x, y), {"return_grad": True, "weight": weight}
    for p in (1, 2):
        yield "multi_margin_loss", (x, abs(y) % classes), {"return_grad": True, "p": p, "weight": weight}
    yield "token_log_probs", (x, y), {"return_grad": True, "temperature": 1.3}
    if len(rows) > 1:
        yield "sequence_log_probs", (x, abs(y) % classes), {"return_grad": True, "average": True}
    for name in ("entropy", "softmax", "log_softmax", "logsumexp"):
        yield name, (x,), {"return_grad": True} if name == "entropy" else {}
    yield "perplexity", (x, y), {}
    for name in ("kl_div_with_logits", "js_div_with_logits", "tv_distance_with_logits"):
        for more in ({}, {"temperature": 2.0}, {"teacher_grad": True, "mask": y >= 0, "reduction": "none"}):
            yield name, (x, teacher), {"return_grad": True, **more}
    if len(rows) == 1 and classes < 5001:
        hidden, layer = numbers((rows[0], 6), 5, dtype), numbers((classes, 6), 6, dtype)
        for more in ({}, {"memory_budget": 4000}, {"softcap": 5.0, "label_smoothing": 0.1, "weight": weight}):
            yield "linear_cross_entropy", (hidden, layer, y), {"return_grad": True, **more}
        yield "linear_token_log_probs", (hidden, layer, y), {"return_grad": True}


def element_calls(shape: tuple[int, ...], dtype: Any) -> Iterator[Call]:
    x, t = numbers(shape, 1, dtype), numbers(shape, 2, dtype)
    one = (np.random.default_rng(3).random(shape) * 0.98 + 0.01).astype(dtype)
    sign = np.where(np.asarray(t, np.float64) > 0, 1, -1).astype(dtype)
    weight = np.random.default_rng(4).random(shape)
    hessian = {"return_hessian": True}
    logit = "binary_cross_entropy_with_logits"
    cases: list[Call] = [
        ("mse_loss", (x, t), hessian), ("l1_loss", (x, t), hessian), ("huber_loss", (x, t), {"delta": 0.7}),
        ("smooth_l1_loss", (x, t), {"beta": 0.3, **hessian}), ("log_cosh_loss", (x, t), hessian),
        ("quantile_loss", (x, t), {"quantile": 0.3}), ("epsilon_insensitive_loss", (x, t), {}),
        ("mean_squared_log_loss", (one, one[::-1]), {}), ("poisson_nll_loss", (x, one), {"full": True}),
        ("poisson_nll_loss", (one, one), {"log_input": False, **hessian}),
        ("gamma_nll_loss", (x, one), hessian),
        ("tweedie_nll_loss", (x, one), hessian), ("tweedie_nll_loss", (x, one), {"power": 3.0}),
        ("gaussian_nll_loss", (x, t, one), {"full": True}), ("binary_cross_entropy", (one, one[::-1]), {}),
        (logit, (x, one), {"pos_weight": 0.3, "label_smoothing": 0.1, **hessian}),
        ("sigmoid_focal_loss", (x, one), {}), ("hinge_loss", (x, sign), {}),
        ("squared_hinge_loss", (x, sign), {}), ("soft_margin_loss", (x, sign), hessian),
        ("kl_div", (x, one), {}), ("kl_div", (x, t), {"log_target": True}),
        ("multilabel_soft_margin_loss", (x, one), {}),
        ("reward_model_loss", (x, t), {"margin": 0.3, "center_coefficient": 0.1}),
        ("kto_loss", (x, t, sign > 0), {"kl": 0.1}), ("orpo_loss", (-one, -one[::-1]), {}),
        ("simpo_loss", (x, t), {"label_smoothing": 0.1}), ("cpo_loss", (x, t), {"loss_type": "hinge"}),
        ("ppo_loss", (x, t, t), {}), ("value_loss", (x, t, one), {}),
    ]  # fmt: skip
    cases += [("kl_penalty", (x, t), {"estimator": k}) for k in ("k1", "k2", "k3")]
    for kind in (
        "sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero",
        "apo_down", "discopop",
    ):  # fmt: skip
        cases.append(("dpo_loss", (x, t, one, t[::-1]), {"loss_type": kind}))
    if len(shape) == 1 and shape[0] == 1000:
        square = [a.reshape(20, 50) for a in (x, t, one)]
        for kind in ("grpo", "bnpo", "dapo", "luspo", "cispo", "sapo"):
            advantages = numbers((20,), 5, dtype)
            cases.append(("grpo_loss", (square[0], square[1], advantages), {"loss_type": kind}))
    for name, arguments, options in cases:
        yield name, arguments, {**options, "return_grad": True}
        yield name, arguments, {k: v for k, v in options.items() if k != "return_hessian"}
        yield name, arguments, {**options, "return_grad": True, "reduction": "none"}
        parameters = inspect.signature(getattr(fastloss, name)).parameters
        if "weight" in parameters and name != "multilabel_soft_margin_loss":
            yield name, arguments, {**options, "return_grad": True, "weight": weight}
    yield "mse_loss", (x, t), {"return_grad": True, "out": "own"}
    yield "mse_loss", (x, t), {"return_grad": True, "out": "other", "accumulate": True}
    yield "mse_loss", (x[::-1], t), {"return_grad": True}
    yield "mse_loss", (x, 0.5), {"return_grad": True}
    for name, strengths in (
        ("l1_penalty", (0.1,)),
        ("l2_penalty", (0.1,)),
        ("elastic_net_penalty", (0.1, 0.2)),
    ):
        yield name, (x, *strengths), {"return_grad": True}


def calls() -> Iterator[tuple[str, Call]]:
    for dtype in DTYPES:
        for shapes, make in ((ROWS, row_calls), (ELEMENTS, element_calls)):
            for shape in shapes:
                for index, call in enumerate(make(shape, dtype)):
                    yield f"{dtype} {shape} {index} {call[0]}", call


def fed(digest: Any, value: Any) -> None:
    if isinstance(value, tuple):
        for one in value:
            fed(digest, one)
    elif value is not None:
        array = np.asarray(value)
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())


def result_of(call: Call, threads: int) -> str:
    name, arguments, options = call
    options = dict(options)
    if "out" in options:
        copy = arguments[0].copy()
        options["out"] = copy
        arguments = (copy if call[2]["out"] == "own" else arguments[0], *arguments[1:])
    digest = hashlib.sha256()
    if name != "perplexity":
        options["num_threads"] = threads
    with np.errstate(all="ignore"):
        fed(digest, getattr(fastloss, name)(*arguments, **options))
    return digest.hexdigest()[:16]


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("record", "compare"):
        print(__doc__)
        return 2
    found = {}
    levels = [level for level in _kernels.BUILT_LEVELS if level <= _kernels.MACHINE_LEVEL]
    for name, call in calls():
        for level in levels:
            _kernels.use_level(level)
            found[f"{_kernels.LEVELS[level]} {name}"] = [result_of(call, threads) for threads in (1, 3)]
    uneven = [key for key, (one, many) in found.items() if one != many and "linear" not in key]
    print(f"{len(found)} calls on {len(levels)} instruction sets, with one thread and three")
    for key in uneven:
        print("not the same for any number of threads:", key)
    if sys.argv[1] == "record":
        Path(sys.argv[2]).write_text(json.dumps(found, indent=0))
        return bool(uneven)
    before = json.loads(Path(sys.argv[2]).read_text())
    changed = [key for key in found if before.get(key) != found[key]]
    for key in changed:
        print("changed:" if key in before else "new:", key)
    print(f"{len(changed)} changed, {len(before.keys() - found.keys())} gone")
    return bool(changed or uneven)


if __name__ == "__main__":
    sys.exit(main())
