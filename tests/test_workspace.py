"""Memory that one call leaves to the next, and that the system may take."""

import mmap
import os
import threading

import numpy as np
import pytest

from fastloss import _workspace
from fastloss._workspace import LEAST, MOST, workspace

keeps = pytest.mark.skipif(not _workspace._can_keep, reason="this system has no MADV_FREE")


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 300, 3000])
def test_is_an_array_to_write_to(rows: int, dtype: type) -> None:
    with workspace((rows, 1000), dtype) as array:
        assert array.shape == (rows, 1000) and array.dtype == dtype
        assert array.flags.carray and array.flags.aligned
        array[...] = 3.0
        assert (array == 3.0).all()


@keeps
def test_is_there_again() -> None:
    with workspace((LEAST,), np.float32) as array:
        first = address(array)
    with workspace((10, LEAST // 20), np.float32) as array:
        assert address(array) == first
    # Where it is too small there is a larger one, and from then on that.
    with workspace((3 * LEAST,), np.float32) as array:
        array[...] = 1.0
        second = address(array)
    with workspace((LEAST,), np.float32) as array:
        assert address(array) == second


@keeps
def test_is_not_shared() -> None:
    """Not within a block, nor with another thread."""
    found = []

    def other() -> None:
        with workspace((LEAST,), np.float32) as array:
            array[...] = 2.0
            found.append(address(array))

    with workspace((LEAST,), np.float32) as mine:
        mine[...] = 1.0
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with workspace((LEAST,), np.float32) as inner:
            inner[...] = 3.0
            found.append(address(inner))
        assert address(mine) not in found
        assert (mine == 1.0).all()


@keeps
def test_is_given_back_after_an_error() -> None:
    with workspace((LEAST,), np.float32) as array:
        first = address(array)
    with pytest.raises(ZeroDivisionError), workspace((LEAST,), np.float32):
        raise ZeroDivisionError
    with workspace((LEAST,), np.float32) as array:
        assert address(array) == first


@keeps
def test_small_and_very_large_arrays_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workspace, "_kept", None)
    for size in (LEAST - 1, MOST + 1):
        with workspace((size,), np.uint8):
            pass
    assert _workspace._kept is None


def test_systems_that_cannot_keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workspace, "_can_keep", False)
    monkeypatch.setattr(_workspace, "_kept", None)
    with workspace((2, LEAST), np.float32) as array:
        array[...] = 1.0
    assert _workspace._kept is None


class Refusing(mmap.mmap):
    """Memory whose system knows no advice."""

    def madvise(self, *_: int) -> None:
        raise OSError(22, "Invalid argument")


@keeps
def test_systems_that_refuse_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint that is not taken is no error, and memory that cannot be offered is given back."""
    for name, value in (("_kept", None), ("_can_keep", True)):
        monkeypatch.setattr(_workspace, name, value)
    monkeypatch.setattr(_workspace.mmap, "mmap", Refusing)
    with workspace((LEAST,), np.float32) as array:
        array[...] = 1.0
        assert _workspace._kept is not None
    assert _workspace._kept is None and not _workspace._can_keep and not _workspace._lock.locked()


@keeps
def test_systems_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(_workspace, "_kept", None)
    monkeypatch.setattr(_workspace.mmap, "mmap", refuse)
    with workspace((LEAST,), np.float32) as array:
        array[...] = 1.0
    assert not _workspace._lock.locked()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_has_its_own() -> None:
    with workspace((LEAST,), np.float32) as array:
        array[...] = 1.0
        child = os.fork()
        if child == 0:
            os._exit(int(_workspace._lock.locked() or _workspace._kept is not None))
        assert os.waitpid(child, 0)[1] == 0
