/* The jobs and the table of the losses whose samples have a structure of their own: pairs of vectors, alignments,
 * lists, times of events. They are compiled apart from the losses over rows and elements, as a change to either then
 * compiles in half the time. */
#ifndef FASTLOSS_SAMPLES_H
#define FASTLOSS_SAMPLES_H

#include "kernels.h"

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

struct fl_samples {
    const char *name;
    struct fl_pair_kernels pairs_f32, pairs_f64;
    fl_work labels_f32, labels_f64;
    fl_work label_survey; /* a bad index is a fault */
};

#endif
