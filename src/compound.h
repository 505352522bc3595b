/* Functions of several arguments, for lines of losses.def whose roundings an exponential would magnify. */
#ifndef FASTLOSS_COMPOUND_H
#define FASTLOSS_COMPOUND_H

#include "logarithm.h"

/* ---- Tweedie: exp(c x) for a number c of the call ---- */

FL_INLINE struct fl_halves_f32 fl_rate_halves_f32(float x, struct fl_rate_f32 c)
{
    const float n = FL_FMA_F32(x, c.whole, FL_ROUNDER_F32) - FL_ROUNDER_F32;
    return fl_halves_of_f32(n, fl_rate_rest_f32(x, n, c));
}

/* exp(c x). Largest error: 1.6 ulp; 0 where the value is below 2^-126. */
FL_INLINE float fl_exp_rate_f32(float x, struct fl_rate_f32 c)
{
    const struct fl_halves_f32 e = fl_rate_halves_f32(x, c);
    const float value = e.fraction * e.other, y = x * c.whole;
    return fl_choose_f32(y < -126.0f, 0.0f, fl_choose_f32(y > 129.0f, (float)INFINITY, value));
}

/* t exp(c x), as fl_times_exp_f32. Largest error: 2.1 ulp. */
FL_INLINE float fl_times_exp_rate_f32(float t, float x, struct fl_rate_f32 c)
{
    const struct fl_halves_f32 e = fl_rate_halves_f32(x, c);
    const float value = e.fraction * t * e.other, y = x * c.whole;
    const float capped = fl_choose_f32(y > 254.0f, t * (float)INFINITY, value);
    const float product = fl_choose_f32(y < -252.0f, t * 0.0f, capped);
    return fl_choose_f32(t == 0.0f, fl_choose_f32(x == x, 0.0f, x), product);
}

/* In double the product with c is rounded: its error is 1e-16 of itself. */
struct fl_rate_f64 {
    double whole;
};

static inline struct fl_rate_f64 fl_rate_of_f64(double c)
{
    const struct fl_rate_f64 rate = {c};
    return rate;
}

FL_INLINE double fl_exp_rate_f64(double x, struct fl_rate_f64 c) { return fl_exp_f64(c.whole * x); }

FL_INLINE double fl_times_exp_rate_f64(double t, double x, struct fl_rate_f64 c)
{
    return fl_times_exp_f64(t, c.whole * x);
}

/* ---- the focal loss ---- */

struct fl_focal {
    double value, first;
};

/* The value f c, 0 where f is 0 whatever c is, and NaN where x or t is. */
FL_INLINE struct fl_focal fl_focal_of(double x, double t, double f, double c, double first)
{
    const double nan = x + t, value = fl_choose_f64(f == 0.0, 0.0, f * c);
    const struct fl_focal result = {fl_choose_f64(nan == nan, value, nan), first};
    return result;
}

/* 2^y and log2(w) for a normal w > 0: in double, as exact as a result in float needs. Errors: 2.6e-9 relative, 2.4e-9
 * absolute (polynomials at Chebyshev nodes). |y| < 1022. Their terms are added in pairs, as loops of such functions
 * wait for one result after another: 0.88 of the time of Horner's scheme. */
FL_INLINE double fl_exp2_near(double y)
{
    const double rounder = 6755399441055744.0, shifted = y + rounder, f = y - (shifted - rounder), square = f * f;
    const double high = FL_FMA_F64(FL_FMA_F64(0.0001546144469856913, f, 0.0013400428177615838), square,
                                   FL_FMA_F64(0.009618056678524637, f, 0.05550327226670302));
    const double low = FL_FMA_F64(FL_FMA_F64(0.24022650922288757, f, 0.6931472067028326), f, 1.0);
    const double p = FL_FMA_F64(high * f, square, low);
    return p * fl_double_from_bits((fl_bits_from_double(shifted) << 52) + 0x3ff0000000000000u);
}

FL_INLINE double fl_log2_near(double w)
{
    const uint64_t offset = fl_bits_from_double(w) - 0x3fe6a09e667f3bcdu + ((uint64_t)1024 << 52);
    const double k = fl_double_from_bits((offset >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1024.0);
    const double f = fl_double_from_bits((offset & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
    static const double terms[] = {1.4426950399991885,  -0.7213473544789053,  0.4808985203240642, -0.3606965418075051,
                                   0.28855256143746744, -0.23960812190957284, 0.2048576477862193, -0.1913883765667254,
                                   0.1847603336518138,  -0.10749789418083205};
    return FL_FMA_F64(fl_ten_terms_f64(f, terms), f, k);
}

/* The focal loss f c with f = share m^gamma, from float. An error of m is magnified by gamma, so float arithmetic
 * cannot keep four ulp. With e = e^-|x| and d = m (1 + e), one division gives both 1 / (1 + e) and p n / m = e / (d
 * (1 + e)). |x| is held at 690, so that d is not 0. Beyond, where m is e alone, the rest goes to its logarithm. */
FL_INLINE struct fl_focal fl_focal_f32(float logit, float target, double gamma, double share, double other_share)
{
    const double x = (double)logit, t = (double)target, other = 1.0 - t, size = fabs(x);
    const double held = size > 690.0 ? 690.0 : size, rest = held - size, capped = rest < -1e30 ? -1e30 : rest;
    const double e = fl_exp2_near(held * -FL_LOG2_E_F64), l = fl_log1p_near_f64(e);
    const double small = x >= 0.0 ? t : other, big = x >= 0.0 ? other : t, d = FL_FMA_F64(e, small, big);
    const double quotient = 1.0 / ((1.0 + e) * d), large = quotient * d, m = large * d;
    const double log_m = fl_log2_near(m) + (m < 1e-299 ? capped : 0.0), y = gamma * log_m;
    const double power = y < -1000.0 ? 0.0 : fl_exp2_near(y < -1000.0 ? -1000.0 : y);
    const double f = (share * t + other_share * other) * power;
    const double up = x < 0.0 ? -x : 0.0, down = x > 0.0 ? x : 0.0, by_t = t * (l + up),
                 by_other = other * (l + down);
    const double c = fl_choose_f64(t == 0.0, 0.0, by_t) + fl_choose_f64(other == 0.0, 0.0, by_other);
    const double tiny = e * large, p = x >= 0.0 ? large : tiny, n = x >= 0.0 ? tiny : large;
    const double steep = gamma * (1.0 - 2.0 * t) * e * quotient * (c > 1e30 ? 1e30 : c);
    return fl_focal_of(x, t, f, c, f * (p * other - n * t + steep));
}

/* From double, with the full functions. */
FL_INLINE struct fl_focal fl_focal_f64(double x, double t, double gamma, double share, double other_share)
{
    const double other = 1.0 - t, e = fl_exp_down_f64(-fabs(x)), l = fl_log1p_unit_f64(e), large = 1.0 / (1.0 + e);
    const double tiny = e * large, p = x >= 0.0 ? large : tiny, n = x >= 0.0 ? tiny : large, m = p * other + n * t;
    const double log_m = fl_log_f64(m), exponent = fl_choose_f64(gamma == 0.0, 0.0, gamma * log_m);
    const double f = (share * t + other_share * other) * fl_exp_f64(exponent);
    const double up = x < 0.0 ? -x : 0.0, down = x > 0.0 ? x : 0.0, by_t = t * (l + up),
                 by_other = other * (l + down);
    const double c = fl_choose_f64(t == 0.0, 0.0, by_t) + fl_choose_f64(other == 0.0, 0.0, by_other);
    const double product = (1.0 - 2.0 * t) * p * n, ratio = fl_choose_f64(product == 0.0, 0.0, product / m);
    const double steep = fl_choose_f64(ratio == 0.0, 0.0, gamma * ratio * c), slope = p * other - n * t + steep;
    return fl_focal_of(x, t, f, c, fl_choose_f64(f == 0.0, 0.0, f * slope));
}

/* The same for gamma = 2, from e and l = log(1 + e): m^2 needs no logarithm. The derivative is that of f c without
 * the quotient p n / m, as f has m twice. */
FL_INLINE struct fl_focal fl_focal_square_of(double x, double t, double share, double other_share, double e, double l)
{
    const double other = 1.0 - t, large = 1.0 / (1.0 + e), tiny = e * large, far = x >= 0.0 ? other : t;
    const double p = x >= 0.0 ? large : tiny, n = x >= 0.0 ? tiny : large, up = p * other, down = n * t;
    const double m = up + down, by_m = FL_FMA_F64(share, t, other_share * other) * m, f = by_m * m;
    const double c = l + fl_choose_f64(far == 0.0, 0.0, far * fabs(x)), steep = p * n * (c > 1e30 ? 1e30 : c);
    return fl_focal_of(x, t, f, c, by_m * FL_FMA_F64(m, up - down, FL_FMA_F64(-4.0, t, 2.0) * steep));
}

/* |x| is held at 200. Beyond, e is less than 2e-87 and changes m only for a target of 0 or 1. There every result has
 * the factor e, and is 0 in float. 0.5 of the time of the general function. */
FL_INLINE struct fl_focal fl_focal_square_f32(float logit, float target, double share, double other_share)
{
    const double x = (double)logit, size = fabs(x), held = size > 200.0 ? 200.0 : size;
    const double e = fl_exp2_near(held * -FL_LOG2_E_F64);
    return fl_focal_square_of(x, (double)target, share, other_share, e, fl_log1p_near_f64(e));
}

FL_INLINE struct fl_focal fl_focal_square_f64(double x, double t, double share, double other_share)
{
    const double e = fl_exp_down_f64(-fabs(x));
    return fl_focal_square_of(x, t, share, other_share, e, fl_log1p_unit_f64(e));
}

#endif
