/* Calls that a signal may end.
 *
 * Python runs the handlers of signals between its own steps, so that a kernel of some seconds would hold up Ctrl+C.
 * The thread that entered a call therefore looks for signals from time to time: it takes the interpreter lock and
 * lets their handlers run. If one raises, the call is stopped: no thread takes another piece of its work, and the
 * binding raises the exception. The output is then undefined.
 *
 * The first look comes FL_LOOK_AFTER milliseconds after the start, so shorter calls never take the lock. All threads
 * leave the team before a look, and enter it again: a handler may call anything, also this package, and may fork.
 * Only where a piece itself takes long (a row of millions of elements, a long alignment) the first thread looks while
 * the others work; a handler must not fork then.
 *
 * This is the one place that knows the rule. A kernel whose pieces may be long asks fl_stops_at in its loops, and
 * returns early, with any result, if the answer is yes. */
#ifndef FASTLOSS_CALLS_H
#define FASTLOSS_CALLS_H

#include <stddef.h>
#include <stdint.h>

enum { FL_LOOK_AFTER = 50 };
/* Elements between two questions of a kernel, a power of two; and those from which a piece may be a long one. */
enum { FL_ELEMENTS_OF_LOOK = 131072, FL_LONG_PIECE = 1048576 };

/* A call. The members are those of calls.c, but that `stopped` may be read after the call. */
struct fl_call {
    int (*look)(void *); /* runs the handlers, and returns whether one raised */
    void *of_look;
    volatile int64_t next; /* when to look; never without `look` */
    ptrdiff_t pieces;
    volatile ptrdiff_t taken, done;
    int is_long;
    volatile int stopped;
};

/* The call in which a thread works. */
struct fl_place {
    struct fl_call *call;
    int is_first; /* whether it is the thread that entered */
};

/* Starts a call; without `look` it cannot be stopped. */
void fl_call_begin(struct fl_call *call, int (*look)(void *), void *of_look);
/* Starts a part of it, of so many pieces, each of about so many elements. */
void fl_call_part(struct fl_call *call, ptrdiff_t pieces, ptrdiff_t elements);
/* Looks for signals if it is time, in the thread that entered; returns whether the call has been stopped. */
int fl_call_looks(struct fl_call *call);

/* Begin and end of a thread's work on a part. `before` keeps what the thread was doing. */
void fl_work_begin(struct fl_call *call, int is_first, struct fl_place *before);
void fl_work_end(const struct fl_place *before);
/* The next piece, or -1 if there is none, or if it is time to look. */
ptrdiff_t fl_work_take(struct fl_call *call);
void fl_work_done(struct fl_call *call);
/* Whether all pieces have been taken. */
int fl_work_is_complete(struct fl_call *call);
/* Looks on while the other threads work on long pieces. */
void fl_work_wait(struct fl_call *call);

/* Whether the call in which this thread works has been stopped; looks, if it is time. */
int fl_stops(void);

/* The same, asked at every element that a loop comes to: the loop must come to multiples of FL_ELEMENTS_OF_LOOK. */
static inline int fl_stops_at(ptrdiff_t element)
{
    return element != 0 && (element & (FL_ELEMENTS_OF_LOOK - 1)) == 0 && fl_stops();
}

/* The same in a loop of uneven steps, after work on so many elements; `since` counts those without a question. */
static inline int fl_stops_after(ptrdiff_t elements, ptrdiff_t *since)
{
    *since += elements;
    if (*since < FL_ELEMENTS_OF_LOOK) return 0;
    *since = 0;
    return fl_stops();
}

/* The same between passes over so many elements. */
static inline int fl_stops_between(ptrdiff_t elements) { return elements >= FL_ELEMENTS_OF_LOOK && fl_stops(); }

#endif
