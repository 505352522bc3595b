/* Accelerated failure times: XGBoost's survival:aft, all in double.
 *
 * The logarithm of a time is x plus `scale` times a number of the distribution, whose density is f and whose
 * cumulative distribution is F. With z = (log bound - x) / scale the loss of an exact time (lower = upper) is
 * -log(f(z) / (scale lower)), that of an interval -log(F(z_u) - F(z_l)): a likelihood, held from 1e-12 on as by
 * XGBoost. The likelihood p is computed without cancellation, from its complement where it is above 1/2.
 *
 * Derivatives are XGBoost's, so that its models can be reproduced: quotients of differences of F, f and f', held to
 * [-15, 15] and [1e-16, 15]. Where a difference of F is 0, as F rounds to 1 or 0, they are XGBoost's limits, which
 * depend on the kind of the interval and on the side that x is on. So F has the roundings of XGBoost's formulas. */
#ifndef FASTLOSS_AFT_H
#define FASTLOSS_AFT_H

#include "logarithm.h"

#define FL_AFT_LEAST 1e-12
#define FL_AFT_MOST 27.631021115928547 /* -log 1e-12 */

struct fl_aft {
    double value, first, second;
};

/* A bound: z, held so that nothing below overflows, F as XGBoost rounds it, f, f', and F and 1 - F with all digits.
 */
struct fl_aft_bound {
    double z, rounded, density, slope, below, above;
};

FL_INLINE double fl_held(double x, double low, double high)
{
    const double raised = fl_choose_f64(x < low, low, x);
    return fl_choose_f64(raised > high, high, raised);
}

/* erfc(a), a from 0 to 29. (1 + 2 a) e^(a^2) erfc(a) is a polynomial in (a - 3.75) / (a + 3.75), interpolated at
 * Chebyshev nodes (1.0e-16); a^2 is a sum of two doubles. Largest error: 2e-15 where erfc is above 1e-300. */
FL_INLINE double fl_erfc_nonnegative_f64(double a)
{
    const double t = (a - 3.75) / (a + 3.75), square = a * a;
#ifdef FL_HAS_FMA
    const double rest = FL_FMA_F64(a, a, -square);
#else
    const double head = fl_double_from_bits(fl_bits_from_double(a) & 0xfffffffff8000000u), tail = a - head;
    const double rest = ((head * head - square) + 2.0 * head * tail) + tail * tail;
#endif
    double p = -9.414788762144914e-10;
    p = FL_FMA_F64(p, t, -4.892123870281826e-09);
    p = FL_FMA_F64(p, t, 2.2059508493999895e-10);
    p = FL_FMA_F64(p, t, 4.050098437107802e-08);
    p = FL_FMA_F64(p, t, 1.7935851136735508e-08);
    p = FL_FMA_F64(p, t, -2.6273295513855473e-07);
    p = FL_FMA_F64(p, t, -5.32871921415038e-08);
    p = FL_FMA_F64(p, t, 1.755627596719812e-06);
    p = FL_FMA_F64(p, t, -9.752682573337904e-07);
    p = FL_FMA_F64(p, t, -1.1446425876468954e-05);
    p = FL_FMA_F64(p, t, 2.2384665155285717e-05);
    p = FL_FMA_F64(p, t, 5.164991701403074e-05);
    p = FL_FMA_F64(p, t, -0.00029015412920429867);
    p = FL_FMA_F64(p, t, 0.00029371347832359793);
    p = FL_FMA_F64(p, t, 0.0017556258509200933);
    p = FL_FMA_F64(p, t, -0.009746579531300042);
    p = FL_FMA_F64(p, t, 0.02836227742019109);
    p = FL_FMA_F64(p, t, -0.05869339859187064);
    p = FL_FMA_F64(p, t, 0.092304321160247);
    p = FL_FMA_F64(p, t, -0.10880393014165261);
    p = FL_FMA_F64(p, t, 0.0822767384901503);
    p = FL_FMA_F64(p, t, 0.003585415485462804);
    p = FL_FMA_F64(p, t, -0.14024059858554702);
    p = FL_FMA_F64(p, t, 1.2375126308378275);
    return p / (1.0 + 2.0 * a) * (fl_exp_nonpositive_f64(-square) * (1.0 - rest));
}

/* e^-(z^2 / 2) / sqrt(2 pi). */
FL_INLINE double fl_normal_density(double z) { return fl_exp_nonpositive_f64(-0.5 * z * z) * 0.3989422804014327; }

FL_INLINE struct fl_aft_bound fl_aft_normal_bound(double z)
{
    struct fl_aft_bound b;
    double tails, erf;
    b.z = fl_held(z, -40.0, 40.0);
    tails = fl_erfc_nonnegative_f64(fabs(b.z) * 0.7071067811865476);
    erf = fl_by_sign_f64(b.z, -(1.0 - tails), 1.0 - tails);
    b.rounded = 0.5 * (1.0 + erf);
    b.density = fl_normal_density(b.z);
    b.slope = -b.z * b.density;
    b.below = fl_by_sign_f64(b.z, 0.5 * tails, 1.0 - 0.5 * tails);
    b.above = fl_by_sign_f64(b.z, 1.0 - 0.5 * tails, 0.5 * tails);
    return b;
}

/* With w = e^z: F = w / (1 + w). */
FL_INLINE struct fl_aft_bound fl_aft_logistic_bound(double z)
{
    struct fl_aft_bound b;
    double w, e, large;
    b.z = fl_held(z, -350.0, 350.0);
    w = fl_exp_f64(b.z);
    e = fl_exp_nonpositive_f64(-fabs(b.z));
    large = 1.0 / (1.0 + e);
    b.rounded = w / (1.0 + w);
    b.density = w / ((1.0 + w) * (1.0 + w));
    b.slope = b.density * (1.0 - w) / (1.0 + w);
    b.below = fl_by_sign_f64(b.z, e * large, large);
    b.above = fl_by_sign_f64(b.z, large, e * large);
    return b;
}

/* Of the least of many: F = 1 - e^-w. */
FL_INLINE struct fl_aft_bound fl_aft_extreme_bound(double z)
{
    struct fl_aft_bound b;
    double w, e;
    b.z = fl_held(z, -700.0, 700.0);
    w = fl_exp_f64(b.z);
    e = fl_exp_nonpositive_f64(-w);
    b.rounded = 1.0 - e;
    b.density = w * e;
    b.slope = (1.0 - w) * b.density;
    b.below = -fl_expm1_nonpositive_f64(-w);
    b.above = e;
    return b;
}

/* The width of an interval over the scale, of narrow ones from the bounds themselves. */
FL_INLINE double fl_aft_width(double lower, double upper, double scale, double z_lower, double z_upper)
{
    const double ratio = (upper - lower) / lower, wide = z_upper - z_lower;
    const double narrow = fl_log1p_f64(fl_choose_f64(ratio < 1.0, ratio, 1.0)) / scale;
    return fl_choose_f64(ratio < 1.0, narrow, wide);
}

/* -log p, with more digits from the complement where p is above 1/2. */
FL_INLINE double fl_aft_loss(double p, double complement)
{
    const double held = fl_choose_f64(p < FL_AFT_LEAST, FL_AFT_LEAST, p);
    const double x = fl_choose_f64(p > 0.5, -complement, held - 1.0);
    const double value = -fl_log_of_f64(fl_choose_f64(p > 0.5, 1.0 - complement, held), x);
    return fl_choose_f64(value == 0.0, 0.0, value);
}

/* The loss of an exact time from -log f. */
FL_INLINE double fl_aft_exact(double minus_log_density, double log_scale, double log_time)
{
    const double value = minus_log_density + (log_scale + log_time);
    return fl_choose_f64(log_time == -(double)INFINITY, FL_AFT_MOST,
                         fl_choose_f64(value > FL_AFT_MOST, FL_AFT_MOST, value));
}

/* `found` or, where it is not finite and the denominator vanishes, the limit; held. */
FL_INLINE double fl_aft_held(double found, double denominator, double limit, double low, double high)
{
    const double size = fabs(found);
    const double finite = fl_choose_f64(size <= DBL_MAX, found, limit);
    return fl_held(fl_choose_f64(denominator < FL_AFT_LEAST, finite, found), low, high);
}

/* XGBoost's limits of a derivative: for exact times and intervals, `past` where a bound is above x, else `before`; a
 * side that is not bounded has `open`. */
FL_INLINE double fl_aft_limit(double lower, double upper, double z_lower, double z_upper, double past, double before,
                              double open)
{
    const int is_above = fl_choose_f64(lower > 0.0, z_lower, -1.0) > 0.0;
    const double by_upper = fl_choose_f64(z_upper > 0.0, past, before);
    const double of_interval = fl_choose_f64(is_above, past, fl_choose_f64(upper <= DBL_MAX, by_upper, open));
    const double of_left = fl_choose_f64(z_upper > 0.0, fl_choose_f64(upper <= DBL_MAX, open, before), before);
    return fl_choose_f64(lower > 0.0, of_interval, of_left);
}

/* Derivatives of an interval. */
FL_INLINE struct fl_aft fl_aft_interval(struct fl_aft_bound l, struct fl_aft_bound u, double scale,
                                        double first_limit, double second_limit)
{
    const double mass = u.rounded - l.rounded, density = u.density - l.density, slope = u.slope - l.slope;
    const double below = scale * mass, first = density / below;
    const double second = -(mass * slope - density * density) / (below * below);
    struct fl_aft found = {0.0, 0.0, 0.0};
    found.first = fl_aft_held(first, below, first_limit, -15.0, 15.0);
    found.second = fl_aft_held(second, below * below, second_limit, 1e-16, 15.0);
    return found;
}

/* The results of an exact time where the bounds are equal, else those of the interval. */
FL_INLINE struct fl_aft fl_aft_either(double lower, double upper, struct fl_aft exact, struct fl_aft interval)
{
    struct fl_aft found;
    found.value = fl_choose_f64(lower == upper, exact.value, interval.value);
    found.first = fl_choose_f64(lower == upper, exact.first, interval.first);
    found.second = fl_choose_f64(lower == upper, exact.second, interval.second);
    return found;
}

/* The mass of a narrow interval of width h around m is h f(m) (1 + (m^2 - 1) h^2 / 24 + (m^4 - 6 m^2 + 3) h^4 / 1920
 * +
 * ...), of others a difference of tails on the side where these are small. */
FL_INLINE struct fl_aft fl_aft_normal_f64(double x, double lower, double upper, double scale, double log_scale)
{
    const double log_lower = fl_log_f64(lower), z_lower = (log_lower - x) / scale;
    const double z_upper = (fl_log_f64(upper) - x) / scale;
    const struct fl_aft_bound l = fl_aft_normal_bound(z_lower), u = fl_aft_normal_bound(z_upper);
    const double width = fl_aft_width(lower, upper, scale, l.z, u.z), m = 0.5 * (l.z + u.z), s = m * m;
    const double t = width * width, size = fabs(m) < 1.0 ? 1.0 : fabs(m);
    const double series = 1.0 + t * ((s - 1.0) * (1.0 / 24.0) + t * ((s * s - 6.0 * s + 3.0) * (1.0 / 1920.0)));
    const double near = width * fl_normal_density(m) * series;
    const double far = fl_choose_f64(
        l.z < 0.0, fl_choose_f64(u.z < 0.0, u.below - l.below, (1.0 - l.below) - u.above), l.above - u.above);
    const double p = fl_choose_f64(width * size < 0.03, near, far);
    const double past = -15.0, before = 15.0, steep = 1.0 / (scale * scale);
    struct fl_aft exact, interval;
    interval = fl_aft_interval(l, u, scale, fl_aft_limit(lower, upper, z_lower, z_upper, past, before, 0.0),
                               fl_aft_limit(lower, upper, z_lower, z_upper, steep, steep, 1e-16));
    interval.value = fl_aft_loss(p, l.below + u.above);
    exact.value = fl_aft_exact(0.5 * z_lower * z_lower + 0.9189385332046727, log_scale, log_lower);
    exact.first = fl_choose_f64(l.density == 0.0, fl_choose_f64(z_lower > 0.0, past, before), -z_lower / scale);
    exact.first = fl_held(exact.first, -15.0, 15.0);
    exact.second = fl_held(steep, 1e-16, 15.0);
    return fl_aft_either(lower, upper, exact, interval);
}

/* F(z_u) - F(z_l) = (1 - e^-h) F(z_u) (1 - F(z_l)) for the width h. */
FL_INLINE struct fl_aft fl_aft_logistic_f64(double x, double lower, double upper, double scale, double log_scale)
{
    const double log_lower = fl_log_f64(lower), z_lower = (log_lower - x) / scale;
    const double z_upper = (fl_log_f64(upper) - x) / scale, over = 1.0 / scale;
    const struct fl_aft_bound l = fl_aft_logistic_bound(z_lower), u = fl_aft_logistic_bound(z_upper);
    const double width = fl_aft_width(lower, upper, scale, l.z, u.z);
    const double p = -fl_expm1_nonpositive_f64(-width) * u.below * l.above, size = fabs(z_lower);
    const double e = fl_exp_nonpositive_f64(-size);
    struct fl_aft exact, interval;
    interval = fl_aft_interval(l, u, scale, fl_aft_limit(lower, upper, z_lower, z_upper, -over, over, 0.0), 1e-16);
    interval.value = fl_aft_loss(p, l.below + u.above);
    exact.value = fl_aft_exact(size + 2.0 * fl_log1p_unit_f64(e), log_scale, log_lower);
    exact.first = fl_held((l.above - l.below) * over, -15.0, 15.0);
    exact.second = fl_held(2.0 * l.above * l.below * over * over, 1e-16, 15.0);
    return fl_aft_either(lower, upper, exact, interval);
}

/* F(z_u) - F(z_l) = (1 - F(z_l)) (1 - e^-d), where d = w_u (1 - e^-h). */
FL_INLINE struct fl_aft fl_aft_extreme_f64(double x, double lower, double upper, double scale, double log_scale)
{
    const double log_lower = fl_log_f64(lower), z_lower = (log_lower - x) / scale;
    const double z_upper = (fl_log_f64(upper) - x) / scale, over = 1.0 / scale;
    const struct fl_aft_bound l = fl_aft_extreme_bound(z_lower), u = fl_aft_extreme_bound(z_upper);
    const double width = fl_aft_width(lower, upper, scale, l.z, u.z), w = fl_exp_f64(l.z);
    const double rise = -fl_exp_f64(u.z) * fl_expm1_nonpositive_f64(-width);
    const double p = -fl_expm1_nonpositive_f64(-rise) * l.above;
    const double first = fl_aft_limit(lower, upper, z_lower, z_upper, -15.0, over, 0.0);
    struct fl_aft exact, interval;
    interval = fl_aft_interval(l, u, scale, first, fl_aft_limit(lower, upper, z_lower, z_upper, 15.0, 1e-16, 1e-16));
    interval.value = fl_aft_loss(p, l.below + u.above);
    exact.value = fl_aft_exact(w - z_lower, log_scale, log_lower);
    exact.first = fl_choose_f64(l.density == 0.0, fl_choose_f64(z_lower > 0.0, -15.0, over), (1.0 - w) * over);
    exact.first = fl_held(exact.first, -15.0, 15.0);
    exact.second =
        fl_choose_f64(l.density * l.density == 0.0, fl_choose_f64(z_lower > 0.0, 15.0, 1e-16), w * over * over);
    exact.second = fl_held(exact.second, 1e-16, 15.0);
    return fl_aft_either(lower, upper, exact, interval);
}

/* From float, though the engine always takes the table of doubles. */
#define FL_AFT_OF_FLOAT(name)                                                                                        \
    FL_INLINE struct fl_aft fl_aft_##name##_f32(float x, float lower, float upper, float scale, float log_scale)     \
    {                                                                                                                \
        return fl_aft_##name##_f64((double)x, (double)lower, (double)upper, (double)scale, (double)log_scale);       \
    }
FL_AFT_OF_FLOAT(normal)
FL_AFT_OF_FLOAT(logistic)
FL_AFT_OF_FLOAT(extreme)
#undef FL_AFT_OF_FLOAT

#endif
