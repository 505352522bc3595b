"""The rows of the benchmarks: one `Case` for each, with the ratios that it has to reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BEST_PEER",
    "CASES",
    "JAX",
    "LIMIT",
    "NUMPY",
    "OURS",
    "PEERS",
    "SKLEARN",
    "TORCH",
    "Case",
    "Target",
    "at_least",
    "at_most",
]

LIMIT = "limit"
OURS = "fastloss"
NUMPY, TORCH, JAX, SKLEARN = PEERS = ("numpy", "torch", "jax", "scikit-learn")
# Not a contender: whichever of the peers was the fastest in this run.
BEST_PEER = "best peer"


@dataclass(frozen=True)
class Target:
    """A bound on the times of two contenders: `of` takes at most `factor` times as long as `against`.

    Or, `at_least`: `against` takes at least `factor` times as long as `of`.
    """

    factor: float
    against: str
    of: str = OURS
    at_least: bool = False

    def __str__(self) -> str:
        bound = "faster than" if self.at_least else "at most"
        if self.at_least and self.factor != 1.0:
            bound = f"at least {self.factor:g} x as fast as"
        elif not self.at_least:
            bound = f"at most {self.factor:g} x"
        return f"{self.of}: {bound} {self.against}"

    def ratio(self, of: float, against: float) -> float:
        """The ratio that the bound is about, from the two times."""
        return against / of if self.at_least else of / against

    def is_met(self, ratio: float) -> bool:
        return ratio >= self.factor if self.at_least else ratio <= self.factor


def at_most(factor: float, against: str, of: str = OURS) -> Target:
    return Target(factor, against, of)


def at_least(factor: float, against: str, of: str = OURS) -> Target:
    return Target(factor, against, of, at_least=True)


@dataclass(frozen=True)
class Case:
    """One row: what is computed, on what, by whom, and how fast it has to be.

    `mode` says what the result is: "gradient" is the loss and its gradient, "in place" the same
    with the gradient written over the logits, "loss" the loss alone, "values" an array (softmax
    and its kin). `limit` is what memory has to do at least: copy the logits, scale them in place,
    read them, or add two arrays into a third. With `reused`, those who can write the gradient into
    a buffer that the caller keeps. `small` is the shape in a smoke test. `ceiling` bounds our time
    in seconds.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    small: tuple[int, ...]
    limit: Literal["copy", "scale", "read", "add"] | None = "copy"
    contenders: tuple[str, ...] = (LIMIT, OURS, *PEERS)
    targets: tuple[Target, ...] = ()
    function: Literal["cross_entropy", "softmax", "log_softmax", "logsumexp"] = "cross_entropy"
    mode: Literal["gradient", "in place", "loss", "values"] = "gradient"
    dtype: Literal["float32", "bfloat16"] = "float32"
    axis: int = -1
    label_smoothing: float = 0.0
    probabilities: bool = False
    reused: bool = True
    ceiling: float | None = None


_32K = {"shape": (2048, 32000), "small": (8, 3000)}
_128K = {"shape": (512, 128256), "small": (4, 5000)}
_WITHOUT_SKLEARN = (LIMIT, OURS, NUMPY, TORCH, JAX)

CASES: tuple[Case, ...] = (
    Case(
        name="32k",
        title="cross entropy (2048, 32000), value and gradient",
        contenders=(LIMIT, OURS, "fastloss new array", *PEERS),
        targets=(at_most(1.2, LIMIT), at_least(12, TORCH), at_least(6, JAX)),
        **_32K,
    ),
    Case(
        name="32k-in-place",
        title="cross entropy (2048, 32000), in place",
        mode="in place",
        limit="scale",
        contenders=(LIMIT, "memcpy", OURS, NUMPY),
        targets=(at_most(2.0, LIMIT), at_least(1.0, "memcpy")),
        **_32K,
    ),
    Case(
        name="32k-loss",
        title="cross entropy (2048, 32000), loss alone",
        mode="loss",
        limit="read",
        targets=(at_most(2.2, LIMIT),),
        **_32K,
    ),
    Case(
        name="threads",
        title="cross entropy (2048, 32000), all threads over one",
        contenders=(LIMIT, OURS, "fastloss 1 thread"),
        targets=(at_least(1.7, "fastloss 1 thread"),),
        **_32K,
    ),
    Case(
        name="instruction-sets",
        title="cross entropy (2048, 32000), instruction sets",
        contenders=(LIMIT, "fastloss avx512", "fastloss avx2", "fastloss baseline"),
        targets=(
            at_most(1.35, "fastloss avx512", of="fastloss avx2"),
            at_most(5.0, "fastloss avx512", of="fastloss baseline"),
        ),
        **_32K,
    ),
    Case(
        name="smoothing",
        title="cross entropy (2048, 32000), label smoothing 0.1",
        label_smoothing=0.1,
        contenders=_WITHOUT_SKLEARN,
        **_32K,
    ),
    Case(
        name="softmax",
        title="softmax (2048, 32000)",
        function="softmax",
        mode="values",
        contenders=_WITHOUT_SKLEARN,
        **_32K,
    ),
    Case(
        name="log-softmax",
        title="log-softmax (2048, 32000)",
        function="log_softmax",
        mode="values",
        contenders=_WITHOUT_SKLEARN,
        **_32K,
    ),
    Case(
        name="logsumexp",
        title="log-sum-exp (2048, 32000)",
        function="logsumexp",
        mode="values",
        limit="read",
        contenders=_WITHOUT_SKLEARN,
        **_32K,
    ),
    Case(
        name="probabilities",
        title="cross entropy (2048, 32000), probabilities as targets",
        probabilities=True,
        limit="add",
        contenders=_WITHOUT_SKLEARN,
        **_32K,
    ),
    Case(
        name="bfloat16",
        title="cross entropy (2048, 32000) in bfloat16",
        dtype="bfloat16",
        contenders=(LIMIT, OURS, "fastloss float32", NUMPY, TORCH, JAX),
        targets=(at_most(0.8, "fastloss float32"), at_least(10, TORCH)),
        **_32K,
    ),
    Case(
        name="128k",
        title="cross entropy (512, 128256), value and gradient",
        targets=(at_most(1.2, LIMIT), at_least(12, TORCH), at_least(6, JAX)),
        **_128K,
    ),
    Case(
        name="128k-in-place",
        title="cross entropy (512, 128256), in place",
        mode="in place",
        limit="scale",
        contenders=(LIMIT, "memcpy", OURS, NUMPY),
        targets=(at_most(2.0, LIMIT), at_least(1.0, "memcpy")),
        **_128K,
    ),
    Case(
        name="128k-loss",
        title="cross entropy (512, 128256), loss alone",
        mode="loss",
        limit="read",
        targets=(at_most(2.2, LIMIT),),
        **_128K,
    ),
    Case(
        name="class-axis-1",
        title="cross entropy (8, 21, 512, 512), class axis 1",
        shape=(8, 21, 512, 512),
        small=(2, 5, 8, 8),
        axis=1,
        contenders=_WITHOUT_SKLEARN,
        targets=(at_least(1.0, TORCH), at_least(1.0, JAX)),
    ),
    Case(
        name="after-matmul",
        title="cross entropy (2048, 8192), right after np.matmul (with the settings of the README)",
        shape=(2048, 8192),
        small=(8, 1000),
        contenders=(LIMIT, OURS, "fastloss after matmul"),
        targets=(at_most(1.25, OURS, of="fastloss after matmul"),),
    ),
    Case(
        name="1000-classes",
        title="cross entropy (4096, 1000)",
        shape=(4096, 1000),
        small=(32, 1000),
        targets=(at_most(1.55, LIMIT),),
    ),
    Case(
        name="10-classes",
        title="cross entropy (65536, 10)",
        shape=(65536, 10),
        small=(100, 10),
        targets=(at_least(10, TORCH), at_least(3, BEST_PEER)),
    ),
    Case(
        name="one-row",
        title="cross entropy (1, 250000)",
        shape=(1, 250_000),
        small=(1, 40_000),
        contenders=(LIMIT, OURS, "fastloss 1 thread", *PEERS),
        targets=(at_least(1.6, "fastloss 1 thread"),),
    ),
    Case(
        name="one-call",
        title="cross entropy (8, 10), the cost of a call",
        shape=(8, 10),
        small=(8, 10),
        limit=None,
        reused=False,
        contenders=(OURS, *PEERS),
        targets=(at_most(0.5, SKLEARN),),
        ceiling=5e-6,
    ),
)
