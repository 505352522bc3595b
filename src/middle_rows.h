/* Rows of FL_SHORT_ROW + 1 to FL_MIDDLE_ROW classes in float, as they lie in memory: softmax, log-softmax,
 * log-sum-exp, and cross-entropy of a class target with all options but a softcap. With AVX-512; the columns of
 * short_rows.h take all other rows, and have the same results, to the bit.
 *
 * A group is FL_LANES rows in one run of elements, as in short_flat.h:
 *
 * 1. Exponentials of the whole run without a shift. Where an input of the group exceeds 32 T in size, or is NaN, the
 *    rows with such an input have theirs once more, with the shift of their maximum.
 * 2. Sums of rows without their targets, whose exponentials have become 0.
 * 3. Settlement of short_settle.h, with a row in each lane. (Measured, one thread of a Zen 5: single rows take 5.5
 *    times as long for 65 classes, 4.5 for 100, 2 for 400, 1.2 for 1000.)
 * 4. Odd rows in double: short_odd.h.
 * 5. Exponentials times the share of their row; gradients at the targets last.
 *
 * Nothing is written before all rows of the group are read, so the output may be the input. */
#ifndef FASTLOSS_MIDDLE_ROWS_H
#define FASTLOSS_MIDDLE_ROWS_H

#include "middle_vectors.h"
#include "short_odd.h"

#ifdef __AVX512F__

/* The rows of a group. Elements behind the last row are any. */
struct middle_rows {
    float e[FL_LANES * FL_MIDDLE_ROW + FL_LANES];
    float copy[FL_LANES * FL_MIDDLE_ROW + FL_LANES]; /* of inputs, if they are of another type or not adjacent */
    uint8_t is_shifted[FL_LANES];
    int is_wary; /* all rows of the last group had a shift: marks come before exponentials */
};

/* Whether a job's rows of middle length are taken as they lie. */
static int middle_is_flat(const struct fl_softmax_job *job)
{
    const int is_class = job->targets.index && job->map.softcap == 0.0;
    return job->rows.classes > FL_SHORT_ROW && (is_class || job->operation != FL_CROSS_ENTROPY) &&
           !fl_has_adjacent_rows(&job->rows.input);
}

/* Step 1 of rows without a shift, while the next group is prefetched. Returns the largest size. */
static uint32_t middle_exps(const struct short_power *power, const struct fl_array *in, struct fl_group group,
                            const float *x, float *e)
{
    enum { SOME = 256 };
    const int count = group.count * group.classes;
    const char *next =
        short_is_packed(in, group.classes) ? fl_row_address(in, group.first) + count * in->itemsize : NULL;
    uint32_t largest = 0;
    for (int i = 0; i < count; i += SOME) {
        const int some = count - i < SOME ? count - i : (int)SOME;
        uint32_t size;
        if (next) fl_prefetch_to_read(next + i * in->itemsize, some * in->itemsize);
        size = short_flat_exps(power, some, x + i, e + i);
        largest = size > largest ? size : largest;
    }
    return largest;
}

/* The first maximum of each row, for log-softmax and log-sum-exp, is at skip, as in short_choose. */
static void middle_tops(int classes, int count, const float *x, struct short_rows *r)
{
    for (int l = 0; l < FL_LANES; l++) {
        const float *row = x + (l < count ? l : count - 1) * classes;
        r->top[l] = middle_top(classes, row);
        r->skip[l] = middle_first(classes, row, r->top[l]);
    }
}

/* Log-softmax. x may be out. */
static void middle_log_softmax(int classes, int count, const float *x, const struct middle_rows *rows,
                               const struct short_rows *r, float *out)
{
    for (int l = 0; l < count; l++, x += classes, out += classes) {
        const float top = r->top[l], log = (float)r->loss[l];
        if (r->odd[l])
            memmove(out, rows->e + l * classes, (size_t)classes * sizeof(float));
        else
#pragma omp simd
            for (int c = 0; c < classes; c++) out[c] = (x[c] - top) - log;
    }
}

/* The shift of a row. As in short_top, NaN counts as no input: its row is odd. */
static void middle_shift(const struct short_power *power, int classes, const float *x, int l, struct short_rows *r)
{
    float top = x[0], size = fabsf(x[0]);
#pragma omp simd reduction(max : top, size)
    for (int c = 1; c < classes; c++) {
        const float magnitude = fabsf(x[c]);
        top = x[c] > top ? x[c] : top;
        size = magnitude > size ? magnitude : size;
    }
    r->shift[l] = short_shift_of(*power, top, size);
    r->least[l] = short_least_of(*power, top, size);
}

/* The exponential of an input in a row with a shift, as in short_one. */
FL_INLINE float middle_shifted(struct short_power power, float x, float shift, float least)
{
    const float e = short_exp(short_parts_of(power, x, shift));
    return x < least ? 0.0f : e;
}

/* Those of a row. The last ones have a vector of their own: compilers take the rest of a loop one by one. */
FL_OUTLINE void middle_shifted_row(const struct short_power *shared, int classes, const float *x, float shift,
                                   float least, float *e)
{
    const struct short_power power = *shared;
    const int whole = classes / FL_LANES * FL_LANES, rest = classes - whole;
    float last[FL_LANES] = {0};
#pragma omp simd
    for (int c = 0; c < whole; c++) e[c] = middle_shifted(power, x[c], shift, least);
    memcpy(last, x + whole, (size_t)rest * sizeof(float));
#pragma omp simd
    for (int c = 0; c < FL_LANES; c++) last[c] = middle_shifted(power, last[c], shift, least);
    memcpy(e + whole, last, (size_t)rest * sizeof(float));
}

/* Step 1. */
static void middle_rows_exps(const struct fl_softmax_job *job, const struct short_power *power, struct fl_group group,
                             const float *x, struct middle_rows *rows, struct short_rows *r)
{
    const uint32_t most = short_size(power->limit);
    int shifted = 0;
    for (int l = 0; l < FL_LANES; l++) {
        r->shift[l] = FL_ROUNDER_F32 + 127.0f;
        r->least[l] = -FLT_MAX;
        r->low[l] = 0.0f;
    }
    if (rows->is_wary || middle_exps(power, &job->rows.input, group, x, rows->e) > most)
        shifted = short_flat_marked(power->limit, group, x, rows->is_shifted);
    if (rows->is_wary && shifted < group.count) middle_exps(power, &job->rows.input, group, x, rows->e);
    rows->is_wary = shifted == group.count;
    for (int l = 0; l < group.count && shifted; l++) {
        const float *row = x + l * group.classes;
        if (!rows->is_shifted[l]) continue;
        middle_shift(power, group.classes, row, l, r);
        middle_shifted_row(power, group.classes, row, r->shift[l], r->least[l], rows->e + l * group.classes);
    }
}

/* Step 4. The gradients take the place of exponentials; the hessians are in rows->copy, if there are some. */
static void middle_odd(const struct fl_softmax_job *job, struct fl_group group, struct middle_rows *rows,
                       struct short_rows *r)
{
    const size_t bytes = (size_t)group.classes * sizeof(float);
    char *const room = short_odd_room(job, r);
    const float *gradient = (const float *)(const void *)room, *hessian = gradient + group.step;
    for (int l = 0; l < group.count; l++) {
        const int at = l * group.classes;
        if (!r->odd[l]) continue;
        r->loss[l] = short_odd_row(job, group.first + l, group.step, room);
        if (job->hessian.data) memcpy(rows->copy + at, hessian, bytes);
        if (job->rows.output.data == NULL) continue;
        memcpy(rows->e + at, gradient, bytes);
        r->skipped[l] = gradient[r->skip[l]];
    }
}

/* Steps 2 to 4. `at` are the classes at skip, from the first element of the group on. */
static void middle_settle(const struct fl_softmax_job *job, const struct short_power *power,
                          const struct short_terms *terms, struct fl_group group, const float *x, const int32_t *at,
                          struct middle_rows *rows, struct short_rows *r)
{
    int odd = 0;
    for (int l = 0; l < FL_LANES; l++) r->at_skip[l] = x[at[l]];
    for (int l = 0; l < FL_LANES; l++) rows->e[at[l]] = 0.0f;
    middle_sums(group.classes, group.count, rows->e, r->rest);
    short_settle(power, 1, r);
    if (short_has_lse(job)) short_lse(power, 1, r);
    short_end(job, terms, power->over_temperature, group, 0, r);
    for (int l = 0; l < FL_LANES; l++) r->least[l] = short_smallest(r->least[l], r->share[l], r->skipped[l]);
    if (job->hessian.data) middle_hessian(group.classes, group.count, rows->e, r, rows->copy);
    for (int l = 0; l < FL_LANES; l++) odd |= r->odd[l];
    if (odd) middle_odd(job, group, rows, r);
    for (int l = group.count; l < FL_LANES; l++) r->loss[l] = 0.0;
}

/* The losses and the output of a group. */
static void middle_group(const struct fl_softmax_job *job, const struct short_power *power,
                         const struct short_terms *terms, struct fl_group group, struct short_rows *r,
                         struct middle_rows *rows)
{
    const float *x = short_flat_in(&job->rows.input, group, rows->copy);
    float *place = job->rows.stream ? NULL : short_flat_place(&job->rows, group), *out = place ? place : rows->e;
    int32_t at[FL_LANES];
    for (int l = 0; l < FL_LANES; l++) r->skip[l] = r->ignored[l] = 0;
    if (job->targets.index)
        short_targets(&job->targets, group, 0, r);
    else if (job->operation != FL_SOFTMAX)
        middle_tops(group.classes, group.count, x, r);
    for (int l = 0; l < FL_LANES; l++) at[l] = (l < group.count ? l : group.count - 1) * group.classes + r->skip[l];
    if (terms->has_mass) middle_spread(terms, group.classes, group.count, x, r->dot);
    middle_rows_exps(job, power, group, x, rows, r);
    middle_settle(job, power, terms, group, x, at, rows, r);
    if (job->hessian.data) short_flat_out(rows->copy, &job->hessian, group);
    if (job->rows.output.data == NULL) return;
    if (job->operation == FL_LOG_SOFTMAX) {
        middle_log_softmax(group.classes, group.count, x, rows, r, out);
    } else {
        if (terms->has_mass)
            middle_scale_even(terms, group.classes, group.count, r, rows->e, out);
        else
            middle_scale(group.classes, group.count, r, rows->e, out);
        for (int l = 0; l < group.count; l++) out[at[l]] = r->skipped[l];
    }
    if (!place) short_flat_write(&job->rows, group, rows->e, rows->copy);
}
#else
struct middle_rows {
    int is_wary;
};

static int middle_is_flat(const struct fl_softmax_job *job) { return (void)job, 0; }

static void middle_group(const struct fl_softmax_job *job, const struct short_power *power,
                         const struct short_terms *terms, struct fl_group group, struct short_rows *r,
                         struct middle_rows *rows)
{
    (void)job, (void)power, (void)terms, (void)group, (void)r, (void)rows;
}
#endif

#endif
