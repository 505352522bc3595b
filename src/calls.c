/* Calls that a signal may end: see calls.h. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* CLOCK_MONOTONIC_COARSE */
#endif
#include "calls.h"

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <time.h>
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#define FL_THREAD_LOCAL __declspec(thread)
#define FL_READ(member) (member)
#define FL_WRITE(member, value) ((member) = (value))
#define FL_ADD_ONE(member) ((ptrdiff_t)_InterlockedExchangeAdd64((volatile __int64 *)&(member), 1))
#else
#define FL_THREAD_LOCAL _Thread_local
#define FL_READ(member) __atomic_load_n(&(member), __ATOMIC_ACQUIRE)
#define FL_WRITE(member, value) __atomic_store_n(&(member), (value), __ATOMIC_RELEASE)
#define FL_ADD_ONE(member) __atomic_fetch_add(&(member), 1, __ATOMIC_ACQ_REL)
#endif

static FL_THREAD_LOCAL struct fl_place fl_place;

/* Takes some nanoseconds; its steps are those of the system's clock, up to 16 milliseconds. */
static int64_t fl_milliseconds(void)
{
#ifdef _WIN32
    return (int64_t)GetTickCount64();
#else
    struct timespec now;
#ifdef CLOCK_MONOTONIC_COARSE
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
#endif
}

static void fl_sleep_a_little(void)
{
#ifdef _WIN32
    Sleep(1);
#else
    const struct timespec little = {0, 100000};
    nanosleep(&little, NULL);
#endif
}

static int fl_is_time(struct fl_call *call)
{
    const int64_t next = FL_READ(call->next);
    return next != INT64_MAX && fl_milliseconds() >= next;
}

void fl_call_begin(struct fl_call *call, int (*look)(void *), void *of_look)
{
    const struct fl_call begun = {look, of_look, look ? fl_milliseconds() + FL_LOOK_AFTER : INT64_MAX, 0, 0, 0, 0, 0};
    *call = begun;
}

void fl_call_part(struct fl_call *call, ptrdiff_t pieces, ptrdiff_t elements)
{
    call->pieces = pieces;
    call->taken = call->done = 0;
    call->is_long = call->look && elements >= FL_LONG_PIECE;
}

int fl_call_looks(struct fl_call *call)
{
    /* A handler that calls a kernel works in no call, or in one of its own. */
    const struct fl_place here = fl_place, nowhere = {NULL, 0};
    if (FL_READ(call->stopped) || !fl_is_time(call)) return FL_READ(call->stopped);
    fl_place = nowhere;
    if (call->look(call->of_look)) FL_WRITE(call->stopped, 1);
    fl_place = here;
    FL_WRITE(call->next, fl_milliseconds() + FL_LOOK_AFTER);
    return FL_READ(call->stopped);
}

void fl_work_begin(struct fl_call *call, int is_first, struct fl_place *before)
{
    *before = fl_place;
    fl_place.call = call;
    fl_place.is_first = is_first;
}

void fl_work_end(const struct fl_place *before) { fl_place = *before; }

ptrdiff_t fl_work_take(struct fl_call *call)
{
    ptrdiff_t piece;
    if (FL_READ(call->stopped) || fl_is_time(call)) return -1;
    piece = FL_ADD_ONE(call->taken);
    return piece < call->pieces ? piece : -1;
}

void fl_work_done(struct fl_call *call)
{
    if (call->is_long) FL_ADD_ONE(call->done);
}

int fl_work_is_complete(struct fl_call *call)
{
    return FL_READ(call->taken) >= call->pieces && !FL_READ(call->stopped);
}

void fl_work_wait(struct fl_call *call)
{
    while (call->is_long) {
        const ptrdiff_t taken = FL_READ(call->taken), begun = taken < call->pieces ? taken : call->pieces;
        if (FL_READ(call->done) >= begun || fl_stops()) return;
        fl_sleep_a_little();
    }
}

int fl_stops(void)
{
    if (fl_place.call == NULL) return 0;
    return fl_place.is_first ? fl_call_looks(fl_place.call) : FL_READ(fl_place.call->stopped);
}
