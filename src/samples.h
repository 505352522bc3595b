/* The jobs and the table of the losses whose samples have a structure of their own: pairs of vectors, alignments,
 * lists, times of events. They are compiled apart from the losses over rows and elements, as a change to either then
 * compiles in half the time. */
#ifndef FASTLOSS_SAMPLES_H
#define FASTLOSS_SAMPLES_H

#include "kernels.h"

/* The losses of lists: see lists.h. Members behind `normalize` are those of lambda_rank. */
struct fl_list_job {
    ptrdiff_t queries, longest; /* how many, and the most documents of one */
    const int64_t *bounds;      /* where each begins, and the end */
    int accumulate, has_value;
    double scale;           /* scalar grad_output over the mean's denominator */
    const double *upstream; /* one for each query; may be NULL */
    double *losses;         /* one for each query; may be NULL */
    struct fl_array scores, relevance, gradient, hessian;
    int normalize;
    double sigmoid;
    ptrdiff_t truncation_level, levels;
    const int32_t *labels;                /* of documents, 0 .. levels - 1 */
    const double *label_gain, *discounts; /* of labels; of the positions of the longest query */
};

struct fl_list_kernels {
    ptrdiff_t (*scratch_bytes)(const struct fl_list_job *);
    fl_work list_net, lambda_rank; /* over queries */
};

/* The order of survival times: see times.h. Pieces of `piece` rows are counted and spread over the buckets.
 * (Measured for a million rows, the whole loss: 2048 buckets take 1.04 of the time of 4096, and 8192 as long.) */
enum { FL_TIME_BUCKETS = 4096, FL_TIME_SCRATCH = FL_TIME_BUCKETS * (int)sizeof(uint32_t) };

struct fl_timed {
    double time;
    uint32_t row;
};

struct fl_order_job {
    ptrdiff_t rows, piece;
    const double *time;
    double *bounds; /* the least and the largest finite time of each piece */
    double low, rate;
    uint32_t buckets, *counts, *starts; /* of each piece and bucket; of each bucket, and the end */
    struct fl_timed *items, *spare;
    uint32_t *order; /* the rows, those with the least time first */
    double *sorted;  /* their times */
};

/* Cox's partial likelihood: see survival.h. Arrays without a comment are scratch of `rows` elements. `levels` may be
 * the memory of `time`. */
enum { FL_COX_RUN = 1024 };

/* Whole groups of rows: the sum of their hazards over e^level, and what they add to A and B. `most` is the largest
 * logarithm of a hazard of the piece of the same number. */
struct fl_cox_segment {
    ptrdiff_t begin, end;
    double level, hazard, a, b, most;
};

struct fl_cox_job {
    ptrdiff_t rows;
    int is_efron, accumulate;
    double scale;
    struct fl_array log_hazard, gradient, hessian; /* one row of `rows` elements */
    const uint32_t *order;
    const double *time;     /* in that order */
    const int64_t *stratum; /* too; NULL: a single one */
    const unsigned char *event;
    const double *weight, *upstream; /* may be NULL */
    double *losses;                  /* zeros; NULL: only their sum */
    double *x, *hazard, *sum, *levels;
    double *mass, *pull; /* NULL without weights, and without upstream gradients */
    unsigned char *flags;
    ptrdiff_t piece;                 /* rows of a piece of gather */
    struct fl_cox_segment *segments; /* one for each piece */
};

struct fl_survival_kernels {
    fl_work survey, count, starts, spread;    /* of a fl_order_job, over rows */
    fl_work arrange;                          /* over buckets, with FL_TIME_SCRATCH bytes of scratch */
    fl_work gather;                           /* of a fl_cox_job, over rows */
    int (*divide)(const struct fl_cox_job *); /* into segments; false: scan must take all rows at once */
    fl_work scan;
    fl_work weigh, segments; /* over segments, one after the other */
    fl_work finish;          /* over segments, one in each piece */
};

/* The likelihoods of distributions: see distribution.h. `elements` has input, target, the first parameter (third),
 * and the gradients by input and first parameter. In `sums` each piece, of elements.piece elements, has the sums of
 * the gradients by the parameters; it may be NULL. */
enum { FL_NEGATIVE_BINOMIAL, FL_STUDENT_T, FL_NORMAL };

struct fl_distribution_job {
    struct fl_element_job elements;
    struct fl_array fourth, last; /* the second parameter and its gradient */
    double fourth_value;
    int distribution, is_full;
    double *sums;
};

/* Their derivatives by the scores of boosting, a column for each parameter: only data, dtype and class_stride, the
 * bytes from row to row, of the arrays count. */
struct fl_objective_job {
    int distribution;
    struct fl_array label, weight, scores[3], gradients[3], hessians[3];
};

struct fl_distribution_kernels {
    ptrdiff_t buffer_bytes, objective_bytes;
    fl_work elements;
    fl_work objective; /* over rows */
};

/* Vectors of a row, of the losses of pairs and triples of vectors, and the bytes of scratch of their kernels. */
enum { FL_VECTORS = 3, FL_PAIR_SCRATCH = 12 * FL_ELEMENT_STRIP * (int)sizeof(double) };
/* Stages of a norm, and kinds of its slope: see pairs.h. */
enum { FL_SQUARES, FL_SIZES, FL_LARGEST_SIZE, FL_NUMBER, FL_POWERS };

/* One call of the cosine embedding loss (the first two vectors) or of the triplet loss: rows of `width` elements. A
 * gradient without data is not wanted. */
struct fl_pair_job {
    ptrdiff_t count, width;
    int accumulate;    /* add to gradient k, instead of writing it, if bit k is set */
    int stream;        /* write gradients past the caches; then they are contiguous */
    int has_gradients; /* whether any is wanted */
    int swap;
    struct fl_array vectors[FL_VECTORS], gradients[FL_VECTORS];
    const double *target, *grad_output; /* a number for each row; grad_output NULL: ones */
    double grad_scale;                  /* scalar grad_output over the mean's denominator */
    double *losses;                     /* may be NULL */
    double margin, p, eps;              /* eps: added to squared lengths, or to differences */
};

/* The upstream gradient of a row, over the mean's denominator. */
static inline double fl_pair_upstream(const struct fl_pair_job *job, ptrdiff_t row)
{
    return job->grad_output ? job->grad_output[row] * job->grad_scale : job->grad_scale;
}

/* Work over rows. */
struct fl_pair_kernels {
    fl_work cosine, triplet;
};

/* One call of the margin loss of several labels: class indices in rows like the scores', contiguous. The scratch is
 * three rows of double, each of whole groups of sixteen. */
struct fl_label_job {
    struct fl_rows rows;
    const int64_t *target;
};

/* One call of connectionist temporal classification; see ctc.h. Row t * batch + n of the input is step t of sample n;
 * its class c is a log-probability, or a logit. */
struct fl_ctc_job {
    ptrdiff_t batch, steps, classes, blank;
    int has_logits, zero_infinity;
    int accumulate, stream;
    struct fl_array input, output;
    const int64_t *labels, *starts;      /* classes, and where those of each sample begin */
    const int64_t *labels_of, *steps_of; /* how many of them a sample has */
    ptrdiff_t most_labels, most_steps;   /* of any sample */
    const double *factor;                /* of the gradient of each sample; NULL without a gradient */
    double *losses;                      /* of each sample */
};

struct fl_samples {
    const char *name;
    struct fl_list_kernels lists;
    struct fl_survival_kernels survival;
    struct fl_distribution_kernels distribution;
    const struct fl_function *functions; /* as those of fl_kernels */
    struct fl_pair_kernels pairs_f32, pairs_f64;
    fl_work labels_f32, labels_f64;
    fl_work label_survey; /* a bad index is a fault */
    ptrdiff_t (*ctc_scratch_bytes)(const struct fl_ctc_job *);
    fl_work ctc;
};

#endif
