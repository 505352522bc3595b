"""Package settings: the number of threads, the instruction set, and what show_config prints."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from fastloss import _kernels
from fastloss._blas import blas_function

__all__ = ["get_num_threads", "num_threads", "set_num_threads", "share_threads_with_blas", "show_config"]


def checked_threads(value: object, name: str) -> int:
    """A positive number of threads, or an error that names where it came from."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return min(int(value), 1024)


def _cgroup_limit() -> int | None:
    """Processors that a container is allowed, where Linux says so (cgroup v2)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))


def _available_processors() -> int:
    """Processors that this process may use: its affinity, and its container's share."""
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
    """Set how many threads every call uses from now on.

    Parameters
    ----------
    num_threads : int
        At least 1. The setting at import is ``FASTLOSS_NUM_THREADS``, else ``OMP_NUM_THREADS``, else
        the number of processors that this process may use. Results do not depend on it.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer, or less than 1.

    See Also
    --------
    num_threads : the same for a block of code.

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
    """Return how many threads a call uses unless told otherwise.

    Returns
    -------
    int
        The innermost `num_threads` context of this thread (or task), else the package setting.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.get_num_threads() >= 1
    True
    """
    return context_threads.get() or _default_threads


@contextmanager
def num_threads(num_threads: int) -> Iterator[None]:
    """Use this many threads within a ``with`` block, in this Python thread (or task) alone.

    Parameters
    ----------
    num_threads : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer, or less than 1.

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


_threads_are_shared = False


def share_threads_with_blas(share: bool = True) -> bool:
    """Run NumPy's matrix products on the threads that fastloss uses.

    For a loop in which losses follow matrix products. By itself OpenBLAS, the library of NumPy's wheels,
    has threads of its own, which go on spinning for some 25 ms after a product, on the processors that the
    loss wants next. With one set of threads for both, none is in the way of another. It is a setting of the
    process, off until it is asked for; a forked child is back with OpenBLAS's own threads.

    Parameters
    ----------
    share : bool, default True
        False gives OpenBLAS its own threads back.

    Returns
    -------
    bool
        Whether threads are shared now. False where NumPy has another BLAS library or an OpenBLAS before
        0.3.27, fastloss was built without OpenMP, or the platform hides the library's functions.

    Raises
    ------
    TypeError
        If `share` is not a truth value.

    Examples
    --------
    >>> import fastloss
    >>> is_shared = fastloss.share_threads_with_blas()
    >>> fastloss.share_threads_with_blas(False)
    False
    """
    global _threads_are_shared
    if not isinstance(share, (bool, np.bool_)):
        raise TypeError(f"share must be True or False, got {share!r}")
    set_callback = blas_function("openblas_set_threads_callback_function")
    address = _kernels.blas_callback() if share else 0
    if set_callback is not None and (address or _threads_are_shared):
        set_callback(ctypes.c_void_p(address or None))
        _threads_are_shared = bool(address)
    return _threads_are_shared


def threads_are_shared() -> bool:
    """Whether OpenBLAS works on our threads."""
    return _threads_are_shared


def _unshare_after_fork() -> None:
    if _threads_are_shared:
        share_threads_with_blas(False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unshare_after_fork)


def _choose_level() -> int:
    """The best instruction set that was built and that the machine has, or the one asked for."""
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


def show_config() -> None:
    """Print version, compiler, instruction sets, threads and the OpenMP runtime.

    Examples
    --------
    >>> import fastloss
    >>> fastloss.show_config()  # doctest: +ELLIPSIS
    fastloss ...
    """
    from fastloss import __version__

    chosen = _kernels.use_level(_level)
    _kernels.use_level(chosen)
    names = _kernels.LEVELS
    if _kernels.OPENMP:
        openmp = f"{_kernels.OPENMP} (the date of the specification)"
    else:
        openmp = "none: every call is serial"
    rows = {
        "fastloss": __version__,
        "python": f"{platform.python_version()} on {sys.platform} {platform.machine()}",
        "numpy": np.__version__,
        "compiler": _kernels.COMPILER,
        "instruction sets": ", ".join(names[level] for level in _kernels.BUILT_LEVELS),
        "machine supports": names[_kernels.MACHINE_LEVEL],
        "in use": names[chosen],
        "threads": str(get_num_threads()),
        "openmp": openmp,
    }
    for name, value in rows.items():
        print(f"{name:17} {value}")
