/* What the kernels are told and what they offer: the one header that the binding reads.
 *
 * A kernel is serial and knows neither Python nor threads. The binding fills in a job, shares the rows (or the
 * blocks of a row) out over threads, and calls through the table of the instruction set in use. */
#ifndef FASTLOSS_KERNELS_H
#define FASTLOSS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { FL_FLOAT32, FL_FLOAT64, FL_FLOAT16, FL_BFLOAT16 };
enum { FL_CROSS_ENTROPY, FL_SOFTMAX, FL_LOG_SOFTMAX, FL_LOGSUMEXP, FL_ENTROPY };

/* Rows are summed in blocks of this many elements, whoever computes them: so a row gives the same bits whether
 * one thread or all of them work on it. Also what fits the first-level cache beside its exponentials. */
enum { FL_BLOCK = 2048 };
/* Rows of at most this many classes are worked on FL_LANES at a time, a row to a vector lane. */
enum { FL_SHORT_ROW = 64, FL_LANES = 16 };
/* What a block leaves for the row: maximum, sum, dot product, mass, sum without the maximum. */
enum { FL_PARTIALS = 5 };
/* Buffers of a block that a kernel may need at once. They are memory of the caller, one set for each thread, because
 * threads may have small stacks: no kernel takes more than a few KiB of one. */
enum { FL_BUFFERS = 7 };
enum { FL_MAX_DIMS = 64 };

/* An array seen as rows of classes. `shape` and `stride` (in bytes) are those of the rows, row 0 first, `ndim` of
 * each, in memory of the caller; neighbouring dimensions that can be walked as one have been merged. data is NULL
 * where there is no array: an array of zeros is none. */
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

/* What a piece of work leaves: the sum of its losses (or weights), and its first element or row at fault, or -1. */
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

/* Jobs are composed of the structs below, each of which one part of a kernel knows, and start as zeros.
 *
 * Rows of classes: what all operations over them have. Pointers are NULL for what was not given. */
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
    struct fl_array probabilities;
    double smoothing;
};

/* A target that is on another process or in another band of classes, and one that is ignored. */
enum { FL_ELSEWHERE = -1, FL_IGNORED = -2 };

/* The class that a target means, or one of the two above. The targets have been surveyed; but another thread, or
 * another process, may have changed one since. Then it means class 0: a wrong number, but no address outside of the
 * row. */
static inline ptrdiff_t fl_class_of(const struct fl_targets *targets, int64_t target)
{
    if (targets->has_ignored && target == targets->ignored) return FL_IGNORED;
    if (target >= 0 && target < (int64_t)targets->classes) return (ptrdiff_t)target;
    return targets->has_elsewhere ? FL_ELSEWHERE : 0;
}

/* The same of a row, whose target is read once. */
static inline ptrdiff_t fl_class_of_row(const struct fl_targets *targets, ptrdiff_t row)
{
    return fl_class_of(targets, *(const volatile int64_t *)&targets->index[row]);
}

/* What becomes of an input before its softmax: z = softcap tanh(x / softcap) / temperature; softcap 0 is none. */
struct fl_map {
    double softcap, temperature;
};

/* Where the rows are a band of longer ones: for each row the log-sum-exp of the classes elsewhere (NULL: there are
 * none), and what their targets and the z-loss add to the factor of the probabilities. Smoothing spreads over all
 * classes. A target of -1 is elsewhere. */
struct fl_band {
    const double *lse, *mass;
    ptrdiff_t all_classes;
};

/* One call of a function of the softmax family. All but FL_CROSS_ENTROPY need rows and map alone. */
struct fl_softmax_job {
    int operation;
    struct fl_rows rows;
    struct fl_map map;
    struct fl_targets targets;
    struct fl_band band;
    double z_loss;
    struct fl_array hessian; /* its diagonal */
};

enum { FL_MARGIN_SCRATCH = 2 * FL_BLOCK * (int)sizeof(double) };

/* One call of the negative log-likelihood or the multi-class margin loss. */
struct fl_target_job {
    struct fl_rows rows;
    struct fl_targets targets;
    double margin, power; /* of the margin loss */
};

/* A row under work. The binding only allocates it and hands it on. */
struct fl_softmax_row {
    ptrdiff_t index, target, skip, top; /* top: where the maximum is; known only where it is needed */
    const char *input, *probabilities, *next;
    char *output;
    char *exponentials; /* in the type computed in: in the output, or in the scratch row */
    double *partial;    /* FL_PARTIALS for each block */
    char *buffers;      /* FL_BUFFERS of a block */
    double weight;      /* of the target's class */
    double max, capped_max, at_skip;
    double share, least, scale, skipped, logsum, loss;
    double curve, bend, over_total, skipped_curve, top_curve; /* of the hessian */
};

/* A row in steps, so that several threads can share one: start, then for every block `max`; choose; for every
 * block `sum`; settle; for every block `finish`. start returns 0 where nothing is left to do. */
struct fl_softmax_kernels {
    ptrdiff_t (*scratch_bytes)(const struct fl_softmax_job *);
    ptrdiff_t (*buffer_bytes)(const struct fl_softmax_job *); /* of these, those at the end that each thread needs */
    fl_work rows;
    /* The caller sets row->buffers. */
    int (*row_start)(const struct fl_softmax_job *, struct fl_softmax_row *, ptrdiff_t index, void *scratch);
    void (*row_max)(const struct fl_softmax_job *, struct fl_softmax_row *, ptrdiff_t block);
    void (*row_choose)(const struct fl_softmax_job *, struct fl_softmax_row *);
    void (*row_sum)(const struct fl_softmax_job *, struct fl_softmax_row *, ptrdiff_t block);
    void (*row_settle)(const struct fl_softmax_job *, struct fl_softmax_row *);
    void (*row_finish)(const struct fl_softmax_job *, struct fl_softmax_row *, ptrdiff_t block);
};

enum { FL_KL, FL_JS, FL_TV };
/* The passes over a row, each block by block and settled before the next. */
enum { FL_MAXIMA, FL_EXPONENTIALS, FL_TERMS, FL_GRADIENTS };

/* One call of a divergence of two arrays of logits: student x, teacher t. */
struct fl_divergence_job {
    int operation;
    struct fl_rows rows; /* the student's; accumulate: add to the student's gradient (1), to the teacher's (2) */
    struct fl_array t, t_gradient;
    const unsigned char *counted; /* which rows count; NULL: all */
    double beta, temperature;
};

/* A row under work: see divergence.h. */
struct fl_divergence_row {
    ptrdiff_t index;
    const char *x, *t, *next_x, *next_t;
    char *scratch;
    double *partial; /* FL_PARTIALS for each block */
    double x_max, t_max, x_sum, t_sum, c, x_mean, t_mean, loss;
};

/* Whole rows, or one in steps, so that several threads can share it. */
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

/* One call of an elementwise loss. Arrays without data are absent: a target or a third array is then the same number
 * everywhere. All are seen as rows of `inner` elements (their classes), with as many dimensions of rows as each
 * needs; an array without gaps has none. */
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
    int is_checked; /* whether elements looks at them, too */
};

/* The fault of an element: which of input, target and third lies outside of its domain. */
enum { FL_OPERANDS = 3 };
static inline ptrdiff_t fl_fault_of(ptrdiff_t element, int operand) { return element * FL_OPERANDS + operand; }

struct fl_element_kernels {
    /* What the others need beside the job, for each thread. */
    ptrdiff_t (*buffer_bytes)(const struct fl_element_job *);
    fl_work elements; /* losses and derivatives */
    fl_work check;    /* the domains alone */
    fl_work weights;  /* their sum */
    /* Of n pairs, in the type of the arrays: see elementwise.h. */
    void (*pair_differences)(const void *const *arrays, double scale, double offset, double *z, ptrdiff_t n);
    void (*pair_gradients)(const double *slope, double scale, double factor, void *chosen, void *rejected,
                           ptrdiff_t n);
};

/* The name and the domain of a line of losses.def; name NULL after the last. */
struct fl_loss {
    const char *name;
    int domain;
};
extern const struct fl_loss fl_losses[];

/* A line of domains.def: its name, and what errors say of it. */
struct fl_domain {
    const char *name, *expected;
};
extern const struct fl_domain fl_domains[];

/* An elementary function over n numbers of the type that its name ends with, for the tests that measure its error;
 * name NULL after the last. */
struct fl_function {
    const char *name;
    void (*apply)(const void *x, void *out, ptrdiff_t n);
};

struct fl_kernels {
    const char *name;
    struct fl_softmax_kernels softmax_f32, softmax_f64;
    struct fl_divergence_kernels divergence_f32, divergence_f64;
    struct fl_element_kernels elements_f32, elements_f64;
    fl_work nll_rows, margin_rows; /* of a fl_target_job; the second needs FL_MARGIN_SCRATCH bytes */
    fl_work survey;                /* of fl_targets: what rows add to a mean's denominator; a bad target is a fault */
    const struct fl_function *functions;
};

extern const struct fl_kernels fl_kernels_baseline;
#ifdef FASTLOSS_BUILT_AVX2
extern const struct fl_kernels fl_kernels_avx2;
#endif
#ifdef FASTLOSS_BUILT_AVX512
extern const struct fl_kernels fl_kernels_avx512;
#endif

/* 0 baseline, 1 AVX2 (with FMA and F16C), 2 AVX-512 (F, BW, DQ, VL): what this processor and this operating
 * system can run, whatever was built. */
int fl_machine_level(void);
/* The table of a level, or NULL where it was not built. */
const struct fl_kernels *fl_kernels_of_level(int level);

#endif
