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

struct fl_samples {
    const char *name;
    struct fl_list_kernels lists;
};

#endif
