/* The order of survival times, for the losses of survival.h.
 *
 * Times are counted in buckets, spread over them, and sorted within each. So the work is in proportion to their
 * number where they are spread evenly; a bucket with too many becomes buckets of its own, or is sorted by the bits of
 * its times. Pieces of rows are counted and spread by several threads, and each has its place in every bucket. */
#include <float.h>

/* The bucket of a time. It grows with the time, for the roundings do not change the order of two of them; an infinite
 * time is in the last one. */
FL_INLINE uint32_t fl_bucket_of(double time, double low, double rate, uint32_t buckets)
{
    const double place = (time - low) * rate;
    return place < (double)buckets ? (uint32_t)place : buckets - 1;
}

static inline double fl_bucket_rate(double low, double high, uint32_t buckets)
{
    const double rate = (double)buckets / (high - low);
    return rate < DBL_MAX ? rate : DBL_MAX;
}

/* The least and the largest finite time of a piece; the first negative time or NaN is a fault. */
static struct fl_piece fl_order_survey(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_order_job *job = (const struct fl_order_job *)any;
    double low[16], high[16];
    int bad[16];
    ptrdiff_t i = begin;
    (void)scratch;
    for (int l = 0; l < 16; l++) low[l] = DBL_MAX, high[l] = 0.0, bad[l] = 0;
    for (; i < end; i += 16) {
        const ptrdiff_t first = end - i < 16 ? end - 16 : i;
        if (first < begin) break;
#pragma omp simd
        for (int l = 0; l < 16; l++) {
            const double t = job->time[first + l];
            low[l] = t < low[l] ? t : low[l];
            high[l] = fl_choose_f64(t > high[l], fl_choose_f64(t > DBL_MAX, high[l], t), high[l]);
            bad[l] |= !(t >= 0.0);
        }
    }
    for (; i < end; i++) {
        const double t = job->time[i];
        low[0] = t < low[0] ? t : low[0];
        high[0] = t > high[0] && t <= DBL_MAX ? t : high[0];
        bad[0] |= !(t >= 0.0);
    }
    for (int l = 1; l < 16; l++) {
        low[0] = low[l] < low[0] ? low[l] : low[0];
        high[0] = high[l] > high[0] ? high[l] : high[0];
        bad[0] |= bad[l];
    }
    job->bounds[2 * (begin / job->piece)] = low[0];
    job->bounds[2 * (begin / job->piece) + 1] = high[0];
    if (bad[0])
        for (i = begin; i < end; i++)
            if (!(job->time[i] >= 0.0)) {
                const struct fl_piece faulty = {0.0, i};
                return faulty;
            }
    return fl_faultless(0.0);
}

/* How many times of a piece are in each bucket. */
static struct fl_piece fl_order_count(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_order_job *job = (const struct fl_order_job *)any;
    uint32_t *counts = job->counts + begin / job->piece * job->buckets;
    (void)scratch;
    memset(counts, 0, job->buckets * sizeof *counts);
    for (ptrdiff_t i = begin; i < end; i++) counts[fl_bucket_of(job->time[i], job->low, job->rate, job->buckets)]++;
    return fl_faultless(0.0);
}

/* Where the times of each piece go in each bucket, from their numbers; and where the buckets begin. */
static struct fl_piece fl_order_starts(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_order_job *job = (const struct fl_order_job *)any;
    const ptrdiff_t pieces = (job->rows + job->piece - 1) / job->piece;
    uint32_t sum = 0;
    (void)begin, (void)end, (void)scratch;
    for (uint32_t b = 0; b < job->buckets; b++) {
        job->starts[b] = sum;
        for (ptrdiff_t p = 0; p < pieces; p++) {
            uint32_t *count = job->counts + p * job->buckets + b;
            const uint32_t found = *count;
            *count = sum;
            sum += found;
        }
    }
    job->starts[job->buckets] = sum;
    return fl_faultless(0.0);
}

static struct fl_piece fl_order_spread(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_order_job *job = (const struct fl_order_job *)any;
    uint32_t *next = job->counts + begin / job->piece * job->buckets;
    (void)scratch;
    for (ptrdiff_t i = begin; i < end; i++) {
        const double t = job->time[i];
        struct fl_timed *to = job->items + next[fl_bucket_of(t, job->low, job->rate, job->buckets)]++;
        to->time = t;
        to->row = (uint32_t)i;
    }
    return fl_faultless(0.0);
}

/* Sorts, in at most `moves` steps; returns whether these sufficed. */
static int fl_timed_insert(struct fl_timed *items, ptrdiff_t n, ptrdiff_t moves)
{
    for (ptrdiff_t i = 1; i < n; i++) {
        const struct fl_timed item = items[i];
        ptrdiff_t j = i;
        for (; j > 0 && items[j - 1].time > item.time; j--) items[j] = items[j - 1];
        items[j] = item;
        moves -= i - j;
        if (moves < 0) return 0;
    }
    return 1;
}

/* Sorts by the bits of the times, eight at a time from the lowest: numbers from 0 on have the order of their bits. */
static void fl_timed_by_digits(struct fl_timed *items, struct fl_timed *spare, ptrdiff_t n, uint32_t *counts)
{
    memset(counts, 0, 8 * 256 * sizeof *counts);
    if (fl_stops_between(n)) return;
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint64_t bits = fl_bits_from_double(items[i].time);
        for (int d = 0; d < 8; d++) counts[256 * d + (int)(bits >> 8 * d & 255u)]++;
    }
    for (int d = 0; d < 8; d++) {
        uint32_t *next = counts + 256 * d, sum = 0;
        if (next[fl_bits_from_double(items[0].time) >> 8 * d & 255u] == (uint32_t)n) continue; /* all the same */
        for (int b = 0; b < 256; b++) {
            const uint32_t found = next[b];
            next[b] = sum;
            sum += found;
        }
        for (ptrdiff_t i = 0; i < n; i++) {
            if (fl_stops_at(i)) return;
            spare[next[fl_bits_from_double(items[i].time) >> 8 * d & 255u]++] = items[i];
        }
        memcpy(items, spare, (size_t)n * sizeof *items);
    }
}

/* Sorts the times of a bucket: into further buckets, which are then nearly in order; where that does not help, as the
 * times are too uneven, by digits. All ways keep the order of equal times. Returns where the result is: `items` or
 * `spare`. `counts` has room for FL_TIME_BUCKETS. (Measured with buckets of 500: twice as many further ones take a
 * fifth less time than as many.) */
static struct fl_timed *fl_timed_sort(struct fl_timed *items, struct fl_timed *spare, ptrdiff_t n, uint32_t *counts)
{
    const uint32_t buckets = 2 * n < FL_TIME_BUCKETS ? (uint32_t)(2 * n) : FL_TIME_BUCKETS;
    double low = DBL_MAX, high = 0.0, rate;
    uint32_t sum = 0;
    if (n <= 16) {
        fl_timed_insert(items, n, n * n);
        return items;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        const double t = items[i].time;
        low = t < low ? t : low;
        high = t > high && t <= DBL_MAX ? t : high;
    }
    if (fl_stops_between(n)) return items;
    rate = fl_bucket_rate(low, high, buckets);
    memset(counts, 0, buckets * sizeof *counts);
    for (ptrdiff_t i = 0; i < n; i++) counts[fl_bucket_of(items[i].time, low, rate, buckets)]++;
    for (uint32_t b = 0; b < buckets; b++) {
        const uint32_t found = counts[b];
        counts[b] = sum;
        sum += found;
    }
    for (ptrdiff_t i = 0; i < n; i++) spare[counts[fl_bucket_of(items[i].time, low, rate, buckets)]++] = items[i];
    if (fl_stops_between(n)) return items;
    if (!fl_timed_insert(spare, n, 16 * n)) fl_timed_by_digits(spare, items, n, counts);
    return spare;
}

/* The order within buckets begin .. end - 1. */
static struct fl_piece fl_order_arrange(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_order_job *job = (const struct fl_order_job *)any;
    for (ptrdiff_t b = begin; b < end; b++) {
        const ptrdiff_t first = job->starts[b], last = job->starts[b + 1];
        const struct fl_timed *found =
            fl_timed_sort(job->items + first, job->spare + first, last - first, (uint32_t *)scratch);
        if (fl_stops_between(last - first)) break;
        for (ptrdiff_t k = first; k < last; k++) {
            job->sorted[k] = found[k - first].time;
            job->order[k] = found[k - first].row;
        }
    }
    return fl_faultless(0.0);
}
