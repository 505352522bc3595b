/* The jobs and the table of the losses whose samples have a structure of their own: pairs of vectors, alignments,
 * lists, times of events. They are compiled apart from the losses over rows and elements, as a change to either then
 * compiles in half the time. */
#ifndef FASTLOSS_SAMPLES_H
#define FASTLOSS_SAMPLES_H

#include "kernels.h"

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

struct fl_samples {
    const char *name;
    struct fl_distribution_kernels distribution;
    const struct fl_function *functions; /* as those of fl_kernels */
};

#endif
