/* Cox's partial likelihood of survival times, by two scans over rows in the order of times.h.
 *
 * Rows are sorted by stratum and time. With y_k = x_k + log w_k, the logarithm of the hazard of row k times its
 * weight, the risk set of a time has the sum S = sum exp(y_k) over the rows of its stratum with this time or a later
 * one. The rows of a stratum and a time are a group; D is the weight of its events. By Breslow's formula the loss of
 * an event is
 *
 *     w_i (log S - x_i),
 *
 * so that with A_k = sum D / S and B_k = sum D / S^2 over the groups up to the time of row k
 *
 *     d loss / d x_k = e^y_k A_k - [event] w_k,     d^2 loss / d x_k^2 = e^y_k A_k - e^2y_k B_k.
 *
 * By Efron's, the d events of a group leave the risk set one after the other: with E the sum of their hazards and N =
 * S - E that of all others, log S becomes the mean over l of log phi_l, phi_l = N + f_l E, f_l = 1 - l / d, l from 0
 * to d - 1. Then A and B have the means of D / phi_l and D / phi_l^2; for the events of the group themselves they
 * have those of f_l D / phi_l and f_l^2 D / phi_l^2, as an event is only in the share f_l of the risk set l.
 *
 * Going down from the latest time, S is kept over e^level. The level is raised to the largest y of a group that
 * exceeds it by FL_COX_RISE, so that no hazard overflows, and every S over e^level is at least 1: a hazard too small
 * for a double beside it counts for nothing in S either. Going up again, A and B are multiplied by the same factors,
 * which are at most 1. So nothing is lost for any range of hazards, in whatever order they stand. All is double.
 *
 * Mostly one level serves all rows. Then they are divided into segments of whole groups, which threads take: first
 * the sums of their hazards, then S and A and B of their own rows. The A and B of the segments before are added where
 * the derivatives are written. */

/* Rows by which reading and writing in the caller's order are prefetched. */
enum { FL_COX_AHEAD = 24 };
enum { FL_COX_EVENT = 1, FL_COX_FIRST = 2, FL_COX_STRATUM = 4, FL_COX_RAISED = 8 };
enum { FL_COX_RISE = 200 };

struct fl_cox_state {
    double level, sum, total;
    ptrdiff_t raised;
};

FL_INLINE double fl_cox_mass(const struct fl_cox_job *job, ptrdiff_t k) { return job->mass ? job->mass[k] : 1.0; }
FL_INLINE double fl_cox_pull(const struct fl_cox_job *job, ptrdiff_t k)
{
    return job->pull ? job->pull[k] : fl_cox_mass(job, k);
}

/* The largest logarithm of a weighted hazard; NaN does not count. */
static double fl_cox_largest(const struct fl_cox_job *job, ptrdiff_t begin, ptrdiff_t end)
{
    double most = -(double)INFINITY;
    if (job->mass) {
        for (ptrdiff_t k = begin; k < end; k++) {
            const double y = job->x[k] + fl_log_f64(job->mass[k]);
            most = y > most ? y : most;
        }
        return most;
    }
#pragma omp simd reduction(max : most)
    for (ptrdiff_t k = begin; k < end; k++) most = job->x[k] > most ? job->x[k] : most;
    return most;
}

/* The rows in their order. FIRST is the first row of a group, STRATUM also that of a stratum; an event of weight 0 is
 * none. The largest y of a piece tells whether one level serves all. */
static struct fl_piece fl_cox_gather(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_cox_job *job = (const struct fl_cox_job *)any;
    const struct fl_array *input = &job->log_hazard;
    (void)scratch;
    for (ptrdiff_t k = begin; k < end; k++) {
        const ptrdiff_t i = job->order[k];
        const int is_stratum = k == 0 || (job->stratum && job->stratum[k] != job->stratum[k - 1]);
        const int is_first = is_stratum || job->time[k] != job->time[k - 1];
        int is_event = job->event[i];
#if defined(__GNUC__)
        const ptrdiff_t ahead = job->order[k + FL_COX_AHEAD < end ? k + FL_COX_AHEAD : k];
        __builtin_prefetch(input->data + ahead * input->class_stride, 0, 3);
        __builtin_prefetch(job->event + ahead, 0, 3);
#endif
        job->x[k] = fl_load_scalar_f64(input->data + i * input->class_stride, input->dtype);
        if (job->weight) {
            job->mass[k] = job->weight[i];
            is_event = is_event && job->weight[i] > 0.0;
        }
        if (job->pull) job->pull[k] = (job->weight ? job->weight[i] : 1.0) * job->upstream[i];
        job->flags[k] =
            (unsigned char)(is_event * FL_COX_EVENT + is_first * FL_COX_FIRST + is_stratum * FL_COX_STRATUM);
    }
    job->segments[begin / job->piece].most = fl_cox_largest(job, begin, end);
    return fl_faultless(0.0);
}

/* The logarithm that is taken out of the hazards at a level. */
FL_INLINE double fl_cox_base(double level) { return level == -(double)INFINITY ? 0.0 : level; }

/* Efron's denominators of a group with d > 1 events: N, E and d. */
struct fl_cox_ties {
    double others, events;
    ptrdiff_t count;
};

FL_INLINE double fl_cox_share(const struct fl_cox_ties *ties, ptrdiff_t l)
{
    return (double)(ties->count - l) / (double)ties->count;
}

/* The loss of the events of a group. `before` is the sum of the risk set without it, log_sum the logarithm of that
 * with it. For Efron's formula N is left in the second row of the group's sums, which nothing else reads. */
static void fl_cox_group(const struct fl_cox_job *job, struct fl_cox_state *state, ptrdiff_t begin, ptrdiff_t end,
                         double before, double log_sum, double base)
{
    struct fl_cox_ties ties = {before, 0.0, 0};
    double mean = log_sum;
    for (ptrdiff_t k = begin; k < end; k++) {
        if (job->flags[k] & FL_COX_EVENT)
            ties.count++, ties.events += job->hazard[k];
        else
            ties.others += job->hazard[k];
    }
    if (ties.count == 0) return;
    if (job->is_efron && ties.count > 1) {
        mean = 0.0;
        for (ptrdiff_t l = 0; l < ties.count; l++)
            mean += fl_log_f64(ties.others + fl_cox_share(&ties, l) * ties.events);
        mean /= (double)ties.count;
        job->sum[begin + 1] = ties.others;
    }
    for (ptrdiff_t k = begin; k < end; k++) {
        double term;
        if (!(job->flags[k] & FL_COX_EVENT)) continue;
        term = fl_cox_mass(job, k) * (mean - (job->x[k] - base));
        if (job->losses) job->losses[job->order[k]] = term;
        state->total += term;
    }
}

/* The hazards of rows begin .. end - 1 over e^level. */
static void fl_cox_hazards(const struct fl_cox_job *job, double level, ptrdiff_t begin, ptrdiff_t end)
{
    const double base = fl_cox_base(level);
    const double *x = job->x, *mass = job->mass;
    double *hazard = job->hazard;
    if (mass) {
#pragma omp simd
        for (ptrdiff_t k = begin; k < end; k++)
            hazard[k] = fl_exp_nonpositive_f64((x[k] - base) + fl_log_f64(mass[k]));
    } else {
#pragma omp simd
        for (ptrdiff_t k = begin; k < end; k++) hazard[k] = fl_exp_nonpositive_f64(x[k] - base);
    }
}

/* Sums and losses of whole groups begin .. end - 1 of one stratum, at one level, from their hazards. Sums over
 * FL_COX_RUN rows are added to the total. */
static void fl_cox_run(const struct fl_cox_job *job, struct fl_cox_state *state, ptrdiff_t begin, ptrdiff_t end,
                       double *logs)
{
    const double base = fl_cox_base(state->level);
    const double *x = job->x, *hazard = job->hazard;
    double *sum = job->sum;
    struct fl_cox_state own = *state;
    const int is_short = end - begin <= FL_COX_RUN;
    own.total = 0.0;
    for (ptrdiff_t k = end - 1; k >= begin; k--) sum[k] = own.sum = own.sum + hazard[k];
    if (is_short) {
#pragma omp simd
        for (ptrdiff_t k = begin; k < end; k++) logs[k - begin] = fl_log_f64(sum[k]);
    } else {
        logs[0] = fl_log_f64(sum[begin]);
    }
    for (ptrdiff_t k = end - 1, last = end; k >= begin; k--) {
        const int flags = job->flags[k];
        if (!(flags & FL_COX_FIRST)) continue;
        if (k + 1 < last) {
            fl_cox_group(job, &own, k, last, last == end ? state->sum : sum[last], logs[is_short ? k - begin : 0],
                         base);
        } else { /* without a branch, as no processor predicts events */
            const double term = fl_cox_mass(job, k) * (logs[is_short ? k - begin : 0] - (x[k] - base));
            const double counted = fl_select_f64(flags & FL_COX_EVENT, term, 0.0);
            if (job->losses) job->losses[job->order[k]] = counted;
            own.total += counted;
        }
        last = k;
    }
    state->sum = own.sum;
    state->total += own.total;
}

/* The first row of the last group that ends at `end`. */
static inline ptrdiff_t fl_cox_begin(const struct fl_cox_job *job, ptrdiff_t end)
{
    ptrdiff_t begin = end - 1;
    while (!(job->flags[begin] & FL_COX_FIRST)) begin--;
    return begin;
}

/* Whole groups of one stratum up to `end` and not before `from`, FL_COX_RUN rows if the last group has not more. */
static ptrdiff_t fl_cox_begin_of_run(const struct fl_cox_job *job, ptrdiff_t from, ptrdiff_t end)
{
    const ptrdiff_t least = end - from > FL_COX_RUN ? end - FL_COX_RUN : from;
    ptrdiff_t begin = fl_cox_begin(job, end);
    if (!job->stratum) {
        if (begin <= least) return begin;
        for (begin = least; !(job->flags[begin] & FL_COX_FIRST);) begin++;
        return begin;
    }
    while (begin > least && !(job->flags[begin] & FL_COX_STRATUM)) {
        const ptrdiff_t next = fl_cox_begin(job, begin);
        if (next < least) break;
        begin = next;
    }
    return begin;
}

/* From the latest time to the first one: hazards, sums and losses. */
static void fl_cox_down(const struct fl_cox_job *job, struct fl_cox_state *state)
{
    double logs[FL_COX_RUN];
    ptrdiff_t since = 0;
    for (ptrdiff_t end = job->rows; end > 0;) {
        const ptrdiff_t begin = fl_cox_begin_of_run(job, 0, end);
        if (fl_stops_after(end - begin, &since)) return;
        if (end == job->rows || job->flags[end] & FL_COX_STRATUM) {
            state->level = -(double)INFINITY;
            state->sum = 0.0;
        }
        if (!(fl_cox_largest(job, begin, end) - state->level > FL_COX_RISE)) {
            fl_cox_hazards(job, state->level, begin, end);
            fl_cox_run(job, state, begin, end, logs);
            end = begin;
            continue;
        }
        while (end > begin) { /* group by group */
            const ptrdiff_t first = fl_cox_begin(job, end);
            const double most = fl_cox_largest(job, first, end);
            if (most - state->level > FL_COX_RISE) {
                const double factor = fl_exp_nonpositive_f64(state->level - most);
                state->sum *= factor;
                state->level = most;
                job->levels[state->raised++] = factor;
                job->flags[first] |= FL_COX_RAISED;
            }
            fl_cox_hazards(job, state->level, first, end);
            fl_cox_run(job, state, first, end, logs);
            end = first;
        }
    }
}

/* Keeps the parts of A and B of a row, in the place of its sum and its x. */
FL_INLINE void fl_cox_keep(const struct fl_cox_job *job, ptrdiff_t k, double a, double b)
{
    job->sum[k] = a;
    job->x[k] = b;
}

/* Goes back to the level before it was raised. */
static void fl_cox_lower(const struct fl_cox_job *job, struct fl_cox_state *state, double *a, double *b)
{
    const double factor = job->levels[--state->raised];
    *a *= factor;
    *b *= factor * factor;
}

/* From the first time of a segment to its latest one: A and B, of its own groups alone. */
static void fl_cox_up(const struct fl_cox_job *job, struct fl_cox_state *state, struct fl_cox_segment *segment)
{
    const ptrdiff_t last = segment->end;
    double a = 0.0, b = 0.0;
    ptrdiff_t look = segment->begin + FL_ELEMENTS_OF_LOOK;
    for (ptrdiff_t begin = segment->begin, end; begin < last; begin = end) {
        const double sum = job->sum[begin];
        double own_a, own_b, pull = 0.0;
        struct fl_cox_ties ties = {0.0, 0.0, 0};
        const int is_raised = job->flags[begin] & FL_COX_RAISED;
        if (begin >= look) {
            look = begin + FL_ELEMENTS_OF_LOOK;
            if (fl_stops()) return;
        }
        if (job->flags[begin] & FL_COX_STRATUM) a = b = 0.0;
        end = begin + 1;
        if (end == last || job->flags[end] & FL_COX_FIRST) { /* without ties, and without a branch */
            const int is_event = job->flags[begin] & FL_COX_EVENT;
            const double over = 1.0 / sum, added = fl_cox_pull(job, begin) * over;
            a += fl_select_f64(is_event, added, 0.0);
            b += fl_select_f64(is_event, added * over, 0.0);
            fl_cox_keep(job, begin, a, b);
            if (is_raised) fl_cox_lower(job, state, &a, &b);
            continue;
        }
        for (end = begin; end == begin || (end < last && !(job->flags[end] & FL_COX_FIRST)); end++) {
            if (!(job->flags[end] & FL_COX_EVENT)) continue;
            ties.count++;
            ties.events += job->hazard[end];
            pull += fl_cox_pull(job, end);
        }
        own_a = a, own_b = b;
        if (ties.count > 1 && job->is_efron) {
            pull /= (double)ties.count;
            ties.others = job->sum[begin + 1];
            for (ptrdiff_t l = 0; l < ties.count; l++) {
                const double share = fl_cox_share(&ties, l), over = 1.0 / (ties.others + share * ties.events);
                a += pull * over;
                b += pull * over * over;
                own_a += pull * share * over;
                own_b += pull * (share * over) * (share * over);
            }
        } else if (ties.count) {
            own_a = a += pull / sum;
            own_b = b += pull / sum / sum;
        }
        for (ptrdiff_t k = begin; k < end; k++) {
            const int is_event = job->flags[k] & FL_COX_EVENT;
            fl_cox_keep(job, k, is_event ? own_a : a, is_event ? own_b : b);
        }
        if (is_raised) fl_cox_lower(job, state, &a, &b);
    }
    segment->a = a;
    segment->b = b;
}

/* Divides the rows into segments of whole groups, near the ends of the pieces. Returns whether one level serves all.
 */
static int fl_cox_divide(const struct fl_cox_job *job)
{
    const double level = fl_cox_largest(job, fl_cox_begin(job, job->rows), job->rows);
    double most = level;
    ptrdiff_t end = 0;
    for (ptrdiff_t s = 0; s * job->piece < job->rows; s++) {
        struct fl_cox_segment *segment = job->segments + s;
        segment->begin = end;
        if (end < (s + 1) * job->piece) end = (s + 1) * job->piece;
        while (end < job->rows && !(job->flags[end] & FL_COX_FIRST)) end++;
        if (end > job->rows) end = job->rows;
        segment->end = end;
        segment->level = level;
        segment->hazard = segment->a = segment->b = 0.0;
        most = segment->most > most ? segment->most : most;
    }
    return !job->stratum && level > -(double)INFINITY && most - level <= FL_COX_RISE;
}

/* All rows, whatever their levels. */
static struct fl_piece fl_cox_scan(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_cox_job *job = (const struct fl_cox_job *)any;
    struct fl_cox_state state = {0.0, 0.0, 0.0, 0};
    struct fl_cox_segment all = {0, job->rows, 0.0, 0.0, 0.0, 0.0, 0.0};
    (void)begin, (void)end, (void)scratch;
    fl_cox_down(job, &state);
    if (job->gradient.data && !fl_stops_between(job->rows)) fl_cox_up(job, &state, &all);
    return fl_faultless(state.total);
}

/* The hazards of segments, and their sums, in eight parts. */
static struct fl_piece fl_cox_weigh(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_cox_job *job = (const struct fl_cox_job *)any;
    (void)scratch;
    for (ptrdiff_t s = begin; s < end; s++) {
        struct fl_cox_segment *segment = job->segments + s;
        const ptrdiff_t step = FL_ELEMENTS_OF_LOOK, rows = segment->end - segment->begin;
        double parts[8] = {0.0};
        for (ptrdiff_t first = 0; first < rows && !fl_stops_at(first); first += step) {
            const ptrdiff_t last = first + step < rows ? first + step : rows;
            const double *hazard = job->hazard + segment->begin;
            ptrdiff_t k = first;
            fl_cox_hazards(job, segment->level, segment->begin + first, segment->begin + last);
            for (; k + 8 <= last; k += 8)
                for (int l = 0; l < 8; l++) parts[l] += hazard[k + l];
            for (; k < last; k++) parts[0] += hazard[k];
        }
        for (int l = 0; l < 8; l++) segment->hazard += parts[l];
    }
    return fl_faultless(0.0);
}

/* Losses, A and B of segments, given the hazards of all. */
static struct fl_piece fl_cox_segments(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_cox_job *job = (const struct fl_cox_job *)any;
    double logs[FL_COX_RUN], total = 0.0;
    ptrdiff_t since = 0;
    (void)scratch;
    for (ptrdiff_t s = begin; s < end; s++) {
        struct fl_cox_segment *segment = job->segments + s;
        struct fl_cox_state state = {segment->level, 0.0, 0.0, 0};
        for (ptrdiff_t later = (job->rows - 1) / job->piece; later > s; later--)
            state.sum += job->segments[later].hazard;
        for (ptrdiff_t last = segment->end, first; last > segment->begin; last = first) {
            first = fl_cox_begin_of_run(job, segment->begin, last);
            if (fl_stops_after(last - first, &since)) break;
            fl_cox_run(job, &state, first, last, logs);
        }
        if (job->gradient.data && !fl_stops_between(segment->end - segment->begin)) fl_cox_up(job, &state, segment);
        total += state.total;
    }
    return fl_faultless(total);
}

/* A derivative goes to the order of the caller. */
FL_INLINE void fl_cox_put(const struct fl_array *to, ptrdiff_t row, double value)
{
    fl_store_scalar_f64(to->data + row * to->class_stride, to->dtype, value);
}

/* The derivatives of segments. Without an upstream gradient a second derivative is not negative, and what rounding
 * makes of 0 is 0. */
static struct fl_piece fl_cox_finish(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_cox_job *job = (const struct fl_cox_job *)any;
    const struct fl_array *gradient = &job->gradient, *hessian = &job->hessian;
    const ptrdiff_t first = job->segments[begin].begin, last = job->segments[end - 1].end;
    double a = 0.0, b = 0.0;
    (void)scratch;
    for (ptrdiff_t s = 0; s < begin; s++) {
        a += job->segments[s].a;
        b += job->segments[s].b;
    }
    for (ptrdiff_t k = first; k < last && !fl_stops_at(k - first); k++) {
        const ptrdiff_t i = job->order[k];
        const double hazard = job->hazard[k], by_sets = hazard * (job->sum[k] + a);
        const double pull = fl_select_f64(job->flags[k] & FL_COX_EVENT, fl_cox_pull(job, k), 0.0);
        double value = job->scale * (by_sets - pull);
#if defined(__GNUC__)
        const ptrdiff_t ahead = job->order[k + FL_COX_AHEAD < last ? k + FL_COX_AHEAD : k];
        __builtin_prefetch(gradient->data + ahead * gradient->class_stride, 1, 3);
        if (hessian->data) __builtin_prefetch(hessian->data + ahead * hessian->class_stride, 1, 3);
#endif
        if (job->accumulate)
            value += fl_load_scalar_f64(gradient->data + i * gradient->class_stride, gradient->dtype);
        fl_cox_put(gradient, i, value);
        if (hessian->data) {
            const double bend = by_sets - hazard * hazard * (job->x[k] + b);
            fl_cox_put(hessian, i, job->scale * fl_select_f64((bend < 0.0) & !job->pull, 0.0, bend));
        }
    }
    return fl_faultless(0.0);
}
