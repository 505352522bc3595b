/* Differences of the logarithm of the gamma function, as likelihoods have them, without the cancellation of its large
 * values: see vecmath.h. All in double.
 *
 * From z = 8 on they follow from Stirling's series in y = 1 / z, log Gamma(z) = (z - 1/2) log z - z + log(2 pi) / 2 +
 * S(y), whose terms beyond those used here are below 1e-16. A smaller z is moved there by Gamma(z + 8) = z (z + 1)
 * ... (z + 7) Gamma(z). */
#ifndef FASTLOSS_GAMMA_H
#define FASTLOSS_GAMMA_H

#include "logarithm.h"

/* log(1 + x), and x - log(1 + x) with as many digits; x > -1. As fl_log_of_f64. Largest error: 2.2 and 4 ulp. */
struct fl_log1p_parts {
    double log, deficit;
};

FL_INLINE struct fl_log1p_parts fl_log1p_parts_f64(double x)
{
    const double ln2_high = 0.6931471803691238, ln2_low = 1.9082149292705877e-10, w = 1.0 + x;
    const uint64_t offset = fl_bits_from_double(w) - 0x3fe6a09e667f3bcdu + ((uint64_t)1024 << 52);
    const double k = fl_double_from_bits((offset >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1024.0);
    const double m = fl_double_from_bits((offset & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
    const double f = k == 0.0 ? x : m - 1.0;
    const double s = f / (2.0 + f), t = s * s, half_square = 0.5 * f * f;
    struct fl_log1p_parts parts;
    double r = 2.0 / 23.0, value, near, known;
    r = FL_FMA_F64(r, t, 2.0 / 21.0);
    r = FL_FMA_F64(r, t, 2.0 / 19.0);
    r = FL_FMA_F64(r, t, 2.0 / 17.0);
    r = FL_FMA_F64(r, t, 2.0 / 15.0);
    r = FL_FMA_F64(r, t, 2.0 / 13.0);
    r = FL_FMA_F64(r, t, 2.0 / 11.0);
    r = FL_FMA_F64(r, t, 2.0 / 9.0);
    r = FL_FMA_F64(r, t, 2.0 / 7.0);
    r = FL_FMA_F64(r, t, 2.0 / 5.0);
    r = FL_FMA_F64(r, t, 2.0 / 3.0);
    r *= t;
    near = half_square - s * (half_square + r);
    value = FL_FMA_F64(k, ln2_high, f - (half_square - FL_FMA_F64(s, half_square + r, k * ln2_low)));
    known = fl_choose_f64(w < (double)INFINITY, value, w);
    parts.log = fl_choose_f64(w > 0.0, known, (double)NAN);
    parts.deficit = fl_choose_f64(k == 0.0, near, x - parts.log);
    return parts;
}

/* (x - log(1 + x)) / x^2 from the deficit, also at 0. */
FL_INLINE double fl_curvature_of_log1p(double x, double deficit)
{
    const double size = fabs(x), quotient = deficit / (x * x);
    return fl_choose_f64(size < 1e-8, 0.5 - x * (1.0 / 3.0), quotient);
}

/* Stirling's series S(y), y = 1 / z <= 1/8; and T(y^2), with digamma(z) = log z - y / 2 - y^2 T(y^2). */
FL_INLINE double fl_stirling_f64(double y)
{
    const double s = y * y;
    double p = -3617.0 / 122400.0;
    p = FL_FMA_F64(p, s, 1.0 / 156.0);
    p = FL_FMA_F64(p, s, -691.0 / 360360.0);
    p = FL_FMA_F64(p, s, 1.0 / 1188.0);
    p = FL_FMA_F64(p, s, -1.0 / 1680.0);
    p = FL_FMA_F64(p, s, 1.0 / 1260.0);
    p = FL_FMA_F64(p, s, -1.0 / 360.0);
    p = FL_FMA_F64(p, s, 1.0 / 12.0);
    return p * y;
}

FL_INLINE double fl_stirling_slope_f64(double s)
{
    double p = -174611.0 / 6600.0;
    p = FL_FMA_F64(p, s, 43867.0 / 14364.0);
    p = FL_FMA_F64(p, s, -3617.0 / 8160.0);
    p = FL_FMA_F64(p, s, 1.0 / 12.0);
    p = FL_FMA_F64(p, s, -691.0 / 32760.0);
    p = FL_FMA_F64(p, s, 1.0 / 132.0);
    p = FL_FMA_F64(p, s, -1.0 / 240.0);
    p = FL_FMA_F64(p, s, 1.0 / 252.0);
    p = FL_FMA_F64(p, s, -1.0 / 120.0);
    return FL_FMA_F64(p, s, 1.0 / 12.0);
}

/* The product z (z + 1) ... (z + 7), and its derivative. */
struct fl_product {
    double value, slope;
};

FL_INLINE struct fl_product fl_product_of_eight(double z)
{
    struct fl_product p = {z, 1.0};
#define FL_TIMES_MORE(j)                                                                                             \
    p.slope = FL_FMA_F64(p.slope, z + (j), p.value);                                                                 \
    p.value *= z + (j);
    FL_TIMES_MORE(1.0)
    FL_TIMES_MORE(2.0)
    FL_TIMES_MORE(3.0)
    FL_TIMES_MORE(4.0)
    FL_TIMES_MORE(5.0)
    FL_TIMES_MORE(6.0)
    FL_TIMES_MORE(7.0)
#undef FL_TIMES_MORE
    return p;
}

/* log t!, t >= 0. Largest error: 32 ulp of the larger of it and 1. */
FL_INLINE double fl_log_factorial_f64(double t)
{
    const double z = t + 1.0, far = fl_choose_f64(z < 8.0, z + 8.0, z), log_far = fl_log_f64(far);
    const double product = fl_product_of_eight(fl_choose_f64(z < 8.0, z, 1.0)).value;
    const double shift = fl_choose_f64(z < 8.0, fl_log_f64(product), 0.0);
    return ((far - 0.5) * log_far - far) + (0.91893853320467274178 + (fl_stirling_f64(1.0 / far) - shift));
}

/* log(Gamma(t + r) / Gamma(r)) - t log r for t >= 0 and r = 1 / a, and its derivative by a: the logarithm of the
 * product of 1 + k a over k < t, if t is an integer. Also for a = 0, where both are the limits, 0 and t (t - 1) / 2.
 * Largest error, a from 1e-12 to 1e6: 16 ulp of the larger of the value and 1, and of the larger of the slope and
 * t^2.
 *
 * With R = r and A = t + r, each plus 8 if it is less, D = A - R and w = D / R = A / R - 1, Stirling's formula gives
 * R ((1 + w) log(1 + w) - w) - log(1 + w) / 2 + S(1 / A) - S(1 / R), in which nothing is large that cancels, as D is
 * t wherever R is large. */
struct fl_rising {
    double value, slope;
};

FL_INLINE struct fl_rising fl_rising_f64(double t, double a)
{
    const int low = a > 0.125;
    const double v = a * t, over = 1.0 / a, inverse = a / (1.0 + v);
    const double r = fl_choose_f64(low, over, 1.0), first = t + r;
    const double low_r = a / (1.0 + 8.0 * a), y_r = fl_choose_f64(low, low_r, a);
    const double low_a = inverse / (1.0 + 8.0 * inverse), y_a = fl_choose_f64(inverse > 0.125, low_a, inverse);
    const double across = fl_choose_f64(inverse > 0.125, t, t - 8.0), difference = fl_choose_f64(low, across, t);
    const double w = difference * y_r;
    const struct fl_log1p_parts ratio = fl_log1p_parts_f64(w);
    const double wide = (1.0 + w) * ratio.log - w, near = w * w - (1.0 + w) * ratio.deficit;
    const double bend = fl_choose_f64(w > 1.0, wide, near) / y_r;
    const double main = fl_choose_f64(w == 0.0, 0.0, bend) - 0.5 * ratio.log;
    const double value = main + (fl_stirling_f64(y_a) - fl_stirling_f64(y_r));
    const struct fl_product p_r = fl_product_of_eight(r);
    const struct fl_product p_a = fl_product_of_eight(fl_choose_f64(inverse > 0.125, first, 1.0));
    const double y2 = y_r * y_r, y4 = y2 * y2;
    const double factor = fl_choose_f64(inverse > 0.125, p_r.value / p_a.value, p_r.value * (y4 * y4));
    const double moved = value + (t * fl_log_f64(1.0 + 8.0 * a) + fl_log_f64(factor));
    const double tail_a = fl_stirling_slope_f64(y_a * y_a), tail_r = fl_stirling_slope_f64(y2);
    const double at_a = fl_choose_f64(inverse > 0.125, p_a.slope / p_a.value, 0.0), at_r = p_r.slope / p_r.value;
    const double digammas = ratio.log - 0.5 * (y_a - y_r) - (y_a * y_a * tail_a - y2 * tail_r) - (at_a - at_r);
    const double q = 1.0 / (1.0 + v);
    const double slope = t * (t * fl_curvature_of_log1p(v, ratio.deficit) - 0.5 * q) + (tail_a * q * q - tail_r);
    struct fl_rising found;
    found.value = fl_choose_f64(low, moved, value);
    found.slope = fl_choose_f64(low, r * (t - r * digammas), slope);
    return found;
}

/* log(Gamma(z + 1/2) / Gamma(z)) - log(z) / 2 of z = 1 / y > 0, and its derivative by z. Also for y = 0. Largest
 * error, y from 1e-12 to 1e6: 8 ulp of both up to y = 1/8, of the larger of them and 1 beyond. */
FL_INLINE struct fl_rising fl_half_step_f64(double y)
{
    const int low = y > 0.125;
    const double low_y = y / (1.0 + 8.0 * y), far = fl_choose_f64(low, low_y, y), s = far * far;
    const double z = fl_choose_f64(low, 1.0 / y, 1.0);
    const struct fl_product p = fl_product_of_eight(z), q = fl_product_of_eight(z + 0.5);
    const double rho = p.value / q.value, more = 0.5 * fl_log_f64((1.0 + 8.0 * y) * (rho * rho));
    const double change = 0.5 * (far - y) + (p.slope / p.value - q.slope / q.value);
    struct fl_rising found;
    /* The coefficients of y^k, k = 1, 3, ... 21, are c_k = -(2 - 2^-k) B_(k+1) / (k (k + 1)), those of y^(k+1) in the
     * derivative -k c_k. */
    double h = -4722116521.0 / 176160768.0, d = 4722116521.0 / 8388608.0;
    h = FL_FMA_F64(h, s, 221930581.0 / 79691776.0);
    d = FL_FMA_F64(d, s, -221930581.0 / 4194304.0);
    h = FL_FMA_F64(h, s, -3202291.0 / 8912896.0);
    d = FL_FMA_F64(d, s, 3202291.0 / 524288.0);
    h = FL_FMA_F64(h, s, 929569.0 / 15728640.0);
    d = FL_FMA_F64(d, s, -929569.0 / 1048576.0);
    h = FL_FMA_F64(h, s, -5461.0 / 425984.0);
    d = FL_FMA_F64(d, s, 5461.0 / 32768.0);
    h = FL_FMA_F64(h, s, 691.0 / 180224.0);
    d = FL_FMA_F64(d, s, -691.0 / 16384.0);
    h = FL_FMA_F64(h, s, -31.0 / 18432.0);
    d = FL_FMA_F64(d, s, 31.0 / 2048.0);
    h = FL_FMA_F64(h, s, 17.0 / 14336.0);
    d = FL_FMA_F64(d, s, -17.0 / 2048.0);
    h = FL_FMA_F64(h, s, -1.0 / 640.0);
    d = FL_FMA_F64(d, s, 1.0 / 128.0);
    h = FL_FMA_F64(h, s, 1.0 / 192.0);
    d = FL_FMA_F64(d, s, -1.0 / 64.0);
    h = FL_FMA_F64(h, s, -1.0 / 8.0);
    d = FL_FMA_F64(d, s, 1.0 / 8.0);
    found.value = h * far + fl_choose_f64(low, more, 0.0);
    found.slope = d * s + fl_choose_f64(low, change, 0.0);
    return found;
}

#endif
