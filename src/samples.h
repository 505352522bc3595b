/* The jobs and the table of the losses whose samples have a structure of their own: pairs of vectors, alignments,
 * lists, times of events. They are compiled apart from the losses over rows and elements, as a change to either then
 * compiles in half the time. */
#ifndef FASTLOSS_SAMPLES_H
#define FASTLOSS_SAMPLES_H

#include "kernels.h"

struct fl_samples {
    const char *name;
};

#endif
