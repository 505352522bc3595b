/* Short rows in float with a softcap: see short_rows.h. The map is computed in double, so that its result is a pair
 * of floats; the low one enters the fraction of the exponent. Slopes are 1 - tanh^2 without cancellation. */
#ifndef FASTLOSS_SHORT_CAP_H
#define FASTLOSS_SHORT_CAP_H

#include "short_sums.h"

/* Columns of a group with a softcap c: the rest of u = c tanh(x / c), which replaces x; du/dx; d2u/dx2, for a
 * hessian.
 */
struct short_cap {
    float *low, *slope, *bent;
};

/* With q = exp(-2 |x| / c): tanh is (1 - q) / (1 + q), the slope 4 q / (1 + q)^2. A masked class stays at -inf.
 * Largest error of u: about 4 ulp of double (estimated, as fl_tanh_f64), rounded to a pair of floats. */
FL_OUTLINE void short_cap(double cap, int classes, float *x, struct short_cap columns)
{
    const double over_cap = fl_over(cap), twice = -2.0 * over_cap;
    for (int c = 0; c < classes; c++) {
        float *in = x + c * FL_LANES, *low = columns.low + c * FL_LANES, *slope = columns.slope + c * FL_LANES;
        double bend[FL_LANES];
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const double value = (double)in[l], v = value * over_cap;
            const struct fl_reduced y = fl_reduce_f64(-2.0 * fabs(v));
            const double m = FL_FMA_F64(y.q * y.r, y.r, y.r), gone = fabs(v) > 350.0 ? 0.0 : 1.0;
            const double q = fabs(v) > 350.0 ? 0.0 : FL_FMA_F64(y.scale, m, y.scale);
            const double less = fabs(v) > 350.0 ? -1.0 : FL_FMA_F64(y.scale, m, y.scale - 1.0);
            const double over = 1.0 / (2.0 + less), tanh = copysign(less * over, value), u = cap * tanh;
            const double known = value == -INFINITY ? value : u;
            const float high = (float)known, rest = (float)(u - (double)(float)u);
            const double s = gone * (4.0 * q * over * over);
            in[l] = value == value ? high : in[l];
            low[l] = value == -INFINITY ? 0.0f : rest;
            slope[l] = (float)s;
            bend[l] = twice * tanh * s;
        }
        if (columns.bent)
#pragma omp simd
            for (int l = 0; l < FL_LANES; l++) columns.bent[c * FL_LANES + l] = (float)bend[l];
    }
}

/* short_exps of pairs. The sum is double, as the slope adds two rounding errors to a gradient. */
FL_OUTLINE void short_exps_of_pairs(const struct short_power *shared, int classes, const float *low, float *x,
                                    struct short_rows *r)
{
    const struct short_power power = *shared;
    double total[FL_LANES] = {0};
    for (int c = 0; c < classes; c++) {
        float *p = x + c * FL_LANES;
        const float *rest = low + c * FL_LANES;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float high = p[l], least = r->least[l], at_skip = r->at_skip[l], low_at_skip = r->low[l];
            struct short_parts y = short_parts_of(power, high, r->shift[l]);
            float e;
            y.f = FL_FMA_F32(rest[l], power.rate.whole, y.f);
            e = fl_choose_f32(high < least, 0.0f, short_exp(y));
            r->at_skip[l] = fl_choose_f32(r->skip[l] == c, high, at_skip);
            r->low[l] = fl_choose_f32(r->skip[l] == c, rest[l], low_at_skip);
            e = fl_choose_f32(r->skip[l] == c, 0.0f, e);
            p[l] = e;
            total[l] += (double)e;
        }
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) r->rest[l] = (float)total[l];
}

/* The hessian with respect to x from that with respect to u, before the exponentials e become gradients. */
FL_OUTLINE void short_bend(int classes, const float *e, struct short_cap columns, float *h,
                           const struct short_rows *r)
{
    for (int c = 0; c < classes; c++) {
        const float *slope = columns.slope + c * FL_LANES, *bent = columns.bent + c * FL_LANES;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float skipped = r->skipped[l], other = e[c * FL_LANES + l] * r->share[l];
            const float gradient = fl_choose_f32(r->skip[l] == c, skipped, other);
            h[c * FL_LANES + l] = h[c * FL_LANES + l] * slope[l] * slope[l] + gradient * bent[l];
        }
    }
}

#endif
