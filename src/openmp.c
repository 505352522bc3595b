/* Finds GNU's OpenMP runtime, libgomp, when threads are first wanted, and forwards the calls of gcc's code to it.
 *
 * Wheels are built with it, and are not linked with libgomp. A copy of libgomp in the wheel would be one more pool of
 * threads in the process, and a dependency would make the import fail where there is none. So this file defines, for
 * this extension alone (they are hidden), the functions of libgomp that the extension calls. They forward to a
 * runtime that the process has already loaded (that of torch or LightGBM: one pool for all), else to the system's.
 *
 * fl_team asks fl_openmp_ready before any construct of OpenMP is entered, so the functions are known by then. Without
 * a runtime every team has one thread. */
#define _GNU_SOURCE /* for dladdr, dl_iterate_phdr */
#include "openmp.h"

#ifdef FASTLOSS_OPENMP_DYNAMIC
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static const char FL_SYSTEMS[] = "libgomp.so.1";
enum { FL_PATH = 4096 };

/* Result, name, declared parameters, arguments. Where the binding needs another function, it does not load: then it
 * belongs here. */
#define FL_PROCEDURES(FL_DO)                                                                                         \
    FL_DO(void, GOMP_parallel, (void (*work)(void *), void *data, unsigned threads, unsigned flags),                 \
          (work, data, threads, flags))                                                                              \
    FL_DO(void, GOMP_barrier, (void), ())                                                                            \
    FL_DO(void, GOMP_loop_end_nowait, (void), ())
#define FL_FUNCTIONS(FL_DO)                                                                                          \
    FL_DO(bool, GOMP_loop_nonmonotonic_dynamic_start,                                                                \
          (long begin, long end, long step, long chunk, long *first, long *last),                                    \
          (begin, end, step, chunk, first, last))                                                                    \
    FL_DO(bool, GOMP_loop_nonmonotonic_dynamic_next, (long *first, long *last), (first, last))                       \
    FL_DO(int, omp_get_max_threads, (void), ())                                                                      \
    FL_DO(int, omp_get_num_threads, (void), ())                                                                      \
    FL_DO(int, omp_get_thread_num, (void), ())

#define FL_FIELD(result, name, parameters, arguments) result(*name) parameters;
static struct {
    FL_PROCEDURES(FL_FIELD) FL_FUNCTIONS(FL_FIELD)
} fl_runtime;
static char fl_file[FL_PATH];
static _Atomic int fl_is_known, fl_is_missing;

/* Declared, as a definition without a declaration is a warning. */
#define FL_PROCEDURE(result, name, parameters, arguments)                                                            \
    result name parameters;                                                                                          \
    result name parameters { fl_runtime.name arguments; }
#define FL_FUNCTION(result, name, parameters, arguments)                                                             \
    result name parameters;                                                                                          \
    result name parameters { return fl_runtime.name arguments; }
FL_PROCEDURES(FL_PROCEDURE)
FL_FUNCTIONS(FL_FUNCTION)

/* Take the functions of a library; 0 if it is NULL or lacks one. */
static int fl_take(void *library)
{
    int has_all = library != NULL;
    Dl_info found;
    if (!has_all) return 0;
#define FL_TAKE(result, name, parameters, arguments)                                                                 \
    *(void **)&fl_runtime.name = dlsym(library, #name);                                                              \
    has_all = has_all && fl_runtime.name != NULL;
    FL_PROCEDURES(FL_TAKE)
    FL_FUNCTIONS(FL_TAKE)
    if (has_all && dladdr(*(void **)&fl_runtime.GOMP_parallel, &found) && strlen(found.dli_fname) < sizeof fl_file)
        strcpy(fl_file, found.dli_fname);
    return has_all;
}

/* Other packages' wheels contain copies with names of their own, as libgomp-e985bcbb.so.1.0.0. */
static int fl_find_copy(struct dl_phdr_info *info, size_t size, void *path)
{
    const char *name = strrchr(info->dlpi_name, '/');
    (void)size;
    name = name == NULL ? info->dlpi_name : name + 1;
    if (strncmp(name, "libgomp", 7) != 0 || strlen(info->dlpi_name) >= FL_PATH) return 0;
    strcpy((char *)path, info->dlpi_name);
    return 1;
}

/* Not in the callback: the loader's locks are taken there. */
static int fl_take_copy(void)
{
    char path[FL_PATH];
    return dl_iterate_phdr(fl_find_copy, path) && fl_take(dlopen(path, RTLD_LAZY | RTLD_NOLOAD));
}

static int fl_count_loaded(struct dl_phdr_info *info, size_t size, void *loaded)
{
    (void)size;
    *(unsigned long long *)loaded = info->dlpi_adds;
    return 1;
}

/* A library that is loaded stays so: nothing closes the handles. */
int fl_openmp_ready(void)
{
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    static unsigned long long looked_at; /* the number of libraries loaded so far when none was found */
    unsigned long long loaded = 0;
    int is_known = atomic_load(&fl_is_known);
    if (is_known) return 1;
    dl_iterate_phdr(fl_count_loaded, &loaded);
    pthread_mutex_lock(&turn);
    is_known = atomic_load(&fl_is_known);
    if (!is_known && loaded != looked_at) {
        is_known = fl_take(dlopen(FL_SYSTEMS, RTLD_LAZY | RTLD_NOLOAD)) || fl_take_copy() ||
                   fl_take(dlopen(FL_SYSTEMS, RTLD_LAZY));
        looked_at = loaded;
        atomic_store(&fl_is_known, is_known);
        atomic_store(&fl_is_missing, !is_known);
    }
    pthread_mutex_unlock(&turn);
    return is_known;
}

int fl_openmp_is_missing(void) { return atomic_load(&fl_is_missing); }

const char *fl_openmp_library(void) { return fl_openmp_ready() && fl_file[0] != '\0' ? fl_file : NULL; }
#else
typedef int fl_not_empty; /* as a unit must be */
#endif
