/* Jobs, the arguments of the kernels, and the tables of kernels. The binding includes only this header.
 *
 * A kernel is serial and knows neither Python nor threads. The binding fills in a job, distributes the rows (or the
 * blocks of a row) over threads, and calls the kernels through the table of the instruction set in use. */
#ifndef FASTLOSS_KERNELS_H
#define FASTLOSS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "calls.h"

enum { FL_FLOAT32, FL_FLOAT64, FL_FLOAT16, FL_BFLOAT16 };
enum { FL_CROSS_ENTROPY, FL_SOFTMAX, FL_LOG_SOFTMAX, FL_LOGSUMEXP, FL_ENTROPY };

/* Rows are summed in blocks of this many elements, so a row gives the same bits with one thread and with all. A
 * block and its exponentials fit the first-level cache. */
enum { FL_BLOCK = 2048 };
/* Elements of the elementwise losses are processed this many at a time. (Measured in the cache: 64 take up to a fifth
 * longer, 512 the same.) */
enum { FL_ELEMENT_STRIP = 256 };
/* Rows of at most this many classes are computed FL_LANES at a time, one row in each vector lane. */
enum { FL_SHORT_ROW = 64, FL_LANES = 16 };
/* So are some rows of up to this many classes: see short_most in short_rows.h, and divergence.h. (A group of such
 * rows and its exponentials fit the second-level cache.) */
enum { FL_MIDDLE_ROW = 1024 };
/* Partial results of a block: maximum, sum, dot product, mass, sum without the maximum. */
enum { FL_PARTIALS = 5 };
/* Largest number of block buffers that a kernel uses at once. The caller allocates them, one set for each thread,
 * because threads may have small stacks: no kernel uses more than 16 KiB of stack. */
enum { FL_BUFFERS = 7 };
/* Bytes at the start of the scratch of each thread, for the row that is open between pieces (see fused.h). */
enum { FL_PIPELINE = 1024 };
enum { FL_MAX_DIMS = 64 };

/* An array as rows of classes. `shape` and `stride` (in bytes) describe the rows, row 0 first, with `ndim` entries
 * each in memory of the caller; adjacent dimensions with a common stride have been merged. data is NULL if there is
 * no array; a zeroed struct is no array. */
struct fl_array {
    char *data;
    int dtype, ndim;
    ptrdiff_t itemsize, class_stride;
    const ptrdiff_t *shape, *stride;
};

static inline char *fl_row_address(const struct fl_array *array, ptrdiff_t row)
{
    char *p = array->data;
    for (int d = array->ndim - 1; d > 0; d--) {
        ptrdiff_t quotient = row / array->shape[d];
        p += (row - quotient * array->shape[d]) * array->stride[d];
        row = quotient;
    }
    return array->ndim ? p + row * array->stride[0] : p;
}

/* Whether the classes of neighbouring rows are neighbours in memory (a class axis that is not the last): groups of
 * such rows stand in columns already. */
static inline int fl_has_adjacent_rows(const struct fl_array *array)
{
    const int inner = array->ndim - 1;
    return inner >= 0 && array->class_stride != array->itemsize && array->stride[inner] == array->itemsize;
}

/* The result of a piece of work: the sum of its losses (or weights), and its first faulty element or row, or -1. */
struct fl_piece {
    double total;
    ptrdiff_t fault;
};

static inline struct fl_piece fl_faultless(double total)
{
    const struct fl_piece piece = {total, -1};
    return piece;
}

/* The work on the rows or elements begin .. end - 1 of a job. scratch is aligned to 64 bytes. */
typedef struct fl_piece (*fl_work)(const void *job, ptrdiff_t begin, ptrdiff_t end, void *scratch);
/* What is left of it after the last piece of a thread. */
typedef void (*fl_drain)(const void *job, void *scratch);

/* Jobs are composed of the structs below and start as zeros. Each part of a kernel uses one of the structs.
 *
 * Rows of classes: the common members of all operations over rows. Pointers to absent arguments are NULL. */
struct fl_rows {
    ptrdiff_t count, classes;
    int accumulate; /* add to output instead of writing it */
    int stream;     /* write the output past the caches */
    struct fl_array input, output;
    const double *grad_output;
    double grad_scale; /* scalar grad_output over the mean's denominator */
    double *losses;    /* one for each row (log-sum-exp of FL_LOGSUMEXP); may be NULL */
};

/* The upstream gradient of a row, over the mean's denominator. */
static inline double fl_upstream(const struct fl_rows *rows, ptrdiff_t row)
{
    return rows->grad_output ? rows->grad_output[row] * rows->grad_scale : rows->grad_scale;
}

/* Their targets: a class for each row, or probabilities of all classes. */
struct fl_targets {
    const int64_t *index; /* NULL: then probabilities are the target */
    ptrdiff_t classes;
    int has_ignored, has_elsewhere;
    int64_t ignored;
    const double *class_weight, *sample_weight;
    const float *narrow_weight; /* the class weights as floats; of a job with smoothing */
    double all_weights;         /* and their sum */
    struct fl_array probabilities;
    double smoothing;
};

/* A target on another process or in another band of classes, and an ignored target. */
enum { FL_ELSEWHERE = -1, FL_IGNORED = -2 };

/* The class of a target, or one of the two values above. The survey has checked the targets, but another thread or
 * process may have changed one since then. An invalid target then means class 0: a wrong result, but no address
 * outside the row. */
static inline ptrdiff_t fl_class_of(const struct fl_targets *targets, int64_t target)
{
    if (targets->has_ignored && target == targets->ignored) return FL_IGNORED;
    if (target >= 0 && target < (int64_t)targets->classes) return (ptrdiff_t)target;
    return targets->has_elsewhere ? FL_ELSEWHERE : 0;
}

/* The same for a row. Its target is read once. */
static inline ptrdiff_t fl_class_of_row(const struct fl_targets *targets, ptrdiff_t row)
{
    return fl_class_of(targets, *(const volatile int64_t *)&targets->index[row]);
}

/* The map of an input before softmax: z = softcap tanh(x / softcap) / temperature; softcap 0 means no softcap. */
struct fl_map {
    double softcap, temperature;
};

/* A band of longer rows: for each row the log-sum-exp of the classes outside the band (NULL: no such classes), and
 * the contribution of their targets and of the z-loss to the factor of the probabilities. Smoothing spreads over all
 * classes. A target of -1 is outside the band. */
struct fl_band {
    const double *lse, *mass;
    ptrdiff_t all_classes;
};

/* A loss that is a function of the cross-entropy with a class target: see focus.h. `by` is gamma of the focal loss,
 * epsilon of the poly loss or q of the generalised cross-entropy. */
enum { FL_UNFOCUSED, FL_FOCAL, FL_POLY, FL_GENERALIZED };
struct fl_focusing {
    int kind;
    double by;
};

/* One call of a function of the softmax family. All operations except FL_CROSS_ENTROPY use only rows and map. */
struct fl_softmax_job {
    int operation;
    struct fl_rows rows;
    struct fl_map map;
    struct fl_targets targets;
    struct fl_band band;
    double z_loss;
    struct fl_focusing focusing; /* not with smoothing, probabilities, a z-loss or the hessian */
    struct fl_array hessian;     /* its diagonal */
};

/* Bytes that each of the kernels of a fl_target_job may use. */
enum { FL_TARGET_SCRATCH = 2 * FL_BLOCK * (int)sizeof(double) };

/* One call of the negative log-likelihood, the multi-class margin loss or the sparsemax loss. */
struct fl_target_job {
    struct fl_rows rows;
    struct fl_targets targets;
    double margin, power; /* of the margin loss */
};

/* A factor c of an exponent, c log2(e), as a sum: see fl_rate_of in vecmath.h. */
struct fl_rate_f32 {
    float whole, high, low;
};

/* The constants of fl_power: of exp(x / temperature - shift). Not every maximum has them: is_usable is 0 where the
 * bounds below would not hold. `reference` is near shift * temperature. */
struct fl_power_f32 {
    struct fl_rate_f32 rate;
    float rounder, lowest, reference;
    double shift;
    int is_usable;
};

struct fl_power_f64 {
    double factor, reference, shift;
    int is_usable;
};

/* The constants of a softcap, see softcap.h. */
struct fl_cap {
    double rate, height, offset, rounder, half[7];
    float over, over_height, lowest, end, near_end, half_end;
};

/* How the exponentials of a row are computed: relative to its maximum, to a shift near the first values of the row,
 * or to a shift near its maximum (see fused.h). */
enum { FL_BY_MAXIMUM, FL_BY_START, FL_BY_SHIFT };

/* The state of a row. The binding allocates it and passes it on. */
struct fl_softmax_row {
    int mode;
    ptrdiff_t index, target, skip, top; /* top: position of the maximum, set only where it is needed */
    const char *input, *probabilities, *next;
    char *output;
    char *exponentials; /* REAL, in the output or in the scratch row */
    double *partial;    /* FL_PARTIALS for each block */
    char *buffers;      /* FL_BUFFERS of a block */
    double weight;      /* of the target's class */
    double max, capped_max, at_skip;
    double near; /* the maximum of the values from which the shift of `power` follows */
    union {
        struct fl_power_f32 of_f32;
        struct fl_power_f64 of_f64;
    } power;
    struct fl_cap cap;
    double share, least, scale, skipped, logsum, loss;
    double curve, bend, over_total, skipped_curve, top_curve; /* of the hessian */
};

/* Whole rows, or a row in steps, so that several threads can share one row: start; `max` for every block; choose;
 * `sum` for every block; settle; `finish` for every block. start returns 0 if the row needs no further step. */
struct fl_softmax_kernels {
    ptrdiff_t (*scratch_bytes)(const struct fl_softmax_job *);
    ptrdiff_t (*buffer_bytes)(const struct fl_softmax_job *); /* of these, those at the end that each thread needs */
    /* Whether the type of the table suffices for the bounds of a job. */
    int (*suits)(const struct fl_softmax_job *);
    int (*is_fused)(const struct fl_softmax_job *);
    /* The scratch of a thread starts as zeros; drain finishes the open row of a thread after its last piece. */
    fl_work rows;
    fl_drain drain;
    /* The caller sets row->buffers. */
    int (*row_start)(const struct fl_softmax_job *, struct fl_softmax_row *, ptrdiff_t index, void *scratch);
    void (*row_max)(const struct fl_softmax_job *, struct fl_softmax_row *, ptrdiff_t block);
    int (*row_choose)(const struct fl_softmax_job *, struct fl_softmax_row *);
    void (*row_sum)(const struct fl_softmax_job *, struct fl_softmax_row *, ptrdiff_t block);
    void (*row_settle)(const struct fl_softmax_job *, struct fl_softmax_row *);
    void (*row_finish)(const struct fl_softmax_job *, struct fl_softmax_row *, ptrdiff_t block);
};

/* The statistics of a row, with u the capped input, z = u / temperature, p = softmax(z) and the target y: the largest
 * u, log-sum-exp minus the largest z, the entropy, log p_y, log sum p^2, the mean of z, and whether y is the first
 * maximum (1 or 0). */
enum { FL_LARGEST, FL_LOGSUM, FL_ROW_ENTROPY, FL_LOG_PROB, FL_LOG_SUM_SQ, FL_MEAN, FL_IS_TOP, FL_STATISTICS };

/* One call of the statistics of rows with class indices, or without (then log p_y is NaN). The gradient is that of
 * log p_y times its upstream gradient, the one of `rows`, plus the entropy times its own. */
struct fl_statistics_job {
    struct fl_rows rows;
    struct fl_map map;
    struct fl_targets targets;
    const double *entropy_upstream; /* NULL: 1 */
    double entropy_scale;
    double *statistics; /* FL_STATISTICS of each row */
    int is_given;       /* the statistics are those of longer rows, of which this is a band: only gradients */
    int has_all;        /* else only the largest, logsum, log p_y and whether it is the first maximum */
};

/* The state of a row: see statistics.h. */
struct fl_statistics_row {
    ptrdiff_t index, target;
    const char *input;
    char *output;
    double *partial;
    double of_log_prob, of_entropy; /* upstream gradients over the temperature */
};

/* Whole rows, or a row in steps, so that several threads can share one row: start; `sum` for every block; settle;
 * `finish` for every block. start returns 0 if the row needs no further step. */
struct fl_statistics_kernels {
    ptrdiff_t (*scratch_bytes)(const struct fl_statistics_job *);
    ptrdiff_t buffer_bytes; /* of these, those at the end that each thread needs */
    fl_work rows;
    int (*start)(const struct fl_statistics_job *, struct fl_statistics_row *, ptrdiff_t index, void *scratch);
    void (*sum)(const struct fl_statistics_job *, struct fl_statistics_row *, ptrdiff_t block, void *buffers);
    void (*settle)(const struct fl_statistics_job *, struct fl_statistics_row *, void *buffers);
    void (*finish)(const struct fl_statistics_job *, struct fl_statistics_row *, ptrdiff_t block, void *buffers);
};

enum { FL_KL, FL_JS, FL_TV };
/* The passes over a row. Each pass runs block by block and is settled before the next pass. */
enum { FL_MAXIMA, FL_EXPONENTIALS, FL_TERMS, FL_GRADIENTS };

/* One call of a divergence of two arrays of logits: student x, teacher t, each with a map of its own. */
struct fl_divergence_job {
    int operation;
    struct fl_rows rows; /* the student's; accumulate: add to the student's gradient (1), to the teacher's (2) */
    struct fl_array t, t_gradient;
    const unsigned char *counted; /* which rows count; NULL: all */
    struct fl_map x_map, t_map;
    double beta;
};

/* The state of a row: see divergence.h. */
struct fl_divergence_row {
    ptrdiff_t index;
    const char *x, *t, *next_x, *next_t;
    char *scratch;
    double *partial; /* FL_PARTIALS for each block */
    double x_max, t_max, x_sum, t_sum, c, x_mean, t_mean, loss;
};

/* Whole rows, or a row in steps, so that several threads can share one row. */
struct fl_divergence_kernels {
    ptrdiff_t (*scratch_bytes)(const struct fl_divergence_job *);
    ptrdiff_t buffer_bytes; /* of these, those at the end that each thread needs */
    fl_work rows;
    void (*start)(const struct fl_divergence_job *, struct fl_divergence_row *, ptrdiff_t index, void *scratch);
    void (*block)(const struct fl_divergence_job *, struct fl_divergence_row *, int pass, ptrdiff_t block,
                  void *buffers);
    void (*settle)(const struct fl_divergence_job *, struct fl_divergence_row *, int pass);
};

/* The domains of domains.def. */
#define FL_DOMAIN(name, expected, outside) FL_##name,
enum {
#include "domains.def"
    FL_DOMAINS
};
#undef FL_DOMAIN

/* One call of an elementwise loss. Arrays without data are absent; an absent target or third array is a scalar. Each
 * array has rows of `inner` elements (its classes) and as many dimensions of rows as it needs; a contiguous array
 * has none. */
struct fl_element_job {
    int loss;       /* a line of losses.def */
    int accumulate; /* add to first (1), to second (2), instead of writing it */
    int stream;
    ptrdiff_t size, inner;
    struct fl_array input, target, third, weight, upstream, first, second, losses;
    double target_value, third_value;
    double parameter[2];
    double scale;   /* of the derivatives */
    int domains[3]; /* of input, target and third */
    int is_checked; /* whether `elements` checks the domains, too */
    /* If given, `elements` also writes the sum of the weights of each piece, of so many elements, here. */
    double *weight_sums;
    ptrdiff_t piece;
};

/* The fault of an element: which of input, target and third is outside its domain. */
enum { FL_OPERANDS = 3 };
static inline ptrdiff_t fl_fault_of(ptrdiff_t element, int operand) { return element * FL_OPERANDS + operand; }

struct fl_element_kernels {
    /* The buffers that each thread needs for the other functions. */
    ptrdiff_t (*buffer_bytes)(const struct fl_element_job *);
    fl_work elements; /* losses and derivatives */
    fl_work check;    /* the domains alone */
    fl_work weights;  /* their sum */
    /* For n pairs, in the type of the arrays: see elementwise.h. */
    void (*pair_differences)(const void *const *arrays, double scale, double offset, double *z, ptrdiff_t n);
    void (*pair_gradients)(const double *slope, double scale, double factor, void *chosen, void *rejected,
                           ptrdiff_t n);
};

/* Columns of one piece of work, and the bytes of scratch that each of the kernels below needs. */
enum { FL_CONTRAST_COLUMNS = 1024, FL_CONTRAST_SCRATCH = 3 * FL_BLOCK * (int)sizeof(double) };

/* The similarities of a chunk of queries with all keys: see contrast.h. z and the arrays of columns have the type of
 * the table; all arrays are contiguous. factor, row_lse and row_sums have the rows of the chunk. */
struct fl_contrast_job {
    ptrdiff_t rows, columns, row_stride;
    void *z;
    double rate;                                          /* of columns and both: the reciprocal of the temperature */
    double scale, bias;                                   /* of pairs */
    double *top, *sum;                                    /* of columns */
    const double *factor, *row_lse;                       /* a and r; pairs without a factor writes no gradient */
    const void *column_factor, *column_high, *column_low; /* b, and c as a sum */
    double *row_sums;                                     /* of pairs: three for all rows, one after the other */
};

struct fl_contrast_kernels {
    fl_work columns;
    fl_work both, pairs; /* over rows */
};

/* The name and the domain of a line of losses.def; name NULL after the last. */
struct fl_loss {
    const char *name;
    int domain;
};
extern const struct fl_loss fl_losses[];

/* A line of domains.def: the name, and its description in error messages. */
struct fl_domain {
    const char *name, *expected;
};
extern const struct fl_domain fl_domains[];

/* An elementary function over n numbers of the type in its suffix, for the tests that measure its error; name NULL
 * after the last. */
struct fl_function {
    const char *name;
    void (*apply)(const void *x, void *out, ptrdiff_t n);
};

struct fl_samples;

struct fl_kernels {
    const char *name;
    struct fl_softmax_kernels softmax_f32, softmax_f64;
    struct fl_statistics_kernels statistics_f32, statistics_f64;
    struct fl_divergence_kernels divergence_f32, divergence_f64;
    struct fl_element_kernels elements_f32, elements_f64;
    struct fl_contrast_kernels contrast_f32, contrast_f64;
    /* Of a fl_target_job, with FL_TARGET_SCRATCH bytes of scratch. */
    fl_work nll_rows, margin_rows, sparsemax_rows;
    fl_work survey; /* of fl_targets: contributions to a mean's denominator; a bad target is a fault */
    const struct fl_function *functions;
    const struct fl_samples *samples; /* see samples.h */
};

extern const struct fl_kernels fl_kernels_baseline;
extern const struct fl_samples fl_samples_baseline;
#ifdef FASTLOSS_BUILT_AVX2
extern const struct fl_kernels fl_kernels_avx2;
extern const struct fl_samples fl_samples_avx2;
#endif
#ifdef FASTLOSS_BUILT_AVX512
extern const struct fl_kernels fl_kernels_avx512;
extern const struct fl_samples fl_samples_avx512;
#endif

/* The best level that this processor and this operating system support, whether it was built or not: 0 baseline, 1
 * AVX2 (with FMA and F16C), 2 AVX-512 (F, BW, DQ, VL). */
int fl_machine_level(void);
/* Whether the processor rounds to bfloat16 by an instruction, and whether the kernels of AVX-512 use it. */
int fl_machine_has_bfloat16(void);
extern int fl_uses_bfloat16;
/* The table of a level, or NULL if it was not built. */
const struct fl_kernels *fl_kernels_of_level(int level);

/* Bytes of a data cache of the first processor, level 1 to 3; 0 where none is known. */
ptrdiff_t fl_cache_bytes(int level);
/* From how many bytes on output is written past the caches, given the largest of them (0: unknown): where it exceeds
 * them. */
ptrdiff_t fl_stream_bytes(ptrdiff_t largest_cache);

#endif
