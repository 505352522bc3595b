/* Short rows in float: their state, maxima, exponentials, and sums. See short_rows.h. */
#ifndef FASTLOSS_SHORT_SUMS_H
#define FASTLOSS_SHORT_SUMS_H

#include "squares.h"

/* What a job has in common for all rows. With smoothing of class targets a_j = even w_j and A = even times the sum of
 * the w_j; with probabilities a_j = w_j (kept q_j + even). Without either, has_mass is 0. */
struct short_terms {
    int has_mass, is_given;
    double own, even, kept, weights;
    const double *class_weight;
};

struct short_power {
    struct fl_rate_f32 rate; /* b */
    float range;             /* 87.33 T */
    float limit;             /* 32 T, of short_flat.h */
    double over_temperature;
};

static inline struct short_power short_power_of(double temperature)
{
    struct short_power power;
    power.over_temperature = fl_over(temperature);
    power.range = (float)(87.33 * temperature);
    power.limit = (float)(32.0 * temperature < 1e38 ? 32.0 * temperature : 1e38);
    power.rate = fl_rate_of_f32(power.over_temperature);
    return power;
}

#ifdef FL_HAS_FMA
#define FL_LARGEST_POWER 1048576.0f
#else
#define FL_LARGEST_POWER 4096.0f
#endif

/* n and f of x, where shift is FL_ROUNDER_F32 + 127 - c: x b = n + f. */
struct short_parts {
    float shifted, n, f;
};

FL_INLINE struct short_parts short_parts_of(struct short_power power, float x, float shift)
{
    struct short_parts out;
    out.shifted = FL_FMA_F32(x, power.rate.whole, shift);
    out.n = out.shifted - shift;
    out.f = fl_rate_rest_f32(x, out.n, power.rate);
    return out;
}

/* 2^(n - c + f). */
FL_INLINE float short_exp(struct short_parts y)
{
    const float scale = fl_float_from_bits(fl_bits_from_float(y.shifted) << 23);
    return FL_FMA_F32(fl_exp2_minus_one_f32(y.f), scale, scale);
}

/* The state of a part of a group: a row in each lane. It stands in the scratch, whose lines of 64 bytes are vectors.
 */
struct short_rows {
    float top[FL_LANES], size[FL_LANES], shift[FL_LANES], least[FL_LANES], at_skip[FL_LANES], rest[FL_LANES];
    float over_total[FL_LANES], curve[FL_LANES], bend[FL_LANES], unlikely[FL_LANES]; /* of the hessian */
    float share[FL_LANES], skipped[FL_LANES], t[FL_LANES], n[FL_LANES], f[FL_LANES], scale[FL_LANES];
    float argument[FL_LANES], twos[FL_LANES], powers[FL_LANES], added[FL_LANES], beyond[FL_LANES];
    float rate[FL_LANES]; /* of a_j in the gradient */
    float low[FL_LANES];  /* of the input at skip: see short_cap.h */
    int32_t seldom[FL_LANES];
    int32_t skip[FL_LANES], ignored[FL_LANES], odd[FL_LANES];
    double loss[FL_LANES], lse[FL_LANES];
    double dot[FL_LANES], mass_rest[FL_LANES], a_skip[FL_LANES]; /* sums over classes: see short_mass */
};

static struct short_terms short_terms_of(const struct fl_softmax_job *job)
{
    const struct fl_targets *targets = &job->targets;
    struct short_terms terms;
    terms.is_given = targets->probabilities.data != NULL;
    terms.has_mass = terms.is_given || targets->smoothing > 0.0;
    terms.class_weight = targets->class_weight;
    terms.kept = 1.0 - targets->smoothing;
    terms.own = targets->index ? terms.kept : 0.0;
    terms.even = targets->smoothing / (double)job->rows.classes;
    terms.weights = targets->class_weight ? targets->all_weights : (double)job->rows.classes;
    return terms;
}

/* The maxima, and the largest sizes without NaN. Four classes at a time, because each step depends on the result of
 * the previous one. */
static inline void short_top(int classes, const float *x, struct short_rows *r)
{
    int c = 1;
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        r->top[l] = x[l];
        r->size[l] = fabsf(x[l]);
    }
    for (; c + 4 <= classes; c += 4) {
        const float *p = x + c * FL_LANES;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float i = p[l], j = p[l + FL_LANES], k = p[l + 2 * FL_LANES], m = p[l + 3 * FL_LANES];
            const float a = larger_f32(i, j), b = larger_f32(k, m);
            const float d = larger_f32(fabsf(i), fabsf(j)), e = larger_f32(fabsf(k), fabsf(m));
            r->top[l] = larger_f32(larger_f32(a, b), r->top[l]);
            r->size[l] = larger_f32(larger_f32(d, e), r->size[l]);
        }
    }
    for (; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            r->top[l] = larger_f32(x[c * FL_LANES + l], r->top[l]);
            r->size[l] = larger_f32(fabsf(x[c * FL_LANES + l]), r->size[l]);
        }
}

/* Targets as 32-bit halves, which fill a vector. As in fl_class_of, a target that has become invalid means class 0.
 */
static inline void short_targets(const struct fl_targets *targets, struct fl_group group, int part,
                                 struct short_rows *r)
{
    const int64_t *target = targets->index + group.first + part * FL_LANES;
    const int64_t ignored = targets->has_ignored ? targets->ignored : -1;
    const int32_t ignored_low = (int32_t)ignored, ignored_high = (int32_t)(ignored >> 32);
    const uint32_t classes = (uint32_t)targets->classes;
    const int count = group.count - part * FL_LANES;
    int64_t y[FL_LANES];
    int32_t low[FL_LANES], high[FL_LANES];
    if (count >= FL_LANES) {
        memcpy(y, target, sizeof y);
    } else {
        memcpy(y, target, (size_t)count * sizeof *y);
        for (int l = count; l < FL_LANES; l++) y[l] = y[count - 1];
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) low[l] = (int32_t)y[l];
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) high[l] = (int32_t)(y[l] >> 32);
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const int is_ignored = (low[l] == ignored_low) & (high[l] == ignored_high);
        const int is_class = ((uint32_t)low[l] < classes) & (high[l] == 0) & !is_ignored;
        r->ignored[l] = is_ignored;
        r->skip[l] = is_class ? low[l] : 0;
    }
}

/* A row whose inputs are small has no shift, and no exponential of it is 0. */
FL_INLINE int short_is_small(struct short_power power, float size) { return size <= power.limit; }

/* The shift of a row, and the least input whose exponential is not 0, from its maximum and its largest size. */
FL_INLINE float short_shift_of(struct short_power power, float top, float size)
{
    const float c = FL_FMA_F32(top, power.rate.whole, FL_ROUNDER_F32) - FL_ROUNDER_F32;
    return (FL_ROUNDER_F32 + 127.0f) - (short_is_small(power, size) ? 0.0f : c);
}

FL_INLINE float short_least_of(struct short_power power, float top, float size)
{
    return short_is_small(power, size) ? -FLT_MAX : top - power.range;
}

/* The exponential whose product with the share is the smallest normal number, or 1e-12 of the row's largest gradient
 * (to within a factor of 2, as the share counts by its exponent): see least_for in blocks.h. 0 for a small row, whose
 * exponentials are at least exp(-64) of the largest. */
FL_INLINE float short_smallest(float least, float share, float gradient)
{
    const float part = fabsf(gradient) * 1e-12f, product = part < FLT_MIN ? part : FLT_MIN;
    const float smallest = product * fl_float_from_bits(0x7f000000u - (fl_bits_from_float(share) & 0x7f800000u));
    return least == -FLT_MAX ? 0.0f : smallest;
}

/* The maxima, the shifts, and skip: the target, the first maximum for a log-sum-exp, else class 0. */
FL_OUTLINE void short_choose(const struct fl_softmax_job *job, const struct short_power *power, struct fl_group group,
                             const float *x, struct short_rows *r)
{
    const struct short_power of = *power;
    short_top(group.classes, x, r);
    if (!job->targets.index) {
        for (int l = 0; l < FL_LANES; l++) r->skip[l] = r->ignored[l] = 0;
        for (int c = group.classes - 1; c >= 0 && job->operation != FL_SOFTMAX; c--)
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) r->skip[l] = x[c * FL_LANES + l] == r->top[l] ? c : r->skip[l];
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        r->shift[l] = short_shift_of(of, r->top[l], r->size[l]);
        r->least[l] = short_least_of(of, r->top[l], r->size[l]);
        r->low[l] = 0.0f;
    }
}

/* One class of a row: its exponential, or 0 at skip, where the input is put aside. */
FL_INLINE float short_one(struct short_power power, int c, float x, float shift, float least, int32_t skip,
                          float *at_skip)
{
    const float e = short_exp(short_parts_of(power, x, shift));
    *at_skip = skip == c ? x : *at_skip;
    return (x < least) | (skip == c) ? 0.0f : e;
}

/* Class c and up to three more; their exponentials are added to four sums. */
FL_INLINE void short_four(struct short_power power, int c, int count, float *p, float sums[4][FL_LANES],
                          struct short_rows *r)
{
    if (count < 4) {
        for (int k = 0; k < count; k++, p += FL_LANES)
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) {
                float at_skip = r->at_skip[l];
                p[l] = short_one(power, c + k, p[l], r->shift[l], r->least[l], r->skip[l], &at_skip);
                r->at_skip[l] = at_skip;
                sums[k][l] += p[l];
            }
        return;
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const float shift = r->shift[l], least = r->least[l];
        const int32_t skip = r->skip[l];
        float at_skip = r->at_skip[l];
        const float a = short_one(power, c, p[l], shift, least, skip, &at_skip);
        const float b = short_one(power, c + 1, p[l + FL_LANES], shift, least, skip, &at_skip);
        const float d = short_one(power, c + 2, p[l + 2 * FL_LANES], shift, least, skip, &at_skip);
        const float e = short_one(power, c + 3, p[l + 3 * FL_LANES], shift, least, skip, &at_skip);
        p[l] = a;
        p[l + FL_LANES] = b;
        p[l + 2 * FL_LANES] = d;
        p[l + 3 * FL_LANES] = e;
        r->at_skip[l] = at_skip;
        sums[0][l] += a;
        sums[1][l] += b;
        sums[2][l] += d;
        sums[3][l] += e;
    }
}

/* Four classes from `first`, and every sixteenth after them, before `end`: their exponentials, which are added to the
 * sums of each of the four. */
FL_INLINE void short_quarter(struct short_power power, int first, int end, float *x, struct short_rows *r,
                             float sums[4][FL_LANES])
{
    for (int c = first; c < end; c += 16) short_four(power, c, end - c < 4 ? end - c : 4, x + c * FL_LANES, sums, r);
}

/* Those of more than FL_SHORT_ROW classes. Sums of four are added in double: where one class is nearly the whole sum,
 * each addition to it rounds. (Measured in float, 272 classes: errors of 4.5e-7 of the largest gradient; so 2.4e-7.)
 */
FL_OUTLINE void short_quarter_long(const struct short_power *shared, int k, int classes, float *x,
                                   struct short_rows *r, float sums[4][FL_LANES])
{
    double totals[4][FL_LANES] = {{0}};
    for (int first = 0; first < classes; first += FL_SHORT_ROW) {
        const int end = classes - first < FL_SHORT_ROW ? classes : first + FL_SHORT_ROW;
        memset(sums, 0, 4 * sizeof sums[0]);
        short_quarter(*shared, first + 4 * k, end, x, r, sums);
        for (int i = 0; i < 4; i++)
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) totals[i][l] += (double)sums[i][l];
    }
    for (int i = 0; i < 4; i++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) sums[i][l] = (float)totals[i][l];
}

/* The exponentials and their sums, which are added in the order of short_flat.h: classes c, c + 16, ... in turn, and
 * the sixteen sums as a tree. */
FL_OUTLINE void short_exps(const struct short_power *shared, int classes, float *x, struct short_rows *r)
{
    const struct short_power power = *shared;
    float quarter[4][FL_LANES] = {{0}};
    for (int k = 0; k < 4; k++) {
        float sums[4][FL_LANES] = {{0}};
        if (classes <= FL_SHORT_ROW)
            short_quarter(power, 4 * k, classes, x, r, sums);
        else
            short_quarter_long(shared, k, classes, x, r, sums);
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) quarter[k][l] = (sums[0][l] + sums[2][l]) + (sums[1][l] + sums[3][l]);
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) r->rest[l] = (quarter[0][l] + quarter[1][l]) + (quarter[2][l] + quarter[3][l]);
}

/* Of the inputs, before their exponentials: the sum of w_j x_j for smoothing. In double, where a product has no
 * rounding error and an offset of the inputs costs no digits. */
FL_OUTLINE void short_spread(const struct short_terms *terms, int classes, const float *x, struct short_rows *r)
{
    double sum[FL_LANES] = {0};
    int c = 0;
    for (; !terms->class_weight && c + 4 <= classes; c += 4) {
        const float *p = x + c * FL_LANES;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++)
            sum[l] += ((double)p[l] + (double)p[l + FL_LANES]) +
                      ((double)p[l + 2 * FL_LANES] + (double)p[l + 3 * FL_LANES]);
    }
    for (; c < classes; c++) {
        const double weight = terms->class_weight ? terms->class_weight[c] : 1.0;
        if (weight == 0.0) continue;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) sum[l] += weight * (double)x[c * FL_LANES + l];
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) r->dot[l] = sum[l];
}

/* The order of the sums of sixteen, as in short_sums_of_four of short_flat.h. */
#define FL_TREE_4(s, i) (((s)[i] + (s)[(i) + 2]) + ((s)[(i) + 1] + (s)[(i) + 3]))
#define FL_TREE_16(s) ((FL_TREE_4(s, 0) + FL_TREE_4(s, 4)) + (FL_TREE_4(s, 8) + FL_TREE_4(s, 12)))

/* The same for rows of more than FL_SHORT_ROW classes, in the order of middle_spread (with AVX-512): classes c, c +
 * 16, ... in turn, and the sixteen sums as a tree. */
FL_OUTLINE void short_spread_long(const struct short_terms *terms, int classes, const float *x, struct short_rows *r)
{
    double sums[FL_LANES][FL_LANES];
    for (int k = 0; k < FL_LANES; k++) {
        double sum[FL_LANES] = {0};
        for (int c = k; c < classes; c += FL_LANES) {
            const double weight = terms->class_weight ? terms->class_weight[c] : 1.0;
            if (weight == 0.0) continue;
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) sum[l] += weight * (double)x[c * FL_LANES + l];
        }
        memcpy(sums[k], sum, sizeof sum);
    }
    for (int l = 0; l < FL_LANES; l++) {
        double of_lane[FL_LANES];
        for (int k = 0; k < FL_LANES; k++) of_lane[k] = sums[k][l];
        r->dot[l] = FL_TREE_16(of_lane);
    }
}

/* The same for probabilities q, which become a_j: the sums of a_j x_j and of a_j without skip, and a at skip. A class
 * without probability adds 0, also at -inf. */
FL_OUTLINE void short_mass(const struct short_terms *shared, int classes, const float *x, float *q,
                           struct short_rows *r)
{
    const struct short_terms terms = *shared;
    double dot[FL_LANES] = {0}, rest[FL_LANES] = {0}, at[FL_LANES] = {0};
    for (int c = 0; c < classes; c++) {
        const double weight = terms.class_weight ? terms.class_weight[c] : 1.0;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const double share = terms.kept * (double)q[c * FL_LANES + l] + terms.even;
            const double a = share == 0.0 ? 0.0 : share * weight, product = a * (double)x[c * FL_LANES + l];
            q[c * FL_LANES + l] = (float)a;
            dot[l] += a == 0.0 ? 0.0 : product;
            rest[l] += r->skip[l] == c ? 0.0 : a;
            at[l] = r->skip[l] == c ? a : at[l];
        }
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        r->dot[l] = dot[l];
        r->mass_rest[l] = rest[l];
        r->a_skip[l] = at[l];
    }
}

#endif
