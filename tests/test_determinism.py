"""The same bits, whoever computes a row, in whichever company, from and to whichever memory."""

import ml_dtypes
import numpy as np
import pytest

import fastloss

pytestmark = pytest.mark.usefixtures("isa")

DTYPES = [
    pytest.param(np.dtype(kind), id=np.dtype(kind).name)
    for kind in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
]
THREADS = (1, 2, 3, 7)
# Each is worth several threads (32768 elements or more): short rows, rows in many pieces, rows of
# several blocks, rows that all threads work on at once.
SHAPES = [
    pytest.param((4001, 10), id="short"),
    pytest.param((67, 700), id="middle"),
    pytest.param((9, 5000), id="long"),
    pytest.param((3, 40_000), id="shared"),
]
# To a vector lane (whole and incomplete), a row at a time, in several blocks.
CLASSES = [5, 64, 65, 4500]


def every_option(rows, classes, rng):
    """Keyword arguments of cross_entropy, by name."""
    return {
        "plain": {},
        "options": {"z_loss": 1e-3, "softcap": 15.0, "temperature": 0.7},
        "all": {
            "weight": rng.uniform(0.5, 2.0, classes),
            "sample_weight": rng.uniform(0.5, 2.0, rows),
            "label_smoothing": 0.1,
            "z_loss": 1e-3,
            "softcap": 15.0,
            "temperature": 0.7,
        },
        "probabilities": {"label_smoothing": 0.05},
    }


OPTIONS = tuple(every_option(1, 1, np.random.default_rng(0)))


def make_case(shape, dtype, name):
    """Logits, target and options; some targets are ignored."""
    rng = np.random.default_rng(11)
    rows, classes = shape
    options = every_option(rows, classes, rng)[name]
    x = (4.0 * rng.standard_normal(shape)).astype(dtype)
    if name == "probabilities":
        target = rng.random(shape)
        target = (target / target.sum(axis=-1, keepdims=True)).astype(dtype)
    else:
        target = rng.integers(0, classes, rows)
        target[2::7] = -100
    return x, target, options


def bits(*results):
    return [np.asarray(result).tobytes() for result in results]


def all_bits(x, target, **options):
    """Everything that cross_entropy returns, reduced and not."""
    found = []
    for reduction in ("mean", "none"):
        found += bits(*fastloss.cross_entropy(
            x, target, reduction=reduction, return_grad=True, **options
        ))  # fmt: skip
    return found


def part(options, rows):
    """The options for some of the rows."""
    if "sample_weight" not in options:
        return options
    return {**options, "sample_weight": options["sample_weight"][rows]}


# Threads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPTIONS)
def test_cross_entropy_for_any_number_of_threads(name, shape, dtype):
    x, target, options = make_case(shape, dtype, name)
    alone = all_bits(x, target, num_threads=1, **options)
    for threads in THREADS[1:]:
        assert all_bits(x, target, num_threads=threads, **options) == alone, threads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_nll_loss_for_any_number_of_threads(weighted, shape, dtype):
    x, target, options = make_case(shape, dtype, "all" if weighted else "plain")
    options = {key: options[key] for key in ("weight", "sample_weight") if key in options}
    for reduction in ("mean", "sum", "none"):
        one, *others = [
            bits(*fastloss.nll_loss(
                x, target, reduction=reduction, return_grad=True, num_threads=threads, **options
            ))
            for threads in THREADS
        ]  # fmt: skip
        assert others == [one] * len(others)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_transforms_for_any_number_of_threads(name, shape, dtype):
    x = make_case(shape, dtype, "plain")[0]
    one, *others = [bits(getattr(fastloss, name)(x, num_threads=threads)) for threads in THREADS]
    assert others == [one] * len(others)


@pytest.mark.parametrize("shape", SHAPES)
def test_perplexity_for_any_number_of_threads(shape):
    x, target, _ = make_case(shape, np.float32, "plain")
    assert len({fastloss.perplexity(x, target, num_threads=threads) for threads in THREADS}) == 1


@pytest.mark.parametrize("rows", [5, 33, 63, 67, 100, 127])
def test_long_rows_for_many_threads(rows):
    """At 4 * threads rows the threads stop sharing each row; sums must not notice."""
    rng = np.random.default_rng(12)
    x = rng.standard_normal((rows, 1)) * np.linspace(0.0, 5.0, 32_768)
    x = x.astype(np.float32)
    target = rng.integers(0, 32_768, rows)
    sums = {
        threads: fastloss.cross_entropy(x, target, reduction="sum", num_threads=threads)
        for threads in (1, 2, 8, 16, 17, 32)
    }
    assert len(set(sums.values())) == 1, sums


# Company


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", OPTIONS)
def test_row_alone_or_in_a_batch(name, classes, dtype):
    rows = 37
    x, target, options = make_case((rows, classes), dtype, name)
    loss, grad = fastloss.cross_entropy(x, target, reduction="none", return_grad=True, **options)
    some = [slice(0, 16), slice(1, 17), slice(5, 37), slice(None, None, -1), slice(0, 37, 5)]
    for selected in some + [slice(i, i + 1) for i in range(0, rows, 4)]:
        part_loss, part_grad = fastloss.cross_entropy(
            x[selected], target[selected], reduction="none", return_grad=True,
            **part(options, selected),
        )  # fmt: skip
        assert part_loss.tobytes() == loss[selected].tobytes()
        assert part_grad.tobytes() == grad[selected].tobytes()
    single = fastloss.cross_entropy(x[4], target[4], reduction="none", return_grad=True, **part(options, 4))
    assert bits(*single) == bits(loss[4], grad[4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_transformed_row_alone_or_in_a_batch(name, classes, dtype):
    x = make_case((37, classes), dtype, "plain")[0]
    function = getattr(fastloss, name)
    whole = function(x)
    for i in range(0, 37, 4):
        assert function(x[i : i + 1]).tobytes() == whole[i : i + 1].tobytes()
        assert np.asarray(function(x[i])).tobytes() == np.asarray(whole[i]).tobytes()


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [pytest.param(250_000, *param.values, id=f"250000-{param.id}") for param in DTYPES]
    + [pytest.param(1_000_000, np.dtype(np.float32), id="1000000-float32")],
)
@pytest.mark.parametrize("name", ["plain", "all"])
def test_long_row_alone_or_in_a_batch(name, classes, dtype):
    """Alone all threads share the row, in a batch of 4 * threads rows each takes its own."""
    x, target, options = make_case((1, classes), dtype, name)
    one, *others = [
        bits(*fastloss.cross_entropy(
            x, target, reduction="none", return_grad=True, num_threads=threads, **options
        ))
        for threads in THREADS
    ]  # fmt: skip
    assert others == [one] * len(others)

    batch = np.broadcast_to(x, (8, classes))
    repeated = {**options}
    if "sample_weight" in options:
        repeated["sample_weight"] = np.repeat(options["sample_weight"], 8)
    loss, grad = fastloss.cross_entropy(
        batch, np.repeat(target, 8), reduction="none", return_grad=True, num_threads=2, **repeated
    )
    for row in range(8):
        assert bits(loss[row], grad[row]) == one


# Memory


def shifted(array, offset):
    """A copy that starts `offset` elements into its memory."""
    room = np.zeros(array.size + offset, array.dtype)
    room[offset:] = array.reshape(-1)
    return room[offset:].reshape(array.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", OPTIONS)
def test_any_alignment(name, classes, dtype):
    x, target, options = make_case((18, classes), dtype, name)
    loss, grad = fastloss.cross_entropy(x, target, return_grad=True, **options)
    # 17 offsets where rows lie in lanes; where a row is long enough to vary its head, a few.
    for offset in range(1, 18) if classes < 1000 else (1, 3, 8, 17):
        out = shifted(np.full_like(x, np.nan), 18 - offset)
        moved = {
            key: shifted(value, offset) if isinstance(value, np.ndarray) else value
            for key, value in options.items()
        }
        result = fastloss.cross_entropy(
            shifted(x, offset), shifted(target, offset), return_grad=True, out=out, **moved
        )
        assert bits(*result) == bits(loss, grad), offset


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_transforms_for_any_alignment(name, classes, dtype):
    x = make_case((18, classes), dtype, "plain")[0]
    function = getattr(fastloss, name)
    expected = function(x)
    lse = fastloss.logsumexp(x)
    for offset in range(1, 18):
        moved = shifted(x, offset)
        assert fastloss.logsumexp(moved).tobytes() == lse.tobytes()
        out = shifted(np.full_like(x, np.nan), 18 - offset)
        assert function(moved, out=out).tobytes() == expected.tobytes()
        assert function(moved, out=moved).tobytes() == expected.tobytes()


def spread_rows(x):
    room = np.full((2 * x.shape[0], x.shape[1]), np.nan, x.dtype)
    room[::2] = x
    return room[::2]


def spread_classes(x):
    room = np.full((x.shape[0], 3 * x.shape[1]), np.nan, x.dtype)
    room[:, 1::3] = x
    return room[:, 1::3]


def reverse_rows(x):
    return x[::-1].copy()[::-1]


def reverse_classes(x):
    return x[:, ::-1].copy()[:, ::-1]


def transpose(x):
    return x.T.copy().T


def narrow(x):
    room = np.full((x.shape[0], x.shape[1] + 3), np.nan, x.dtype)
    room[:, :-3] = x
    return room[:, :-3]


LAYOUTS = (spread_rows, spread_classes, reverse_rows, reverse_classes, transpose, narrow)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", OPTIONS)
def test_any_strides(name, classes, dtype):
    x, target, options = make_case((35, classes), dtype, name)
    expected = bits(*fastloss.cross_entropy(x, target, return_grad=True, **options))
    for layout in LAYOUTS:
        view = layout(x)
        assert view.strides != x.strides
        given = layout(target) if target.ndim == 2 else target
        result = fastloss.cross_entropy(view, given, return_grad=True, **options)
        assert bits(*result) == expected, layout.__name__
        loss, grad = fastloss.cross_entropy(x, target, return_grad=True, out=view, **options)
        assert grad is view
        assert bits(loss, grad) == expected, layout.__name__
        again = layout(x)
        result = fastloss.cross_entropy(again, given, return_grad=True, out=again, **options)
        assert bits(*result) == expected, layout.__name__


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", OPTIONS)
def test_any_class_axis(name, classes, dtype):
    x, target, options = make_case((30, classes), dtype, name)
    loss, grad = fastloss.cross_entropy(x, target, reduction="none", return_grad=True, **options)

    def shaped(array, rows):
        # (30, C) becomes (5, C, 6), in memory too.
        return np.moveaxis(array.reshape(5, 6, *array.shape[1:]), -1, 1).copy() if rows else array

    given = shaped(target, True) if target.ndim == 2 else target.reshape(5, 6)
    if "sample_weight" in options:
        options = {**options, "sample_weight": options["sample_weight"].reshape(5, 6)}
    other_loss, other_grad = fastloss.cross_entropy(
        shaped(x, True), given, axis=1, reduction="none", return_grad=True, **options
    )
    assert bits(other_loss) == bits(loss)
    assert bits(np.moveaxis(other_grad, 1, -1)) == bits(grad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(35, 5), (35, 65), (9, 4500), (3, 40_000)])
@pytest.mark.parametrize("name", OPTIONS)
def test_any_buffer(name, shape, dtype):
    """Value alone; into a fresh, a used and the input's memory; added to zeros."""
    x, target, options = make_case(shape, dtype, name)
    options = {**options, "reduction": "none" if name == "all" else "mean", "num_threads": 2}
    loss, grad = fastloss.cross_entropy(x, target, return_grad=True, **options)
    assert bits(fastloss.cross_entropy(x, target, **options)) == bits(loss)

    used = np.full_like(x, np.nan)
    for _ in range(2):
        result = fastloss.cross_entropy(x, target, return_grad=True, out=used, **options)
        assert result[1] is used
        assert bits(*result) == bits(loss, grad)

    total = np.zeros_like(x)
    added, _ = fastloss.cross_entropy(x, target, return_grad=True, out=total, accumulate=True, **options)
    assert bits(added) == bits(loss)
    assert bits(total + np.zeros_like(x)) == bits(grad + np.zeros_like(x))  # 0 + -0 is 0

    result = fastloss.cross_entropy(x, target, return_grad=True, out=x, **options)
    assert result[1] is x
    assert bits(*result) == bits(loss, grad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_any_target_type(classes, dtype):
    x, target, _ = make_case((35, classes), dtype, "plain")
    expected = all_bits(x, target)
    kinds = [np.int16, np.int32, ">i8", ">i4"] + ([np.int8] if classes < 128 else [])
    for kind in kinds:
        assert all_bits(x, target.astype(kind)) == expected
    assert all_bits(x, np.repeat(target, 2)[::2]) == expected
    assert all_bits(x, target.tolist()) == expected
