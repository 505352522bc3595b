/* Short rows in float: cross-entropy of class targets, softmax, log-softmax and log-sum-exp of at most FL_SHORT_ROW
 * classes of a type other than float64, without a softcap, smoothing or probabilities. All other short rows are
 * tiles of tiles.h. Names are those of softmax.h.
 *
 * A group of rows stands in columns (squares.h), so that every step is a loop over lanes:
 *
 * 1. The columns are loaded, and the maximum m of each row is taken.
 * 2. Exponentials in place. With b = log2(e) / T and the integer c = round(m b), e_j = 2^(x_j b - c): the shift by c
 *    changes only the exponent, so the fraction f = x_j b - n, with n = round(x_j b), is the exact one, without the
 *    rounding error of x_j - m. b is a pair of floats, so that f has an error of half an ulp of 1/2 for any |x_j b|
 *    under 2^20 (2^12 without fused multiply-add). As n is taken by an addition of 1.5 * 2^23, 127 - c in that
 *    constant makes the low bits of the sum the biased exponent. e_j is 0 from 87.33 T below the maximum on, as the
 *    exponential of vecmath.h. At skip (the target) the input is put aside and e is 0, so that the sum is that of the
 *    others. The relative error of e_j is about 1e-7 (estimated: fl_exp2_minus_one_f32, and two roundings).
 * 3. Settlement with one division. t is e at skip, R the sum of the others, S = R + t, u = R / S = 1 - p:
 *
 *      u <= 1/2: loss = -log(1 - u);   else: loss = log S + (c - n) ln 2 - f ln 2,   x b = n + f
 *      dloss/dx_j = s w / T e_j / S,   at skip -s w / T u
 *
 *    Both logarithms are one: 1 - u or S is 2^k (1 + f) with 1 + f from sqrt(1/2) to sqrt(2), and f = -u or 1 - 2 u,
 *    both exact, in the first case. So a confident row keeps its digits. Multiples of ln 2 are added in double.
 *    The sums of up to 16 classes are float, in a fixed order. The tests hold the loss and the
 *    gradient to the bounds of README.
 *    With a z-loss l, q = 2 l lse: share s w / T (1 + q) / S, and at skip s w / T (q p - u).
 * 4. Odd rows, where |m b| or |x b| at skip is too large (also infinite) or the sum is NaN, are computed in double by
 * the tiles of tiles.h, one by one. Which rows are odd depends on the row alone.
 * 5. Scaling in place; gradients at skip; columns to rows. Nothing is written before all rows of the group are read,
 *    so the output may be the input. */
#include "squares.h"

struct short_power {
    struct fl_rate_f32 rate; /* b */
    float range;             /* 87.33 T */
    double over_temperature;
};

static inline struct short_power short_power_of(double temperature)
{
    struct short_power power;
    power.over_temperature = fl_over(temperature);
    power.range = (float)(87.33 * temperature);
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
    float top[FL_LANES], shift[FL_LANES], least[FL_LANES], at_skip[FL_LANES], rest[FL_LANES];
    float over_total[FL_LANES], curve[FL_LANES], bend[FL_LANES], unlikely[FL_LANES]; /* of the hessian */
    float share[FL_LANES], skipped[FL_LANES], t[FL_LANES], n[FL_LANES], f[FL_LANES], scale[FL_LANES];
    float argument[FL_LANES], twos[FL_LANES], powers[FL_LANES], added[FL_LANES], beyond[FL_LANES];
    int32_t seldom[FL_LANES];
    int32_t skip[FL_LANES], ignored[FL_LANES], odd[FL_LANES];
    double loss[FL_LANES], lse[FL_LANES];
};

static int short_rows_are(const struct fl_softmax_job *job)
{
    const struct fl_targets *targets = &job->targets;
    return job->rows.classes <= FL_SHORT_ROW && !job->band.lse && job->rows.input.dtype != FL_FLOAT64 &&
           job->map.softcap == 0.0 && targets->probabilities.data == NULL && targets->smoothing == 0.0 &&
           job->operation != FL_ENTROPY;
}

/* Four classes at a time, because each step depends on the result of the previous one. */
static inline void short_top(int classes, const float *x, struct short_rows *r)
{
    int c = 1;
    memcpy(r->top, x, sizeof r->top);
    for (; c + 4 <= classes; c += 4) {
        const float *p = x + c * FL_LANES;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float a = larger_f32(p[l], p[l + FL_LANES]);
            const float b = larger_f32(p[l + 2 * FL_LANES], p[l + 3 * FL_LANES]);
            r->top[l] = larger_f32(larger_f32(a, b), r->top[l]);
        }
    }
    for (; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) r->top[l] = larger_f32(x[c * FL_LANES + l], r->top[l]);
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

/* The maxima, the shifts, and skip: the target, the first maximum for a log-sum-exp, else class 0. */
FL_OUTLINE void short_choose(const struct fl_softmax_job *job, const struct short_power *power, struct fl_group group,
                             const float *x, struct short_rows *r)
{
    short_top(group.classes, x, r);
    if (!job->targets.index) {
        for (int l = 0; l < FL_LANES; l++) r->skip[l] = r->ignored[l] = 0;
        for (int c = group.classes - 1; c >= 0 && job->operation != FL_SOFTMAX; c--)
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) r->skip[l] = x[c * FL_LANES + l] == r->top[l] ? c : r->skip[l];
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const float c = FL_FMA_F32(r->top[l], power->rate.whole, FL_ROUNDER_F32) - FL_ROUNDER_F32;
        r->shift[l] = (FL_ROUNDER_F32 + 127.0f) - c;
        r->least[l] = r->top[l] - power->range;
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

FL_OUTLINE void short_exps(const struct short_power *shared, int classes, float *x, struct short_rows *r)
{
    const struct short_power power = *shared;
    float total[FL_LANES] = {0};
    for (int strip = 0; strip < classes; strip += 16) {
        const int end = classes < strip + 16 ? classes : strip + 16;
        float sum[FL_LANES] = {0};
        int c = strip;
        for (; c + 4 <= end; c += 4) {
            float *p = x + c * FL_LANES;
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
                sum[l] += (a + b) + (d + e);
            }
        }
        for (; c < end; c++) {
            float *p = x + c * FL_LANES;
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) {
                float at_skip = r->at_skip[l];
                p[l] = short_one(power, c, p[l], r->shift[l], r->least[l], r->skip[l], &at_skip);
                r->at_skip[l] = at_skip;
                sum[l] += p[l];
            }
        }
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) total[l] += sum[l];
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) r->rest[l] = total[l];
}

/* For weight 1: the losses; 1 / S as the share, and u as the gradient at skip. In stages over all parts, because one
 * chain of operations is longer than what a processor can reorder. (Measured for two classes: half of the time.) */
FL_OUTLINE void short_settle(const struct short_power *shared, int parts, struct short_rows *r)
{
    const double ln2 = 0.6931471805599453;
    const struct short_power power = *shared;
    for (struct short_rows *p = r; p < r + parts; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const struct short_parts y = short_parts_of(power, p->at_skip[l], p->shift[l]);
            p->t[l] = p->at_skip[l] < p->least[l] ? 0.0f : short_exp(y);
            p->n[l] = y.n;
            p->f[l] = y.f;
        }
    for (struct short_rows *p = r; p < r + parts; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float total = p->rest[l] + p->t[l], over_total = 1.0f / total, u = p->rest[l] * over_total;
            const float c = (FL_ROUNDER_F32 + 127.0f) - p->shift[l];
            const uint32_t bits = fl_bits_from_float(total) - 0x3f3504f3u;
            const float m = fl_float_from_bits((bits & 0x007fffffu) + 0x3f3504f3u);
            const float k = (float)((int32_t)bits >> 23) + c;
            const int likely = u <= 0.5f, twice = u > 0.29289f;
            const float near = twice ? 1.0f - 2.0f * u : -u, one = twice ? 1.0f : 0.0f;
            p->argument[l] = likely ? near : m - 1.0f;
            p->twos[l] = likely ? one : k - p->n[l];
            p->powers[l] = likely ? one : k;
            p->added[l] = likely ? p->at_skip[l] : 0.0f;
            p->share[l] = over_total;
            p->skipped[l] = u;
            p->odd[l] = !(fabsf(c) <= FL_LARGEST_POWER) | !(fabsf(p->n[l]) <= FL_LARGEST_POWER) | !(total <= 128.0f);
        }
    for (struct short_rows *p = r; p < r + parts; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float log = fl_log1p_near_f32(p->argument[l]);
            const float beyond = p->skipped[l] <= 0.5f ? -log : log;
            const float fraction = p->skipped[l] <= 0.5f ? -log : FL_FMA_F32(p->f[l], -0.693147182f, log);
            p->beyond[l] = beyond;
            p->loss[l] = (double)p->twos[l] * ln2 + (double)fraction;
        }
}

/* The log-sum-exps after a settlement. */
static void short_lse(const struct short_power *power, int parts, struct short_rows *r)
{
    const double ln2 = 0.6931471805599453, over_temperature = power->over_temperature;
    for (struct short_rows *p = r; p < r + parts; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++)
            p->lse[l] = (double)p->added[l] * over_temperature + ((double)p->powers[l] * ln2 + (double)p->beyond[l]);
}

/* The same for two classes with a target, in place of steps 1 to 3. With the difference d of the other input and that
 * at the target, as an exact pair, and q = exp(-|d| / T) from 0 to 1:
 *
 *   loss = max(d, 0) / T + log1p(q),   u = 1 / (1 + q) if d > 0, else q / (1 + q)
 *
 * The columns become u at the other class, and the shares 1. */
FL_OUTLINE void short_pairs(const struct short_power *shared, struct fl_group group, float *x, struct short_rows *r)
{
    const double ln2 = 0.6931471805599453;
    const float shift = FL_ROUNDER_F32 + 127.0f;
    const struct short_power power = *shared;
    struct short_rows *const end = r + group.parts;
    float *columns = x;
    for (struct short_rows *p = r; p < end; p++, columns += group.step)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float first = columns[l], second = columns[l + FL_LANES];
            const float at_skip = p->skip[l] ? second : first, other = p->skip[l] ? first : second;
            const float d = other - at_skip, back = d - other, lost = (other - (d - back)) - (at_skip + back);
            const float down = d > 0.0f ? -d : d, lower = d > 0.0f ? -lost : lost;
            const struct short_parts y = short_parts_of(power, down, shift);
            p->n[l] = y.n;
            p->f[l] = FL_FMA_F32(lower, power.rate.whole, y.f);
            p->scale[l] = down < -power.range ? 0.0f : fl_float_from_bits(fl_bits_from_float(y.shifted) << 23);
            p->added[l] = d > 0.0f ? other : at_skip;
            p->seldom[l] = d > 0.0f;
            p->odd[l] = !(fabsf(y.n) <= FL_LARGEST_POWER);
        }
    for (struct short_rows *p = r; p < end; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float q = FL_FMA_F32(fl_exp2_minus_one_f32(p->f[l]), p->scale[l], p->scale[l]);
            const float over = 1.0f / (1.0f + q), less = q * over;
            p->argument[l] = q;
            p->skipped[l] = p->seldom[l] ? over : less;
            p->t[l] = p->seldom[l] ? less : over;
            p->share[l] = 1.0f;
            p->powers[l] = 0.0f;
        }
    columns = x;
    for (struct short_rows *p = r; p < end; p++, columns += group.step) {
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float log = fl_log1p_unit_f32(p->argument[l]), twos = p->seldom[l] ? -p->n[l] : 0.0f;
            const float fraction = p->seldom[l] ? FL_FMA_F32(p->f[l], -0.693147182f, log) : log;
            p->beyond[l] = log;
            p->loss[l] = (double)twos * ln2 + (double)fraction;
        }
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            columns[l] = p->skip[l] ? p->skipped[l] : 0.0f;
            columns[l + FL_LANES] = p->skip[l] ? 0.0f : p->skipped[l];
        }
    }
}

/* The same with weights, upstream gradients and a z-loss, and the factors of the hessian; a row without weight has
 * loss and gradient 0. */
FL_OUTLINE void short_weigh(const struct fl_softmax_job *job, double over_temperature, struct fl_group group,
                            int part, struct short_rows *r)
{
    const struct fl_targets *targets = &job->targets;
    const double z_loss = job->z_loss;
    double weight[FL_LANES], factor[FL_LANES];
    if (!targets->class_weight && !targets->sample_weight && !job->rows.grad_output && z_loss == 0.0 &&
        !job->hessian.data) {
        const float scale = (float)(job->rows.grad_scale * over_temperature);
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            r->share[l] = r->ignored[l] ? 0.0f : scale * r->share[l];
            r->skipped[l] = r->ignored[l] ? 0.0f : 0.0f - scale * r->skipped[l];
        }
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) r->loss[l] = r->ignored[l] ? 0.0 : r->loss[l];
        return;
    }
    for (int l = 0; l < FL_LANES; l++) {
        const ptrdiff_t row = fl_row_of_lane(group, part * FL_LANES + l);
        weight[l] = r->ignored[l] ? 0.0 : targets->sample_weight ? targets->sample_weight[row] : 1.0;
        if (targets->class_weight) weight[l] *= targets->class_weight[r->skip[l]];
        factor[l] = weight[l] == 0.0 ? 0.0 : weight[l] * fl_upstream(&job->rows, row) * over_temperature;
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const float scale = (float)factor[l];
        r->over_total[l] = r->share[l];
        r->unlikely[l] = r->skipped[l];
        r->curve[l] = (float)(factor[l] * over_temperature);
        r->bend[l] = 0.0f;
        r->share[l] *= scale;
        r->skipped[l] = 0.0f - scale * r->skipped[l]; /* never -0: a row without weight has the bits of 0 */
        r->loss[l] = weight[l] == 0.0 ? 0.0 : weight[l] * r->loss[l];
    }
    if (z_loss == 0.0) return;
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const double spread = 2.0 * z_loss * r->lse[l], u = (double)r->unlikely[l];
        const double added = weight[l] * z_loss * r->lse[l] * r->lse[l];
        r->curve[l] = (float)(0.0 + factor[l] * (1.0 + spread) * over_temperature);
        r->bend[l] = (float)(factor[l] * 2.0 * z_loss * over_temperature);
        r->share[l] = (float)(0.0 + factor[l] * (1.0 + spread) * (double)r->over_total[l]);
        r->skipped[l] = (float)(0.0 + factor[l] * (spread * (1.0 - u) - u));
        r->loss[l] += weight[l] == 0.0 ? 0.0 : added;
    }
}

/* The exponential whose product with the share is the smallest normal number, or 1e-12 of the row's largest gradient
 * (to within a factor of 2, as the share counts by its exponent): see least_for in blocks.h. */
FL_INLINE float short_smallest(float share, float gradient)
{
    const float part = fabsf(gradient) * 1e-12f, product = part < FLT_MIN ? part : FLT_MIN;
    return product * fl_float_from_bits(0x7f000000u - (fl_bits_from_float(share) & 0x7f800000u));
}

/* The diagonal of the hessian, from exponentials e: c p (1 - p) + b p^2 with c and b of softmax.h. 1 - p is u at
 * skip, and at the maximum, the only other class where p may be nearly 1, the sum of the others over S. */
FL_OUTLINE void short_hessian(int classes, const float *e, float *h, struct short_rows *r)
{
    float others[FL_LANES], largest[FL_LANES];
    int32_t top[FL_LANES];
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        largest[l] = others[l] = 0.0f;
        top[l] = -1;
    }
    for (int c = 0; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float v = e[c * FL_LANES + l];
            const int is_larger = v > largest[l];
            others[l] += is_larger ? largest[l] : v;
            top[l] = is_larger ? c : top[l];
            largest[l] = is_larger ? v : largest[l];
        }
    for (int c = 0; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float p = (r->skip[l] == c ? r->t[l] : e[c * FL_LANES + l]) * r->over_total[l];
            const float u = r->skip[l] == c ? r->unlikely[l] : 1.0f - p;
            const float q = top[l] == c ? (others[l] + r->t[l]) * r->over_total[l] : u;
            h[c * FL_LANES + l] = r->curve[l] * p * q + r->bend[l] * p * p;
        }
}

/* The columns of exponentials become those of the output. */
FL_OUTLINE void short_finish(int classes, float *x, struct short_rows *r)
{
    float smallest[FL_LANES];
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) smallest[l] = short_smallest(r->share[l], r->skipped[l]);
    for (int c = 0; c < classes; c++) {
        float *e = x + c * FL_LANES;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float g = (e[l] < smallest[l] ? 0.0f : e[l]) * r->share[l];
            e[l] = r->skip[l] == c ? r->skipped[l] : g;
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

/* The results of odd rows: losses, and the gradients and hessians in their columns. */
FL_OUTLINE void short_odd(const struct fl_softmax_job *job, struct fl_group group, int part, float *x, float *h,
                          struct short_rows *r)
{
    double buffer[FL_SHORT_ROW * FL_LANES];
    float gradient[FL_SHORT_ROW], hessian[FL_SHORT_ROW];
    const struct fl_array none = {0};
    struct fl_array output = {NULL, FL_FLOAT32, 0, sizeof(float), sizeof(float), NULL, NULL};
    struct fl_softmax_job one = *job;
    one.rows.accumulate = 0;
    one.rows.losses = NULL;
    output.data = (char *)gradient;
    one.rows.output = job->rows.output.data ? output : none;
    output.data = (char *)hessian;
    one.hessian = job->hessian.data ? output : none;
    for (int l = 0; l < FL_LANES; l++) {
        const ptrdiff_t row = fl_row_of_lane(group, part * FL_LANES + l);
        if (!r->odd[l]) continue;
        r->loss[l] = tiles_of_rows_f64(&one, row, row + 1, buffer);
        for (int c = 0; c < group.classes && one.rows.output.data; c++) x[c * FL_LANES + l] = gradient[c];
        for (int c = 0; c < group.classes && one.hessian.data; c++) h[c * FL_LANES + l] = hessian[c];
    }
}

/* Bytes of the states, the columns of a group, and the second ones: its hessian, then the gradient that is added to.
 */
static ptrdiff_t short_bytes(const struct fl_softmax_job *job)
{
    const struct fl_group group = fl_group_of(0, job->rows.count, job->rows.classes);
    const ptrdiff_t size = group.parts * group.step * (ptrdiff_t)sizeof(float);
    const ptrdiff_t states = FL_PARTS * (ptrdiff_t)sizeof(struct short_rows);
    return states + (job->rows.accumulate || job->hessian.data ? 2 * size : size);
}

static void short_store_losses(const struct fl_softmax_job *job, struct fl_group group, int part,
                               const struct short_rows *r)
{
    const int first = part * FL_LANES, count = group.count - first < FL_LANES ? group.count - first : FL_LANES;
    memcpy(job->rows.losses + group.first + first, r->loss, (size_t)count * sizeof(double));
}

/* The end of a part: from the settlement of weight 1 to its results; h are the columns of the hessian. */
static void short_complete(const struct fl_softmax_job *job, const struct short_power *power, struct fl_group group,
                           int part, float *x, float *h, struct short_rows *r)
{
    int odd = 0;
    if (job->operation == FL_CROSS_ENTROPY)
        short_weigh(job, power->over_temperature, group, part, r);
    else if (job->operation == FL_SOFTMAX)
        for (int l = 0; l < FL_LANES; l++) r->skipped[l] = r->t[l] * r->share[l];
    else if (job->operation == FL_LOGSUMEXP)
        memcpy(r->loss, r->lse, sizeof r->loss);
    if (job->hessian.data) short_hessian(group.classes, x, h, r);
    if (job->operation == FL_LOG_SOFTMAX)
        short_log_softmax(group.classes, x, r);
    else if (job->rows.output.data)
        short_finish(group.classes, x, r);
    for (int l = 0; l < FL_LANES; l++) odd |= r->odd[l];
    if (odd) short_odd(job, group, part, x, h, r);
    for (int l = group.count - part * FL_LANES; l < FL_LANES; l++) r->loss[l] = 0.0;
    if (job->rows.losses) short_store_losses(job, group, part, r);
}

static double short_group(const struct fl_softmax_job *job, const struct short_power *power, struct fl_group group,
                          struct short_rows *r, float *x)
{
    double sum[FL_LANES] = {0};
    const int step = group.step, wants_lse = job->z_loss != 0.0 || job->operation == FL_LOGSUMEXP;
    float *second = x + group.parts * step;
    fl_columns_in(&job->rows.input, group, x);
    if (job->targets.index)
        for (int part = 0; part < group.parts; part++) short_targets(&job->targets, group, part, &r[part]);
    if (group.classes == 2 && job->targets.index) {
        short_pairs(power, group, x, r);
    } else {
        for (int part = 0; part < group.parts; part++) short_choose(job, power, group, x + part * step, &r[part]);
        for (int part = 0; part < group.parts; part++) short_exps(power, group.classes, x + part * step, &r[part]);
        short_settle(power, group.parts, r);
    }
    if (wants_lse) short_lse(power, group.parts, r);
    if (job->operation == FL_LOG_SOFTMAX) fl_columns_in(&job->rows.input, group, x);
    for (int part = 0; part < group.parts; part++) {
        short_complete(job, power, group, part, x + part * step, second + part * step, &r[part]);
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) sum[l] += r[part].loss[l];
    }
    if (job->hessian.data) fl_columns_out(second, &job->hessian, group);
    if (job->rows.accumulate) {
        fl_columns_in(&job->rows.output, group, second);
        for (int i = 0; i < group.parts * step; i++) x[i] += second[i];
    }
    if (job->rows.output.data) fl_columns_out(x, &job->rows.output, group);
    return sum_of_lanes_f32(sum);
}

/* Rows begin .. end - 1; returns the sum of their losses. */
static double short_rows(const struct fl_softmax_job *job, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct short_power power = short_power_of(job->map.temperature);
    struct short_rows *r = (struct short_rows *)scratch;
    float *columns = (float *)(void *)(r + FL_PARTS);
    double total = 0.0;
    for (ptrdiff_t row = begin; row < end;) {
        const struct fl_group group = fl_group_of(row, end, job->rows.classes);
        row += group.count;
        total += short_group(job, &power, group, r, columns);
    }
    return total;
}
