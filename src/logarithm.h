/* Logarithms that the compiler can vectorise: see vecmath.h. */
#ifndef FASTLOSS_LOGARITHM_H
#define FASTLOSS_LOGARITHM_H

#include "vecmath.h"

/* 2 atanh(s) / s - 2 = 2/3 t + 2/5 t^2 + ..., t = s^2, to t^11. Odd and even terms are added apart: a loop waits half
 * as long for them (0.9 of the time of binary cross-entropy). */
FL_INLINE double fl_atanh_rest_f64(double t)
{
    const double square = t * t;
    double odd = 2.0 / 23.0, even = 2.0 / 21.0;
    odd = FL_FMA_F64(odd, square, 2.0 / 19.0);
    even = FL_FMA_F64(even, square, 2.0 / 17.0);
    odd = FL_FMA_F64(odd, square, 2.0 / 15.0);
    even = FL_FMA_F64(even, square, 2.0 / 13.0);
    odd = FL_FMA_F64(odd, square, 2.0 / 11.0);
    even = FL_FMA_F64(even, square, 2.0 / 9.0);
    odd = FL_FMA_F64(odd, square, 2.0 / 7.0);
    even = FL_FMA_F64(even, square, 2.0 / 5.0);
    odd = FL_FMA_F64(odd, square, 2.0 / 3.0);
    return FL_FMA_F64(even, t, odd) * t;
}

/* log(1 + x), double.
 * Range: 0 <= x < 2^1000; NaN gives NaN.
 * Largest error: 3.0 ulp, at x = 0.417 (random trials against 60 digits).
 *
 * 1 + x = 2^k * m with m in [sqrt(1/2), sqrt(2)); f = m - 1 (f = x itself, unrounded, where k = 0, so that a
 * tiny x keeps all its digits); log m = 2 atanh(s), s = f / (2 + f), by its series to s^23 (|s| < 0.1716). */
FL_INLINE double fl_log1p_nonnegative_f64(double x)
{
    const double ln2_high = 0.6931471803691238, ln2_low = 1.9082149292705877e-10;
    double w = 1.0 + x;
    uint64_t bits = fl_bits_from_double(w);
    /* Bits of sqrt(1/2): the subtraction carries into the exponent exactly where m must be halved. The offset keeps
     * k positive, so that its low bits give it as a double. */
    uint64_t offset = bits - 0x3fe6a09e667f3bcdu + ((uint64_t)1024 << 52);
    double k = fl_double_from_bits((offset >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1024.0);
    double m = fl_double_from_bits((offset & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
    double f = k == 0.0 ? x : m - 1.0;
    double s = f / (2.0 + f), t = s * s;
    double log_m = FL_FMA_F64(fl_atanh_rest_f64(t), s, 2.0 * s);
    double result = FL_FMA_F64(k, ln2_high, FL_FMA_F64(k, ln2_low, log_m));
    return x == x ? result : x;
}

/* f - log(1 + f) for 1 + f from sqrt(1/2) to sqrt(2), float: f^2 / 2 - f^3 P(f), P fitted to the relative error of
 * the logarithm (5.8e-9). Without a division, which takes as long as seven of these products. */
FL_INLINE float fl_log1p_deficit_f32(float f)
{
    const float square = f * f;
    float odd = -0.0763427392f, even = 0.127615854f;
    odd = FL_FMA_F32(odd, square, -0.13160266f);
    even = FL_FMA_F32(even, square, 0.142017618f);
    odd = FL_FMA_F32(odd, square, -0.166233495f);
    even = FL_FMA_F32(even, square, 0.200012267f);
    odd = FL_FMA_F32(odd, square, -0.250008225f);
    even = FL_FMA_F32(even, square, 0.333333313f);
    return square * FL_FMA_F32(-f, FL_FMA_F32(odd, f, even), 0.5f);
}

/* log(1 + f) there; a tiny f keeps its digits. Largest error: 1 ulp. */
FL_INLINE float fl_log1p_near_f32(float f) { return f - fl_log1p_deficit_f32(f); }

/* The logarithm of w, float or double, where x is w - 1 unrounded: -inf at 0, NaN below it.
 *
 * w = 2^k m with m in [sqrt(1/2), sqrt(2)), f = m - 1 (x itself where k = 0). In double, with s = f / (2 + f), log m
 * is 2 atanh(s) = f - (f^2 / 2 - s (f^2 / 2 + R)) with R = s^2 (2/3 + 2/5 s^2 + ...), |s| < 0.1716. In both only the
 * small second term carries the rounding errors of the series. */
#define FL_LN2_HIGH_F32 0.693359375f
#define FL_LN2_LOW_F32 -2.12194440e-4f
FL_INLINE float fl_log_of_f32(float w, float x)
{
    const uint32_t offset = fl_bits_from_float(w) - 0x3f3504f3u;
    const float k = (float)((int32_t)offset >> 23);
    const float m = fl_float_from_bits((offset & 0x007fffffu) + 0x3f3504f3u);
    const float f = k == 0.0f ? x : m - 1.0f;
    const float value = FL_FMA_F32(k, FL_LN2_HIGH_F32, f - FL_FMA_F32(-k, FL_LN2_LOW_F32, fl_log1p_deficit_f32(f)));
    return w > 0.0f ? (w < INFINITY ? value : w) : (w == 0.0f ? -INFINITY : NAN);
}

/* The same for w from 0 to 1 without special values: in float w is multiplied by 2^24, so that it is never subnormal,
 * and the logarithm of 0 is -104.7, in double at most -709. NaN is lost. Largest error: as fl_log_f32, fl_log1p_f32.
 */
FL_INLINE float fl_log_of_share_f32(float w, float x)
{
    const uint32_t offset = fl_bits_from_float(w * 0x1p24f) - 0x3f3504f3u;
    const float k = (float)(((int32_t)offset >> 23) - 24);
    const float m = fl_float_from_bits((offset & 0x007fffffu) + 0x3f3504f3u);
    const float f = k == 0.0f ? x : m - 1.0f;
    return FL_FMA_F32(k, FL_LN2_HIGH_F32, f - FL_FMA_F32(-k, FL_LN2_LOW_F32, fl_log1p_deficit_f32(f)));
}

FL_INLINE double fl_log_of_f64(double w, double x)
{
    const double ln2_high = 0.6931471803691238, ln2_low = 1.9082149292705877e-10;
    const uint64_t offset = fl_bits_from_double(w) - 0x3fe6a09e667f3bcdu + ((uint64_t)1024 << 52);
    /* k by its low bits, as AVX2 and older sets cannot convert 64-bit integers. */
    const double k = fl_double_from_bits((offset >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1024.0);
    const double m = fl_double_from_bits((offset & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
    const double f = k == 0.0 ? x : m - 1.0;
    const double s = f / (2.0 + f), t = s * s, half_square = 0.5 * f * f;
    const double r = fl_atanh_rest_f64(t);
    const double value = FL_FMA_F64(k, ln2_high, f - (half_square - FL_FMA_F64(s, half_square + r, k * ln2_low)));
    return w > 0.0 ? (w < (double)INFINITY ? value : w) : (w == 0.0 ? -(double)INFINITY : (double)NAN);
}

FL_INLINE double fl_log_of_share_f64(double w, double x) { return fl_log_of_f64(w, x); }

/* log(m / h) for 0 < m <= h, where d is m - h without cancellation. One division: with the power of two 2^j that
 * brings m near h (by their bits, to within a factor of 1.5), f = 2^j m / h - 1 and s = f / (2 + f) as above is (2^j
 * m - h) / (2^j m + h), and 2^j m - h is d where j is 0. |s| < 0.21. Largest error (h = 1, every seventh float): 1.8
 * ulp. In double it is a quotient and its logarithm: 2.5 ulp. */
FL_INLINE float fl_log_quotient_f32(float h, float m, float d)
{
    const int32_t bits = (int32_t)(fl_bits_from_float(h) - fl_bits_from_float(m)) + 0x00400000;
    const int32_t j = bits >> 23;
    const float near = fl_float_from_bits(fl_bits_from_float(m) + ((uint32_t)j << 23)), k = (float)j;
    const float difference = j == 0 ? d : near - h;
    const float s = difference / (near + h), t = s * s;
    float r = 2.0f / 11.0f;
    r = FL_FMA_F32(r, t, 2.0f / 9.0f);
    r = FL_FMA_F32(r, t, 2.0f / 7.0f);
    r = FL_FMA_F32(r, t, 2.0f / 5.0f);
    r = FL_FMA_F32(r, t, 2.0f / 3.0f);
    return FL_FMA_F32(s * t, r, 2.0f * s) - FL_FMA_F32(k, FL_LN2_HIGH_F32, k * FL_LN2_LOW_F32);
}

FL_INLINE double fl_log_quotient_f64(double h, double m, double d) { return fl_log_of_f64(m / h, d / h); }

/* log(x). Largest error: 1.5 ulp (float), 1.5 ulp (double). A subnormal x is brought into the normal range first. */
FL_INLINE float fl_log_f32(float x)
{
    const int tiny = x < FLT_MIN;
    const float w = tiny ? x * 0x1p24f : x, value = fl_log_of_f32(w, w - 1.0f);
    return tiny ? value - 16.6355323f : value;
}

FL_INLINE double fl_log_f64(double x)
{
    const int tiny = x < DBL_MIN;
    const double w = tiny ? x * 0x1p54 : x, value = fl_log_of_f64(w, w - 1.0);
    return tiny ? value - 37.429947750237047 : value;
}

/* log(1 + x). Largest error: 2.5 ulp (float), 2.2 ulp (double); a tiny x keeps its digits. */
FL_INLINE float fl_log1p_f32(float x) { return fl_log_of_f32(1.0f + x, x); }
FL_INLINE double fl_log1p_f64(double x) { return fl_log_of_f64(1.0 + x, x); }

/* log(1 + x), 0 <= x <= 1, without a division, float: x + x^2 q, q fitted to the relative error (3.3e-8). Largest
 * error: 2.1 ulp (2.04 on the baseline). */
FL_INLINE float fl_log1p_unit_f32(float x)
{
    float q = 0.0053647249f;
    q = FL_FMA_F32(q, x, -0.0300653987f);
    q = FL_FMA_F32(q, x, 0.0792039037f);
    q = FL_FMA_F32(q, x, -0.137537494f);
    q = FL_FMA_F32(q, x, 0.191536307f);
    q = FL_FMA_F32(q, x, -0.248571575f);
    q = FL_FMA_F32(q, x, 0.33321321f);
    q = FL_FMA_F32(q, x, -0.499996483f);
    return FL_FMA_F32(q * x, x, x);
}

/* c[0] + c[1] x + ... + c[3] x^3 where `square` is x^2, and the same to x^9, added in groups: a loop of such
 * functions waits for one result after another. */
FL_INLINE double fl_four_terms_f64(double x, double square, const double *c)
{
    return FL_FMA_F64(FL_FMA_F64(c[3], x, c[2]), square, FL_FMA_F64(c[1], x, c[0]));
}

FL_INLINE double fl_ten_terms_f64(double x, const double *c)
{
    const double square = x * x, fourth = square * square, high = FL_FMA_F64(c[9], x, c[8]);
    const double middle = fl_four_terms_f64(x, square, c + 4), low = fl_four_terms_f64(x, square, c);
    return FL_FMA_F64(FL_FMA_F64(high, fourth, middle), fourth, low);
}

/* log(1 + x), 0 <= x <= 1, double, interpolated at Chebyshev nodes (5.4e-9). */
FL_INLINE double fl_log1p_near_f64(double x)
{
    static const double terms[] = {
        0.999999994656292,    -0.49999892648063277, 0.3332971049891775,   -0.24951616262872076, 0.19663274257204805,
        -0.15269667074363288, 0.10543623795419527,  -0.05637361283010733, 0.019542527261014103, -0.00317605701843196};
    return fl_ten_terms_f64(x, terms) * x;
}

/* log(1 + x), 0 <= x <= 1, double: x + x^2 q (3.9e-17), in half of the time of fl_log1p_f64, whose division alone
 * takes as long as eleven of these products. The terms of q are added in groups of four, so that a loop waits for
 * them a third as long (0.9 of the time of binary cross-entropy with logits). */
FL_INLINE double fl_log1p_unit_f64(double x)
{
    static const double terms[] = {
        -0.4999999999999908,    0.33333333333197523,   -0.24999999992009522,   0.19999999749856523,
        -0.16666661848248537,   0.14285651975275926,   -0.12499427063514382,   0.11107211585299538,
        -0.09979768096586568,   0.09009095815198633,   -0.08070954578430206,   0.07015296236526472,
        -0.05718978534193906,   0.041925709853904154,  -0.026398779480743217,  0.013598778090617254,
        -0.0054217339910016095, 0.0015535244034334333, -0.0002827421139374107, 2.4437973948580947e-05};
    const double square = x * x, fourth = square * square;
    double q = fl_four_terms_f64(x, square, terms + 16);
    q = FL_FMA_F64(q, fourth, fl_four_terms_f64(x, square, terms + 12));
    q = FL_FMA_F64(q, fourth, fl_four_terms_f64(x, square, terms + 8));
    q = FL_FMA_F64(q, fourth, fl_four_terms_f64(x, square, terms + 4));
    q = FL_FMA_F64(q, fourth, fl_four_terms_f64(x, square, terms));
    return FL_FMA_F64(q * x, x, x);
}

#endif
