/* The jobs and the table of the losses whose samples have a structure of their own: pairs of vectors, alignments,
 * lists, times of events. They are compiled apart from the losses over rows and elements, as a change to either then
 * compiles in half the time. */
#ifndef FASTLOSS_SAMPLES_H
#define FASTLOSS_SAMPLES_H

#include "kernels.h"

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
    ptrdiff_t (*ctc_scratch_bytes)(const struct fl_ctc_job *);
    fl_work ctc;
};

#endif
