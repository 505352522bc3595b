/* Short rows in float: cross-entropy of a type other than float64, softmax, log-softmax and log-sum-exp, of few
 * classes (short_most). A softcap is taken for class targets without smoothing and z-loss. All other short rows are
 * tiles of tiles.h. Names are those of softmax.h; short_sums.h has steps 1 and 2, short_settle.h step 3, short_odd.h
 * step 4, short_cap.h the softcap. With AVX-512 most rows stay as they lie, with the same results, to the bit:
 * short_flat.h takes the plain ones of up to FL_SHORT_ROW classes, in three quarters of the time, middle_rows.h
 * longer ones.
 *
 * A group of rows stands in columns (squares.h), so that every step is a loop over lanes:
 *
 * 1. The columns are loaded, and the maximum m of each row is taken.
 * 2. Exponentials in place. With b = log2(e) / T and the integer c = round(m b), e_j = 2^(x_j b - c): the shift by c
 *    changes only the exponent, so the fraction f = x_j b - n, with n = round(x_j b), is the exact one, without the
 *    rounding error of x_j - m. b is a pair of floats, so that f has an error of half an ulp of 1/2 for any |x_j b|
 *    under 2^20 (2^12 without fused multiply-add). As n is taken by an addition of 1.5 * 2^23, 127 - c in that
 *    constant makes the low bits of the sum the biased exponent. e_j is 0 from 87.33 T below the maximum on, as the
 *    exponential of vecmath.h. Where no input exceeds 32 T in size, c is 0, and no e_j is. At skip (the target) the
 * input is put aside and e is 0, so that the sum is that of the others. The relative error of e_j is about 1e-7
 * (estimated: fl_exp2_minus_one_f32, and two roundings).
 * 3. Settlement with one division. t is e at skip, R the sum of the others, S = R + t, u = R / S = 1 - p:
 *
 *      u <= 1/2: loss = -log(1 - u);   else: loss = log S + (c - n) ln 2 - f ln 2,   x b = n + f
 *      dloss/dx_j = s w / T e_j / S,   at skip -s w / T u
 *
 *    Both logarithms are one: 1 - u or S is 2^k (1 + f) with 1 + f from sqrt(1/2) to sqrt(2), and f = -u or 1 - 2 u,
 *    both exact, in the first case. So a confident row keeps its digits. Multiples of ln 2 are added in double.
 *    Sums of FL_SHORT_ROW classes are float, in a fixed order (short_exps). The tests hold the loss and the gradient
 * to the bounds of README. With a z-loss l, q = 2 l lse: share s w / T (1 + q) / S, and at skip s w / T (q p - u).
 * 4. Odd rows, where |m b| or |x b| at skip is too large (also infinite) or the sum is NaN, are computed in double by
 * rows.h, one by one. Which rows are odd depends on the row alone.
 * 5. Scaling in place; gradients at skip; columns to rows. Nothing is written before all rows of the group are read,
 *    so the output may be the input. */
#include "middle_rows.h"
#include "short_cap.h"
#include "short_two.h"

/* Not with a z-loss: where saturated classes have no gradient, that of the target may be a small difference of two
 * terms, without a larger one in the row. */
static int short_can_cap(const struct fl_softmax_job *job)
{
    return job->operation == FL_CROSS_ENTROPY && job->targets.index && job->targets.smoothing == 0.0 &&
           !short_has_lse(job) && job->map.softcap > 1e-18;
}

/* The number of classes up to which groups take less time than single rows. (Measured on a Zen 5, AVX-512 and AVX2,
 * one thread and two; groups of adjacent rows need no transposition, and take a third of the time of single rows at
 * any number.) */
static ptrdiff_t short_most(const struct fl_softmax_job *job)
{
    const int is_log = job->operation == FL_LOG_SOFTMAX || job->operation == FL_LOGSUMEXP;
    const int is_plain = job->operation == FL_CROSS_ENTROPY && job->targets.smoothing == 0.0;
    if (fl_has_adjacent_rows(&job->rows.input)) return FL_MIDDLE_ROW;
    if (middle_is_flat(job)) return is_plain ? FL_MIDDLE_ROW : 512;
    if (job->map.softcap > 0.0) return SHORT_IS_FLAT ? 160 : 80;
    if (job->targets.probabilities.data) return 192;
    return is_log ? 224 : 384;
}

static int short_rows_are(const struct fl_softmax_job *job)
{
    return job->rows.classes <= short_most(job) && !job->band.lse && job->rows.input.dtype != FL_FLOAT64 &&
           job->operation != FL_ENTROPY && (job->operation == FL_CROSS_ENTROPY || job->map.temperature == 1.0) &&
           (job->map.softcap == 0.0 || short_can_cap(job));
}

/* The sums of exponentials but the largest, of more than FL_SHORT_ROW classes: in the order of short_exps. */
FL_OUTLINE void short_others_long(int classes, const float *e, const int32_t *top, float *others)
{
    float sums[FL_LANES][FL_LANES];
    for (int k = 0; k < FL_LANES; k++) {
        double total[FL_LANES] = {0};
        for (int first = k; first < classes; first += FL_SHORT_ROW) {
            float sum[FL_LANES] = {0};
            for (int c = first; c < classes && c < first + FL_SHORT_ROW; c += FL_LANES)
#pragma omp simd
                for (int l = 0; l < FL_LANES; l++) sum[l] += top[l] == c ? 0.0f : e[c * FL_LANES + l];
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) total[l] += (double)sum[l];
        }
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) sums[k][l] = (float)total[l];
    }
    for (int l = 0; l < FL_LANES; l++) {
        float of_lane[FL_LANES];
        for (int k = 0; k < FL_LANES; k++) of_lane[k] = sums[k][l];
        others[l] = FL_TREE_16(of_lane);
    }
}

/* The diagonal of the hessian, from exponentials e: c p (1 - p) + b p^2 with c and b of softmax.h. 1 - p is u at
 * skip, and at the maximum, the only other class where p may be nearly 1, the sum of the others over S if p > 1/2. */
FL_OUTLINE void short_hessian(int classes, const float *e, float *h, struct short_rows *r)
{
    float largest[FL_LANES] = {0}, others[FL_LANES] = {0};
    int32_t top[FL_LANES];
    for (int l = 0; l < FL_LANES; l++) top[l] = -1;
    for (int c = 0; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float v = e[c * FL_LANES + l];
            const int is_larger = v > largest[l];
            others[l] += is_larger ? largest[l] : v;
            top[l] = is_larger ? c : top[l];
            largest[l] = is_larger ? v : largest[l];
        }
    if (classes > FL_SHORT_ROW) short_others_long(classes, e, top, others);
    for (int c = 0; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float at_skip = r->t[l], unlikely = r->unlikely[l], over_total = r->over_total[l];
            const float p = fl_choose_f32(r->skip[l] == c, at_skip, e[c * FL_LANES + l]) * over_total;
            const float u = fl_choose_f32(r->skip[l] == c, unlikely, 1.0f - p),
                        rest = (others[l] + at_skip) * over_total;
            const float q = fl_choose_f32(top[l] == c, fl_choose_f32(p > 0.5f, rest, u), u);
            h[c * FL_LANES + l] = short_curvature(p, q, r->curve[l], r->bend[l]);
        }
}

/* The columns of exponentials become those of the output. With smoothing or probabilities, a_j (the columns a) times
 * its rate is subtracted. */
FL_OUTLINE void short_finish(const struct short_terms *terms, int classes, const float *a, float *x,
                             struct short_rows *r)
{
    float smallest[FL_LANES];
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) smallest[l] = short_smallest(r->least[l], r->share[l], r->skipped[l]);
    for (int c = 0; c < classes; c++) {
        float *e = x + c * FL_LANES;
        const float *some = a + c * FL_LANES;
        const float weight = terms->class_weight ? (float)terms->class_weight[c] : 1.0f;
        if (!terms->has_mass) {
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) {
                const float g = (e[l] < smallest[l] ? 0.0f : e[l]) * r->share[l];
                e[l] = r->skip[l] == c ? r->skipped[l] : g;
            }
        } else if (!terms->is_given) {
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) {
                const float v = e[l], least = smallest[l], share = r->share[l], skipped = r->skipped[l];
                const float g = FL_FMA_F32(v < least ? 0.0f : v, share, -(r->rate[l] * weight));
                e[l] = fl_choose_f32(r->skip[l] == c, skipped, g);
            }
        } else {
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) {
                const float v = e[l], least = smallest[l], share = r->share[l], skipped = r->skipped[l];
                const float g = FL_FMA_F32(v < least ? 0.0f : v, share, -(r->rate[l] * some[l]));
                e[l] = fl_choose_f32(r->skip[l] == c, skipped, g);
            }
        }
    }
}

static void short_log_softmax(int classes, float *x, struct short_rows *r)
{
    for (int c = 0; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++)
            x[c * FL_LANES + l] = (x[c * FL_LANES + l] - r->top[l]) - (float)r->loss[l];
}

/* The columns of a group that a job needs: the inputs; the hessian, then the gradient that is added to; and the
 * probabilities. */
static inline int short_has_second(const struct fl_softmax_job *job)
{
    return job->rows.accumulate || job->hessian.data != NULL;
}

/* Gradients on their way past the caches. Groups of adjacent rows (a class axis that is not the last) are gathered in
 * [class][row], until every class has a run of whole cache lines. */
static inline ptrdiff_t short_stage_rows(const struct fl_softmax_job *job)
{
    return job->rows.classes <= FL_SHORT_ROW ? 512 : 64;
}

struct short_stage {
    char *room; /* NULL: straight to the output */
    ptrdiff_t first, rows;
};

static inline int short_is_staged(const struct fl_softmax_job *job)
{
    return job->rows.stream && (job->rows.output.class_stride != job->rows.output.itemsize ||
                                short_is_packed(&job->rows.output, job->rows.classes));
}

static inline ptrdiff_t short_stage_bytes(const struct fl_softmax_job *job)
{
    return short_is_staged(job) ? short_stage_rows(job) * job->rows.classes * job->rows.output.itemsize : 0;
}

static void short_flush(const struct fl_softmax_job *job, struct short_stage *stage)
{
    const struct fl_array *out = &job->rows.output;
    const ptrdiff_t size = out->itemsize;
    char *p = fl_row_address(out, stage->first);
    for (ptrdiff_t c = 0; c < job->rows.classes && stage->rows; c++)
        fl_stream(p + c * out->class_stride, stage->room + c * short_stage_rows(job) * size, stage->rows * size);
    stage->rows = 0;
}

/* A group of rows without gaps. */
static void short_out_packed(const struct fl_array *out, struct fl_group group, const float *x, char *room)
{
    const ptrdiff_t shape = group.count, stride = group.classes * out->itemsize;
    const struct fl_array staged = {room, out->dtype, 1, out->itemsize, out->itemsize, &shape, &stride};
    char *const p = fl_row_address(out, group.first);
    group.first = 0;
    fl_columns_out(x, &staged, group);
    fl_stream(p, room, shape * stride);
}

static void short_out(const struct fl_softmax_job *job, struct fl_group group, const float *x,
                      struct short_stage *stage)
{
    const struct fl_array *out = &job->rows.output;
    const ptrdiff_t shape = short_stage_rows(job), stride = out->itemsize;
    const struct fl_array staged = {
        stage->room, out->dtype, 1, stride, shape * stride, &shape, &stride,
    };
    if (stage->room && out->class_stride == out->itemsize) {
        short_out_packed(out, group, x, stage->room);
        return;
    }
    if (stage->room == NULL || !fl_is_adjacent(out, group)) {
        if (stage->room) short_flush(job, stage);
        fl_columns_out(x, out, group);
        return;
    }
    if (stage->rows + group.count > shape || group.first % out->shape[out->ndim - 1] == 0) short_flush(job, stage);
    if (stage->rows == 0) stage->first = group.first;
    group.first = stage->rows;
    stage->rows += group.count;
    fl_columns_out(x, &staged, group);
}

/* The scratch begins with the states and the columns of a group. */
static ptrdiff_t short_columns_end(const struct fl_softmax_job *job)
{
    const struct fl_group group = fl_group_of(0, job->rows.count, job->rows.classes);
    const ptrdiff_t size = group.parts * group.step * (ptrdiff_t)sizeof(float);
    const int further = short_has_second(job) + (job->targets.probabilities.data != NULL) +
                        (job->map.softcap > 0.0 ? 2 + (job->hessian.data != NULL) : 0);
    const int columns = middle_is_flat(job) ? 0 : 1 + further;
    return FL_PARTS * (ptrdiff_t)sizeof(struct short_rows) + columns * size;
}

/* Then it has the room of one way to take rows, in whole cache lines, and that of an odd row. */
static ptrdiff_t short_bytes(const struct fl_softmax_job *job)
{
    const ptrdiff_t flat = short_is_flat(job) ? (ptrdiff_t)sizeof(struct short_flat) : 0;
    const ptrdiff_t other = middle_is_flat(job) ? (ptrdiff_t)sizeof(struct middle_rows) : short_stage_bytes(job);
    return short_columns_end(job) + ((other > flat ? other : flat) + 63) / 64 * 64 + short_odd_bytes(job);
}

static void short_store_losses(const struct fl_softmax_job *job, struct fl_group group, int part,
                               const struct short_rows *r)
{
    const int first = part * FL_LANES, count = group.count - first < FL_LANES ? group.count - first : FL_LANES;
    memcpy(job->rows.losses + group.first + first, r->loss, (size_t)count * sizeof(double));
}

/* The columns of a softcap for a part, if there is one; `columns` is room for those of all parts. */
static inline struct short_cap short_cap_of(const struct fl_softmax_job *job, struct fl_group group, int part,
                                            float *columns)
{
    const int all = group.parts * group.step;
    struct short_cap cap = {NULL, NULL, NULL};
    if (job->map.softcap == 0.0) return cap;
    cap.low = columns + part * group.step;
    cap.slope = cap.low + all;
    if (job->hessian.data) cap.bent = cap.slope + all;
    return cap;
}

/* The end of a part: from the settlement of weight 1 to its results; h are the columns of the hessian, a those of the
 * probabilities. */
static void short_complete(const struct fl_softmax_job *job, const struct short_terms *terms, double over_temperature,
                           struct fl_group group, int part, float *x, float *h, const float *a, struct short_cap cap,
                           struct short_rows *r)
{
    int odd = 0;
    short_end(job, terms, over_temperature, group, part, r);
    if (job->hessian.data) short_hessian(group.classes, x, h, r);
    if (job->hessian.data && cap.low) short_bend(group.classes, x, cap, h, r);
    if (job->operation == FL_LOG_SOFTMAX)
        short_log_softmax(group.classes, x, r);
    else if (job->rows.output.data)
        short_finish(terms, group.classes, a, x, r);
    for (int i = 0; cap.low && job->rows.output.data && i < group.classes * FL_LANES; i++) x[i] *= cap.slope[i];
    for (int l = 0; l < FL_LANES; l++) odd |= r->odd[l];
    if (odd) short_odd(job, group, part, x, h, r);
    for (int l = group.count - part * FL_LANES; l < FL_LANES; l++) r->loss[l] = 0.0;
}

/* The losses and the gradients x of a group, by columns. */
static void short_by_columns(const struct fl_softmax_job *job, const struct short_power *power,
                             const struct short_terms *terms, struct fl_group group, struct short_rows *r, float *x)
{
    const int step = group.step;
    float *const second = x + group.parts * step, *a = second + (short_has_second(job) ? group.parts * step : 0);
    fl_columns_in(&job->rows.input, group, x);
    if (job->targets.index)
        for (int part = 0; part < group.parts; part++) short_targets(&job->targets, group, part, &r[part]);
    if (terms->is_given) fl_columns_in(&job->targets.probabilities, group, a);
    for (int part = 0; terms->has_mass && !terms->is_given && part < group.parts; part++)
        (SHORT_IS_FLAT && group.classes > FL_SHORT_ROW ? short_spread_long : short_spread)(terms, group.classes,
                                                                                           x + part * step, &r[part]);
    for (int part = 0; job->map.softcap > 0.0 && part < group.parts; part++)
        short_cap(job->map.softcap, group.classes, x + part * step, short_cap_of(job, group, part, a));
    if (group.classes == 2 && job->targets.index && job->map.softcap == 0.0) {
        short_pairs(power, group, x, r);
    } else {
        for (int part = 0; part < group.parts; part++) short_choose(job, power, group, x + part * step, &r[part]);
        for (int part = 0; terms->is_given && part < group.parts; part++)
            short_mass(terms, group.classes, x + part * step, a + part * step, &r[part]);
        for (int part = 0; part < group.parts; part++)
            if (job->map.softcap > 0.0)
                short_exps_of_pairs(power, group.classes, short_cap_of(job, group, part, a).low, x + part * step,
                                    &r[part]);
            else
                short_exps(power, group.classes, x + part * step, &r[part]);
        short_settle(power, group.parts, r);
    }
    if (short_has_lse(job)) short_lse(power, group.parts, r);
    if (job->operation == FL_LOG_SOFTMAX) fl_columns_in(&job->rows.input, group, x);
    for (int part = 0; part < group.parts; part++)
        short_complete(job, terms, power->over_temperature, group, part, x + part * step, second + part * step,
                       a + part * step, short_cap_of(job, group, part, a), &r[part]);
}

static void short_columns_out(const struct fl_softmax_job *job, struct fl_group group, float *x,
                              struct short_stage *stage)
{
    float *const second = x + group.parts * group.step;
    if (job->hessian.data) fl_columns_out(second, &job->hessian, group);
    if (job->rows.accumulate) {
        fl_columns_in(&job->rows.output, group, second);
        for (int i = 0; i < group.parts * group.step; i++) x[i] += second[i];
    }
    if (job->rows.output.data) short_out(job, group, x, stage);
}

/* The same as short_by_columns, and the output. */
static void short_by_flat(const struct fl_softmax_job *job, const struct short_power *power,
                          const struct short_terms *terms, struct fl_group group, struct short_rows *r, float *x,
                          struct short_flat *flat)
{
    const float *input = short_flat_in(&job->rows.input, group, flat->copy);
    const int has_gradient = job->rows.output.data != NULL, count = group.count * group.classes;
    int left = flat->is_wary ? short_flat_marked(power->limit, group, input, flat->is_left) : 0;
    if (left < group.count && short_flat_exps(power, count, input, flat->e) > short_size(power->limit))
        left = short_flat_marked(power->limit, group, input, flat->is_left);
    flat->is_wary = left == group.count;
    if (!flat->is_wary) {
        float *place = has_gradient && left == 0 ? short_flat_place(&job->rows, group) : NULL;
        for (int part = 0; part < group.parts; part++) short_targets(&job->targets, group, part, &r[part]);
        short_flat_settle(job, power, terms, group, input, flat, r);
        if (has_gradient) short_flat_finish(group, flat, place ? place : flat->e);
        if (place) return;
    }
    if (left) {
        short_by_columns(job, power, terms, group, r, x);
        short_flat_take(group, x, r, flat);
        for (int l = 0; l < group.count; l++) r[l / FL_LANES].loss[l % FL_LANES] = flat->loss[l];
    }
    if (has_gradient) short_flat_write(&job->rows, group, flat->e, flat->copy);
}

/* Rows begin .. end - 1; returns the sum of their losses. */
static double short_rows(const struct fl_softmax_job *job, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct short_power power = short_power_of(job->map.temperature);
    const struct short_terms terms = short_terms_of(job);
    const int is_flat = short_is_flat(job), is_two = short_is_two(job, &terms);
    struct short_rows *r = (struct short_rows *)scratch;
    float *columns = (float *)(void *)(r + FL_PARTS);
    void *const room = (char *)scratch + short_columns_end(job);
    struct short_flat *flat = (struct short_flat *)room;
    struct middle_rows *middle = middle_is_flat(job) ? (struct middle_rows *)room : NULL;
    struct short_stage stage = {NULL, 0, 0};
    double sum[FL_LANES], total = 0.0;
    if (is_flat) short_flat_start((int)job->rows.classes, flat);
    if (middle) middle->is_wary = 0;
    if (!middle && short_is_staged(job)) stage.room = (char *)room;
    for (ptrdiff_t row = begin; row < end;) {
        const struct fl_group group = fl_group_of(row, end, job->rows.classes);
        row += group.count;
        if (middle) {
            middle_group(job, &power, &terms, group, r, middle);
        } else if (is_flat) {
            short_by_flat(job, &power, &terms, group, r, columns, flat);
        } else if (!(is_two && group.count == FL_GROUP && short_two(job, &power, group, r))) {
            short_by_columns(job, &power, &terms, group, r, columns);
            short_columns_out(job, group, columns, &stage);
        }
        memset(sum, 0, sizeof sum);
        for (int part = 0; part < group.parts; part++) {
            if (job->rows.losses) short_store_losses(job, group, part, &r[part]);
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) sum[l] += r[part].loss[l];
        }
        total += sum_of_lanes_f32(sum);
    }
    if (stage.room) short_flush(job, &stage);
    if (job->rows.stream) fl_stream_end();
    return total;
}
