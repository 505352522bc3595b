# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The one crossing between Python and C: pointers, types, and work shared out over threads.

Callers (the modules beside this one) have checked every argument. OpenMP lives here and nowhere else. Rows are
shared out in small dynamic pieces, because in a training loop another library's threads may still be spinning on
some of the cores; no result depends on who did what, since every piece leaves its own partial sum and these are
added in order.
"""

import os

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cython.parallel cimport parallel, prange, threadid
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport free, malloc

cimport numpy as cnp
import numpy as np

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray, cnp.NPY_ORDER, void *, int)

cdef extern from "kernels.h" nogil:
    enum:
        FL_FLOAT32
        FL_FLOAT64
        FL_FLOAT16
        FL_BFLOAT16
        FL_CROSS_ENTROPY
        FL_SOFTMAX
        FL_LOG_SOFTMAX
        FL_LOGSUMEXP
        FL_ENTROPY
        FL_NLL
        FL_MULTI_MARGIN
        FL_ANY
        FL_UNIT
        FL_SIGN
        FL_NONNEGATIVE
        FL_STRICTLY_POSITIVE
        FL_ABOVE_MINUS_ONE
        FL_BLOCK
        FL_SHORT_ROW
        FL_LANES
        FL_MAX_DIMS

    struct fl_array:
        char *data
        int dtype, ndim
        ptrdiff_t itemsize, class_stride
        ptrdiff_t shape[FL_MAX_DIMS]
        ptrdiff_t stride[FL_MAX_DIMS]

    struct fl_softmax_job:
        int operation, accumulate, stream
        ptrdiff_t rows, classes
        fl_array input, output, probabilities, hessian
        const int64_t *target
        int has_ignore_index
        int64_t ignore_index
        const double *class_weight
        const double *sample_weight
        const double *grad_output
        const double *elsewhere_lse
        const double *elsewhere_mass
        ptrdiff_t all_classes
        double grad_scale, label_smoothing, z_loss, softcap, temperature, margin, power
        double *row_loss

    struct fl_softmax_row:
        double loss
        char *buffers

    struct fl_softmax_kernels:
        ptrdiff_t (*scratch_bytes)(const fl_softmax_job *) noexcept nogil
        ptrdiff_t (*buffer_bytes)(const fl_softmax_job *) noexcept nogil
        double (*rows)(const fl_softmax_job *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        int (*row_start)(const fl_softmax_job *, fl_softmax_row *, ptrdiff_t, void *) noexcept nogil
        void (*row_max)(const fl_softmax_job *, fl_softmax_row *, ptrdiff_t) noexcept nogil
        void (*row_choose)(const fl_softmax_job *, fl_softmax_row *) noexcept nogil
        void (*row_sum)(const fl_softmax_job *, fl_softmax_row *, ptrdiff_t) noexcept nogil
        void (*row_settle)(const fl_softmax_job *, fl_softmax_row *) noexcept nogil
        void (*row_finish)(const fl_softmax_job *, fl_softmax_row *, ptrdiff_t) noexcept nogil

    enum:
        FL_KL
        FL_JS
        FL_TV
        FL_MAXIMA
        FL_TERMS
        FL_GRADIENTS

    struct fl_divergence_job:
        int operation, accumulate, stream
        ptrdiff_t rows, classes
        fl_array x, t, x_gradient, t_gradient
        const unsigned char *counted
        const double *grad_output
        double grad_scale, beta, temperature
        double *row_loss

    struct fl_divergence_row:
        double loss

    struct fl_divergence_kernels:
        ptrdiff_t (*scratch_bytes)(const fl_divergence_job *) noexcept nogil
        ptrdiff_t buffer_bytes
        double (*rows)(const fl_divergence_job *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        void (*start)(const fl_divergence_job *, fl_divergence_row *, ptrdiff_t, void *) noexcept nogil
        void (*block)(const fl_divergence_job *, fl_divergence_row *, int, ptrdiff_t, void *) noexcept nogil
        void (*settle)(const fl_divergence_job *, fl_divergence_row *, int) noexcept nogil

    struct fl_element_job:
        int loss, accumulate, stream
        ptrdiff_t size, inner
        fl_array input, target, third, weight, upstream, first, second, losses
        double target_value, third_value
        double parameter[2]
        double scale

    struct fl_element_kernels:
        ptrdiff_t (*buffer_bytes)(const fl_element_job *) noexcept nogil
        double (*elements)(const fl_element_job *, ptrdiff_t, ptrdiff_t, int *, void *) noexcept nogil
        double (*sum)(const fl_element_job *, const fl_array *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        ptrdiff_t (*first_outside)(
            const fl_element_job *, const fl_array *, int, ptrdiff_t, ptrdiff_t, void *
        ) noexcept nogil
        void (*pair_differences)(const void **, double, double, double *, ptrdiff_t) noexcept nogil
        void (*pair_gradients)(const double *, double, double, void *, void *, ptrdiff_t) noexcept nogil

    struct fl_loss:
        const char *name
        int domain

    const fl_loss *fl_losses

    struct fl_function:
        const char *name
        void (*apply)(const void *, void *, ptrdiff_t) noexcept nogil

    struct fl_kernels:
        const char *name
        fl_softmax_kernels softmax_f32, softmax_f64
        fl_divergence_kernels divergence_f32, divergence_f64
        fl_element_kernels elements_f32, elements_f64
        double (*nll_rows)(const fl_softmax_job *, ptrdiff_t, ptrdiff_t) noexcept nogil
        double (*multi_margin_rows)(const fl_softmax_job *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
        double (*survey)(const fl_softmax_job *, ptrdiff_t, ptrdiff_t, ptrdiff_t *) noexcept nogil
        const fl_function *functions

    int fl_machine_level()
    const fl_kernels *fl_kernels_of_level(int)

cdef extern from "process.h" nogil:
    void fl_process_begin() noexcept
    void fl_process_stay_serial() noexcept
    int fl_team(int) noexcept

cdef extern from *:
    """
    #ifdef _OPENMP
    #define FL_OPENMP_DATE _OPENMP
    #ifdef _MSC_VER
    #define FL_BARRIER() __pragma(omp barrier)
    #else
    #define FL_BARRIER() _Pragma("omp barrier")
    #endif
    #else
    #define FL_OPENMP_DATE 0
    #define FL_BARRIER()
    #endif
    #if defined(__clang__)
    #define FL_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define FL_COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
    #define FL_COMPILER "msvc"
    #else
    #define FL_COMPILER "unknown"
    #endif
    """
    const char *FL_COMPILER
    int FL_OPENMP_DATE
    void FL_BARRIER() noexcept nogil

COMPILER = FL_COMPILER.decode()
OPENMP = FL_OPENMP_DATE
LEVELS = ("baseline", "avx2", "avx512")
MACHINE_LEVEL = fl_machine_level()
BUILT_LEVELS = tuple(level for level in range(3) if fl_kernels_of_level(level) != NULL)

CROSS_ENTROPY = FL_CROSS_ENTROPY
SOFTMAX = FL_SOFTMAX
LOG_SOFTMAX = FL_LOG_SOFTMAX
LOGSUMEXP = FL_LOGSUMEXP
ENTROPY = FL_ENTROPY
NLL = FL_NLL
MULTI_MARGIN = FL_MULTI_MARGIN

# Elements for one piece of work: large enough that handing it out costs nothing beside it and that most rows have
# their successor in the same piece (which is prefetched). And the fewest pieces a call is cut into, so that the
# last one does not keep the other threads waiting. Neither depends on the number of threads: sums follow pieces.
cdef ptrdiff_t PIECE = 524288
cdef ptrdiff_t PIECES = 32
# Elements under which a piece is too short for the overlap of its rows. (32 rows of 1000: 15.6 us for 18.2.)
cdef ptrdiff_t LEAST_PIECE = 4096
# Bytes of output from which it is written past the caches: more than they hold.
cdef ptrdiff_t STREAM = 33554432
# Elements under which a second thread costs more than it saves (a fork and join is a few microseconds when the
# threads are awake, tens of them when they sleep).
cdef ptrdiff_t SERIAL = 32768
# Elements under which giving up the interpreter lock, and checking arguments in Python, cost more than the work.
cdef ptrdiff_t SMALL = 4096
# Bytes of an array from which its memory is kept for the next call (see _workspace).
cdef ptrdiff_t KEPT_BYTES = 4194304
KEPT = KEPT_BYTES

cdef const fl_kernels *kernels = fl_kernels_of_level(0)
fl_process_begin()


def _after_fork_in_child():
    fl_process_stay_serial()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


cdef int team_for(ptrdiff_t size, int threads) noexcept nogil:
    """How many threads work on so many elements."""
    return fl_team(threads) if size >= SERIAL else 1


def use_level(int level):
    """Use the kernels of a level (an index into LEVELS) from now on; returns the level used before."""
    global kernels
    cdef int level_before = 0
    while fl_kernels_of_level(level_before) != kernels:
        level_before += 1
    if level > MACHINE_LEVEL or level not in BUILT_LEVELS:
        raise ValueError(f"the {LEVELS[level]} kernels are not built or not supported by this machine")
    kernels = fl_kernels_of_level(level)
    return level_before


# The type number that NumPy gave the bfloat16 of ml_dtypes when that was imported.
cdef int bfloat16_number = -1
# The bits of bfloat16 where there is no such type: what the adapters pass. NumPy itself cannot compute with it.
BFLOAT16_BITS = np.dtype([("bfloat16", np.uint16)])


@cython.no_gc
cdef class Lent:
    """Memory of a mapping, as a buffer, which is given back when nothing can reach it any more.

    When the last reference is gone, that is: a weak reference would tell as soon as it is in a cycle that is being
    collected, whose finalizers may still use it, or keep it.
    """

    cdef object mapping, give_back
    cdef Py_buffer view
    cdef Py_ssize_t size

    def __cinit__(self, mapping not None, Py_ssize_t size, give_back not None):
        PyObject_GetBuffer(mapping, &self.view, PyBUF_WRITABLE)
        self.mapping = mapping
        self.size = size
        self.give_back = give_back

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.view.buf, self.size, 0, flags)

    def __dealloc__(self):
        if self.mapping is not None:
            PyBuffer_Release(&self.view)
            self.give_back(self.mapping)


def register_bfloat16(cnp.dtype dtype not None):
    """Take this type for bfloat16 from now on."""
    global bfloat16_number
    bfloat16_number = dtype.type_num


cpdef bint is_floating(array) noexcept:
    """Whether this is a plain array that the kernels can read: a known type, native byte order, aligned."""
    cdef int number
    if type(array) is not cnp.ndarray or not cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray>array):
        return False
    number = cnp.PyArray_TYPE(<cnp.ndarray>array)
    return (
        number in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64, cnp.NPY_FLOAT16) or number == bfloat16_number
        or (number == cnp.NPY_VOID and (<cnp.ndarray>array).dtype is BFLOAT16_BITS)
    )


cpdef bint is_index(array) noexcept:
    """Whether this is a plain contiguous array of int64."""
    return (
        type(array) is cnp.ndarray
        and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>array)
        and cnp.PyArray_ISSIGNED(<cnp.ndarray>array)
        and cnp.PyArray_ITEMSIZE(<cnp.ndarray>array) == 8
        and cnp.PyArray_ISINTEGER(<cnp.ndarray>array)
    )


cdef int type_code(cnp.ndarray array) noexcept:
    cdef int number = cnp.PyArray_TYPE(array)
    if number == cnp.NPY_FLOAT32:
        return FL_FLOAT32
    if number == cnp.NPY_FLOAT64:
        return FL_FLOAT64
    if number == cnp.NPY_FLOAT16:
        return FL_FLOAT16
    return FL_BFLOAT16


cdef void describe(fl_array *out, cnp.ndarray array, int axis) noexcept:
    """The array as rows along `axis`, neighbouring dimensions that can be walked as one merged."""
    cdef int ndim = cnp.PyArray_NDIM(array), d, last
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(array)
    cdef cnp.npy_intp *stride = cnp.PyArray_STRIDES(array)
    out.data = <char *>cnp.PyArray_DATA(array)
    out.dtype = type_code(array)
    out.itemsize = cnp.PyArray_ITEMSIZE(array)
    out.class_stride = stride[axis] if shape[axis] > 1 else out.itemsize
    out.ndim = 0
    for d in range(ndim):
        if d == axis or shape[d] == 1:
            continue
        last = out.ndim - 1
        if last >= 0 and out.stride[last] == shape[d] * stride[d]:
            out.shape[last] *= shape[d]
            out.stride[last] = stride[d]
        else:
            out.shape[out.ndim] = shape[d]
            out.stride[out.ndim] = stride[d]
            out.ndim += 1


cdef void clear(fl_array *out) noexcept:
    """No array."""
    out.data = NULL
    out.itemsize = out.class_stride = out.ndim = out.dtype = 0


cdef const void *pointer(object array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef ptrdiff_t up_to_line(ptrdiff_t size) noexcept nogil:
    return (size + 63) // 64 * 64


cdef const fl_softmax_kernels *softmax_kernels(const fl_softmax_job *job) noexcept nogil:
    # A softcap or a temperature rounds what its exponential magnifies. Short rows with smoothing or probabilities
    # have gradients that are small differences near the optimum, with no larger one beside them. Both are computed
    # in double from any type.
    cdef bint mass = job.probabilities.data != NULL or job.label_smoothing > 0.0
    cdef bint mapped = job.softcap > 0.0 or job.temperature != 1.0
    if job.input.dtype == FL_FLOAT64 or mapped or (mass and job.classes <= FL_SHORT_ROW):
        return &kernels.softmax_f64
    return &kernels.softmax_f32


cdef ptrdiff_t rows_in_piece(const fl_softmax_job *job) noexcept nogil:
    # Whole groups of lanes, so that only the last piece has an incomplete one.
    cdef ptrdiff_t rows = max(min(PIECE // job.classes, job.rows // PIECES), LEAST_PIECE // job.classes)
    if job.classes <= FL_SHORT_ROW:
        return (max(rows, 1) + FL_LANES - 1) // FL_LANES * FL_LANES
    return max(rows, 1)


cdef int survey(const fl_softmax_job *job, int threads, ptrdiff_t *first_bad, double *denominator) except -1 nogil:
    cdef ptrdiff_t step = 16384, pieces = (job.rows + step - 1) // step, piece
    cdef double *partial = <double *>malloc((pieces + 1) * sizeof(double))
    cdef ptrdiff_t *bad = <ptrdiff_t *>malloc((pieces + 1) * sizeof(ptrdiff_t))
    if partial == NULL or bad == NULL:
        free(partial)
        free(bad)
        with gil:
            raise MemoryError("survey of the targets")
    if threads > 1 and pieces > 1:
        for piece in prange(pieces, schedule="dynamic", chunksize=1, num_threads=threads):
            partial[piece] = survey_piece(job, piece, step, bad)
    else:
        for piece in range(pieces):
            partial[piece] = survey_piece(job, piece, step, bad)
    first_bad[0] = -1
    denominator[0] = 0.0
    for piece in range(pieces):
        denominator[0] += partial[piece]
        if first_bad[0] < 0:
            first_bad[0] = bad[piece]
    free(partial)
    free(bad)
    return 0


cdef double survey_piece(const fl_softmax_job *job, ptrdiff_t piece, ptrdiff_t step,
                         ptrdiff_t *bad) noexcept nogil:
    cdef ptrdiff_t end = (piece + 1) * step
    return kernels.survey(job, piece * step, end if end < job.rows else job.rows, bad + piece)


cdef double piece_of_rows(const fl_softmax_job *job, ptrdiff_t piece, ptrdiff_t step, char *scratch,
                          ptrdiff_t scratch_size) noexcept nogil:
    cdef ptrdiff_t end = (piece + 1) * step
    if end > job.rows:
        end = job.rows
    if job.operation == FL_NLL:
        return kernels.nll_rows(job, piece * step, end)
    if job.operation == FL_MULTI_MARGIN:
        return kernels.multi_margin_rows(job, piece * step, end, scratch + threadid() * scratch_size)
    return softmax_kernels(job).rows(job, piece * step, end, scratch + threadid() * scratch_size)


cdef double run_rows(const fl_softmax_job *job, int threads, double *partial, ptrdiff_t pieces, ptrdiff_t step,
                     char *scratch, ptrdiff_t scratch_size) noexcept nogil:
    cdef ptrdiff_t piece
    cdef double total = 0.0
    if threads > 1:
        for piece in prange(pieces, schedule="dynamic", chunksize=1, num_threads=threads):
            partial[piece] = piece_of_rows(job, piece, step, scratch, scratch_size)
    else:
        for piece in range(pieces):
            partial[piece] = piece_of_rows(job, piece, step, scratch, scratch_size)
    for piece in range(pieces):
        total += partial[piece]
    return total


cdef double run_shared_rows(const fl_softmax_job *job, int threads, char *scratch, char *buffers,
                            ptrdiff_t buffer_size, fl_softmax_row *rows) noexcept nogil:
    """Few long rows: every thread works on each row in turn.

    A thread has a view of the row of its own, in `rows`, and settles it by itself from the partial sums that all
    share: cheaper than leaving and entering a parallel region between the steps. A prange inside a parallel block
    does not wait for the other threads at its end, hence the barriers: before the maximum is chosen, before
    exponentials are written over what choosing reads, and before their sums are added.
    """
    cdef const fl_softmax_kernels *table = softmax_kernels(job)
    cdef ptrdiff_t index, block, blocks = (job.classes + FL_BLOCK - 1) // FL_BLOCK
    cdef int thread
    cdef double total = 0.0
    for index in range(job.rows):
        if not table.row_start(job, rows, index, scratch):
            continue
        for thread in range(threads):
            rows[thread] = rows[0]
            rows[thread].buffers = buffers + thread * buffer_size
        with parallel(num_threads=threads):
            for block in prange(blocks, schedule="static"):
                table.row_max(job, rows + threadid(), block)
            FL_BARRIER()
            table.row_choose(job, rows + threadid())
            FL_BARRIER()
            for block in prange(blocks, schedule="static"):
                table.row_sum(job, rows + threadid(), block)
            FL_BARRIER()
            table.row_settle(job, rows + threadid())
            if job.output.data != NULL:
                for block in prange(blocks, schedule="static"):
                    table.row_finish(job, rows + threadid(), block)
        if job.row_loss != NULL:
            job.row_loss[index] = rows[0].loss
        total += rows[0].loss
    return total


cdef double run(const fl_softmax_job *job, int threads) except? -1.0 nogil:
    cdef bint has_exponentials = job.operation != FL_NLL and job.operation != FL_MULTI_MARGIN
    cdef ptrdiff_t step = rows_in_piece(job), scratch_size = 0, buffer_size = 0, size
    cdef ptrdiff_t pieces = (job.rows + step - 1) // step
    # Only where a piece is a row anyway: the sum of the losses must not depend on who shared what.
    cdef bint shared = (
        threads > 1 and has_exponentials and step == 1 and job.rows < 4 * threads and job.classes >= SERIAL
    )
    cdef char *memory
    cdef char *scratch
    cdef double total
    if has_exponentials:
        scratch_size = up_to_line(softmax_kernels(job).scratch_bytes(job))
        buffer_size = softmax_kernels(job).buffer_bytes(job)
    elif job.operation == FL_MULTI_MARGIN:
        scratch_size = 2 * FL_BLOCK * sizeof(double)
    if threads > pieces and not shared:
        threads = <int>pieces
    # Scratch for each thread; or for the row that all share, with the buffers of each, and their views of it. Then
    # what the pieces leave behind.
    size = scratch_size + (threads - 1) * (buffer_size if shared else scratch_size)
    memory = <char *>malloc(64 + size + (threads * sizeof(fl_softmax_row) if shared else pieces * sizeof(double)))
    if memory == NULL:
        with gil:
            raise MemoryError("scratch rows")
    scratch = memory + (64 - <uintptr_t>memory % 64)
    if shared:
        total = run_shared_rows(
            job, threads, scratch, scratch + scratch_size - buffer_size, buffer_size,
            <fl_softmax_row *>(scratch + size),
        )
    else:
        total = run_rows(job, threads, <double *>(scratch + size), pieces, step, scratch, scratch_size)
    free(memory)
    return total


cdef double execute(fl_softmax_job *job, bint mean, int threads, ptrdiff_t *first_bad,
                    double *denominator) except? -1.0:
    """Survey the targets and, unless one is bad, run; returns the sum of the losses."""
    cdef ptrdiff_t size = job.rows * job.classes
    cdef double total
    first_bad[0] = -1
    denominator[0] = 0.0
    if size == 0:
        return 0.0
    threads = team_for(size, threads)
    if job.operation in (FL_CROSS_ENTROPY, FL_NLL, FL_MULTI_MARGIN) and job.elsewhere_lse == NULL:
        if size < SMALL:
            denominator[0] = kernels.survey(job, 0, job.rows, first_bad)
        else:
            with nogil:
                survey(job, threads, first_bad, denominator)
        if first_bad[0] >= 0:
            return 0.0
        if job.operation == FL_MULTI_MARGIN:
            denominator[0] = job.rows
        if mean:
            job.grad_scale /= denominator[0]
    # Not in place: the input has brought the lines near already. Not in rows that threads share. And not float16,
    # which is converted on its way.
    job.stream = (
        job.output.data != NULL and job.output.data != job.input.data and not job.accumulate
        and job.output.dtype != FL_FLOAT16
        and job.classes > FL_SHORT_ROW and size * job.output.itemsize >= STREAM and rows_in_piece(job) > 1
    )
    # Letting go of the interpreter lock pays only where there is work to do without it.
    if size < SMALL:
        return run(job, 1)
    with nogil:
        total = run(job, threads)
    return total


def softmax_family(
    int operation, cnp.ndarray input not None, int axis, output, target, probabilities, ignore_index,
    class_weight, sample_weight, grad_output, double grad_scale, hessian, bint mean,
    double label_smoothing, double z_loss, double softcap, double temperature, double margin, double power,
    bint accumulate, row_loss, elsewhere, int threads,
):
    """Run one job; returns (first row with a bad target or -1, sum of the losses, the mean's denominator).

    Where a target is bad nothing has been written. Arrays are None where absent; `target` is int64, the weights,
    `grad_output` and `row_loss` are float64, all contiguous; `input`, `output`, `probabilities` and `hessian` may
    have any strides. `mean` divides the gradient by the denominator. For bands of longer rows `elsewhere` is a tuple
    (log-sum-exp, mass, the classes of all bands): see kernels.h. Then the targets have been surveyed.
    """
    cdef fl_softmax_job job
    cdef ptrdiff_t first_bad
    cdef double total, denominator
    # Not zeroed as a whole: most of a job is room for shapes and strides.
    job.operation = operation
    job.accumulate = accumulate
    job.classes = cnp.PyArray_DIMS(input)[axis]
    job.rows = cnp.PyArray_SIZE(input) // job.classes if job.classes else 0
    describe(&job.input, input, axis)
    clear(&job.output)
    clear(&job.probabilities)
    clear(&job.hessian)
    if hessian is not None:
        describe(&job.hessian, hessian, axis)
    if output is not None:
        describe(&job.output, output, axis)
    if probabilities is not None:
        describe(&job.probabilities, probabilities, axis)
    job.target = <const int64_t *>pointer(target)
    job.has_ignore_index = ignore_index is not None
    job.ignore_index = ignore_index if job.has_ignore_index else 0
    job.class_weight = <const double *>pointer(class_weight)
    job.sample_weight = <const double *>pointer(sample_weight)
    job.grad_output = <const double *>pointer(grad_output)
    job.grad_scale = grad_scale
    job.label_smoothing = label_smoothing
    job.z_loss = z_loss
    job.softcap = softcap
    job.temperature = temperature
    job.margin = margin
    job.power = power
    job.row_loss = <double *>pointer(row_loss)
    job.elsewhere_lse = job.elsewhere_mass = NULL
    job.all_classes = job.classes
    if elsewhere is not None:
        job.elsewhere_lse = <const double *>pointer(elsewhere[0])
        job.elsewhere_mass = <const double *>pointer(elsewhere[1])
        job.all_classes = elsewhere[2]
    total = execute(&job, mean, threads, &first_bad, &denominator)
    return first_bad, total, denominator


KL = FL_KL
JS = FL_JS
TV = FL_TV


cdef double piece_of_divergence(const fl_divergence_job *job, const fl_divergence_kernels *table, ptrdiff_t piece,
                                ptrdiff_t step, char *scratch, ptrdiff_t size) noexcept nogil:
    cdef ptrdiff_t end = (piece + 1) * step
    return table.rows(job, piece * step, end if end < job.rows else job.rows, scratch + threadid() * size)


cdef double shared_divergence(const fl_divergence_job *job, const fl_divergence_kernels *table, int threads,
                              char *scratch, char *buffers) noexcept nogil:
    """Few long rows, all threads on each of them: see run_shared_rows."""
    cdef fl_divergence_row row
    cdef ptrdiff_t index, block, blocks = (job.classes + FL_BLOCK - 1) // FL_BLOCK
    cdef int k
    cdef double total = 0.0
    for index in range(job.rows):
        if job.counted != NULL and not job.counted[index]:
            total += table.rows(job, index, index + 1, scratch)
            continue
        table.start(job, &row, index, scratch)
        for k in range(FL_MAXIMA, FL_GRADIENTS + 1):
            if k == FL_TERMS and job.operation == FL_KL:
                continue
            if k == FL_GRADIENTS and job.x_gradient.data == NULL and job.t_gradient.data == NULL:
                continue
            for block in prange(blocks, schedule="static", num_threads=threads):
                table.block(job, &row, k, block, buffers + threadid() * table.buffer_bytes)
            table.settle(job, &row, k)
        if job.row_loss != NULL:
            job.row_loss[index] = row.loss
        total += row.loss
    return total


cdef double run_divergence(const fl_divergence_job *job, int threads) except? -1.0 nogil:
    cdef const fl_divergence_kernels *table
    cdef ptrdiff_t step = max(min(PIECE // job.classes, job.rows // PIECES), 1), size, piece
    cdef ptrdiff_t pieces = (job.rows + step - 1) // step
    cdef bint shared = threads > 1 and step == 1 and job.rows < 4 * threads and job.classes >= SERIAL
    cdef char *memory
    cdef char *scratch
    cdef double *partial
    cdef double total = 0.0
    table = &kernels.divergence_f64 if job.x.dtype == FL_FLOAT64 else &kernels.divergence_f32
    size = up_to_line(table.scratch_bytes(job))
    if threads > pieces and not shared:
        threads = <int>pieces
    memory = <char *>malloc(
        64 + size + (threads - 1) * (table.buffer_bytes if shared else size) + pieces * sizeof(double)
    )
    if memory == NULL:
        with gil:
            raise MemoryError("scratch rows")
    scratch = memory + (64 - <uintptr_t>memory % 64)
    if shared:
        total = shared_divergence(job, table, threads, scratch, scratch + size - table.buffer_bytes)
        free(memory)
        return total
    partial = <double *>(scratch + size * threads)
    if threads > 1:
        for piece in prange(pieces, schedule="dynamic", chunksize=1, num_threads=threads):
            partial[piece] = piece_of_divergence(job, table, piece, step, scratch, size)
    else:
        for piece in range(pieces):
            partial[piece] = piece_of_divergence(job, table, piece, step, scratch, size)
    for piece in range(pieces):
        total += partial[piece]
    free(memory)
    return total


def divergence(
    int operation, cnp.ndarray x not None, cnp.ndarray t not None, int axis, x_gradient, t_gradient, counted,
    grad_output, double grad_scale, double beta, double temperature, int accumulate, row_loss, int threads,
):
    """Run one job; returns the sum of the losses. Arrays are None where absent.

    `x` and `t` are of one shape and type, the gradients like them, with any strides; `counted` is bool,
    `grad_output` and `row_loss` are float64, all contiguous.
    """
    cdef fl_divergence_job job
    cdef ptrdiff_t size = cnp.PyArray_SIZE(x)
    cdef double total
    job.operation = operation
    job.accumulate = accumulate
    job.classes = cnp.PyArray_DIMS(x)[axis]
    if size == 0:
        return 0.0
    job.rows = size // job.classes
    describe(&job.x, x, axis)
    describe(&job.t, t, axis)
    clear(&job.x_gradient)
    clear(&job.t_gradient)
    if x_gradient is not None:
        describe(&job.x_gradient, x_gradient, axis)
    if t_gradient is not None:
        describe(&job.t_gradient, t_gradient, axis)
    job.counted = <const unsigned char *>pointer(counted)
    job.grad_output = <const double *>pointer(grad_output)
    job.grad_scale = grad_scale
    job.beta = beta
    job.temperature = temperature
    job.row_loss = <double *>pointer(row_loss)
    # Not in rows that threads share: each would have to wait for its stores.
    job.stream = (
        not accumulate and size * job.x.itemsize >= STREAM and job.x.itemsize > 2 and job.rows >= 4 * threads
        and job.x_gradient.data != job.x.data and job.t_gradient.data != job.t.data
        and job.x_gradient.data != job.t.data
    )
    threads = team_for(size, threads)
    if size < SMALL:
        return run_divergence(&job, 1)
    with nogil:
        total = run_divergence(&job, threads)
    return total


cdef bint are_apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two contiguous arrays share no memory."""
    cdef char *start_a = <char *>cnp.PyArray_DATA(a)
    cdef char *start_b = <char *>cnp.PyArray_DATA(b)
    return start_a + cnp.PyArray_NBYTES(a) <= start_b or start_b + cnp.PyArray_NBYTES(b) <= start_a


cdef object plain_gradient(cnp.ndarray x, cnp.ndarray target, return_grad, out):
    """Where the gradient of a plain call goes, False for nowhere; None where the rules on arguments must decide.

    `x` and `target` (None: there is no such array) are contiguous.
    """
    cdef int ndim = cnp.PyArray_NDIM(x)
    if return_grad is False and out is None:
        return False
    if return_grad is not True:
        return None
    if out is None:
        if cnp.PyArray_NBYTES(x) >= KEPT_BYTES:
            return None
        return PyArray_NewLikeArray(x, cnp.NPY_KEEPORDER, NULL, 0)
    if not (
        is_floating(out) and cnp.PyArray_ISCARRAY(<cnp.ndarray>out)
        and cnp.PyArray_TYPE(<cnp.ndarray>out) == cnp.PyArray_TYPE(x)
        and cnp.PyArray_NDIM(<cnp.ndarray>out) == ndim
        and cnp.PyArray_CompareLists(cnp.PyArray_DIMS(x), cnp.PyArray_DIMS(<cnp.ndarray>out), ndim)
        and (out is x or are_apart(x, out)) and (target is None or are_apart(target, out))
    ):
        return None
    return out


def plain_cross_entropy(logits, target, axis, ignore_index, reduction, return_grad, out, num_threads):
    """Cross-entropy of a plain call, or None: for a call that needs the rules on arguments, or breaks them.

    The work of a small call is far less than checking its arguments in Python. Here only what is valid at a glance
    goes through: contiguous arrays of the expected types, classes last, and (by the caller) no further option.
    `num_threads` is a function, called only where the work is enough to share.
    """
    cdef fl_softmax_job job
    cdef ptrdiff_t first_bad
    cdef double total, denominator, loss
    cdef cnp.ndarray x, y
    cdef int ndim, threads = 1
    cdef bint mean
    if not is_floating(logits) or not is_index(target) or type(axis) is not int or type(ignore_index) is not int:
        return None
    if type(reduction) is not str:
        return None
    mean = reduction == "mean"
    x = logits
    y = target
    ndim = cnp.PyArray_NDIM(x)
    if (
        ndim == 0 or cnp.PyArray_SIZE(x) == 0 or not cnp.PyArray_IS_C_CONTIGUOUS(x)
        or (axis != -1 and axis != ndim - 1)
        or cnp.PyArray_NDIM(y) != ndim - 1 or not (mean or reduction == "sum")
        or not cnp.PyArray_CompareLists(cnp.PyArray_DIMS(x), cnp.PyArray_DIMS(y), ndim - 1)
        or not -2**62 < ignore_index < 2**62
    ):
        return None
    out = plain_gradient(x, y, return_grad, out)
    if out is None:
        return None
    clear(&job.output)
    if out is not False:
        describe(&job.output, out, ndim - 1)
    job.operation = FL_CROSS_ENTROPY
    job.accumulate = False
    job.classes = cnp.PyArray_DIMS(x)[ndim - 1]
    job.rows = cnp.PyArray_SIZE(x) // job.classes
    describe(&job.input, x, ndim - 1)
    clear(&job.probabilities)
    clear(&job.hessian)
    job.target = <const int64_t *>cnp.PyArray_DATA(y)
    job.has_ignore_index = True
    job.ignore_index = ignore_index
    job.class_weight = job.sample_weight = job.grad_output = job.elsewhere_lse = job.elsewhere_mass = NULL
    job.all_classes = job.classes
    job.grad_scale = job.temperature = 1.0
    job.label_smoothing = job.z_loss = job.softcap = 0.0
    job.row_loss = NULL
    if cnp.PyArray_SIZE(x) >= SERIAL:
        threads = num_threads()
    total = execute(&job, mean, threads, &first_bad, &denominator)
    if first_bad >= 0:
        return None
    loss = total
    if mean:
        loss = total / denominator if denominator else NAN
    return loss if out is False else (loss, out)


# The elementwise losses by name: (line of losses.def, domain of the target).
ELEMENTWISE = {}
cdef int _line = 0
while fl_losses[_line].name != NULL:
    ELEMENTWISE[fl_losses[_line].name.decode()] = (_line, fl_losses[_line].domain)
    _line += 1

ANY = FL_ANY
UNIT = FL_UNIT
SIGN = FL_SIGN
NONNEGATIVE = FL_NONNEGATIVE
STRICTLY_POSITIVE = FL_STRICTLY_POSITIVE
ABOVE_MINUS_ONE = FL_ABOVE_MINUS_ONE

# Elements for one piece of work, a multiple of FL_BLOCK.
cdef ptrdiff_t ELEMENTS = 65536
cdef enum:
    ARRAYS = 8


cdef ptrdiff_t describe_together(fl_array **out, tuple arrays) noexcept:
    """Arrays of one shape as rows of the same elements, in an order that suits the first; returns a row's length.

    Axes along which all can be walked as one are merged. An array without gaps in that order is one long row.
    """
    cdef cnp.ndarray first = arrays[0], array
    cdef int ndim = cnp.PyArray_NDIM(first), axes = 0, merged = 0, d, k, axis
    cdef int order[FL_MAX_DIMS]
    cdef ptrdiff_t inner = 1, expected
    cdef bint joins
    for d in range(ndim):
        if cnp.PyArray_DIMS(first)[d] == 1:
            continue
        k = axes
        while k > 0 and abs(cnp.PyArray_STRIDES(first)[order[k - 1]]) < abs(cnp.PyArray_STRIDES(first)[d]):
            order[k] = order[k - 1]
            k -= 1
        order[k] = d
        axes += 1
    for k in range(ARRAYS):
        out[k].data = NULL
        out[k].ndim = 0
        if arrays[k] is None:
            continue
        array = arrays[k]
        out[k].data = <char *>cnp.PyArray_DATA(array)
        out[k].dtype = type_code(array)
        out[k].itemsize = out[k].class_stride = cnp.PyArray_ITEMSIZE(array)
    for d in range(axes):
        axis = order[d]
        joins = d > 0
        for k in range(ARRAYS):
            if arrays[k] is not None and joins:
                array = arrays[k]
                joins = out[k].stride[merged - 1] == (
                    cnp.PyArray_DIMS(array)[axis] * cnp.PyArray_STRIDES(array)[axis]
                )
        for k in range(ARRAYS):
            if arrays[k] is None:
                continue
            array = arrays[k]
            if joins:
                out[k].shape[merged - 1] *= cnp.PyArray_DIMS(array)[axis]
                out[k].stride[merged - 1] = cnp.PyArray_STRIDES(array)[axis]
            else:
                out[k].shape[merged] = cnp.PyArray_DIMS(array)[axis]
                out[k].stride[merged] = cnp.PyArray_STRIDES(array)[axis]
        merged += not joins
    if merged == 0:
        return inner
    inner = out[0].shape[merged - 1]
    for k in range(ARRAYS):
        if out[k].data == NULL:
            continue
        out[k].class_stride = out[k].stride[merged - 1]
        out[k].ndim = 0
        expected = out[k].itemsize
        for d in range(merged - 1, -1, -1):
            if out[k].stride[d] != expected:
                out[k].ndim = merged - 1
            expected *= out[k].shape[d]
    return inner


# What is done with each piece: domains are checked, losses are computed, both, or weights are added up.
cdef enum:
    CHECK = 1
    COMPUTE = 2
    ADD_WEIGHTS = 4

cdef struct piece_result:
    double total
    int outside


cdef piece_result element_piece(const fl_element_job *job, const fl_element_kernels *table, int work,
                                const int *domains, ptrdiff_t piece, char *buffers) noexcept nogil:
    """A sum, and which of input, target and third are outside of their domains (as bits)."""
    cdef ptrdiff_t begin = piece * ELEMENTS
    cdef ptrdiff_t end = begin + ELEMENTS if begin + ELEMENTS < job.size else job.size
    cdef const fl_array *arrays[3]
    cdef piece_result result
    cdef int k, target_outside = 0
    result.total = 0.0
    result.outside = 0
    if work & COMPUTE:
        result.total = table.elements(job, begin, end, &target_outside, buffers)
    if work & CHECK:
        arrays[0] = &job.input
        arrays[1] = &job.target
        arrays[2] = &job.third
        for k in range(3):
            if domains[k] == FL_ANY or arrays[k].data == NULL:
                continue
            if k == 1 and work & COMPUTE and domains[k] == fl_losses[job.loss].domain:
                result.outside |= target_outside << k
            else:
                result.outside |= (
                    table.first_outside(job, arrays[k], domains[k], begin, end, buffers) >= 0
                ) << k
    if work & ADD_WEIGHTS:
        result.total = table.sum(job, &job.weight, begin, end, buffers)
    return result


cdef piece_result over_elements(const fl_element_job *job, const fl_element_kernels *table, int work,
                                const int *domains, int threads) except * nogil:
    """All pieces; sums are added in order."""
    cdef ptrdiff_t pieces = (job.size + ELEMENTS - 1) // ELEMENTS, piece, size = up_to_line(table.buffer_bytes(job))
    cdef piece_result result
    cdef piece_result *results
    cdef char *memory
    cdef char *buffers
    if threads > pieces:
        threads = <int>pieces
    # Buffers for each thread, then what the pieces leave behind.
    memory = <char *>malloc(64 + threads * size + pieces * sizeof(piece_result))
    if memory == NULL:
        with gil:
            raise MemoryError("buffers")
    buffers = memory + (64 - <uintptr_t>memory % 64)
    results = <piece_result *>(buffers + threads * size)
    if threads > 1:
        for piece in prange(pieces, schedule="dynamic", chunksize=1, num_threads=threads):
            results[piece] = element_piece(job, table, work, domains, piece, buffers + threadid() * size)
    else:
        for piece in range(pieces):
            results[piece] = element_piece(job, table, work, domains, piece, buffers)
    result.total = 0.0
    result.outside = 0
    for piece in range(pieces):
        result.total += results[piece].total
        result.outside |= results[piece].outside
    free(memory)
    return result


cdef piece_result do_elements(const fl_element_job *job, const fl_element_kernels *table, int work,
                              const int *domains, int threads) except *:
    # Letting go of the interpreter lock pays only where there is work to do without it.
    cdef piece_result result
    threads = team_for(job.size, threads)
    if job.size < SMALL:
        return over_elements(job, table, work, domains, 1)
    with nogil:
        result = over_elements(job, table, work, domains, threads)
    return result


cdef double execute_elements(fl_element_job *job, bint wide, const int *domains, bint is_fresh, bint mean,
                             bint mean_over_weights, int threads, int *bad, double *denominator) except? -1.0:
    """Run a job whose arrays are described; returns the sum of its losses.

    `domains` are those of input, target and third; `bad` becomes the first of them that is left, or -1. Then nothing
    has been written, unless `is_fresh`: the caller will throw away what the job writes to. The job's scale becomes
    that of the derivatives.
    """
    cdef const fl_element_kernels *table = &kernels.elements_f64 if wide else &kernels.elements_f32
    cdef piece_result result
    cdef bint is_checked = domains[0] != FL_ANY or domains[1] != FL_ANY or domains[2] != FL_ANY
    cdef int work = COMPUTE
    result.outside = 0
    denominator[0] = job.size
    if is_checked and is_fresh:
        work |= CHECK
    elif is_checked:
        result = do_elements(job, table, CHECK, domains, threads)
    if not result.outside:
        if job.weight.data != NULL and mean and mean_over_weights:
            denominator[0] = do_elements(job, table, ADD_WEIGHTS, domains, threads).total
        if mean:
            # Weights that add up to 0: an element without weight has no gradient, any other an infinite one.
            job.scale = job.scale / denominator[0] if denominator[0] else INFINITY
        job.stream = (
            job.first.data != NULL and job.first.data != job.input.data and not job.accumulate
            and job.size * job.first.itemsize >= STREAM
        )
        result = do_elements(job, table, work, domains, threads)
    bad[0] = -1
    while result.outside:
        bad[0] += 1
        result.outside = 0 if result.outside & 1 else result.outside >> 1
    return result.total


def elementwise(
    int loss, bint wide, tuple arrays, tuple domains, double target_value, double third_value,
    double a, double b, double grad_scale, bint is_fresh, bint mean, bint mean_over_weights, int accumulate,
    int threads,
):
    """Run one job; returns (what lies outside of its domain or -1, sum of the losses, the mean's denominator).

    `arrays` are input, target, third, weight, upstream, first, second, losses: of one shape (broadcast, if need be),
    or None. `domains` are those of the first three; where one is left nothing has been written, unless `is_fresh`.
    `wide` computes in double from any type.
    """
    cdef fl_element_job job
    cdef fl_array *out[ARRAYS]
    cdef int allowed[3]
    cdef int bad
    cdef double total, denominator
    out[:] = [&job.input, &job.target, &job.third, &job.weight, &job.upstream, &job.first, &job.second, &job.losses]
    job.loss = loss
    job.accumulate = accumulate
    job.size = cnp.PyArray_SIZE(<cnp.ndarray>arrays[0])
    if job.size == 0:
        return -1, 0.0, 0.0
    job.inner = describe_together(out, arrays)
    job.target_value = target_value
    job.third_value = third_value
    job.parameter[0] = a
    job.parameter[1] = b
    job.scale = grad_scale
    allowed[:] = [domains[0], domains[1], domains[2]]
    total = execute_elements(
        &job, wide, allowed, is_fresh, mean, mean_over_weights, threads, &bad, &denominator
    )
    return bad, total, denominator


cdef void describe_straight(fl_array *out, cnp.ndarray array) noexcept:
    """An array without gaps as one row."""
    out.data = <char *>cnp.PyArray_DATA(array)
    out.dtype = type_code(array)
    out.itemsize = out.class_stride = cnp.PyArray_ITEMSIZE(array)
    out.ndim = 0


def plain_elementwise(
    int loss, bint wide, int input_domain, int target_domain, double a, double b, values, target,
    reduction, return_grad, out, num_threads,
):
    """An elementwise loss of a plain call, or None: for a call that needs the rules on arguments, or breaks them.

    As `plain_cross_entropy`: contiguous arrays of one type and shape (or a number as target), and no further option.
    """
    cdef fl_element_job job
    cdef int allowed[3]
    cdef int bad, ndim, threads = 1
    cdef double total, denominator
    cdef cnp.ndarray x, y = None
    cdef bint mean = type(reduction) is str and reduction == "mean", is_fresh
    if not is_floating(values) or type(reduction) is not str or not (mean or reduction == "sum"):
        return None
    x = values
    ndim = cnp.PyArray_NDIM(x)
    job.size = cnp.PyArray_SIZE(x)
    if ndim == 0 or job.size == 0 or not cnp.PyArray_IS_C_CONTIGUOUS(x):
        return None
    job.target.data = NULL
    job.target_value = 0.0
    if type(target) is float and target_domain == FL_ANY:
        job.target_value = target
    elif is_floating(target):
        y = target
        if (
            cnp.PyArray_TYPE(y) != cnp.PyArray_TYPE(x) or not cnp.PyArray_IS_C_CONTIGUOUS(y)
            or cnp.PyArray_NDIM(y) != ndim
            or not cnp.PyArray_CompareLists(cnp.PyArray_DIMS(x), cnp.PyArray_DIMS(y), ndim)
        ):
            return None
        describe_straight(&job.target, y)
    else:
        return None
    is_fresh = out is None
    out = plain_gradient(x, y, return_grad, out)
    if out is None:
        return None
    job.first.data = NULL
    if out is not False:
        describe_straight(&job.first, out)
    job.loss = loss
    job.accumulate = False
    job.inner = job.size
    describe_straight(&job.input, x)
    job.third.data = job.weight.data = job.upstream.data = job.second.data = job.losses.data = NULL
    job.third_value = job.scale = 1.0
    job.parameter[0] = a
    job.parameter[1] = b
    if job.size >= SERIAL:
        threads = num_threads()
    allowed[:] = [input_domain, target_domain, FL_ANY]
    total = execute_elements(
        &job, wide or job.input.dtype == FL_FLOAT64, allowed, is_fresh, mean, False, threads, &bad, &denominator
    )
    if bad >= 0:
        return None
    if mean:
        total /= denominator
    return total if out is False else (total, out)


def total(cnp.ndarray values not None, int threads):
    """The sum of float64 values, added up as those of a loss are."""
    cdef fl_element_job job
    cdef int domains[3]
    job.size = cnp.PyArray_SIZE(values)
    job.inner = job.size
    if job.size == 0:
        return 0.0
    describe_straight(&job.weight, values)
    domains[:] = [FL_ANY, FL_ANY, FL_ANY]
    return do_elements(&job, &kernels.elements_f64, ADD_WEIGHTS, domains, threads).total


# Pairs up to which a plain call takes one block and one thread.
cdef enum:
    PAIRS = 2048


def plain_pairs(
    int loss, double a, double b, double target, double scale, double offset, tuple arrays, reduction, return_grad
):
    """A loss of scale * D - offset, where D is the difference of four log-probabilities or of two, of a plain call.

    Returns the loss, or (loss, gradient of the first, of the second); None for a call that needs the rules on
    arguments: as `plain_cross_entropy`. The target is a number.
    """
    cdef fl_element_job job
    cdef double *z
    cdef double *slope
    cdef const void *data[4]
    cdef int anywhere[3]
    cdef int bad, k = 0, number
    cdef double denominator, loss_sum, factor = 1.0
    cdef cnp.ndarray x = None, chosen, rejected
    cdef const fl_element_kernels *table
    if type(reduction) is not str or not (reduction == "mean" or reduction == "sum"):
        return None
    if return_grad is not True and return_grad is not False:
        return None
    for array in arrays:
        if not is_floating(array) or not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>array):
            return None
        if x is None:
            x = array
            if cnp.PyArray_NDIM(x) != 1:
                return None
        elif (
            cnp.PyArray_TYPE(<cnp.ndarray>array) != cnp.PyArray_TYPE(x) or cnp.PyArray_NDIM(<cnp.ndarray>array) != 1
            or cnp.PyArray_DIMS(<cnp.ndarray>array)[0] != cnp.PyArray_DIMS(x)[0]
        ):
            return None
        data[k] = cnp.PyArray_DATA(<cnp.ndarray>array)
        k += 1
    if k == 2:
        data[2] = data[3] = NULL
    number = cnp.PyArray_TYPE(x)
    job.size = cnp.PyArray_SIZE(x)
    if not 0 < job.size <= PAIRS or number not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        return None
    table = &kernels.elements_f32 if number == cnp.NPY_FLOAT32 else &kernels.elements_f64
    # Not on the stack, of which threads may have little.
    z = <double *>malloc(2 * job.size * sizeof(double))
    if z == NULL:
        raise MemoryError("differences")
    slope = z + job.size
    table.pair_differences(data, scale, offset, z, job.size)
    job.loss = loss
    job.accumulate = False
    job.inner = job.size
    job.input.data = <char *>z
    job.input.dtype = FL_FLOAT64
    job.input.itemsize = job.input.class_stride = sizeof(double)
    job.input.ndim = 0
    job.first = job.input
    job.first.data = <char *>slope if return_grad else NULL
    job.target.data = job.third.data = job.weight.data = job.upstream.data = NULL
    job.second.data = job.losses.data = NULL
    job.target_value = target
    job.third_value = job.scale = 1.0
    job.parameter[0] = a
    job.parameter[1] = b
    anywhere[:] = [FL_ANY, FL_ANY, FL_ANY]
    loss_sum = execute_elements(&job, True, anywhere, True, False, False, 1, &bad, &denominator)
    if reduction == "mean":
        factor = 1.0 / job.size
        loss_sum *= factor
    if not return_grad:
        free(z)
        return loss_sum
    chosen = cnp.PyArray_EMPTY(1, cnp.PyArray_DIMS(x), number, 0)
    rejected = cnp.PyArray_EMPTY(1, cnp.PyArray_DIMS(x), number, 0)
    table.pair_gradients(slope, scale, factor, cnp.PyArray_DATA(chosen), cnp.PyArray_DATA(rejected), job.size)
    free(z)
    return loss_sum, chosen, rejected


def vecmath(str name, cnp.ndarray x not None, cnp.ndarray out not None):
    """An elementary function of the kernels in use over contiguous arrays, for the tests of its error."""
    cdef const fl_function *function = kernels.functions
    cdef bytes wanted = name.encode()
    while function.name != NULL and function.name != wanted:
        function += 1
    if function.name == NULL:
        raise ValueError(f"no function named {name!r}")
    function.apply(cnp.PyArray_DATA(x), cnp.PyArray_DATA(out), cnp.PyArray_SIZE(x))
