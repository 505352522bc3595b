/* Determines from the operating system whether a team of OpenMP threads can run in this process.
 *
 * There may be no runtime (see openmp.h). And in two cases a program that starts a team without this check hangs or
 * ends:
 *
 * - After a fork the OpenMP runtime of the child waits for ever for threads that do not exist, also if another
 *   library had started them: libraries share the runtime. So two kinds of children stay serial: a child forked
 *   after the import of the package, by Python or by C (its process id differs); and a child of a process that had
 *   loaded the runtime before (it was forked, has called no exec, and the runtime was loaded when it imported the
 *   package).
 * - If the system refuses a thread (a limit of processes or of memory), the runtime ends the process. So whenever a
 *   Python thread needs a larger team than before, as many threads are started and ended first. A race remains: the
 *   limit may be reached in between, or after other users of the runtime have released its threads. */
#ifndef FASTLOSS_PROCESS_H
#define FASTLOSS_PROCESS_H

#include "openmp.h"

#if defined(_OPENMP) && !defined(_WIN32)
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#ifdef __linux__
#include <link.h>
#endif

static pid_t fl_home; /* the process that imported the package; 0 in a process that stays serial */
static _Thread_local int fl_largest_team = 1;

#ifdef __linux__
/* PF_FORKNOEXEC of the kernel, the ninth field of /proc/self/stat: forked, but called no exec. */
static int fl_was_forked(void)
{
    char text[512] = "", *end;
    unsigned long flags = 0;
    FILE *file = fopen("/proc/self/stat", "r");
    if (file == NULL) return 0;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    end = strrchr(text, ')'); /* the name of the program may contain any character */
    if (end == NULL || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) != 1) return 0;
    return (flags & 0x40) != 0;
}

/* Libraries are listed in the order in which they were loaded. */
static int fl_look_for_runtime(struct dl_phdr_info *info, size_t size, void *found)
{
    const uintptr_t here = (uintptr_t)(const void *)&fl_home;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && here >= start && here < start + info->dlpi_phdr[i].p_memsz)
            return 1; /* this extension: the libraries that follow were loaded with or after it */
    }
    if (strstr(info->dlpi_name, "libgomp") || strstr(info->dlpi_name, "libomp") || strstr(info->dlpi_name, "libiomp"))
        *(int *)found = 1;
    return 0;
}

static int fl_inherited_runtime(void)
{
    int found = 0;
    if (!fl_was_forked()) return 0;
    dl_iterate_phdr(fl_look_for_runtime, &found);
    return found;
}
#else
static int fl_inherited_runtime(void) { return 0; }
#endif

static void fl_process_begin(void) { fl_home = fl_inherited_runtime() ? 0 : getpid(); }

/* Python's fork hook calls this in a child, too, because process ids are reused. */
static void fl_process_stay_serial(void) { fl_home = 0; }

static void *fl_wait_at_gate(void *gate)
{
    pthread_mutex_lock((pthread_mutex_t *)gate);
    pthread_mutex_unlock((pthread_mutex_t *)gate);
    return NULL;
}

/* Whether this many threads can exist at once. It starts some more, as the system counts a thread for a moment after
 * its end. */
static int fl_can_start(int threads)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    const int wanted = threads + (threads < 16 ? threads : 16);
    pthread_t *started = (pthread_t *)malloc((size_t)wanted * sizeof *started);
    int count = 0;
    if (started == NULL) return 0;
    pthread_mutex_lock(&gate);
    while (count < wanted && pthread_create(&started[count], NULL, fl_wait_at_gate, &gate) == 0) count++;
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < count; i++) pthread_join(started[i], NULL);
    free(started);
    return count == wanted;
}

/* The size of the team for a wanted number of threads. */
static int fl_team(int threads)
{
    if (threads <= 1 || getpid() != fl_home || !fl_openmp_ready()) return 1;
    if (threads > fl_largest_team) {
        if (!fl_can_start(threads - 1)) return 1;
        fl_largest_team = threads;
    }
    return threads;
}
#elif defined(_OPENMP)
static void fl_process_begin(void) {}
static void fl_process_stay_serial(void) {}
static int fl_team(int threads) { return threads; }
#else
static void fl_process_begin(void) {}
static void fl_process_stay_serial(void) {}
static int fl_team(int threads)
{
    (void)threads;
    return 1;
}
#endif

#endif
