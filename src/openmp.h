/* The OpenMP runtime of the process: whether there is one, and which.
 *
 * An ordinary build is linked with the runtime of its compiler, so there is always one. With FASTLOSS_OPENMP_DYNAMIC,
 * which Linux wheels are built with, openmp.c looks for libgomp when threads are first wanted. */
#ifndef FASTLOSS_OPENMP_H
#define FASTLOSS_OPENMP_H

#ifdef FASTLOSS_OPENMP_DYNAMIC
/* Whether teams can start. Until then no construct of OpenMP may be entered. */
int fl_openmp_ready(void);
/* Whether a runtime was looked for and not found. */
int fl_openmp_is_missing(void);
/* The file of the runtime; NULL if none was found, or it has no file. */
const char *fl_openmp_library(void);
#else
static inline int fl_openmp_ready(void) { return 1; }
static inline int fl_openmp_is_missing(void) { return 0; }
#if defined(_OPENMP) && !defined(_WIN32)
#include <dlfcn.h>
#include <omp.h>
#include <stddef.h>
#include <stdint.h>
static inline const char *fl_openmp_library(void)
{
    Dl_info found;
    return dladdr((void *)(uintptr_t)omp_get_max_threads, &found) ? found.dli_fname : NULL;
}
#else
static inline const char *fl_openmp_library(void) { return (const char *)0; }
#endif
#endif

#endif
