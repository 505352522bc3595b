/* The losses of lists: documents of several queries one after the other, the query i those of bounds[i] .. bounds[i +
 * 1] - 1. samples.inc includes this file once; everything is computed in double, for any type.
 *
 * list_net. With t the softmax of the relevance y of a query, and p that of the scores s, the loss is the
 * cross-entropy of the two,
 *
 *     L = log sum_j exp(s_j - m) - sum_i t_i (s_i - m),    dL/ds_i = p_i - t_i,
 *
 * with m the largest score, whose own exponential, 1, is left out of the sum for log1p: a confident query keeps the
 * digits of its loss. A score of -inf is masked: its p and gradient are 0, and the loss is infinite if its t is not
 * 0.
 *
 * lambda_rank. Documents in the order of their scores, the larger first, equal ones as they came: document i has the
 * discount d_i = 1 / log2(i + 2), i from 0 on, and the gain g_i of its label. Every pair i < j with i among the first
 * K (the truncation level) and different labels has the weight
 *
 *     w = |g_i - g_j| |d_i - d_j| / maxDCG / (0.01 + |s_i - s_j|),
 *
 * without the last factor if not normalised, or if all scores are equal. With D the score of the better label minus
 * the other's and c the parameter `sigmoid`, and all w held constant,
 *
 *     L = sum w log(1 + exp(-c D)),    dL/ds_better = -c w q = -dL/ds_other,    q = 1 / (1 + exp(c D)),
 *
 * and both have c^2 w q (1 - q) added to the second derivative. Normalised, all is multiplied by log2(1 + S) / S, S =
 * 2 sum c w q. With e = exp(-c |D|), q is e / (1 + e) if the order is right, else 1 / (1 + e), and 1 - q the other
 * one. A score of -inf takes no part. Infinite differences are held at 2e300, so that no product of 0 and infinity
 * occurs.
 *
 * maxDCG is the sum of the K largest gains times the discounts. Gains do not decrease with the label.
 *
 * This is LambdarankNDCG of LightGBM, which has q from a table (its error is 1e-5), and accumulates in float. */
#ifndef FASTLOSS_LISTS_H
#define FASTLOSS_LISTS_H

/* Arrays of a query in the scratch are whole lines of the cache. */
static inline ptrdiff_t fl_list_pitch(ptrdiff_t length) { return (length + 7) / 8 * 8; }

/* Bytes of scratch: eight arrays of the longest query, and one of labels. */
static ptrdiff_t fl_list_scratch(const struct fl_list_job *job)
{
    return (8 * fl_list_pitch(job->longest) + fl_list_pitch(job->levels)) * (ptrdiff_t)sizeof(double);
}

static inline double fl_list_upstream(const struct fl_list_job *job, ptrdiff_t query)
{
    return job->upstream ? job->upstream[query] * job->scale : job->scale;
}

static void fl_list_load(const struct fl_array *from, ptrdiff_t first, double *out, ptrdiff_t n)
{
    fl_load_f64(from->data + first * from->class_stride, from->class_stride, from->dtype, out, n);
}

/* Writes derivatives, or adds them to what is there; `room` has n elements. */
static void fl_list_store(const struct fl_array *to, ptrdiff_t first, double *x, double *room, int adds, ptrdiff_t n)
{
    if (adds) {
        fl_list_load(to, first, room, n);
        for (ptrdiff_t i = 0; i < n; i++) x[i] += room[i];
    }
    fl_store_f64(x, to->data + first * to->class_stride, to->class_stride, to->dtype, n);
}

/* Replaces x by x - max x, and returns the place of the maximum; NaN gives NaN everywhere. */
static ptrdiff_t fl_list_below_max(double *x, ptrdiff_t n)
{
    double max = x[0], nan = 0.0;
    ptrdiff_t place;
#pragma omp simd reduction(max : max) reduction(+ : nan)
    for (ptrdiff_t i = 0; i < n; i++) {
        max = x[i] > max ? x[i] : max;
        nan += x[i] == x[i] ? 0.0 : x[i];
    }
    for (place = 0; place < n - 1 && x[place] != max; place++) continue;
    max += nan;
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) x[i] -= max;
    return place;
}

static double fl_list_sum(const double *x, ptrdiff_t n)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

static void fl_list_exponentials(const double *x, double *e, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) e[i] = fl_exp_down_f64(x[i]);
}

static double fl_list_net_query(const struct fl_list_job *job, ptrdiff_t query, double *room)
{
    const ptrdiff_t first = job->bounds[query], n = job->bounds[query + 1] - first, pitch = fl_list_pitch(n);
    double *s = room, *e = s + pitch, *y = e + pitch, *t = y + pitch, others, over_t, over_e, loss, pull = 0.0;
    ptrdiff_t top;
    if (!n) return 0.0;
    fl_list_load(&job->scores, first, s, n);
    fl_list_load(&job->relevance, first, y, n);
    if (fl_stops_between(n)) return 0.0;
    top = fl_list_below_max(s, n);
    fl_list_below_max(y, n);
    fl_list_exponentials(s, e, n);
    if (fl_stops_between(n)) return 0.0;
    fl_list_exponentials(y, t, n);
    if (fl_stops_between(n)) return 0.0;
    over_t = 1.0 / fl_list_sum(t, n);
    e[top] = 0.0;
    others = fl_list_sum(e, n) + 0.0 * s[top]; /* NaN where the maximum is infinite */
    e[top] = 1.0;
#pragma omp simd reduction(+ : pull)
    for (ptrdiff_t i = 0; i < n; i++) {
        t[i] *= over_t;
        pull += fl_weighed(t[i], s[i]);
    }
    loss = fl_log1p_nonnegative_f64(others) - pull;
    if (fl_stops_between(n)) return 0.0;
    if (job->gradient.data) {
        const double upstream = fl_list_upstream(job, query), masked = loss == loss ? 0.0 : loss;
        over_e = 1.0 / (1.0 + others);
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            e[i] = fl_choose_f64(s[i] == -INFINITY, masked, (e[i] * over_e - t[i]) * upstream);
        fl_list_store(&job->gradient, first, e, y, job->accumulate, n);
    }
    return loss;
}

static struct fl_piece fl_list_net(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_list_job *job = (const struct fl_list_job *)any;
    double total = 0.0;
    for (ptrdiff_t query = begin; query < end; query++) {
        const double loss = fl_list_net_query(job, query, (double *)scratch);
        if (job->losses) job->losses[query] = loss;
        total += loss;
    }
    return fl_faultless(total);
}

/* Scores that are counted; runs of as many are merged. */
enum { FL_LIST_RUN = 128 };

/* The order of at most FL_LIST_RUN scores: the place of each is the number of those before it, larger ones and equal
 * ones that come first. No branch depends on a score. */
static void fl_list_order_run(const double *s, ptrdiff_t first, ptrdiff_t n, int64_t *order)
{
    const double *run = s + first;
    int64_t place[FL_LIST_RUN];
    for (ptrdiff_t i = 0; i < n; i++) place[i] = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double x = run[i];
#pragma omp simd
        for (ptrdiff_t k = 0; k < n; k++) place[k] += (int64_t)(x > run[k]) + (int64_t)((x == run[k]) & (i < k));
    }
    for (ptrdiff_t i = 0; i < n; i++) order[first + place[i]] = first + i;
}

/* Merges the runs first .. middle - 1 and middle .. end - 1. */
static void fl_list_merge(const double *s, const int64_t *order, int64_t *merged, ptrdiff_t first, ptrdiff_t middle,
                          ptrdiff_t end)
{
    ptrdiff_t a = first, b = middle;
    for (ptrdiff_t k = first, some; k < end && !fl_stops_at(k - first); k += some) {
        some = end - k < FL_ELEMENTS_OF_LOOK ? end - k : FL_ELEMENTS_OF_LOOK;
        for (ptrdiff_t l = k; l < k + some; l++) {
            const int takes_b = a >= middle || (b < end && s[order[b]] > s[order[a]]);
            merged[l] = takes_b ? order[b++] : order[a++];
        }
    }
}

/* The stable order of scores without NaN, the largest first. Returns which of the two buffers has it; NULL if the
 * call has been stopped. */
static int64_t *fl_list_order(const double *s, ptrdiff_t n, int64_t *order, int64_t *other)
{
    for (ptrdiff_t first = 0; first < n && !fl_stops_at(first); first += FL_LIST_RUN)
        fl_list_order_run(s, first, n - first < FL_LIST_RUN ? n - first : FL_LIST_RUN, order);
    if (fl_stops_between(n)) return NULL;
    for (ptrdiff_t width = FL_LIST_RUN; width < n; width *= 2) {
        int64_t *const merged = other;
        for (ptrdiff_t first = 0; first < n; first += 2 * width) {
            const ptrdiff_t middle = n - first < width ? n : first + width;
            const ptrdiff_t end = n - middle < width ? n : middle + width;
            fl_list_merge(s, order, merged, first, middle, end);
        }
        if (fl_stops_between(n)) return NULL;
        other = order;
        order = merged;
    }
    return order;
}

/* The largest possible DCG: the best labels first. */
static double fl_list_max_dcg(const struct fl_list_job *job, const int32_t *label, double *counts, ptrdiff_t n)
{
    const ptrdiff_t most = n < job->truncation_level ? n : job->truncation_level;
    ptrdiff_t level = 0;
    double dcg = 0.0;
    for (ptrdiff_t i = 0; i < n; i++) {
        level = label[i] > level ? label[i] : level;
        counts[label[i]] += 1.0;
    }
    for (ptrdiff_t i = 0; i < most; i++) {
        while (counts[level] == 0.0) level--;
        counts[level] -= 1.0;
        dcg += job->discounts[i] * job->label_gain[level];
    }
    for (ptrdiff_t i = 0; i < n; i++) counts[label[i]] = 0.0;
    return dcg;
}

/* What a document has with those behind it, and what these have, added up. */
struct fl_list_sums {
    double value, slope, bend, force;
};

struct fl_list_pairs {
    double sigmoid, over_dcg, offset, rate; /* the weight is divided by offset + rate |s_i - s_j| */
    const double *s, *gain, *discount;
    double *slope, *bend;
};

/* Pairs of document i with documents i + 1 .. n - 1, in order. Slopes are in units of c, bends of c^2. */
FL_INLINE struct fl_list_sums fl_list_pairs_of(const struct fl_list_pairs *pairs, ptrdiff_t i, ptrdiff_t n,
                                               int has_value, int has_slope)
{
    const double *s = pairs->s, *gain = pairs->gain, *discount = pairs->discount, c = pairs->sigmoid;
    const double own = s[i], own_gain = gain[i], own_discount = discount[i];
    const double over_dcg = pairs->over_dcg, offset = pairs->offset, rate = pairs->rate;
    double *slope = pairs->slope, *bend = pairs->bend;
    double value = 0.0, own_slope = 0.0, own_bend = 0.0, force = 0.0;
#pragma omp simd reduction(+ : value, own_slope, own_bend, force)
    for (ptrdiff_t j = i + 1; j < n; j++) {
        const double difference = own - s[j], gap = own_gain - gain[j], z = c * difference;
        const double size = fabs(gap) * ((own_discount - discount[j]) * over_dcg);
        const double e = fl_exp_down_f64(-z), whole = 1.0 + e, divisor = offset + rate * difference;
        const double over = 1.0 / (whole * divisor), part = size * over; /* w / (1 + e) */
        const double pull = part * (gap > 0.0 ? e : 1.0);
        force += pull;
        if (has_value) value += part * whole * (fl_log1p_unit_f64(e) + (gap > 0.0 ? 0.0 : z));
        if (has_slope) {
            const double turned = gap > 0.0 ? pull : -pull, curve = part * e * (over * divisor);
            own_slope += turned;
            own_bend += curve;
            slope[j] += turned;
            bend[j] += curve;
        }
    }
    return (struct fl_list_sums){value, own_slope, own_bend, force};
}

/* The pairs of a query; returns the sums of value and force. */
FL_INLINE struct fl_list_sums fl_list_all_pairs(const struct fl_list_pairs *pairs, ptrdiff_t n, ptrdiff_t most,
                                                int has_value, int has_slope)
{
    struct fl_list_sums all = {0.0, 0.0, 0.0, 0.0};
    ptrdiff_t since = 0;
    for (ptrdiff_t i = 0; i < most && !fl_stops_after(n - i, &since); i++) {
        const struct fl_list_sums sums = fl_list_pairs_of(pairs, i, n, has_value, has_slope);
        all.value += sums.value;
        all.force += sums.force;
        if (has_slope) {
            pairs->slope[i] -= sums.slope;
            pairs->bend[i] += sums.bend;
        }
    }
    return all;
}

FL_OUTLINE struct fl_list_sums fl_list_value_pairs(const struct fl_list_pairs *pairs, ptrdiff_t n, ptrdiff_t most)
{
    return fl_list_all_pairs(pairs, n, most, 1, 0);
}

FL_OUTLINE struct fl_list_sums fl_list_slope_pairs(const struct fl_list_pairs *pairs, ptrdiff_t n, ptrdiff_t most)
{
    return fl_list_all_pairs(pairs, n, most, 0, 1);
}

FL_OUTLINE struct fl_list_sums fl_list_both_pairs(const struct fl_list_pairs *pairs, ptrdiff_t n, ptrdiff_t most)
{
    return fl_list_all_pairs(pairs, n, most, 1, 1);
}

/* The documents of a query: as given, in order, and what is added up for each. */
struct fl_list_room {
    double *given, *s, *gain, *slope, *bend, *out, *counts;
    int64_t *order, *other;
};

static struct fl_list_room fl_list_room_in(const struct fl_list_job *job, void *scratch)
{
    const ptrdiff_t pitch = fl_list_pitch(job->longest);
    struct fl_list_room room;
    room.given = (double *)scratch;
    room.s = room.given + pitch;
    room.gain = room.s + pitch;
    room.slope = room.gain + pitch;
    room.bend = room.slope + pitch;
    room.out = room.bend + pitch;
    room.order = (int64_t *)(void *)(room.out + pitch);
    room.other = room.order + pitch;
    room.counts = (double *)(void *)(room.other + pitch);
    return room;
}

/* Writes derivatives times `factor` where they belong; x is in order. */
static void fl_list_write(const struct fl_list_job *job, const struct fl_array *to, const struct fl_list_room *room,
                          const double *x, double factor, int adds, ptrdiff_t query)
{
    const ptrdiff_t first = job->bounds[query], n = job->bounds[query + 1] - first;
    if (!to->data) return;
    for (ptrdiff_t i = 0; i < n; i++) room->out[room->order[i]] = x[i] * factor;
    fl_list_store(to, first, room->out, room->given, adds, n);
}

/* Brings the documents of a query in order, with their gains; returns how many take part, -1 if the call has been
 * stopped. */
static ptrdiff_t fl_list_arrange(const struct fl_list_job *job, const int32_t *label, struct fl_list_room *room,
                                 ptrdiff_t n)
{
    const double held = 1e300;
    ptrdiff_t count = 0;
    int64_t *order = fl_list_order(room->given, n, room->order, room->other);
    if (order == NULL) return -1;
    room->other = order == room->order ? room->other : room->order;
    room->order = order;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double x = room->given[order[i]];
        count += x > -INFINITY;
        room->s[i] = x > held ? held : (x < -held ? -held : x);
        room->gain[i] = job->label_gain[label[order[i]]];
        room->slope[i] = room->bend[i] = 0.0;
    }
    return count;
}

/* The pairs of the first `count` documents in order: value and force. */
static struct fl_list_sums fl_list_sums_of(const struct fl_list_job *job, const struct fl_list_room *room,
                                           double max_dcg, ptrdiff_t count, ptrdiff_t n)
{
    const int has_slope = job->gradient.data != NULL;
    const struct fl_list_sums none = {0.0, 0.0, 0.0, 0.0};
    /* As in LightGBM, one score of -inf does not make the others differ. */
    const ptrdiff_t worst = n - count == 1 && n > 1 ? n - 2 : n - 1;
    const int is_divided = job->normalize && (count < worst + 1 || room->s[0] != room->s[worst]);
    const ptrdiff_t most = count - 1 < job->truncation_level ? count - 1 : job->truncation_level;
    const struct fl_list_pairs pairs = {
        job->sigmoid,           1.0 / max_dcg, is_divided ? 0.01 : 1.0,
        is_divided ? 1.0 : 0.0, room->s,       room->gain,
        job->discounts,         room->slope,   room->bend,
    };
    if (most <= 0 || !(max_dcg > 0.0)) return none;
    if (!has_slope) return fl_list_value_pairs(&pairs, count, most);
    return job->has_value ? fl_list_both_pairs(&pairs, count, most) : fl_list_slope_pairs(&pairs, count, most);
}

static double fl_lambda_rank_query(const struct fl_list_job *job, ptrdiff_t query, struct fl_list_room room)
{
    const ptrdiff_t first = job->bounds[query], n = job->bounds[query + 1] - first;
    const int32_t *label = job->labels + first;
    struct fl_list_sums sums;
    double factor = 1.0, upstream, nans = 0.0;
    ptrdiff_t count;
    if (!n) return 0.0;
    fl_list_load(&job->scores, first, room.given, n);
#pragma omp simd reduction(+ : nans)
    for (ptrdiff_t i = 0; i < n; i++) nans += room.given[i] == room.given[i] ? 0.0 : 1.0;
    if (nans > 0.0) /* the order does not matter */
        for (ptrdiff_t i = 0; i < n; i++) room.given[i] = 0.0;
    count = fl_list_arrange(job, label, &room, n);
    if (count < 0) return 0.0;
    sums = fl_list_sums_of(job, &room, fl_list_max_dcg(job, label, room.counts, n), count, n);
    if (job->normalize && sums.force > 0.0) {
        const double force = 2.0 * job->sigmoid * sums.force;
        factor = fl_log1p_nonnegative_f64(force) * FL_LOG2_E_F64 / force;
    }
    if (nans > 0.0) factor = NAN;
    upstream = factor * fl_list_upstream(job, query);
    fl_list_write(job, &job->gradient, &room, room.slope, upstream * job->sigmoid, job->accumulate, query);
    fl_list_write(job, &job->hessian, &room, room.bend, upstream * job->sigmoid * job->sigmoid, 0, query);
    return sums.value * factor;
}

static struct fl_piece fl_lambda_rank(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_list_job *job = (const struct fl_list_job *)any;
    const struct fl_list_room room = fl_list_room_in(job, scratch);
    double total = 0.0;
    for (ptrdiff_t i = 0; i < job->levels; i++) room.counts[i] = 0.0;
    for (ptrdiff_t query = begin; query < end; query++) {
        const double loss = fl_lambda_rank_query(job, query, room);
        if (job->losses) job->losses[query] = loss;
        total += loss;
    }
    return fl_faultless(total);
}

#endif
