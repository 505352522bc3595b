/* What the kernels are told and what they offer: the one header that the binding reads.
 *
 * A kernel is serial and knows neither Python nor threads. The binding fills in a job, shares the rows (or the
 * blocks of a row) out over threads, and calls through the table of the instruction set in use. */
#ifndef FASTLOSS_KERNELS_H
#define FASTLOSS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { FL_FLOAT32, FL_FLOAT64, FL_FLOAT16, FL_BFLOAT16 };
enum { FL_CROSS_ENTROPY, FL_SOFTMAX, FL_LOG_SOFTMAX, FL_LOGSUMEXP, FL_ENTROPY, FL_NLL, FL_MULTI_MARGIN };

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

/* An array seen as rows of classes. `shape` and `stride` (in bytes) are those of the rows, row 0 first;
 * neighbouring dimensions that can be walked as one have been merged. data is NULL where there is no array. */
struct fl_array {
    char *data;
    int dtype, ndim;
    ptrdiff_t itemsize, class_stride;
    ptrdiff_t shape[FL_MAX_DIMS], stride[FL_MAX_DIMS];
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

/* A target that is on another process or in another band of classes, and one that is ignored. */
enum { FL_ELSEWHERE = -1, FL_IGNORED = -2 };

/* One call of a function of the softmax family. Pointers are NULL for what was not given. */
struct fl_softmax_job {
    int operation;
    int accumulate; /* add to output instead of writing it */
    int stream;     /* write the output past the caches */
    ptrdiff_t rows, classes;
    struct fl_array input, output, probabilities;
    struct fl_array hessian; /* its diagonal */
    const int64_t *target;   /* a class for each row, or NULL: then probabilities are the target */
    int has_ignore_index;
    int64_t ignore_index;
    const double *class_weight, *sample_weight, *grad_output;
    /* Where the rows are a band of longer ones (FL_CROSS_ENTROPY): the log-sum-exp of
     * the classes elsewhere, and what their targets and the z-loss add to the factor of the probabilities, for each
     * row. A target of -1 is elsewhere. */
    const double *elsewhere_lse, *elsewhere_mass;
    ptrdiff_t all_classes;                                /* over which smoothing spreads */
    double grad_scale;                                    /* scalar grad_output over the mean's denominator */
    double label_smoothing, z_loss, softcap, temperature; /* softcap 0: none */
    double margin, power;                                 /* of FL_MULTI_MARGIN */
    double *row_loss;                                     /* or log-sum-exp; may be NULL */
};

/* The class that a target means, or one of the two above. The targets have been surveyed; but another thread, or
 * another process, may have changed one since. Then it means class 0: a wrong number, but no address outside of the
 * row. */
static inline ptrdiff_t fl_class_of(const struct fl_softmax_job *job, int64_t target)
{
    if (job->has_ignore_index && target == job->ignore_index) return FL_IGNORED;
    if (target >= 0 && target < (int64_t)job->classes) return (ptrdiff_t)target;
    return job->elsewhere_lse ? FL_ELSEWHERE : 0;
}

/* The same of a row, whose target is read once. */
static inline ptrdiff_t fl_class_of_row(const struct fl_softmax_job *job, ptrdiff_t row)
{
    return fl_class_of(job, *(const volatile int64_t *)&job->target[row]);
}

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
    /* Rows begin .. end - 1, in order; returns the sum of their losses. scratch is aligned to 64 bytes. */
    double (*rows)(const struct fl_softmax_job *, ptrdiff_t begin, ptrdiff_t end, void *scratch);
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
    int accumulate; /* add to x_gradient (1), to t_gradient (2), instead of writing it */
    int stream;
    ptrdiff_t rows, classes;
    struct fl_array x, t, x_gradient, t_gradient;
    const unsigned char *counted; /* which rows count; NULL: all */
    const double *grad_output;
    double grad_scale, beta, temperature;
    double *row_loss;
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
    double (*rows)(const struct fl_divergence_job *, ptrdiff_t begin, ptrdiff_t end, void *scratch);
    void (*start)(const struct fl_divergence_job *, struct fl_divergence_row *, ptrdiff_t index, void *scratch);
    void (*block)(const struct fl_divergence_job *, struct fl_divergence_row *, int pass, ptrdiff_t block,
                  void *buffers);
    void (*settle)(const struct fl_divergence_job *, struct fl_divergence_row *, int pass);
};

/* What a target may be. NaN may stand anywhere. */
enum { FL_ANY, FL_UNIT, FL_SIGN, FL_NONNEGATIVE, FL_STRICTLY_POSITIVE, FL_ABOVE_MINUS_ONE };

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
    double scale; /* of the derivatives */
};

struct fl_element_kernels {
    /* What the others need beside the job, for each thread. */
    ptrdiff_t (*buffer_bytes)(const struct fl_element_job *);
    /* Elements begin .. end - 1; returns the sum of their losses. *outside becomes whether a target lies outside of
     * the domain that losses.def gives it. */
    double (*elements)(const struct fl_element_job *, ptrdiff_t begin, ptrdiff_t end, int *outside, void *buffers);
    double (*sum)(const struct fl_element_job *, const struct fl_array *, ptrdiff_t begin, ptrdiff_t end,
                  void *buffers);
    ptrdiff_t (*first_outside)(const struct fl_element_job *, const struct fl_array *, int domain, ptrdiff_t begin,
                               ptrdiff_t end, void *buffers);
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
    double (*nll_rows)(const struct fl_softmax_job *, ptrdiff_t begin, ptrdiff_t end);
    /* buffers: two blocks of double. */
    double (*multi_margin_rows)(const struct fl_softmax_job *, ptrdiff_t begin, ptrdiff_t end, void *buffers);
    /* What the rows begin .. end - 1 add to a mean's denominator; *first_bad is the first row whose target is no
     * class, or -1. */
    double (*survey)(const struct fl_softmax_job *, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t *first_bad);
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
