/* Exponentials of long rows with a softcap, exp(c tanh(x / c) / temperature - shift), and their products with the
 * slope 1 - tanh(x / c)^2, from which the gradient follows: see fused.h.
 *
 * In float an exponential needs the fraction of its exponent to 2e-8, so an exponent of 40 to 31 bits, and the
 * tanh behind it, too. There are three ways, of which the largest |x| of a strip decides, so that a row gives the
 * same bits in any company. (Measured, cycles for 16 elements with AVX-512, 12 without a softcap: 26, 39, 58.)
 *
 *   near: the exponent is y (1 + s) where y s, a float, is at most 0.08;
 *   half: (x / c)^2 <= 0.2: the exponent is x times a polynomial of x^2, in double;
 *   any:  tanh follows from an exponential in double.
 *
 * Largest relative error of an exponential, for any c / temperature up to 1e4: 1.1e-7 (1.6e-7 without a fused
 * multiply-add); of a product: 2.2e-7 (2.8e-7). The range is that of fl_power; an exponential below it, and a
 * slope under 1e-45, are 0. A class at -inf stays masked; +-inf otherwise, as any |x| > 60 c, is like 60 c. */
#ifndef FASTLOSS_SOFTCAP_H
#define FASTLOSS_SOFTCAP_H

#include "kernels.h"
#include "power.h"
#include "strips.h"
#include "vecmath.h"

/* The largest c / temperature in float. */
#define FL_LARGEST_CAP_F32 1e4

/* 2^(n + f) from f and 2^n. */
FL_INLINE float fl_capped_end_f32(float f, float scale, int is_masked)
{
    const float power = FL_FMA_F32(fl_exp2_quotient_f32(f), f, 1.0f) * scale;
    return is_masked ? 0.0f : power;
}

/* s = t (c0 + ... + c3 t^3) with t = (x / c)^2 <= 0.08, minimax (8e-9). Its rounding errors are 2.5e-7 of y s. */
FL_INLINE void fl_capped_near_f32(const float *x, const struct fl_cap *k, struct fl_power_f32 power, float *e,
                                  float *product)
{
    const float over = k->over, lowest = k->lowest;
    for (int i = 0; i < FL_STRIP; i += FL_STEP)
#pragma omp simd
        for (int l = i; l < i + FL_STEP; l++) {
            const float w = x[l] * over, t = w * w, y = x[l] * power.rate.whole;
            float s = 0.0205122873402f, more, shifted, n, f, scale, value, tanh_w;
            s = FL_FMA_F32(s, t, -0.0539013210584f);
            s = FL_FMA_F32(s, t, 0.133332268294f);
            s = FL_FMA_F32(s, t, -0.333333330674f) * t;
            more = y * s;
            shifted = (y + more) + power.rounder;
            n = shifted - power.rounder;
#ifdef FL_HAS_FMA
            f = FL_FMA_F32(x[l], power.rate.high, -n) + FL_FMA_F32(x[l], power.rate.low, more);
#else
            f = fl_rate_rest_f32(x[l], n, power.rate) + more;
#endif
            scale = fl_float_from_bits(fl_bits_from_float(shifted) << 23);
            value = fl_capped_end_f32(f, scale, x[l] < lowest);
            tanh_w = FL_FMA_F32(w, s, w);
            e[l] = value;
            product[l] = value * FL_FMA_F32(-tanh_w, tanh_w, 1.0f);
        }
}

/* The exponentials of a strip, and their products with the slopes, from fractions and powers of two. */
FL_INLINE void fl_capped_ends_f32(const float *x, const struct fl_cap *k, const float *fraction, const float *scale,
                                  const float *slope, float *e, float *product)
{
    const float lowest = k->lowest;
    for (int i = 0; i < FL_STRIP; i += FL_STEP)
#pragma omp simd
        for (int l = i; l < i + FL_STEP; l++) {
            const float value = fl_capped_end_f32(fraction[l], scale[l], x[l] < lowest);
            e[l] = value;
            product[l] = value * slope[l];
        }
}

/* tanh(w) / w is minimax in w^2 <= 0.2 (1.7e-12), so the exponent, of at most 6e3, is exact to 1e-8. */
FL_OUTLINE void fl_capped_half_f32(const float *x, const struct fl_cap *k, float *e, float *product)
{
    const float over = k->over_height;
    float fraction[FL_STRIP], scale[FL_STRIP], slope[FL_STRIP];
    for (int i = 0; i < FL_STRIP; i += FL_STEP)
#pragma omp simd
        for (int l = i; l < i + FL_STEP; l++) {
            const double wide = (double)x[l], t = wide * wide;
            double p = FL_FMA_F64(k->half[6], t, k->half[5]), sum;
            float tanh_w;
            p = FL_FMA_F64(p, t, k->half[4]);
            p = FL_FMA_F64(p, t, k->half[3]);
            p = FL_FMA_F64(p, t, k->half[2]);
            p = FL_FMA_F64(p, t, k->half[1]);
            p = FL_FMA_F64(p, t, k->half[0]);
            sum = FL_FMA_F64(wide, p, k->rounder);
            fraction[l] = (float)FL_FMA_F64(wide, p, -(sum - k->rounder));
            scale[l] = fl_float_from_bits((uint32_t)fl_bits_from_double(sum) << 23);
            tanh_w = x[l] * (float)p * over;
            slope[l] = FL_FMA_F32(-tanh_w, tanh_w, 1.0f);
        }
    fl_capped_ends_f32(x, k, fraction, scale, slope, e, product);
}

/* With E = 2^-a, a = 2 log2(e) x / c, and r = 2 / (1 + E), tanh(x / c) is r - 1 and the slope E r^2, without
 * cancellation at either end. An error of E by a part of d changes r - 1 by d / 2 at the most. The polynomial is
 * minimax for the relative error of 2^f on |f| <= 1/2 (d = 7.8e-13): the exponent, at most 1.5e4 (r - 1), is
 * exact to 6e-9. */
FL_OUTLINE void fl_capped_any_f32(const float *x, const struct fl_cap *k, float *e, float *product)
{
    const double rounder = 6755399441055744.0;
    const float end = k->end;
    double power[FL_STRIP];
    float fraction[FL_STRIP], scale[FL_STRIP], slope[FL_STRIP];
    for (int i = 0; i < FL_STRIP; i += FL_STEP)
#pragma omp simd
        for (int l = i; l < i + FL_STEP; l++) {
            const float low = x[l] < -end ? -end : x[l];
            const double wide = (double)(low > end ? end : low);
            const double shifted = FL_FMA_F64(wide, k->rate, rounder);
            const double f = FL_FMA_F64(wide, k->rate, -(shifted - rounder));
            double p = 1.3175858821424589139e-6;
            p = FL_FMA_F64(p, f, 1.5309737294734560971e-5);
            p = FL_FMA_F64(p, f, 1.5403851744514194029e-4);
            p = FL_FMA_F64(p, f, 1.3333452062791777427e-3);
            p = FL_FMA_F64(p, f, 9.618128542870409837e-3);
            p = FL_FMA_F64(p, f, 5.550410939341089077e-2);
            p = FL_FMA_F64(p, f, 0.24022650698880322565);
            p = FL_FMA_F64(p, f, 0.69314718054651433602);
            p = FL_FMA_F64(p, f, 0.9999999999997623493);
            power[l] = fl_double_from_bits(fl_bits_from_double(p) + (fl_bits_from_double(shifted) << 52));
        }
    for (int i = 0; i < FL_STRIP; i += FL_STEP)
#pragma omp simd
        for (int l = i; l < i + FL_STEP; l++) {
            const double r = 2.0 / (1.0 + power[l]), exponent = FL_FMA_F64(k->height, r, k->offset);
            const double sum = exponent + rounder;
            slope[l] = (float)(power[l] * r * r);
            fraction[l] = (float)(exponent - (sum - rounder));
            scale[l] = fl_float_from_bits((uint32_t)fl_bits_from_double(sum) << 23);
        }
    fl_capped_ends_f32(x, k, fraction, scale, slope, e, product);
}

/* Whether an |x| of a strip is beyond `end`, or NaN. */
FL_INLINE int fl_is_beyond_f32(const float *x, float end)
{
#if defined(__AVX512F__)
    const __m512 most = _mm512_set1_ps(end);
    unsigned found = 0;
    for (int i = 0; i < FL_STRIP; i += FL_STEP)
        found |= _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x + i)), most, _CMP_NLE_UQ);
    return found != 0;
#elif defined(__SSE2__)
    const __m128 most = _mm_set1_ps(end), sign = _mm_set1_ps(-0.0f);
    __m128 found = _mm_setzero_ps();
    for (int i = 0; i < FL_STRIP; i += 4)
        found = _mm_or_ps(found, _mm_cmpnle_ps(_mm_andnot_ps(sign, _mm_loadu_ps(x + i)), most));
    return _mm_movemask_ps(found) != 0;
#else
    int found = 0;
    for (int i = 0; i < FL_STRIP; i++) found |= !(fabsf(x[i]) <= end);
    return found;
#endif
}

FL_INLINE void fl_capped_strip_f32(const float *x, const struct fl_cap *k, struct fl_power_f32 power, float *e,
                                   float *product)
{
    if (!fl_is_beyond_f32(x, k->near_end))
        fl_capped_near_f32(x, k, power, e, product);
    else if (!fl_is_beyond_f32(x, k->half_end))
        fl_capped_half_f32(x, k, e, product);
    else
        fl_capped_any_f32(x, k, e, product);
}

/* In double an exponential of its own for each of the two functions is exact enough. */
FL_OUTLINE void fl_capped_strip_f64(const double *x, const struct fl_cap *k, struct fl_power_f64 power, double *e,
                                    double *product)
{
#pragma omp simd
    for (int l = 0; l < FL_STRIP; l++) {
        const double w = x[l] * k->rate, z = k->height * fl_tanh_f64(w);
        const double value = fl_exp_nonpositive_f64((z - power.reference) * power.factor);
        e[l] = x[l] == -(double)INFINITY ? 0.0 : value;
        product[l] = e[l] * fl_sech_squared_f64(w);
    }
}

/* The constants for a row, and those of exp(x / temperature - shift) with the same shift. */
FL_OUTLINE struct fl_cap fl_cap_of_f32(double softcap, double over_temperature, struct fl_power_f32 power)
{
    static const double half[7] = {0.99999999999828497732,   -0.33333333249068066402, 0.13333326553947229286,
                                   -0.053966200687642721254, 0.021839690765149538928, -0.0086385912425111791675,
                                   0.0027276452373823128661};
    const double rate = FL_LOG2_E_F64 * over_temperature, height = rate * softcap;
    const double n = rint(power.shift * FL_LOG2_E_F64), lowest = (n - 125.0) / height;
    double factor = rate, near;
    struct fl_cap k;
    k.rate = -2.0 * FL_LOG2_E_F64 / softcap;
    k.height = height;
    k.offset = 127.0 - n - height;
    k.rounder = 6755399441055744.0 + 127.0 - n;
    for (int i = 0; i < 7; i++) {
        k.half[i] = factor * half[i];
        factor /= softcap * softcap;
    }
    k.over = (float)(1.0 / softcap);
    k.over_height = (float)(1.0 / height);
    k.end = (float)(60.0 * softcap); /* the slope is 3e-52 there, in float 0 */
    k.lowest = -FLT_MAX;
    if (lowest > -1.0) k.lowest = (float)(0.5 * softcap * (fl_log1p_f64(lowest) - fl_log1p_f64(-lowest)));
    k.half_end = (float)(sqrt(0.2) * softcap);
    near = cbrt(0.24 / height);
    k.near_end = (float)(softcap * (near < 0.28 ? near : 0.28));
    return k;
}

FL_OUTLINE struct fl_cap fl_cap_of_f64(double softcap, double over_temperature, struct fl_power_f64 power)
{
    const struct fl_cap k = {1.0 / softcap, softcap, 0, 0, {0}, 0, 0, 0, 0, 0, 0};
    (void)over_temperature, (void)power;
    return k;
}

#endif
