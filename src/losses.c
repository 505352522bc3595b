/* The tables of losses.def and domains.def for the binding. */
#include "kernels.h"

#define FL_LOSS(name, domain, terms, value, derivative, derivative_of_that) {#name, FL_##domain},
const struct fl_loss fl_losses[] = {
#include "losses.def"
    {NULL, FL_ANY},
};

#define FL_DOMAIN(name, expected, outside) {#name, expected},
const struct fl_domain fl_domains[] = {
#include "domains.def"
};
