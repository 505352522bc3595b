"""Package settings: the number of threads, the instruction set, and the report of `show_config`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from fastloss import _kernels

__all__ = ["get_num_threads", "num_threads", "set_num_threads", "show_config"]


def checked_threads(value: object, name: str) -> int:
    """Return a positive number of threads, at most 1024; an error names the argument or variable `name`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return min(int(value), 1024)


def _cgroup_limit() -> int | None:
    """Return the number of processors that a Linux container may use (cgroup v2), or None."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))


def _available_processors() -> int:
    """Return the number of processors for this process: its affinity, limited by its container's share."""
    has_affinity = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(count, _cgroup_limit() or count)


def _initial_threads() -> int:
    own = os.environ.get("FASTLOSS_NUM_THREADS")
    if own:
        if not own.strip().isdecimal():
            raise ValueError(f"FASTLOSS_NUM_THREADS must be a positive integer, got {own!r}")
        return checked_threads(int(own), "FASTLOSS_NUM_THREADS")
    # OpenMP's own variable may hold one number for each level of nesting. It is not ours to reject.
    outer = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if outer.isdecimal() and int(outer) > 0:
        return checked_threads(int(outer), "OMP_NUM_THREADS")
    return _available_processors()


_default_threads = _initial_threads()
context_threads: ContextVar[int | None] = ContextVar("fastloss_num_threads", default=None)


def set_num_threads(num_threads: int) -> None:
    """Set the number of threads of all later calls.

    Parameters
    ----------
    num_threads : int
        Number of threads, at least 1; more than 1024 count as 1024. Results do not depend on it. At import
        it is the environment variable ``FASTLOSS_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the number
        of processors that this process may use.

    Raises
    ------
    TypeError
        If `num_threads` is not an integer.
    ValueError
        If `num_threads` is less than 1.

    See Also
    --------
    num_threads : sets it for a block of code.

    Examples
    --------
    >>> import fastloss
    >>> before = fastloss.get_num_threads()
    >>> fastloss.set_num_threads(1)
    >>> fastloss.get_num_threads()
    1
    >>> fastloss.set_num_threads(before)
    """
    global _default_threads
    _default_threads = checked_threads(num_threads, "num_threads")


def get_num_threads() -> int:
    """Return the number of threads of a call that does not set its own.

    Returns
    -------
    int
        The number of the innermost `num_threads` block of this Python thread (or task), else the package
        setting.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.get_num_threads() >= 1
    True
    """
    return context_threads.get() or _default_threads


@contextmanager
def num_threads(num_threads: int) -> Iterator[None]:
    """Set the number of threads of the calls in a ``with`` block, in this Python thread (or task) alone.

    Parameters
    ----------
    num_threads : int
        Number of threads, at least 1; more than 1024 count as 1024. Results do not depend on it.

    Raises
    ------
    TypeError
        If `num_threads` is not an integer.
    ValueError
        If `num_threads` is less than 1.

    Examples
    --------
    >>> import fastloss
    >>> with fastloss.num_threads(1):
    ...     fastloss.get_num_threads()
    1
    """
    token = context_threads.set(checked_threads(num_threads, "num_threads"))
    try:
        yield
    finally:
        context_threads.reset(token)


def _choose_level() -> int:
    """Return the best instruction set that was built and that the machine has, or ``FASTLOSS_ISA``."""
    usable = [level for level in _kernels.BUILT_LEVELS if level <= _kernels.MACHINE_LEVEL]
    wanted = os.environ.get("FASTLOSS_ISA")
    if not wanted:
        return int(usable[-1])
    names = _kernels.LEVELS
    if wanted not in names:
        raise ValueError(f"FASTLOSS_ISA must be one of {', '.join(names)}, got {wanted!r}")
    level = names.index(wanted)
    if level not in usable:
        reason = "was not built" if level <= _kernels.MACHINE_LEVEL else "is not supported here"
        raise ValueError(f"FASTLOSS_ISA={wanted} {reason}; available: {', '.join(names[i] for i in usable)}")
    return level


_level = _choose_level()
_kernels.use_level(_level)


def _waiting() -> str:
    """Return how idle threads wait between two calls: those of this package, and of NumPy's OpenBLAS."""
    names = ("OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT")
    return ", ".join(f"{name}={os.environ.get(name, 'not set')}" for name in names)


def _caches() -> str:
    """Return the sizes of the data caches, and from which size on output is written past them."""
    sizes = ", ".join(f"{size / 1024:g} KiB" if size else "unknown" for size in _kernels.CACHES)
    return f"{sizes}; output from {_kernels.stream_from() / 2**20:g} MiB on is written past them"


def _openmp() -> str:
    """Return the OpenMP runtime: the file in use, and what the extension was built for."""
    if not _kernels.OPENMP:
        return "none: every call is serial"
    library = _kernels.openmp_library()
    if library == "":
        return "no runtime was found: every call is serial"
    return f"{_kernels.OPENMP} (the date of the specification){f', {library}' if library else ''}"


def show_config() -> None:
    """Print the configuration.

    That is version, compiler, instruction sets, caches, threads, the OpenMP runtime, and how idle threads
    wait.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.show_config()  # doctest: +ELLIPSIS
    fastloss ...
    """
    from fastloss import __version__

    chosen = _kernels.use_level(_level)
    _kernels.use_level(chosen)
    by_instruction = _kernels.use_bfloat16_instruction(False)
    _kernels.use_bfloat16_instruction(by_instruction)
    names = _kernels.LEVELS
    rows = {
        "fastloss": __version__,
        "python": f"{platform.python_version()} on {sys.platform} {platform.machine()}",
        "numpy": np.__version__,
        "compiler": _kernels.COMPILER,
        "instruction sets": ", ".join(names[level] for level in _kernels.BUILT_LEVELS),
        "machine supports": names[_kernels.MACHINE_LEVEL],
        "in use": names[chosen],
        "bfloat16": f"rounded by {'an instruction' if by_instruction else 'integers'}",
        "caches": _caches(),
        "threads": str(get_num_threads()),
        "openmp": _openmp(),
        "idle threads": _waiting(),
    }
    for name, value in rows.items():
        print(f"{name:17} {value}")
