"""Memory that one call leaves to the next, and that the system may take."""

import gc
import mmap
import os
import threading
import tracemalloc

import numpy as np
import pytest

import fastloss
from fastloss import _kernels
from fastloss._engine import workspace
from fastloss._engine.workspace import (
    LEAST,
    LEAST_BESIDE,
    MOST,
    PIECES,
    PIECES_BESIDE,
    SLACK,
    empty,
    empty_like,
)

keeps = pytest.mark.skipif(not workspace._can_keep, reason="this system has no MADV_FREE")


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    gc.collect()
    workspace._kept.clear()
    workspace._kept_beside.clear()


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, _kernels.BFLOAT16_BITS])
@pytest.mark.parametrize("rows", [0, 1, 300, 3000])
def test_is_an_array_to_write_to(rows: int, dtype: type) -> None:
    array = empty((rows, 1000), dtype)
    assert array.shape == (rows, 1000) and array.dtype == dtype
    assert array.flags.carray and array.flags.aligned
    numbers = array.view(np.uint16) if dtype == _kernels.BFLOAT16_BITS else array
    numbers[...] = 3
    assert (numbers == 3).all()


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_is_like_another(axes: tuple[int, ...]) -> None:
    for size in (4, 160):
        other = np.ones((size, size, size), np.float32).transpose(axes)
        for given in (other, other[::2], other[..., ::-1], np.broadcast_to(other[:1], other.shape)):
            array = empty_like(given)
            assert (array.shape, array.dtype) == (given.shape, given.dtype)
            assert array.strides == np.empty_like(given).strides
            array[...] = 2.0
            assert (array == 2.0).all()


@keeps
def test_is_there_again() -> None:
    array = empty((LEAST,), np.float32)
    first = address(array)
    del array
    array = empty((10, LEAST // 20), np.float32)
    assert address(array) == first
    del array
    # Where it is too small there is a larger one; both are kept, and each serves what it fits.
    array = empty((3 * LEAST,), np.float32)
    second = address(array)
    assert second != first
    del array
    assert address(empty((LEAST,), np.float32)) == first
    assert address(empty((2 * LEAST,), np.float32)) == second


@keeps
def test_what_is_much_too_large_does_not_serve() -> None:
    large = empty((2 * SLACK * LEAST,), np.uint8)
    first = address(large)
    del large
    assert address(empty((LEAST,), np.uint8)) != first
    assert address(empty((2 * LEAST,), np.uint8)) == first


@keeps
def test_few_pieces_are_kept() -> None:
    arrays = [empty((LEAST,), np.uint8) for _ in range(PIECES + 3)]
    assert len({address(array) for array in arrays}) == PIECES + 3
    del arrays
    assert len(workspace._kept) == PIECES


@keeps
def test_is_not_given_away_while_any_view_of_it_lives() -> None:
    array = empty((2, LEAST), np.float32)
    array[...] = 1.0
    view = array[1:].T[::2]
    del array
    other = empty((2, LEAST), np.float32)
    other[...] = 2.0
    assert (view == 1.0).all() and not workspace._kept
    del view
    assert len(workspace._kept) == 1


@keeps
def test_gradients_come_from_it() -> None:
    x, y = np.ones((2, LEAST // 4), np.float32)
    target = np.zeros(1, np.int64)
    for loss in (
        lambda: fastloss.mse_loss(x, y, return_grad=True)[1],
        lambda: fastloss.cross_entropy(x[None], target, return_grad=True)[1],
        lambda: fastloss.kl_div_with_logits(x[None], y[None], return_grad=True)[1],
        lambda: fastloss.softmax(x),
    ):
        first = address(loss())
        assert address(loss()) == first
        workspace._kept.clear()


@keeps
def test_further_arrays_of_a_call_come_from_small_pieces() -> None:
    x = np.ones(LEAST_BESIDE // 4 + 5, np.float32)
    y = np.zeros_like(x)
    weight = np.ones_like(x)
    for loss in (
        lambda: fastloss.mse_loss(x, y, return_grad=True, return_hessian=True)[2],
        lambda: fastloss.mse_loss(x, y, reduction="none", return_grad=True)[0],
        lambda: fastloss.gaussian_nll_loss(x, y, weight, return_grad=True)[1].var,
        lambda: fastloss.cross_entropy(x.reshape(1, -1), [0], return_grad=True, return_hessian=True)[2],
    ):
        first = address(loss())
        assert address(loss()) == first
        assert len(workspace._kept_beside) == 1 and not workspace._kept
        workspace._kept_beside.clear()


@keeps
def test_few_small_pieces_are_kept() -> None:
    arrays = [empty((LEAST_BESIDE,), np.uint8, is_beside=True) for _ in range(PIECES_BESIDE + 3)]
    assert len({address(array) for array in arrays}) == PIECES_BESIDE + 3
    del arrays
    assert len(workspace._kept_beside) == PIECES_BESIDE
    for size in (LEAST_BESIDE - 1, MOST + 1):
        empty((size,), np.uint8, is_beside=True)
    assert len(workspace._kept_beside) == PIECES_BESIDE and not workspace._kept
    empty((LEAST,), np.uint8, is_beside=True)
    assert len(workspace._kept) == 1


@keeps
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="another allocator")
def test_second_derivatives_cost_no_page_faults() -> None:
    resource = pytest.importorskip("resource")  # of Unix

    def faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    x, y = np.ones((2, 100_000), np.float32)
    logits, target = x.reshape(-1, 100), np.zeros(1000, np.int64)
    for loss in (
        lambda: fastloss.mse_loss(x, y, return_grad=True, return_hessian=True),
        lambda: fastloss.cross_entropy(logits, target, return_grad=True, return_hessian=True),
    ):
        for _ in range(5):
            loss()
        before = faults()
        for _ in range(20):
            loss()
        assert faults() - before < 20 * 40  # an array has 98 pages


@keeps
def test_threads_do_not_share() -> None:
    """Each finds what it has written, whoever takes and gives meanwhile."""
    wrong = []

    def work(value: int) -> None:
        for _ in range(200):
            array = empty((LEAST,), np.uint8)
            array[:: LEAST // 8] = value
            if (array[:: LEAST // 8] != value).any():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@keeps
def test_small_and_very_large_arrays_are_not_kept() -> None:
    for size in (LEAST - 1, MOST + 1):
        empty((size,), np.uint8)
    assert not workspace._kept


def test_systems_that_cannot_keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "_can_keep", False)
    empty((2, LEAST), np.float32)[...] = 1.0
    assert not workspace._kept


class Refusing(mmap.mmap):
    """Memory whose system knows no advice."""

    def madvise(self, *_: int) -> None:
        raise OSError(22, "Invalid argument")


@keeps
def test_systems_that_refuse_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint that is not taken is no error, and memory that cannot be offered is given back."""
    monkeypatch.setattr(workspace, "_can_keep", True)
    monkeypatch.setattr(workspace.mmap, "mmap", Refusing)
    empty((LEAST,), np.float32)[...] = 1.0
    assert not workspace._kept and not workspace._can_keep


@keeps
def test_systems_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(workspace.mmap, "mmap", refuse)
    empty((LEAST,), np.float32)[...] = 1.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_has_its_own() -> None:
    """What parent and child write into memory that was kept before is their own."""
    empty((LEAST,), np.float32)[...] = 1.0
    child = os.fork()
    array = empty((LEAST,), np.float32)
    array[...] = float(child == 0)
    if child == 0:
        os._exit(int(array.min() != 1.0))
    assert os.waitpid(child, 0)[1] == 0
    assert array.max() == 0.0


@keeps
def test_is_not_given_away_while_a_finalizer_may_keep_it() -> None:
    """The collector tells weak references of a cycle before the finalizers of the cycle run."""
    saved = []

    class Holder:
        def __init__(self, array: np.ndarray) -> None:
            self.base, self.me = array.base, self

        def __del__(self) -> None:
            saved.append(np.frombuffer(self.base, np.float32))

    array = empty((LEAST,), np.float32)
    array[...] = 6.0
    holder = Holder(array)
    del array, holder
    gc.collect()
    assert len(saved) == 1
    other = empty((LEAST,), np.float32)
    other[...] = 60.0
    assert (saved[0] == 6.0).all() and not workspace._kept
    saved.clear()
    assert len(workspace._kept) == 1


@keeps
def test_takes_no_other_memory() -> None:
    other = np.empty((LEAST, 4), np.float32).T
    tracemalloc.start()
    try:
        array = empty_like(other)
        assert array.strides == other.strides
        assert tracemalloc.get_traced_memory()[1] < other.nbytes / 100
    finally:
        tracemalloc.stop()
