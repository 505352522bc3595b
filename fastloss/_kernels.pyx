# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The interface between Python and C: pointers, types, and the distribution of work over threads.

The callers have checked every argument. Only this module uses OpenMP. Rows are distributed in small dynamic
pieces, because in a training loop the threads of another library may still be spinning on some of the cores.
No result depends on the distribution: every piece has its own partial sum, and the partial sums are added in
order.
"""

import os
import threading
import warnings

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.pythread cimport PyThread_get_thread_ident
from cython.parallel cimport parallel, prange, threadid
from libc.float cimport DBL_MAX
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uint32_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport numpy as cnp
import numpy as np

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray, cnp.NPY_ORDER, void *, int)

cdef extern from "samples.h" nogil:
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
        FL_UNFOCUSED
        FL_FOCAL
        FL_POLY
        FL_GENERALIZED
        FL_ANY
        FL_DOMAINS
        FL_OPERANDS
        FL_BLOCK
        FL_SHORT_ROW
        FL_MIDDLE_ROW
        FL_LANES
        FL_MAX_DIMS
        FL_PIPELINE
        FL_TARGET_SCRATCH
        FL_CONTRAST_COLUMNS
        FL_CONTRAST_SCRATCH
        FL_TIME_BUCKETS
        FL_TIME_SCRATCH
        FL_NEGATIVE_BINOMIAL
        FL_STUDENT_T
        FL_NORMAL
        FL_VECTORS
        FL_PAIR_SCRATCH

    struct fl_array:
        char *data
        int dtype, ndim
        ptrdiff_t itemsize, class_stride
        const ptrdiff_t *shape
        const ptrdiff_t *stride

    struct fl_piece:
        double total
        ptrdiff_t fault

    ctypedef fl_piece (*fl_work)(const void *, ptrdiff_t, ptrdiff_t, void *) noexcept nogil
    ctypedef void (*fl_drain)(const void *, void *) noexcept nogil

    struct fl_rows:
        ptrdiff_t count, classes
        int accumulate, stream
        fl_array input, output
        const double *grad_output
        double grad_scale
        double *losses

    struct fl_targets:
        const int64_t *index
        ptrdiff_t classes
        int has_ignored, has_elsewhere
        int64_t ignored
        const double *class_weight
        const double *sample_weight
        const float *narrow_weight
        double all_weights
        fl_array probabilities
        double smoothing

    struct fl_map:
        double softcap, temperature

    struct fl_band:
        const double *lse
        const double *mass
        ptrdiff_t all_classes

    struct fl_focusing:
        int kind
        double by

    struct fl_softmax_job:
        int operation
        fl_rows rows
        fl_map map
        fl_targets targets
        fl_band band
        double z_loss
        fl_focusing focusing
        fl_array hessian

    struct fl_target_job:
        fl_rows rows
        fl_targets targets
        double margin, power

    struct fl_softmax_row:
        double loss
        char *buffers

    struct fl_softmax_kernels:
        ptrdiff_t (*scratch_bytes)(const fl_softmax_job *) noexcept nogil
        ptrdiff_t (*buffer_bytes)(const fl_softmax_job *) noexcept nogil
        int (*suits)(const fl_softmax_job *) noexcept nogil
        int (*is_fused)(const fl_softmax_job *) noexcept nogil
        fl_work rows
        fl_drain drain
        int (*row_start)(const fl_softmax_job *, fl_softmax_row *, ptrdiff_t, void *) noexcept nogil
        void (*row_max)(const fl_softmax_job *, fl_softmax_row *, ptrdiff_t) noexcept nogil
        int (*row_choose)(const fl_softmax_job *, fl_softmax_row *) noexcept nogil
        void (*row_sum)(const fl_softmax_job *, fl_softmax_row *, ptrdiff_t) noexcept nogil
        void (*row_settle)(const fl_softmax_job *, fl_softmax_row *) noexcept nogil
        void (*row_finish)(const fl_softmax_job *, fl_softmax_row *, ptrdiff_t) noexcept nogil

    enum:
        FL_ROW_ENTROPY
        FL_STATISTICS

    struct fl_statistics_job:
        fl_rows rows
        fl_map map
        fl_targets targets
        const double *entropy_upstream
        double entropy_scale
        double *statistics
        int is_given, has_all

    struct fl_statistics_row:
        pass

    struct fl_statistics_kernels:
        ptrdiff_t (*scratch_bytes)(const fl_statistics_job *) noexcept nogil
        ptrdiff_t buffer_bytes
        fl_work rows
        int (*start)(const fl_statistics_job *, fl_statistics_row *, ptrdiff_t, void *) noexcept nogil
        void (*sum)(const fl_statistics_job *, fl_statistics_row *, ptrdiff_t, void *) noexcept nogil
        void (*settle)(const fl_statistics_job *, fl_statistics_row *, void *) noexcept nogil
        void (*finish)(const fl_statistics_job *, fl_statistics_row *, ptrdiff_t, void *) noexcept nogil

    enum:
        FL_KL
        FL_JS
        FL_TV
        FL_MAXIMA
        FL_TERMS
        FL_GRADIENTS

    struct fl_divergence_job:
        int operation
        fl_rows rows
        fl_array t, t_gradient
        const unsigned char *counted
        fl_map x_map, t_map
        double beta

    struct fl_divergence_row:
        double loss

    struct fl_divergence_kernels:
        ptrdiff_t (*scratch_bytes)(const fl_divergence_job *) noexcept nogil
        ptrdiff_t buffer_bytes
        fl_work rows
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
        int domains[FL_OPERANDS]
        int is_checked
        double *weight_sums
        ptrdiff_t piece

    struct fl_element_kernels:
        ptrdiff_t (*buffer_bytes)(const fl_element_job *) noexcept nogil
        fl_work elements
        fl_work check
        fl_work weights
        void (*pair_differences)(const void **, double, double, double *, ptrdiff_t) noexcept nogil
        void (*pair_gradients)(const double *, double, double, void *, void *, ptrdiff_t) noexcept nogil

    struct fl_contrast_job:
        ptrdiff_t rows, columns, row_stride
        void *z
        double rate, scale, bias
        double *top
        double *sum
        const double *factor
        const double *row_lse
        const void *column_factor
        const void *column_high
        const void *column_low
        double *row_sums

    struct fl_contrast_kernels:
        fl_work columns
        fl_work both
        fl_work pairs

    struct fl_loss:
        const char *name
        int domain

    const fl_loss *fl_losses

    struct fl_domain:
        const char *name
        const char *expected

    const fl_domain *fl_domains

    struct fl_function:
        const char *name
        void (*apply)(const void *, void *, ptrdiff_t) noexcept nogil

    struct fl_list_job:
        ptrdiff_t queries, longest
        const int64_t *bounds
        int accumulate, has_value
        double scale
        const double *upstream
        double *losses
        fl_array scores, relevance, gradient, hessian
        int normalize
        double sigmoid
        ptrdiff_t truncation_level, levels
        const int *labels
        const double *label_gain
        const double *discounts

    struct fl_list_kernels:
        ptrdiff_t (*scratch_bytes)(const fl_list_job *) noexcept nogil
        fl_work list_net
        fl_work lambda_rank

    struct fl_timed:
        double time

    struct fl_order_job:
        ptrdiff_t rows, piece
        const double *time
        double *bounds
        double low, rate
        uint32_t buckets
        uint32_t *counts
        uint32_t *starts
        fl_timed *items
        fl_timed *spare
        uint32_t *order
        double *sorted

    struct fl_cox_segment:
        pass

    struct fl_cox_job:
        ptrdiff_t rows
        int is_efron, accumulate
        double scale
        fl_array log_hazard, gradient, hessian
        const uint32_t *order
        const double *time
        const int64_t *stratum
        const unsigned char *event
        const double *weight
        const double *upstream
        double *losses
        double *x
        double *hazard
        double *sum
        double *levels
        double *mass
        double *pull
        unsigned char *flags
        ptrdiff_t piece
        fl_cox_segment *segments

    struct fl_survival_kernels:
        fl_work survey
        fl_work count
        fl_work starts
        fl_work spread
        fl_work arrange
        fl_work gather
        int (*divide)(const fl_cox_job *) noexcept nogil
        fl_work scan
        fl_work weigh
        fl_work segments
        fl_work finish

    struct fl_distribution_job:
        fl_element_job elements
        fl_array fourth, last
        double fourth_value
        int distribution, is_full
        double *sums

    struct fl_objective_job:
        int distribution
        fl_array label, weight
        fl_array[3] scores, gradients, hessians

    struct fl_distribution_kernels:
        ptrdiff_t buffer_bytes, objective_bytes
        fl_work elements
        fl_work objective

    struct fl_pair_job:
        ptrdiff_t count, width
        int accumulate, stream, has_gradients, swap
        fl_array vectors[FL_VECTORS]
        fl_array gradients[FL_VECTORS]
        const double *target
        const double *grad_output
        double grad_scale
        double *losses
        double margin, p, eps

    struct fl_pair_kernels:
        fl_work cosine
        fl_work triplet

    struct fl_label_job:
        fl_rows rows
        const int64_t *target

    struct fl_ctc_job:
        ptrdiff_t batch, steps, classes, blank
        int has_logits, zero_infinity, accumulate, stream
        fl_array input, output
        const int64_t *labels
        const int64_t *starts
        const int64_t *labels_of
        const int64_t *steps_of
        ptrdiff_t most_labels, most_steps
        const double *factor
        double *losses

    struct fl_samples:
        const char *name
        fl_list_kernels lists
        fl_survival_kernels survival
        fl_distribution_kernels distribution
        const fl_function *functions
        fl_pair_kernels pairs_f32, pairs_f64
        fl_work labels_f32
        fl_work labels_f64
        fl_work label_survey
        ptrdiff_t (*ctc_scratch_bytes)(const fl_ctc_job *) noexcept nogil
        fl_work ctc

    struct fl_kernels:
        const char *name
        fl_softmax_kernels softmax_f32, softmax_f64
        fl_statistics_kernels statistics_f32, statistics_f64
        fl_divergence_kernels divergence_f32, divergence_f64
        fl_element_kernels elements_f32, elements_f64
        fl_contrast_kernels contrast_f32, contrast_f64
        fl_work nll_rows
        fl_work margin_rows
        fl_work sparsemax_rows
        fl_work survey
        const fl_function *functions
        const fl_samples *samples

    int fl_machine_level()
    int fl_machine_has_bfloat16()
    int fl_uses_bfloat16
    const fl_kernels *fl_kernels_of_level(int)
    ptrdiff_t fl_cache_bytes(int)
    ptrdiff_t fl_stream_bytes(ptrdiff_t)

cdef extern from "process.h" nogil:
    void fl_process_begin() noexcept
    void fl_process_stay_serial() noexcept
    int fl_team(int) noexcept
    int fl_openmp_is_missing() noexcept
    const char *fl_openmp_library() noexcept

cdef extern from "calls.h" nogil:
    struct fl_call:
        ptrdiff_t pieces
        int stopped

    struct fl_place:
        pass

    void fl_call_begin(fl_call *, int (*)(void *) noexcept, void *) noexcept
    void fl_call_part(fl_call *, ptrdiff_t, ptrdiff_t) noexcept
    int fl_call_looks(fl_call *) noexcept
    void fl_work_begin(fl_call *, int, fl_place *) noexcept
    void fl_work_end(const fl_place *) noexcept
    ptrdiff_t fl_work_take(fl_call *) noexcept
    void fl_work_done(fl_call *) noexcept
    int fl_work_is_complete(fl_call *) noexcept
    void fl_work_wait(fl_call *) noexcept

cdef extern from *:
    """
    /* Runs the handlers of signals in a thread that has released the interpreter lock, as `state` did. */
    static int fl_run_handlers(void *state)
    {
        int raised;
        PyEval_RestoreThread((PyThreadState *)state);
        raised = PyErr_CheckSignals() != 0;
        PyEval_SaveThread();
        return raised;
    }
    """
    int fl_run_handlers(void *) noexcept nogil
    void *PyThreadState_Get() noexcept

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
    #ifdef FASTLOSS_OPENMP_DYNAMIC
    #define FL_OPENMP_IS_DYNAMIC 1
    #else
    #define FL_OPENMP_IS_DYNAMIC 0
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
    bint FL_OPENMP_IS_DYNAMIC
    void FL_BARRIER() noexcept nogil

COMPILER = FL_COMPILER.decode().strip()
OPENMP = FL_OPENMP_DATE
OPENMP_IS_DYNAMIC = FL_OPENMP_IS_DYNAMIC
LEVELS = ("baseline", "avx2", "avx512")
MACHINE_LEVEL = fl_machine_level()
MACHINE_HAS_BFLOAT16 = bool(fl_machine_has_bfloat16())
BUILT_LEVELS = tuple(level for level in range(3) if fl_kernels_of_level(level) != NULL)
# Bytes of the data caches of level 1 to 3; 0 where none is known.
CACHES = tuple([fl_cache_bytes(level) for level in range(1, 4)])

CROSS_ENTROPY = FL_CROSS_ENTROPY
SOFTMAX = FL_SOFTMAX
LOG_SOFTMAX = FL_LOG_SOFTMAX
LOGSUMEXP = FL_LOGSUMEXP
ENTROPY = FL_ENTROPY
# Losses that are functions of the cross-entropy.
UNFOCUSED = FL_UNFOCUSED
FOCAL = FL_FOCAL
POLY = FL_POLY
GENERALIZED = FL_GENERALIZED

# Elements of one piece of work: enough that scheduling costs nothing in comparison, and that most rows have
# their successor in the same piece (it is prefetched). And the smallest number of pieces of a call, so that
# the last piece does not keep the other threads waiting. Neither depends on the number of threads, because
# sums follow pieces.
cdef ptrdiff_t PIECE = 524288
cdef ptrdiff_t PIECES = 32
# Elements below which a piece is too short for the overlap of its rows. (32 rows of 1000: 15.6 us instead of
# 18.2.)
cdef ptrdiff_t LEAST_PIECE = 4096
# Size in bytes from which output is written past the caches, as it exceeds them; see `stream_from`.
cdef ptrdiff_t STREAM = fl_stream_bytes(max(CACHES))
# Elements below which a second thread costs more than it saves, and classes below which threads that share a row
# do, as they wait for each other. Waking a thread that spins takes a few microseconds, one that sleeps some fifty.
# (Measured, cross-entropy with its gradient, two sleeping threads over one: 128 rows of 1000 in 1.2 of the time, 256
# rows in 0.87, 512 rows in 0.74; a row of 500,000 in 1.1, of 1,000,000 in 0.76.)
cdef bint THREADS_SLEEP = os.environ.get("OMP_WAIT_POLICY", "").strip().lower() == "passive"
cdef ptrdiff_t SERIAL = 196608 if THREADS_SLEEP else 32768
cdef ptrdiff_t SHARED_ROW = 786432 if THREADS_SLEEP else 32768
# Elements below which releasing the interpreter lock, and checking arguments in Python, cost more than the
# work.
cdef ptrdiff_t SMALL = 4096
# Size in bytes of an array from which its memory is kept for the next call (see _engine/workspace.py).
cdef ptrdiff_t KEPT_BYTES = 4194304
KEPT = KEPT_BYTES

cdef const fl_kernels *kernels = fl_kernels_of_level(0)
fl_process_begin()
NO_RUNTIME = (
    "fastloss found no OpenMP runtime (libgomp.so.1), so it uses one thread. Install it (the system's package "
    "libgomp1 or libgomp), or import a package that has one, as torch, before the first large call."
)


# The only thread in which Python runs the handlers of signals.
cdef unsigned long main_thread = threading.main_thread().ident


def _after_fork_in_child():
    global main_thread
    fl_process_stay_serial()
    main_thread = PyThread_get_thread_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


cdef bint told_of_no_runtime = False


cdef int team_for(ptrdiff_t size, int threads) except -1:
    """Return the number of threads for a number of elements."""
    global told_of_no_runtime
    cdef int team = fl_team(threads) if size >= SERIAL else 1
    if team == 1 and not told_of_no_runtime and fl_openmp_is_missing():
        told_of_no_runtime = True
        warnings.warn(NO_RUNTIME, RuntimeWarning, stacklevel=2)
    return team


def openmp_library():
    """Return the file of the OpenMP runtime, or None if it is unknown; an empty string if there is none."""
    cdef const char *path = fl_openmp_library()
    if path != NULL:
        return os.fsdecode(path)
    return "" if fl_openmp_is_missing() else None


def use_level(int level):
    """Select the kernels of a level (an index into LEVELS) and return the previous level."""
    global kernels
    cdef int level_before = 0
    while fl_kernels_of_level(level_before) != kernels:
        level_before += 1
    if level > MACHINE_LEVEL or level not in BUILT_LEVELS:
        raise ValueError(f"the {LEVELS[level]} kernels are not built or not supported by this machine")
    kernels = fl_kernels_of_level(level)
    return level_before


def use_bfloat16_instruction(bint use):
    """Select how AVX-512 kernels round to bfloat16 and return the previous choice."""
    global fl_uses_bfloat16
    cdef bint before = fl_uses_bfloat16
    if use and not MACHINE_HAS_BFLOAT16:
        raise ValueError("this machine has no instruction that rounds to bfloat16")
    fl_uses_bfloat16 = use
    return before


def stream_from(bytes=None):
    """Set from how many bytes on output is written past the caches, and return what it was; without an argument
    nothing changes.

    No result depends on it, only speed.
    """
    global STREAM
    cdef ptrdiff_t before = STREAM
    if bytes is not None:
        STREAM = bytes
    return before


def streamed(ptrdiff_t largest_cache):
    """Return from how many bytes on output is written past the caches of a machine."""
    return fl_stream_bytes(largest_cache)


use_bfloat16_instruction(MACHINE_HAS_BFLOAT16)


# NumPy's type number of the bfloat16 of ml_dtypes, given at its import.
cdef int bfloat16_number = -1
# The adapters pass the bits of bfloat16 as this type, without ml_dtypes. NumPy cannot compute with it.
BFLOAT16_BITS = np.dtype([("bfloat16", np.uint16)])


@cython.no_gc
cdef class Lent:
    """A buffer in the memory of a mapping, which is given back when nothing can reach the buffer any more.

    That is when the last reference is gone. A weak reference would be cleared as soon as the buffer is in a
    cycle that is being collected, whose finalizers may still use or keep it.
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
    """Set the type of bfloat16."""
    global bfloat16_number
    bfloat16_number = dtype.type_num


cpdef bint is_floating(array) noexcept:
    """Return whether the kernels can read this array: a plain one of a known type, in native byte order,
    aligned."""
    cdef int number
    if type(array) is not cnp.ndarray or not cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray>array):
        return False
    number = cnp.PyArray_TYPE(<cnp.ndarray>array)
    return (
        number in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64, cnp.NPY_FLOAT16) or number == bfloat16_number
        or (number == cnp.NPY_VOID and (<cnp.ndarray>array).dtype is BFLOAT16_BITS)
    )


cpdef bint is_index(array) noexcept:
    """Return whether this is a plain contiguous array of int64."""
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


# Space for the shapes and strides of an array with any number of axes.
cdef struct dimensions:
    ptrdiff_t shape[FL_MAX_DIMS]
    ptrdiff_t stride[FL_MAX_DIMS]


cdef void describe(fl_array *out, object given, int axis, dimensions *room) noexcept:
    """Describe an array as rows along `axis`, with adjacent dimensions merged if possible; None is no
    array."""
    cdef cnp.ndarray array
    cdef int d, last
    cdef cnp.npy_intp *shape
    cdef cnp.npy_intp *stride
    if given is None:
        return
    array = given
    shape = cnp.PyArray_DIMS(array)
    stride = cnp.PyArray_STRIDES(array)
    out.data = <char *>cnp.PyArray_DATA(array)
    out.dtype = type_code(array)
    out.itemsize = cnp.PyArray_ITEMSIZE(array)
    out.class_stride = stride[axis] if shape[axis] > 1 else out.itemsize
    out.shape = room.shape
    out.stride = room.stride
    for d in range(cnp.PyArray_NDIM(array)):
        if d == axis or shape[d] == 1:
            continue
        last = out.ndim - 1
        if last >= 0 and room.stride[last] == shape[d] * stride[d]:
            room.shape[last] *= shape[d]
            room.stride[last] = stride[d]
        else:
            room.shape[out.ndim] = shape[d]
            room.stride[out.ndim] = stride[d]
            out.ndim += 1


cdef const void *pointer(object array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef ptrdiff_t up_to_line(ptrdiff_t size) noexcept nogil:
    return (size + 63) // 64 * 64


cdef void call_begin(fl_call *call) noexcept:
    """Start a call that a handler of signals may end, see calls.h."""
    if PyThread_get_thread_ident() == main_thread:
        fl_call_begin(call, fl_run_handlers, PyThreadState_Get())
    else:
        fl_call_begin(call, NULL, NULL)


cdef int call_end(const fl_call *call) except -1:
    """Raise what the handler raised that ended the call, if one did."""
    return -1 if call.stopped else 0


# What the threads of a call work on, each in scratch of its own.
cdef struct sharing:
    fl_work work
    fl_drain drain
    const void *job
    ptrdiff_t count, step, size
    char *scratch
    fl_piece *found


cdef void work_on(const sharing *s, fl_call *call, int thread) noexcept nogil:
    """Take pieces until none is left, or until it is time to look for signals."""
    cdef char *scratch = s.scratch + thread * s.size
    cdef fl_place before
    cdef ptrdiff_t piece
    fl_work_begin(call, thread == 0, &before)
    piece = fl_work_take(call)
    while piece >= 0:
        s.found[piece] = s.work(s.job, piece * s.step, min(s.count, (piece + 1) * s.step), scratch)
        fl_work_done(call)
        piece = fl_work_take(call)
    if s.drain != NULL and fl_work_is_complete(call):
        s.drain(s.job, scratch)
    if thread == 0:
        fl_work_wait(call)
    fl_work_end(&before)


cdef void share_pieces(const sharing *s, fl_call *call, int threads) noexcept nogil:
    """Process all pieces, unless the call is ended meanwhile."""
    cdef int thread
    while True:
        if threads > 1:
            with parallel(num_threads=threads):
                work_on(s, call, threadid())
        else:
            work_on(s, call, 0)
        if fl_work_is_complete(call) or fl_call_looks(call):
            break
    # A thread may have left before others took the last pieces.
    if s.drain != NULL and not call.stopped:
        for thread in range(threads):
            s.drain(s.job, s.scratch + thread * s.size)


cdef fl_piece over_pieces(fl_work work, fl_drain drain, const void *job, ptrdiff_t count, ptrdiff_t step,
                          int threads, ptrdiff_t size, char *memory, fl_call *call) noexcept nogil:
    """Process rows or elements in pieces of `step`; return the ordered sum of their results, and the first
    fault.

    The pieces do not depend on the number of threads. `memory` has `size` bytes of scratch for each thread,
    and a place for the result of each piece. `drain` (NULL: none) runs after the last piece of a thread, for
    work that it has kept in its scratch. Without `call` one thread does everything.
    """
    cdef ptrdiff_t pieces = (count + step - 1) // step, piece
    cdef int thread
    cdef sharing s
    cdef fl_piece result
    s.work = work
    s.drain = drain
    s.job = job
    s.count = count
    s.step = step
    s.size = size
    s.scratch = memory + (64 - <uintptr_t>memory % 64)
    s.found = <fl_piece *>(s.scratch + threads * size)
    if drain != NULL:
        for thread in range(threads):
            memset(s.scratch + thread * size, 0, FL_PIPELINE)
    result.total = 0.0
    result.fault = -1
    if call != NULL:
        share_pieces(&s, call, threads)
        if call.stopped:
            return result
    else:
        for piece in range(pieces):
            s.found[piece] = work(job, piece * step, min(count, (piece + 1) * step), s.scratch)
        if drain != NULL:
            drain(job, s.scratch)
    for piece in range(pieces):
        result.total += s.found[piece].total
        if result.fault < 0:
            result.fault = s.found[piece].fault
    return result


# Scratch memory of a call, which is kept for the next one. A call has it alone: one that runs meanwhile allocates its
# own. (Allocating and freeing it in each small call takes 1.1 us instead of 0.85. And malloc returns that of a large
# call to the system together with its gradient: with gradients of 400 KiB 70 page faults and 100 us in each call.)
cdef struct scratch_memory:
    char *start
    ptrdiff_t size


cdef ptrdiff_t MOST_SCRATCH = 8388608
cdef scratch_memory kept_scratch = [NULL, 0]


cdef scratch_memory take_scratch(ptrdiff_t size) noexcept:
    global kept_scratch
    cdef scratch_memory memory = kept_scratch
    if memory.start != NULL and memory.size >= size:
        kept_scratch.start = NULL
        return memory
    memory.start = <char *>malloc(size)
    memory.size = size
    return memory


cdef void give_scratch(scratch_memory memory) noexcept:
    global kept_scratch
    if memory.size > MOST_SCRATCH or (kept_scratch.start != NULL and kept_scratch.size >= memory.size):
        free(memory.start)
        return
    free(kept_scratch.start)
    kept_scratch = memory


cdef fl_piece run_pieces(fl_work work, const void *job, ptrdiff_t count, ptrdiff_t step, ptrdiff_t size, int threads,
                         ptrdiff_t scratch_size, fl_drain drain=NULL) except *:
    """over_pieces for `size` elements in all, which releases the interpreter lock only if there is enough
    work."""
    cdef ptrdiff_t pieces = (count + step - 1) // step, bytes
    cdef bint is_small = size < SMALL
    cdef scratch_memory memory
    cdef fl_piece result
    cdef fl_call call
    if is_small:
        threads = 1
    elif threads > pieces:
        threads = <int>pieces
    scratch_size = up_to_line(scratch_size)
    bytes = 64 + threads * scratch_size + pieces * <ptrdiff_t>sizeof(fl_piece)
    memory = take_scratch(bytes)
    if memory.start == NULL:
        raise MemoryError("scratch")
    if is_small:
        result = over_pieces(work, drain, job, count, step, 1, scratch_size, memory.start, NULL)
        give_scratch(memory)
        return result
    call_begin(&call)
    fl_call_part(&call, pieces, size // max(pieces, 1))
    with nogil:
        result = over_pieces(work, drain, job, count, step, threads, scratch_size, memory.start, &call)
    give_scratch(memory)
    call_end(&call)
    return result


cdef ptrdiff_t rows_in_piece(const fl_rows *rows) noexcept nogil:
    # Whole groups of lanes, so that only the last piece has an incomplete group.
    cdef ptrdiff_t count = max(min(PIECE // rows.classes, rows.count // PIECES), LEAST_PIECE // rows.classes)
    if rows.classes <= FL_MIDDLE_ROW:
        return (max(count, 1) + FL_LANES - 1) // FL_LANES * FL_LANES
    return max(count, 1)


cdef bint share_rows(const fl_rows *rows, ptrdiff_t step, int threads) noexcept nogil:
    """Return whether all threads work on each row in turn: where whole rows would leave a third of them idle.

    Only if a piece is a row anyway: the sum of the losses must not depend on the distribution over threads.
    """
    cdef ptrdiff_t places = (rows.count + threads - 1) // threads * threads
    return step == 1 and 3 * rows.count < 2 * places and rows.classes >= SHARED_ROW


cdef void describe_rows(fl_rows *rows, dimensions *room, cnp.ndarray input, int axis, output, grad_output,
                        double grad_scale, int accumulate, row_loss) noexcept:
    rows.classes = cnp.PyArray_DIMS(input)[axis]
    rows.count = cnp.PyArray_SIZE(input) // rows.classes if rows.classes else 0
    describe(&rows.input, input, axis, room)
    describe(&rows.output, output, axis, room + 1)
    rows.grad_output = <const double *>pointer(grad_output)
    rows.grad_scale = grad_scale
    rows.accumulate = accumulate
    rows.losses = <double *>pointer(row_loss)


cdef int describe_targets(fl_targets *targets, const fl_rows *rows, indices, ignored, weight,
                          sample_weight) except -1:
    targets.index = <const int64_t *>pointer(indices)
    targets.classes = rows.classes
    targets.has_ignored = ignored is not None
    if ignored is not None:
        targets.ignored = ignored
    targets.class_weight = <const double *>pointer(weight)
    targets.sample_weight = <const double *>pointer(sample_weight)
    return 0


cdef fl_piece survey(const fl_targets *targets, fl_rows *rows, bint mean, bint by_rows, int threads) except *:
    """Compute the mean's denominator, by which a mean divides the gradient; the first bad target is a
    fault. `by_rows` counts rows, whatever their class weights."""
    cdef fl_targets unweighted
    # A row costs as much here as an element elsewhere.
    if rows.count < SERIAL:
        threads = 1
    if by_rows:
        unweighted = targets[0]
        unweighted.class_weight = NULL
        targets = &unweighted
    cdef fl_piece found = run_pieces(
        kernels.survey, targets, rows.count, 16384, rows.count * rows.classes, threads, 0
    )
    if mean and found.fault < 0:
        rows.grad_scale /= found.total
    return found


cdef const fl_softmax_kernels *softmax_kernels(const fl_softmax_job *job) noexcept nogil:
    return &kernels.softmax_f32 if kernels.softmax_f32.suits(job) else &kernels.softmax_f64


# Blocks of a row after which threads that share it look for signals.
cdef ptrdiff_t BLOCKS_OF_LOOK = 4096


cdef bint step_over(const fl_softmax_job *job, fl_softmax_row *rows, int step, int threads,
                    fl_call *call) noexcept nogil:
    """Take a step (0: maximum, 1: sum, 2: finish) over the blocks of a row; return whether the call goes on."""
    cdef const fl_softmax_kernels *table = softmax_kernels(job)
    cdef ptrdiff_t span, first, last, block, blocks = (job.rows.classes + FL_BLOCK - 1) // FL_BLOCK
    cdef ptrdiff_t spans = (blocks + BLOCKS_OF_LOOK - 1) // BLOCKS_OF_LOOK
    for span in range(spans):
        first = span * BLOCKS_OF_LOOK
        last = min(blocks, first + BLOCKS_OF_LOOK)
        for block in prange(first, last, schedule="static", num_threads=threads):
            if step == 0:
                table.row_max(job, rows + threadid(), block)
            elif step == 1:
                table.row_sum(job, rows + threadid(), block)
            else:
                table.row_finish(job, rows + threadid(), block)
        if fl_call_looks(call):
            return False
    return True


cdef void shared_long_row(const fl_softmax_job *job, fl_softmax_row *rows, int threads, fl_call *call) noexcept nogil:
    """Process a row that takes so long that its threads look for signals meanwhile."""
    cdef const fl_softmax_kernels *table = softmax_kernels(job)
    cdef int thread, sums = False
    if not step_over(job, rows, 0, threads, call):
        return
    for thread in range(threads):
        sums = table.row_choose(job, rows + thread)
    if sums and not step_over(job, rows, 1, threads, call):
        return
    for thread in range(threads):
        table.row_settle(job, rows + thread)
    if job.rows.output.data != NULL:
        step_over(job, rows, 2, threads, call)


cdef void shared_row(const fl_softmax_job *job, fl_softmax_row *rows, int threads) noexcept nogil:
    """Process a row in one team: this is cheaper than leaving and entering a parallel region between the steps.

    A prange inside a parallel block does not wait for the other threads at its end. So there are barriers: before
    the maximum is chosen, and if the row is summed then, before exponentials overwrite the values that choosing
    reads, and before their sums are added. All threads choose the same.
    """
    cdef const fl_softmax_kernels *table = softmax_kernels(job)
    cdef ptrdiff_t block, blocks = (job.rows.classes + FL_BLOCK - 1) // FL_BLOCK
    with parallel(num_threads=threads):
        for block in prange(blocks, schedule="static"):
            table.row_max(job, rows + threadid(), block)
        FL_BARRIER()
        if table.row_choose(job, rows + threadid()):
            FL_BARRIER()
            for block in prange(blocks, schedule="static"):
                table.row_sum(job, rows + threadid(), block)
            FL_BARRIER()
        table.row_settle(job, rows + threadid())
        if job.rows.output.data != NULL:
            for block in prange(blocks, schedule="static"):
                table.row_finish(job, rows + threadid(), block)


cdef double shared_softmax(const fl_softmax_job *job, int threads, fl_call *call) except? -1.0 nogil:
    """Process few long rows: all threads work on each row in turn.

    Each thread has its own state of the row, in `rows`, and settles it from the shared partial sums.
    """
    cdef const fl_softmax_kernels *table = softmax_kernels(job)
    cdef ptrdiff_t index, blocks = (job.rows.classes + FL_BLOCK - 1) // FL_BLOCK
    cdef ptrdiff_t scratch_size = up_to_line(table.scratch_bytes(job)), buffer_size = table.buffer_bytes(job)
    cdef fl_softmax_row *rows
    cdef char *memory
    cdef char *scratch
    cdef int thread
    cdef double total = 0.0
    memory = <char *>malloc(64 + scratch_size + (threads - 1) * buffer_size + threads * sizeof(fl_softmax_row))
    if memory == NULL:
        with gil:
            raise MemoryError("scratch rows")
    # The shared row, the buffers of each thread, and each thread's state of the row.
    scratch = memory + (64 - <uintptr_t>memory % 64)
    rows = <fl_softmax_row *>(scratch + scratch_size + (threads - 1) * buffer_size)
    for index in range(job.rows.count):
        if not table.row_start(job, rows, index, scratch):
            continue
        for thread in range(threads):
            rows[thread] = rows[0]
            rows[thread].buffers = scratch + scratch_size - buffer_size + thread * buffer_size
        if blocks > BLOCKS_OF_LOOK:
            shared_long_row(job, rows, threads, call)
        else:
            shared_row(job, rows, threads)
        if fl_call_looks(call):
            break
        if job.rows.losses != NULL:
            job.rows.losses[index] = rows[0].loss
        total += rows[0].loss
    free(memory)
    return total


cdef double run_softmax(fl_softmax_job *job, int threads) except? -1.0:
    """Run a job after the survey of its targets, and return the sum of the losses."""
    cdef const fl_softmax_kernels *table = softmax_kernels(job)
    cdef fl_rows *rows = &job.rows
    cdef fl_drain drain = NULL
    cdef ptrdiff_t size = rows.count * rows.classes, step = rows_in_piece(rows)
    cdef double total
    cdef fl_call call
    # Not in place, where reading the input has loaded the lines already. Not in rows that threads share. And
    # outside the fused loop not float16, which is converted when written. Short rows only along another axis.
    rows.stream = (
        rows.output.data != NULL and rows.output.data != rows.input.data and not rows.accumulate
        and (rows.output.dtype != FL_FLOAT16 or table.is_fused(job) or rows.classes <= FL_MIDDLE_ROW)
        and (rows.classes > FL_SHORT_ROW or rows.output.class_stride != rows.output.itemsize)
        and size * rows.output.itemsize >= STREAM and step > 1
    )
    if share_rows(rows, step, threads):
        call_begin(&call)
        with nogil:
            total = shared_softmax(job, threads, &call)
        call_end(&call)
        return total
    if table.is_fused(job):
        drain = table.drain
    return run_pieces(table.rows, job, rows.count, step, size, threads, table.scratch_bytes(job), drain).total


def softmax(
    int operation, cnp.ndarray input not None, int axis, *, int threads, output=None, indices=None,
    probabilities=None, ignored=None, weight=None, sample_weight=None, grad_output=None, double grad_scale=1.0,
    hessian=None, bint mean=False, double label_smoothing=0.0, double z_loss=0.0, double softcap=0.0,
    double temperature=1.0, int focusing=FL_UNFOCUSED, double by=0.0, bint by_rows=False, bint accumulate=False,
    row_loss=None, elsewhere=None,
):
    """Run an operation of the softmax family over rows along `axis`.

    Returns (first row with a bad target or -1, sum of the losses, the mean's denominator). If a target is
    bad, nothing has been written. `indices` is int64, the weights, `grad_output` and `row_loss` are float64,
    all contiguous; `input`, `output`, `probabilities` and `hessian` may have any strides. `mean` divides the
    gradient by the denominator, `by_rows` by the rows that count, whatever their class weights. `focusing` and
    its parameter `by` make another loss of the cross-entropy. For bands of longer rows `elsewhere` is a tuple
    (log-sum-exp, mass, the classes of all bands): see kernels.h. The targets of bands have been surveyed before.
    """
    cdef fl_softmax_job job
    cdef dimensions room[4]
    cdef fl_piece targets
    memset(&job, 0, sizeof(job))
    job.operation = operation
    describe_rows(&job.rows, room, input, axis, output, grad_output, grad_scale, accumulate, row_loss)
    describe_targets(&job.targets, &job.rows, indices, ignored, weight, sample_weight)
    describe(&job.targets.probabilities, probabilities, axis, room + 2)
    describe(&job.hessian, hessian, axis, room + 3)
    job.targets.smoothing = label_smoothing
    if weight is not None and label_smoothing > 0.0:
        narrow = weight.astype(np.float32)
        job.targets.narrow_weight = <const float *>pointer(narrow)
        job.targets.all_weights = weight.sum()
    job.z_loss = z_loss
    job.focusing.kind = focusing
    job.focusing.by = by
    job.map.softcap = softcap
    job.map.temperature = temperature
    job.band.all_classes = job.rows.classes
    if elsewhere is not None:
        job.targets.has_elsewhere = True
        job.band.lse = <const double *>pointer(elsewhere[0])
        job.band.mass = <const double *>pointer(elsewhere[1])
        job.band.all_classes = elsewhere[2]
    targets.total = 0.0
    targets.fault = -1
    if job.rows.count == 0:
        return -1, 0.0, 0.0
    threads = team_for(job.rows.count * job.rows.classes, threads)
    if operation == FL_CROSS_ENTROPY and elsewhere is None:
        targets = survey(&job.targets, &job.rows, mean, by_rows, threads)
        if targets.fault >= 0:
            return targets.fault, 0.0, 0.0
    return -1, run_softmax(&job, threads), targets.total


cdef tuple run_targets(fl_target_job *job, fl_work work, bint mean, bint by_rows, int threads):
    """Survey the targets and, unless one is bad, run; arguments and result as in `softmax`."""
    cdef fl_rows *rows = &job.rows
    cdef fl_piece targets
    cdef ptrdiff_t size = rows.count * rows.classes
    if rows.count == 0:
        return -1, 0.0, 0.0
    threads = team_for(size, threads)
    targets = survey(&job.targets, rows, mean, by_rows, threads)
    if targets.fault >= 0:
        return targets.fault, 0.0, 0.0
    total = run_pieces(work, job, rows.count, rows_in_piece(rows), size, threads, FL_TARGET_SCRATCH).total
    return -1, total, targets.total


def nll(
    cnp.ndarray input not None, int axis, *, int threads, indices, output=None, ignored=None, weight=None,
    sample_weight=None, grad_output=None, double grad_scale=1.0, bint mean=False, bint accumulate=False,
    row_loss=None,
):
    """Run the negative log-likelihood; arguments and result as in `softmax`."""
    cdef fl_target_job job
    cdef dimensions room[2]
    memset(&job, 0, sizeof(job))
    describe_rows(&job.rows, room, input, axis, output, grad_output, grad_scale, accumulate, row_loss)
    describe_targets(&job.targets, &job.rows, indices, ignored, weight, sample_weight)
    return run_targets(&job, kernels.nll_rows, mean, False, threads)


def multi_margin(
    cnp.ndarray input not None, int axis, *, int threads, indices, double margin, double power, output=None,
    ignored=None, weight=None, sample_weight=None, grad_output=None, double grad_scale=1.0, bint mean=False,
    bint accumulate=False, row_loss=None,
):
    """Run the multi-class margin loss; as `softmax`, with the number of rows as the mean's denominator."""
    cdef fl_target_job job
    cdef dimensions room[2]
    memset(&job, 0, sizeof(job))
    describe_rows(&job.rows, room, input, axis, output, grad_output, grad_scale, accumulate, row_loss)
    describe_targets(&job.targets, &job.rows, indices, ignored, weight, sample_weight)
    job.margin = margin
    job.power = power
    return run_targets(&job, kernels.margin_rows, mean, True, threads)


def sparsemax(
    cnp.ndarray input not None, int axis, *, int threads, indices, output=None, ignored=None, grad_output=None,
    double grad_scale=1.0, bint mean=False, bint accumulate=False, row_loss=None,
):
    """Run the sparsemax loss, which has no weights; arguments and result as in `softmax`."""
    cdef fl_target_job job
    cdef dimensions room[2]
    memset(&job, 0, sizeof(job))
    describe_rows(&job.rows, room, input, axis, output, grad_output, grad_scale, accumulate, row_loss)
    describe_targets(&job.targets, &job.rows, indices, ignored, None, None)
    return run_targets(&job, kernels.sparsemax_rows, mean, False, threads)


# The number of statistics of a row, in the order of kernels.h; the entropy is at ROW_ENTROPY.
STATISTICS = FL_STATISTICS
ROW_ENTROPY = FL_ROW_ENTROPY
# Rows of at most this many classes are computed in the lanes of vectors.
SHORT_ROW = FL_SHORT_ROW


cdef bint statistics_over(const fl_statistics_job *job, const fl_statistics_kernels *table, fl_statistics_row *row,
                          bint finishes, char *buffers, int threads, fl_call *call) noexcept nogil:
    """Sum the blocks of a row, or finish them; return whether the call goes on: see step_over."""
    cdef ptrdiff_t span, first, last, block, blocks = (job.rows.classes + FL_BLOCK - 1) // FL_BLOCK
    cdef ptrdiff_t spans = (blocks + BLOCKS_OF_LOOK - 1) // BLOCKS_OF_LOOK
    for span in range(spans):
        if fl_call_looks(call):
            return False
        first = span * BLOCKS_OF_LOOK
        last = min(blocks, first + BLOCKS_OF_LOOK)
        for block in prange(first, last, schedule="static", num_threads=threads):
            if finishes:
                table.finish(job, row, block, buffers + threadid() * table.buffer_bytes)
            else:
                table.sum(job, row, block, buffers + threadid() * table.buffer_bytes)
    return not call.stopped


cdef int shared_statistics(const fl_statistics_job *job, const fl_statistics_kernels *table, int threads,
                           fl_call *call) except -1 nogil:
    """Process few long rows, all threads on each row: see shared_softmax."""
    cdef fl_statistics_row row
    cdef ptrdiff_t index, scratch_size = up_to_line(table.scratch_bytes(job))
    cdef char *memory
    cdef char *scratch
    cdef char *buffers
    memory = <char *>malloc(64 + scratch_size + (threads - 1) * table.buffer_bytes)
    if memory == NULL:
        with gil:
            raise MemoryError("scratch rows")
    scratch = memory + (64 - <uintptr_t>memory % 64)
    buffers = scratch + scratch_size - table.buffer_bytes
    for index in range(job.rows.count):
        if not table.start(job, &row, index, scratch):
            continue
        if not statistics_over(job, table, &row, False, buffers, threads, call):
            break
        table.settle(job, &row, buffers)
        if job.rows.output.data == NULL:
            continue
        if not statistics_over(job, table, &row, True, buffers, threads, call):
            break
    free(memory)
    return 0


def statistics(
    cnp.ndarray input not None, int axis, cnp.ndarray found not None, *, int threads, indices=None, ignored=None,
    output=None, tuple grad_output=(None, None), tuple grad_scale=(0.0, 0.0), double softcap=0.0,
    double temperature=1.0, bint accumulate=False, bint is_given=False, bint has_elsewhere=False, bint has_all=True,
):
    """Write the statistics of each row along `axis` to `found`, and the gradient of two of them to `output`.

    Returns the first row with a bad target, or -1; with a bad target nothing has been written. `found` is
    float64 of shape (rows, STATISTICS), contiguous. With `is_given` it holds the statistics already.
    `grad_output` and `grad_scale` are the arrays (None: ones) and the factors of the upstream gradients of
    the log-probability and of the entropy. With `has_elsewhere` a target of -1 is in another band. Without
    `indices` there is no log-probability.
    """
    cdef fl_statistics_job job
    cdef dimensions room[2]
    cdef const fl_statistics_kernels *table
    cdef fl_rows *rows = &job.rows
    cdef fl_piece targets
    cdef ptrdiff_t size = cnp.PyArray_SIZE(input), step
    cdef fl_call call
    if size == 0:
        return -1
    memset(&job, 0, sizeof(job))
    describe_rows(rows, room, input, axis, output, grad_output[0], grad_scale[0], accumulate, None)
    describe_targets(&job.targets, rows, indices, ignored, None, None)
    job.targets.has_elsewhere = has_elsewhere
    job.entropy_upstream = <const double *>pointer(grad_output[1])
    job.entropy_scale = grad_scale[1]
    job.map.softcap = softcap
    job.map.temperature = temperature
    job.statistics = <double *>pointer(found)
    job.is_given = is_given
    job.has_all = has_all
    threads = team_for(size, threads)
    if indices is not None and not has_elsewhere:
        targets = survey(&job.targets, rows, False, False, threads)
        if targets.fault >= 0:
            return targets.fault
    table = &kernels.statistics_f64 if rows.input.dtype == FL_FLOAT64 else &kernels.statistics_f32
    step = rows_in_piece(rows)
    if share_rows(rows, step, threads):
        call_begin(&call)
        with nogil:
            shared_statistics(&job, table, threads, &call)
        call_end(&call)
        return -1
    rows.stream = (
        rows.output.data != NULL and rows.output.data != rows.input.data and not accumulate
        and rows.classes > FL_SHORT_ROW and size * rows.output.itemsize >= STREAM
    )
    run_pieces(table.rows, &job, rows.count, step, size, threads, table.scratch_bytes(&job))
    return -1


KL = FL_KL
JS = FL_JS
TV = FL_TV


cdef double shared_divergence(const fl_divergence_job *job, const fl_divergence_kernels *table, int threads,
                              fl_call *call) except? -1.0 nogil:
    """Process few long rows, all threads on each row: see shared_softmax."""
    cdef fl_divergence_row row
    cdef ptrdiff_t index, span, first, last, block, blocks = (job.rows.classes + FL_BLOCK - 1) // FL_BLOCK
    cdef ptrdiff_t spans = (blocks + BLOCKS_OF_LOOK - 1) // BLOCKS_OF_LOOK
    cdef ptrdiff_t scratch_size = up_to_line(table.scratch_bytes(job))
    cdef char *memory
    cdef char *scratch
    cdef char *buffers
    cdef int k
    cdef double total = 0.0
    memory = <char *>malloc(64 + scratch_size + (threads - 1) * table.buffer_bytes)
    if memory == NULL:
        with gil:
            raise MemoryError("scratch rows")
    scratch = memory + (64 - <uintptr_t>memory % 64)
    buffers = scratch + scratch_size - table.buffer_bytes
    for index in range(job.rows.count):
        if job.counted != NULL and not job.counted[index]:
            total += table.rows(job, index, index + 1, scratch).total
            continue
        table.start(job, &row, index, scratch)
        for k in range(FL_MAXIMA, FL_GRADIENTS + 1):
            if k == FL_TERMS and job.operation == FL_KL:
                continue
            if k == FL_GRADIENTS and job.rows.output.data == NULL and job.t_gradient.data == NULL:
                continue
            for span in range(spans):
                if fl_call_looks(call):
                    break
                first = span * BLOCKS_OF_LOOK
                last = min(blocks, first + BLOCKS_OF_LOOK)
                for block in prange(first, last, schedule="static", num_threads=threads):
                    table.block(job, &row, k, block, buffers + threadid() * table.buffer_bytes)
            if call.stopped:
                break
            table.settle(job, &row, k)
        if call.stopped:
            break
        if job.rows.losses != NULL:
            job.rows.losses[index] = row.loss
        total += row.loss
    free(memory)
    return total


def divergence(
    int operation, cnp.ndarray x not None, cnp.ndarray t not None, int axis, *, int threads, x_gradient=None,
    t_gradient=None, counted=None, grad_output=None, double grad_scale=1.0, double beta=0.0,
    double x_temperature=1.0, double t_temperature=1.0, double x_softcap=0.0, double t_softcap=0.0, int accumulate=0,
    row_loss=None,
):
    """Run one job and return the sum of the losses. Absent arrays are None.

    `x`, `t` and their gradients have one shape and type, and any strides; `counted` is bool, `grad_output`
    and `row_loss` are float64, all contiguous. `accumulate` has a bit for each gradient. A softcap of 0 is
    none.
    """
    cdef fl_divergence_job job
    cdef dimensions room[4]
    cdef const fl_divergence_kernels *table
    cdef fl_rows *rows = &job.rows
    cdef ptrdiff_t size = cnp.PyArray_SIZE(x), step
    cdef double total
    cdef fl_call call
    if size == 0:
        return 0.0
    memset(&job, 0, sizeof(job))
    job.operation = operation
    describe_rows(rows, room, x, axis, x_gradient, grad_output, grad_scale, accumulate, row_loss)
    describe(&job.t, t, axis, room + 2)
    describe(&job.t_gradient, t_gradient, axis, room + 3)
    job.counted = <const unsigned char *>pointer(counted)
    job.beta = beta
    job.x_map.temperature = x_temperature
    job.t_map.temperature = t_temperature
    job.x_map.softcap = x_softcap
    job.t_map.softcap = t_softcap
    # Not in rows that threads share: each thread would have to wait for its stores.
    rows.stream = (
        not accumulate and size * rows.input.itemsize >= STREAM and rows.input.itemsize > 2
        and rows.count >= 4 * threads and rows.classes > FL_SHORT_ROW
        and rows.output.data != rows.input.data and job.t_gradient.data != job.t.data
        and rows.output.data != job.t.data and job.t_gradient.data != rows.input.data
    )
    threads = team_for(size, threads)
    table = &kernels.divergence_f64 if rows.input.dtype == FL_FLOAT64 else &kernels.divergence_f32
    step = rows_in_piece(rows)
    if share_rows(rows, step, threads):
        call_begin(&call)
        with nogil:
            total = shared_divergence(&job, table, threads, &call)
        call_end(&call)
        return total
    return run_pieces(table.rows, &job, rows.count, step, size, threads, table.scratch_bytes(&job)).total


cdef int run_contrast(const fl_contrast_job *job, fl_work work, bint over_columns, int threads) except -1:
    """Run a kernel over the similarities of a chunk, in pieces of its columns or of its rows."""
    cdef ptrdiff_t count = job.columns if over_columns else job.rows, size = job.rows * job.columns
    cdef ptrdiff_t step = FL_CONTRAST_COLUMNS if over_columns else max(1, ELEMENTS // max(job.columns, 1))
    if size:
        run_pieces(work, job, count, step, size, team_for(size, threads), FL_CONTRAST_SCRATCH)
    return 0


cdef const fl_contrast_kernels *contrast_kernels(fl_contrast_job *job, cnp.ndarray z) noexcept:
    """Describe similarities of queries (rows) and keys, rows without gaps; return the kernels of their type."""
    memset(job, 0, sizeof(fl_contrast_job))
    job.rows = cnp.PyArray_DIMS(z)[0]
    job.columns = cnp.PyArray_DIMS(z)[1]
    job.row_stride = cnp.PyArray_STRIDES(z)[0] // cnp.PyArray_ITEMSIZE(z)
    job.z = cnp.PyArray_DATA(z)
    return &kernels.contrast_f64 if type_code(z) == FL_FLOAT64 else &kernels.contrast_f32


def contrast_columns(cnp.ndarray z not None, double rate, cnp.ndarray top, cnp.ndarray sum, int threads):
    """Add a chunk of similarities to the maximum and the sum of exponentials of each column; see contrast.h."""
    cdef fl_contrast_job job
    cdef const fl_contrast_kernels *table = contrast_kernels(&job, z)
    job.rate = rate
    job.top = <double *>pointer(top)
    job.sum = <double *>pointer(sum)
    run_contrast(&job, table.columns, True, threads)


def contrast_both(
    cnp.ndarray z not None, double rate, cnp.ndarray factor, cnp.ndarray row_lse, tuple columns, int threads,
):
    """Replace a chunk of similarities by the gradient of both directions; see contrast.h.

    `columns` are the factors of the columns and their log-sum-exps as two summands, in the type of `z`.
    """
    cdef fl_contrast_job job
    cdef const fl_contrast_kernels *table = contrast_kernels(&job, z)
    job.rate = rate
    job.factor = <const double *>pointer(factor)
    job.row_lse = <const double *>pointer(row_lse)
    job.column_factor = pointer(columns[0])
    job.column_high = pointer(columns[1])
    job.column_low = pointer(columns[2])
    run_contrast(&job, table.both, False, threads)


def contrast_pairs(
    cnp.ndarray z not None, double scale, double bias, cnp.ndarray factor, cnp.ndarray row_sums not None, int threads
):
    """Sum the logistic loss of the negative pairs of each row, with a factor also its derivatives; see contrast.h.

    `row_sums` has shape (3, rows). With `factor` (not None) the gradient replaces `z`.
    """
    cdef fl_contrast_job job
    cdef const fl_contrast_kernels *table = contrast_kernels(&job, z)
    job.scale = scale
    job.bias = bias
    job.factor = <const double *>pointer(factor)
    job.row_sums = <double *>pointer(row_sums)
    run_contrast(&job, table.pairs, False, threads)


# Documents of one piece of queries.
cdef ptrdiff_t DOCUMENTS = 2048


cdef double run_lists(fl_list_job *job, fl_work work, cnp.ndarray bounds, tuple derivatives, upstream, losses,
                      dimensions *room, ptrdiff_t work_of_one, int threads) except? -1.0:
    """Run a kernel over queries, in pieces of about so many documents; return the sum of the losses."""
    cdef ptrdiff_t documents, size, step
    job.queries = cnp.PyArray_SIZE(bounds) - 1
    job.bounds = <const int64_t *>pointer(bounds)
    documents = job.bounds[job.queries]
    job.upstream = <const double *>pointer(upstream)
    job.losses = <double *>pointer(losses)
    describe(&job.gradient, derivatives[0], 0, &room[0])
    describe(&job.hessian, derivatives[1], 0, &room[1])
    if job.queries == 0:
        return 0.0
    size = documents * work_of_one
    step = max(1, job.queries * DOCUMENTS // max(documents, 1))
    return run_pieces(work, job, job.queries, step, size, team_for(size, threads),
                      kernels.samples.lists.scratch_bytes(job)).total


def list_net(
    cnp.ndarray scores not None, cnp.ndarray relevance not None, cnp.ndarray bounds not None, ptrdiff_t longest, *,
    gradient, upstream, double scale, losses, bint accumulate, int threads,
):
    """ListNet's loss of queries, of which `longest` is the length of the longest; see lists.h."""
    cdef fl_list_job job
    cdef dimensions room[4]
    memset(&job, 0, sizeof(job))
    job.longest = longest
    job.scale = scale
    job.accumulate = accumulate
    describe(&job.scores, scores, 0, &room[2])
    describe(&job.relevance, relevance, 0, &room[3])
    return run_lists(&job, kernels.samples.lists.list_net, bounds, (gradient, None), upstream, losses, room, 1,
                     threads)


def lambda_rank(
    cnp.ndarray scores not None, cnp.ndarray labels not None, cnp.ndarray bounds not None, ptrdiff_t longest, *,
    cnp.ndarray label_gain not None, cnp.ndarray discounts not None, double sigmoid, ptrdiff_t truncation_level,
    bint normalize, gradient, hessian, upstream, double scale, losses, bint accumulate, int threads,
    bint has_value=True,
):
    """The loss of LambdaRank, in which `labels` (int32) are indices of `label_gain`; see lists.h.

    With a hessian there must be a gradient, and without one a value.
    """
    cdef fl_list_job job
    cdef dimensions room[3]
    memset(&job, 0, sizeof(job))
    job.longest = longest
    job.scale = scale
    job.accumulate = accumulate
    job.has_value = has_value
    job.normalize = normalize
    job.sigmoid = sigmoid
    job.truncation_level = truncation_level
    job.levels = cnp.PyArray_SIZE(label_gain)
    job.labels = <const int *>pointer(labels)
    job.label_gain = <const double *>pointer(label_gain)
    job.discounts = <const double *>pointer(discounts)
    describe(&job.scores, scores, 0, &room[2])
    return run_lists(&job, kernels.samples.lists.lambda_rank, bounds, (gradient, hessian), upstream, losses, room,
                     max(1, min(longest, truncation_level) // 4), threads)


# Rows of a piece of the order of times, and the most pieces: each has a count for every bucket.
cdef ptrdiff_t TIMES = 65536
cdef ptrdiff_t TIME_PIECES = 64


def order_by_time(
    cnp.ndarray time not None, cnp.ndarray items not None, cnp.ndarray sorted not None, cnp.ndarray order not None,
    int threads,
):
    """Write times in order to `sorted`, equal ones in the order of the rows, and their rows to `order`; see
    survival.h.

    Return the first negative time or NaN, before anything is written, or -1. `items` is scratch of four doubles for
    each row.
    """
    cdef fl_order_job job
    cdef const fl_survival_kernels *table = &kernels.samples.survival
    cdef ptrdiff_t rows = cnp.PyArray_SIZE(time), pieces, piece
    cdef fl_piece found
    cdef double high = 0.0
    cdef char *memory
    if rows == 0:
        return -1
    threads = team_for(rows, threads)
    memset(&job, 0, sizeof(job))
    job.rows = rows
    job.piece = max(TIMES, (rows + TIME_PIECES - 1) // TIME_PIECES)
    pieces = (rows + job.piece - 1) // job.piece
    job.buckets = <uint32_t>min(<ptrdiff_t>FL_TIME_BUCKETS, rows // 8 + 1)
    job.time = <const double *>pointer(time)
    job.items = <fl_timed *>pointer(items)
    job.spare = job.items + rows
    job.sorted = <double *>pointer(sorted)
    job.order = <uint32_t *>pointer(order)
    memory = <char *>malloc(2 * pieces * sizeof(double) + ((pieces + 1) * job.buckets + 1) * sizeof(uint32_t))
    if memory == NULL:
        raise MemoryError("scratch")
    try:
        job.bounds = <double *>memory
        job.counts = <uint32_t *>(job.bounds + 2 * pieces)
        job.starts = job.counts + pieces * job.buckets
        found = run_pieces(table.survey, &job, rows, job.piece, rows, threads, 0)
        if found.fault >= 0:
            return found.fault
        job.low = INFINITY
        for piece in range(pieces):
            job.low = min(job.low, job.bounds[2 * piece])
            high = max(high, job.bounds[2 * piece + 1])
        job.rate = min(job.buckets / (high - job.low) if high > job.low else DBL_MAX, DBL_MAX)
        run_pieces(table.count, &job, rows, job.piece, rows, threads, 0)
        run_pieces(table.starts, &job, 1, 1, rows, 1, 0)
        run_pieces(table.spread, &job, rows, job.piece, rows, threads, 0)
        run_pieces(table.arrange, &job, job.buckets, 32, rows, threads, FL_TIME_SCRATCH)
    finally:
        free(memory)
    return -1


def cox(
    cnp.ndarray log_hazard not None, tuple sorted_by_time, cnp.ndarray event not None, weight, upstream, double scale,
    bint is_efron, tuple outputs, tuple room, bint accumulate, int threads,
):
    """Run Cox's partial likelihood, and return the sum of the losses; see survival.h.

    `sorted_by_time` has order, times and strata (or None) in that order, `outputs` gradient, hessian and losses
    (zeros) or None, `room` scratch: three arrays of doubles, two more or None for weights and upstream gradients, and
    one of bytes.
    """
    cdef fl_cox_job job
    cdef dimensions places[3]
    cdef const fl_survival_kernels *table = &kernels.samples.survival
    cdef ptrdiff_t rows = cnp.PyArray_SIZE(log_hazard), segments = (rows + TIMES - 1) // TIMES
    cdef double total
    if rows == 0:
        return 0.0
    memset(&job, 0, sizeof(job))
    job.rows = rows
    job.is_efron = is_efron
    job.accumulate = accumulate
    job.scale = scale
    describe(&job.log_hazard, log_hazard, 0, places)
    describe(&job.gradient, outputs[0], 0, places + 1)
    describe(&job.hessian, outputs[1], 0, places + 2)
    job.losses = <double *>pointer(outputs[2])
    job.order = <const uint32_t *>pointer(sorted_by_time[0])
    job.time = <const double *>pointer(sorted_by_time[1])
    job.stratum = <const int64_t *>pointer(sorted_by_time[2])
    job.levels = <double *>pointer(sorted_by_time[1])
    job.event = <const unsigned char *>pointer(event)
    job.weight = <const double *>pointer(weight)
    job.upstream = <const double *>pointer(upstream)
    job.x = <double *>pointer(room[0])
    job.hazard = <double *>pointer(room[1])
    job.sum = <double *>pointer(room[2])
    job.mass = <double *>pointer(room[3])
    job.pull = <double *>pointer(room[4])
    job.flags = <unsigned char *>pointer(room[5])
    job.piece = TIMES
    job.segments = <fl_cox_segment *>malloc(segments * sizeof(fl_cox_segment))
    if job.segments == NULL:
        raise MemoryError("scratch")
    threads = team_for(rows, threads)
    try:
        run_pieces(table.gather, &job, rows, TIMES, rows, threads, 0)
        if table.divide(&job):
            run_pieces(table.weigh, &job, segments, 1, rows, threads, 0)
            total = run_pieces(table.segments, &job, segments, 1, rows, threads, 0).total
        else:
            total = run_pieces(table.scan, &job, 1, 1, rows, 1, 0).total
        if outputs[0] is not None:
            run_pieces(table.finish, &job, segments, 1, rows, threads, 0)
    finally:
        free(job.segments)
    return total


def pairs(
    tuple vectors, tuple gradients, *, int threads, double margin, double eps, target=None, double p=2.0,
    bint swap=False, grad_output=None, double grad_scale=1.0, int accumulate=0, row_loss=None,
):
    """Run the cosine embedding loss of two arrays of vectors, or the triplet loss of three; return the sum.

    The vectors are along the last axes. `gradients` has an array of the same shape and type, or None, for each
    array of vectors; `accumulate` has a bit for each. `target`, `grad_output` and `row_loss` are float64,
    contiguous.
    """
    cdef fl_pair_job job
    cdef dimensions room[2 * FL_VECTORS]
    cdef cnp.ndarray first = vectors[0], gradient
    cdef const fl_pair_kernels *table
    cdef fl_work work
    cdef fl_rows rows
    cdef int k, axis = cnp.PyArray_NDIM(first) - 1
    cdef ptrdiff_t size = cnp.PyArray_SIZE(first), bytes = 0
    if size == 0:
        return 0.0
    memset(&job, 0, sizeof(job))
    job.width = cnp.PyArray_DIMS(first)[axis]
    job.count = size // job.width
    job.stream = not accumulate
    for k in range(len(vectors)):
        describe(&job.vectors[k], vectors[k], axis, room + k)
        describe(&job.gradients[k], gradients[k], axis, room + FL_VECTORS + k)
        bytes += size * job.vectors[k].itemsize
        if gradients[k] is None:
            continue
        gradient = gradients[k]
        job.has_gradients = True
        bytes += size * job.gradients[k].itemsize
        # Not in place, where reading the input has loaded the lines already.
        if not cnp.PyArray_IS_C_CONTIGUOUS(gradient) or job.gradients[k].data == job.vectors[k].data:
            job.stream = False
    job.stream = job.stream and job.has_gradients and bytes >= STREAM
    job.target = <const double *>pointer(target)
    job.grad_output = <const double *>pointer(grad_output)
    job.grad_scale = grad_scale
    job.losses = <double *>pointer(row_loss)
    job.accumulate = accumulate
    job.margin = margin
    job.p = p
    job.eps = eps
    job.swap = swap
    table = &kernels.samples.pairs_f64 if job.vectors[0].dtype == FL_FLOAT64 else &kernels.samples.pairs_f32
    work = table.cosine if len(vectors) == 2 else table.triplet
    rows.classes = job.width
    rows.count = job.count
    threads = team_for(size, threads)
    return run_pieces(work, &job, job.count, rows_in_piece(&rows), size, threads, FL_PAIR_SCRATCH).total


def multilabel_margin(
    cnp.ndarray input not None, cnp.ndarray target not None, *, int threads, output=None, grad_output=None,
    double grad_scale=1.0, bint accumulate=False, row_loss=None,
):
    """Run the margin loss of several labels; return the position of the first bad index or -1, and the sum.

    With a bad index nothing has been written. `target` is int64, contiguous, of the shape of `input`, whose
    classes are last.
    """
    cdef fl_label_job job
    cdef dimensions room[2]
    cdef ptrdiff_t size = cnp.PyArray_SIZE(input), step, fault
    if size == 0:
        return -1, 0.0
    memset(&job, 0, sizeof(job))
    describe_rows(
        &job.rows, room, input, cnp.PyArray_NDIM(input) - 1, output, grad_output, grad_scale, accumulate, row_loss
    )
    job.target = <const int64_t *>pointer(target)
    threads = team_for(size, threads)
    step = rows_in_piece(&job.rows)
    fault = run_pieces(kernels.samples.label_survey, &job, job.rows.count, step, size, threads, 0).fault
    if fault >= 0:
        return fault, 0.0
    return -1, run_pieces(
        kernels.samples.labels_f64 if job.rows.input.dtype == FL_FLOAT64 else kernels.samples.labels_f32,
        &job, job.rows.count, step, size, threads, 3 * (job.rows.classes + 16) * <ptrdiff_t>sizeof(double),
    ).total


def ctc(
    cnp.ndarray input not None, cnp.ndarray labels not None, cnp.ndarray starts not None,
    cnp.ndarray labels_of not None, cnp.ndarray steps_of not None, cnp.ndarray losses not None, *, ptrdiff_t blank,
    bint has_logits, bint zero_infinity, int threads, output=None, factor=None, bint accumulate=False,
):
    """Write the loss of each sample of an input (steps, samples, classes), and the gradient; see ctc.h.

    `labels`, where they start, and how many labels and steps each sample has, are int64; `losses` and `factor`,
    that of the gradient of each sample, are float64; all are contiguous.
    """
    cdef fl_ctc_job job
    cdef dimensions room[2]
    cdef ptrdiff_t size
    memset(&job, 0, sizeof(job))
    job.steps = cnp.PyArray_DIMS(input)[0]
    job.batch = cnp.PyArray_DIMS(input)[1]
    job.classes = cnp.PyArray_DIMS(input)[2]
    if job.batch == 0:
        return
    describe(&job.input, input, 2, room)
    describe(&job.output, output, 2, room + 1)
    job.blank = blank
    job.has_logits = has_logits
    job.zero_infinity = zero_infinity
    job.accumulate = accumulate
    job.labels = <const int64_t *>pointer(labels)
    job.starts = <const int64_t *>pointer(starts)
    job.labels_of = <const int64_t *>pointer(labels_of)
    job.steps_of = <const int64_t *>pointer(steps_of)
    job.most_labels = labels_of.max()
    job.most_steps = steps_of.max()
    job.factor = <const double *>pointer(factor)
    job.losses = <double *>pointer(losses)
    size = cnp.PyArray_SIZE(input)
    job.stream = (
        output is not None and job.output.data != job.input.data and not accumulate
        and size * job.output.itemsize >= STREAM
    )
    if output is None and not has_logits:
        size = job.batch * job.most_steps * (2 * job.most_labels + 1)
    threads = team_for(size, threads)
    run_pieces(kernels.samples.ctc, &job, job.batch, 1, size, threads, kernels.samples.ctc_scratch_bytes(&job))


cdef bint are_apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Return whether two contiguous arrays share no memory."""
    cdef char *start_a = <char *>cnp.PyArray_DATA(a)
    cdef char *start_b = <char *>cnp.PyArray_DATA(b)
    return start_a + cnp.PyArray_NBYTES(a) <= start_b or start_b + cnp.PyArray_NBYTES(b) <= start_a


cdef enum:
    SUM
    MEAN
    SUM_AND_COUNT


cdef int plain_reduction(reduction) except -2:
    """Return the reduction of a plain call, or -1 if the call is none: losses of "none", errors."""
    if type(reduction) is not str:
        return -1
    if reduction == "mean":
        return MEAN
    if reduction == "sum":
        return SUM
    return SUM_AND_COUNT if reduction == "sum_and_count" else -1


cdef object plain_loss(int how, double total, double count):
    """Return the loss of a plain call: its total, which is reduced already, and its count if wanted."""
    if how == SUM_AND_COUNT:
        return total, count
    return total


cdef object plain_gradient(cnp.ndarray x, cnp.ndarray target, return_grad, out):
    """Return the array for the gradient of a plain call, False for none, or None if the argument rules must
    decide.

    `x` and `target` (None: no array) are contiguous.
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


def plain_cross_entropy(
    logits, target, axis, ignore_index, reduction, return_grad, out, num_threads, double grad_output=1.0
):
    """Return the cross-entropy of a plain call, or None if the call needs or breaks the argument rules.

    The work of a small call is far less than the check of its arguments in Python. Plain calls need no such
    check: contiguous arrays of the expected types, classes last, and (by the caller) no further option.
    `num_threads` is a function, called only if there is enough work for several threads.
    """
    cdef fl_softmax_job job
    cdef dimensions room[2]
    cdef fl_piece targets
    cdef double loss
    cdef cnp.ndarray x, y
    cdef int ndim, threads = 1
    cdef int how = plain_reduction(reduction)
    if how < 0 or type(axis) is not int or type(ignore_index) is not int:
        return None
    if not is_floating(logits) or not is_index(target):
        return None
    x = logits
    y = target
    ndim = cnp.PyArray_NDIM(x)
    if (
        ndim == 0 or cnp.PyArray_SIZE(x) == 0 or not cnp.PyArray_IS_C_CONTIGUOUS(x)
        or (axis != -1 and axis != ndim - 1)
        or cnp.PyArray_NDIM(y) != ndim - 1
        or not cnp.PyArray_CompareLists(cnp.PyArray_DIMS(x), cnp.PyArray_DIMS(y), ndim - 1)
        or not -2**62 < ignore_index < 2**62
    ):
        return None
    out = plain_gradient(x, y, return_grad, out)
    if out is None:
        return None
    memset(&job, 0, sizeof(job))
    job.operation = FL_CROSS_ENTROPY
    describe_rows(&job.rows, room, x, ndim - 1, None if out is False else out, None, grad_output, False, None)
    describe_targets(&job.targets, &job.rows, y, ignore_index, None, None)
    job.band.all_classes = job.rows.classes
    job.map.temperature = 1.0
    if cnp.PyArray_SIZE(x) >= SERIAL:
        threads = team_for(cnp.PyArray_SIZE(x), num_threads())
    targets = survey(&job.targets, &job.rows, how == MEAN, False, threads)
    if targets.fault >= 0:
        return None
    loss = run_softmax(&job, threads)
    if how == MEAN:
        loss = loss / targets.total if targets.total else NAN
    found = plain_loss(how, loss, targets.total)
    return found if out is False else (found, out)


# The elementwise losses by name: (line of losses.def, domain of the target).
ELEMENTWISE = {}
cdef int _line = 0
while fl_losses[_line].name != NULL:
    ELEMENTWISE[fl_losses[_line].name.decode()] = (_line, fl_losses[_line].domain)
    _line += 1

# The domains of domains.def: descriptions in error messages by number, and numbers by name.
EXPECTED = tuple([fl_domains[k].expected.decode() for k in range(FL_DOMAINS)])
globals().update({fl_domains[k].name.decode(): k for k in range(FL_DOMAINS)})

# Elements of one piece of work, a multiple of FL_BLOCK.
cdef ptrdiff_t ELEMENTS = 65536
cdef enum:
    ARRAYS = 10


cdef void describe_elements(fl_element_job *job, fl_array **out) noexcept:
    """Set where the arrays of a job are described, in the order of `elementwise`."""
    out[0] = &job.input
    out[1] = &job.target
    out[2] = &job.third
    out[3] = &job.weight
    out[4] = &job.upstream
    out[5] = &job.first
    out[6] = &job.second
    out[7] = &job.losses


cdef ptrdiff_t describe_together(fl_array **out, tuple arrays, dimensions *room) noexcept:
    """Describe arrays of one shape as rows of the same elements, in the order of the first; return a row's
    length.

    Axes are merged if possible in all arrays. A contiguous array in that order is one long row.
    """
    cdef cnp.ndarray first = arrays[0], array
    cdef int ndim = cnp.PyArray_NDIM(first), axes = 0, merged = 0, d, k, axis
    cdef int order[FL_MAX_DIMS]
    cdef ptrdiff_t inner = 1, expected
    cdef int count = len(arrays)
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
    for k in range(count):
        if arrays[k] is None:
            continue
        array = arrays[k]
        describe_straight(out[k], array)
        out[k].shape = room[k].shape
        out[k].stride = room[k].stride
    for d in range(axes):
        axis = order[d]
        joins = d > 0
        for k in range(count):
            if arrays[k] is not None and joins:
                array = arrays[k]
                joins = room[k].stride[merged - 1] == (
                    cnp.PyArray_DIMS(array)[axis] * cnp.PyArray_STRIDES(array)[axis]
                )
        for k in range(count):
            if arrays[k] is None:
                continue
            array = arrays[k]
            if joins:
                room[k].shape[merged - 1] *= cnp.PyArray_DIMS(array)[axis]
                room[k].stride[merged - 1] = cnp.PyArray_STRIDES(array)[axis]
            else:
                room[k].shape[merged] = cnp.PyArray_DIMS(array)[axis]
                room[k].stride[merged] = cnp.PyArray_STRIDES(array)[axis]
        merged += not joins
    if merged == 0:
        return inner
    inner = room[0].shape[merged - 1]
    for k in range(count):
        if out[k].data == NULL:
            continue
        out[k].class_stride = room[k].stride[merged - 1]
        out[k].ndim = 0
        expected = out[k].itemsize
        for d in range(merged - 1, -1, -1):
            if room[k].stride[d] != expected:
                out[k].ndim = merged - 1
            expected *= room[k].shape[d]
    return inner


cdef void describe_straight(fl_array *out, cnp.ndarray array) noexcept:
    """Describe a contiguous array as one row."""
    out.data = <char *>cnp.PyArray_DATA(array)
    out.dtype = type_code(array)
    out.itemsize = out.class_stride = cnp.PyArray_ITEMSIZE(array)


cdef fl_piece run_elements(const fl_element_job *job, bint wide, fl_work work, int threads) except *:
    cdef const fl_element_kernels *table = &kernels.elements_f64 if wide else &kernels.elements_f32
    return run_pieces(work, job, job.size, ELEMENTS, job.size, threads, table.buffer_bytes(job))


cdef double execute_elements(fl_element_job *job, bint wide, bint is_fresh, bint mean, bint sums_weights,
                             int threads, ptrdiff_t *fault, double *denominator) except? -1.0:
    """Run a job of described arrays, and return the sum of its losses.

    The denominator of a mean is the number of elements, or with `sums_weights` the sum of their weights.
    `fault` is set to the first element outside its domain (see fl_fault_of), or to -1. With a fault nothing
    has been written, unless `is_fresh`: then the caller discards the output. The job's scale is set to that
    of the derivatives.
    """
    cdef const fl_element_kernels *table = &kernels.elements_f64 if wide else &kernels.elements_f32
    cdef fl_piece found
    cdef ptrdiff_t pieces = (job.size + ELEMENTS - 1) // ELEMENTS, piece
    cdef bint has_domains = job.domains[0] != FL_ANY or job.domains[1] != FL_ANY or job.domains[2] != FL_ANY
    fault[0] = -1
    denominator[0] = job.size
    threads = team_for(job.size, threads)
    job.is_checked = has_domains and is_fresh
    if has_domains and not is_fresh:
        fault[0] = run_elements(job, wide, table.check, threads).fault
        if fault[0] >= 0:
            return 0.0
    if job.weight.data != NULL and sums_weights and mean:
        denominator[0] = run_elements(job, wide, table.weights, threads).total
    elif job.weight.data != NULL and sums_weights:
        # Nothing is divided by them: the kernel adds them in its only pass.
        job.piece = ELEMENTS
        job.weight_sums = <double *>malloc(pieces * sizeof(double))
        if job.weight_sums == NULL:
            raise MemoryError("sums of weights")
    if mean:
        # Weights with the sum 0: an element without weight has gradient 0, any other an infinite one.
        job.scale = job.scale / denominator[0] if denominator[0] else INFINITY
    # All arrays count: what is read pushes the output out of the cache, too.
    job.stream = (
        (job.first.data != NULL or job.second.data != NULL) and not job.accumulate
        and (job.first.data == NULL or job.first.data != job.input.data)
        and (job.second.data == NULL or job.second.data != job.third.data)
        and job.size * (
            job.input.itemsize + job.target.itemsize + job.third.itemsize + job.first.itemsize + job.second.itemsize
        ) >= STREAM
    )
    try:
        found = run_elements(job, wide, table.elements, threads)
        if job.weight_sums != NULL:
            denominator[0] = 0.0
            for piece in range(pieces):
                denominator[0] += job.weight_sums[piece]
    finally:
        free(job.weight_sums)
    fault[0] = found.fault
    return found.total


cdef tuple position_of(ptrdiff_t element, cnp.ndarray first):
    """Return the indices of an element, given its number in the order of describe_together."""
    axes = sorted(range(first.ndim), key=lambda axis: (first.shape[axis] == 1, -abs(first.strides[axis])))
    position = [0] * first.ndim
    for axis in reversed(axes):
        element, position[axis] = divmod(element, first.shape[axis])
    return tuple(position)


def elementwise(
    int loss, bint wide, tuple arrays, tuple domains, double target_value, double third_value,
    double a, double b, double grad_scale, bint is_fresh, bint mean, bint sums_weights, int accumulate, int threads,
):
    """Run one job; return (operand at fault or -1, its position, sum of the losses, the mean's denominator).

    The operand at fault is input, target or third (0, 1, 2), with a value outside its domain. `arrays` are
    input, target, third, weight, upstream, first, second, losses: of one shape (broadcast, if needed), or
    None. `domains` are those of the first three; with a fault nothing has been written, unless `is_fresh`.
    `wide` computes in double from any type.
    """
    cdef fl_element_job job
    cdef dimensions room[ARRAYS]
    cdef fl_array *out[ARRAYS]
    cdef ptrdiff_t fault
    cdef double total, denominator
    memset(&job, 0, sizeof(job))
    describe_elements(&job, out)
    job.loss = loss
    job.accumulate = accumulate
    job.size = cnp.PyArray_SIZE(<cnp.ndarray>arrays[0])
    if job.size == 0:
        return -1, (), 0.0, 0.0
    job.inner = describe_together(out, arrays, room)
    job.target_value = target_value
    job.third_value = third_value
    job.parameter[0] = a
    job.parameter[1] = b
    job.scale = grad_scale
    job.domains[:] = [domains[0], domains[1], domains[2]]
    total = execute_elements(&job, wide, is_fresh, mean, sums_weights, threads, &fault, &denominator)
    if fault >= 0:
        return fault % FL_OPERANDS, position_of(fault // FL_OPERANDS, arrays[0]), 0.0, 0.0
    return -1, (), total, denominator


NEGATIVE_BINOMIAL = FL_NEGATIVE_BINOMIAL
STUDENT_T = FL_STUDENT_T
NORMAL = FL_NORMAL


def distribution(
    int kind, tuple arrays, double target_value, double third_value, double fourth_value, bint is_full,
    double grad_scale, bint mean, bint counts, bint sums, int accumulate, int threads,
):
    """Compute the negative log-likelihood of a distribution, see distribution.h; return the sum of the losses, the
    mean's denominator, and on request the sums of both parameters' gradients.

    `arrays` are those of `elementwise`, the second parameter and its gradient. `counts` asks for the sum of the
    weights, which a mean needs.
    """
    cdef fl_distribution_job job
    cdef fl_element_job *elements = &job.elements
    cdef dimensions room[ARRAYS]
    cdef fl_array *out[ARRAYS]
    cdef ptrdiff_t pieces, piece
    cdef double total, denominator
    cdef double[2] found = [0.0, 0.0]
    cdef double *by_piece = NULL
    memset(&job, 0, sizeof(job))
    describe_elements(elements, out)
    out[8] = &job.fourth
    out[9] = &job.last
    elements.size = cnp.PyArray_SIZE(<cnp.ndarray>arrays[0])
    if elements.size == 0:
        return 0.0, 0.0, (0.0, 0.0)
    elements.inner = describe_together(out, arrays, room)
    elements.target_value = target_value
    elements.third_value = third_value
    elements.scale = grad_scale
    elements.accumulate = accumulate
    elements.piece = ELEMENTS
    job.fourth_value = fourth_value
    job.distribution = kind
    job.is_full = is_full
    denominator = elements.size
    threads = team_for(4 * elements.size, threads)
    if elements.weight.data != NULL and (mean or counts):
        denominator = run_elements(elements, True, kernels.elements_f64.weights, threads).total
    if mean:
        elements.scale = elements.scale / denominator if denominator else INFINITY
    pieces = (elements.size + ELEMENTS - 1) // ELEMENTS
    if sums:
        by_piece = <double *>malloc(2 * pieces * sizeof(double))
        if by_piece == NULL:
            raise MemoryError("sums of gradients")
    job.sums = by_piece
    try:
        total = run_pieces(
            kernels.samples.distribution.elements, &job, elements.size, ELEMENTS, 4 * elements.size, threads,
            kernels.samples.distribution.buffer_bytes,
        ).total
        for piece in range(pieces if sums else 0):
            found[0] += by_piece[2 * piece]
            found[1] += by_piece[2 * piece + 1]
    finally:
        free(by_piece)
    return total, denominator, (found[0], found[1])


cdef void describe_column(fl_array *out, cnp.ndarray array, int column) noexcept:
    """Describe a column of an array with two axes, or an array with one."""
    out.data = <char *>cnp.PyArray_DATA(array)
    if cnp.PyArray_NDIM(array) == 2:
        out.data += column * cnp.PyArray_STRIDES(array)[1]
    out.dtype = type_code(array)
    out.itemsize = cnp.PyArray_ITEMSIZE(array)
    out.class_stride = cnp.PyArray_STRIDES(array)[0]


def objective(
    int kind, cnp.ndarray scores not None, cnp.ndarray label not None, cnp.ndarray weight,
    cnp.ndarray gradient not None, cnp.ndarray hessian not None, int threads,
):
    """Write the derivatives of a distribution's loss by its scores (rows, parameters); see distribution.h."""
    cdef fl_objective_job job
    cdef ptrdiff_t rows = cnp.PyArray_DIMS(scores)[0]
    cdef int k
    memset(&job, 0, sizeof(job))
    job.distribution = kind
    describe_column(&job.label, label, 0)
    if weight is not None:
        describe_column(&job.weight, weight, 0)
    for k in range(<int>cnp.PyArray_DIMS(scores)[1]):
        describe_column(&job.scores[k], scores, k)
        describe_column(&job.gradients[k], gradient, k)
        describe_column(&job.hessians[k], hessian, k)
    run_pieces(
        kernels.samples.distribution.objective, &job, rows, 4096, 8 * rows, team_for(8 * rows, threads),
        kernels.samples.distribution.objective_bytes,
    )


def first_outside(tuple arrays, tuple domains, int threads):
    """Return (index, position) of the first element outside its domain, of up to three arrays of one shape or None;
    the index is -1 if there is none. The first is an array."""
    cdef fl_element_job job
    cdef dimensions room[ARRAYS]
    cdef fl_array *out[ARRAYS]
    cdef ptrdiff_t fault
    memset(&job, 0, sizeof(job))
    describe_elements(&job, out)
    job.size = cnp.PyArray_SIZE(<cnp.ndarray>arrays[0])
    if job.size == 0:
        return -1, ()
    job.inner = describe_together(out, arrays, room)
    job.domains[:] = [domains[0], domains[1], domains[2]]
    fault = run_elements(&job, True, kernels.elements_f64.check, team_for(job.size, threads)).fault
    if fault < 0:
        return -1, ()
    return fault % FL_OPERANDS, position_of(fault // FL_OPERANDS, arrays[0])


def plain_elementwise(
    int loss, bint wide, int input_domain, int target_domain, double a, double b, values, target,
    reduction, return_grad, out, num_threads,
):
    """Return the elementwise loss of a plain call, or None if the call needs or breaks the argument rules.

    As in `plain_cross_entropy`: contiguous arrays of one type and shape (or a scalar target), no further
    option.
    """
    cdef fl_element_job job
    cdef ptrdiff_t fault
    cdef int ndim, threads = 1
    cdef double total, denominator
    cdef cnp.ndarray x, y = None
    cdef bint is_fresh
    cdef int how = plain_reduction(reduction)
    if how < 0 or not is_floating(values):
        return None
    x = values
    ndim = cnp.PyArray_NDIM(x)
    memset(&job, 0, sizeof(job))
    job.size = cnp.PyArray_SIZE(x)
    if ndim == 0 or job.size == 0 or not cnp.PyArray_IS_C_CONTIGUOUS(x):
        return None
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
    if out is not False:
        describe_straight(&job.first, out)
    job.loss = loss
    job.inner = job.size
    describe_straight(&job.input, x)
    job.third_value = job.scale = 1.0
    job.parameter[0] = a
    job.parameter[1] = b
    if job.size >= SERIAL:
        threads = num_threads()
    job.domains[:] = [input_domain, target_domain, FL_ANY]
    total = execute_elements(
        &job, wide or job.input.dtype == FL_FLOAT64, is_fresh, how == MEAN, False, threads, &fault, &denominator
    )
    if fault >= 0:
        return None
    if how == MEAN:
        total /= denominator
    found = plain_loss(how, total, denominator)
    return found if out is False else (found, out)


def total(cnp.ndarray values not None, int threads):
    """Return the sum of float64 values, added in the same order as a loss."""
    cdef fl_element_job job
    memset(&job, 0, sizeof(job))
    job.size = cnp.PyArray_SIZE(values)
    job.inner = job.size
    if job.size == 0:
        return 0.0
    describe_straight(&job.weight, values)
    return run_elements(&job, True, kernels.elements_f64.weights, team_for(job.size, threads)).total


def is_outside(int domain, double value):
    """Return whether a number is outside a domain."""
    cdef fl_element_job job
    memset(&job, 0, sizeof(job))
    job.size = job.inner = 1
    job.domains[0] = domain
    job.input.data = <char *>&value
    job.input.dtype = FL_FLOAT64
    job.input.itemsize = job.input.class_stride = sizeof(double)
    return run_elements(&job, True, kernels.elements_f64.check, 1).fault >= 0


# Largest number of pairs of a plain call: one block, one thread.
cdef enum:
    PAIRS = 2048


def plain_pairs(
    int loss, double a, double b, double target, double scale, double offset, tuple arrays, reduction, return_grad
):
    """Return the loss of scale * D - offset of a plain call, D the difference of two or four
    log-probabilities.

    Returns the loss, or (loss, gradient of the first, of the second); None if the call needs the argument
    rules, as in `plain_cross_entropy`. The target is a scalar.
    """
    cdef fl_element_job job
    cdef double *z
    cdef double *slope
    cdef const void *data[4]
    cdef ptrdiff_t fault
    cdef int k = 0, number, how = plain_reduction(reduction)
    cdef double denominator, loss_sum, factor = 1.0
    cdef cnp.ndarray x = None, chosen, rejected
    cdef const fl_element_kernels *table
    if how < 0:
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
    memset(&job, 0, sizeof(job))
    job.size = cnp.PyArray_SIZE(x)
    if not 0 < job.size <= PAIRS or number not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        return None
    table = &kernels.elements_f32 if number == cnp.NPY_FLOAT32 else &kernels.elements_f64
    # Not on the stack: threads may have small stacks.
    z = <double *>malloc(2 * job.size * sizeof(double))
    if z == NULL:
        raise MemoryError("differences")
    slope = z + job.size
    table.pair_differences(data, scale, offset, z, job.size)
    job.loss = loss
    job.inner = job.size
    job.input.data = <char *>z
    job.input.dtype = FL_FLOAT64
    job.input.itemsize = job.input.class_stride = sizeof(double)
    if return_grad:
        job.first = job.input
        job.first.data = <char *>slope
    job.target_value = target
    job.third_value = job.scale = 1.0
    job.parameter[0] = a
    job.parameter[1] = b
    try:
        loss_sum = execute_elements(&job, True, True, False, False, 1, &fault, &denominator)
        if how == MEAN:
            factor = 1.0 / job.size
            loss_sum *= factor
        found = plain_loss(how, loss_sum, denominator)
        if not return_grad:
            return found
        chosen = cnp.PyArray_EMPTY(1, cnp.PyArray_DIMS(x), number, 0)
        rejected = cnp.PyArray_EMPTY(1, cnp.PyArray_DIMS(x), number, 0)
        table.pair_gradients(slope, scale, factor, cnp.PyArray_DATA(chosen), cnp.PyArray_DATA(rejected), job.size)
    finally:
        free(z)
    return found, chosen, rejected


def vecmath(str name, cnp.ndarray x not None, cnp.ndarray out not None):
    """Apply an elementary function of the kernels in use to contiguous arrays, for the tests of its error."""
    cdef const fl_function *function = kernels.functions
    cdef bytes wanted = name.encode()
    while function.name != NULL and function.name != wanted:
        function += 1
    if function.name == NULL:
        function = kernels.samples.functions
        while function.name != NULL and function.name != wanted:
            function += 1
    if function.name == NULL:
        raise ValueError(f"no function named {name!r}")
    function.apply(cnp.PyArray_DATA(x), cnp.PyArray_DATA(out), cnp.PyArray_SIZE(x))
