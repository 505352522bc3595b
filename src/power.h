/* Exponentials with any shift and any temperature, for long rows: see fused.h. */
#ifndef FASTLOSS_POWER_H
#define FASTLOSS_POWER_H

#include "kernels.h"
#include "vecmath.h"

/* exp(x / temperature - shift), float, where the shift is an integer times log 2, so that it changes only the
 * exponent.
 * Range: x / temperature - shift <= 88; 0 where it is below -86.6; 0 at -inf; NaN where x is NaN.
 * Largest relative error: 9e-8 (1.6e-7 without a fused multiply-add), tried near 0 and near 1400.
 *
 * The power of two is n = round(x log2(e) / temperature), the fraction f is the rest, exact as fl_rate_rest says;
 * without a fused multiply-add that holds to 2^13. Adding 1.5 * 2^23 rounds to an integer in the low bits of the sum;
 * with 127 - shift / log 2 added as well, these bits are the exponent of the result. */
FL_INLINE float fl_power_f32(float x, struct fl_power_f32 k)
{
    const float shifted = FL_FMA_F32(x, k.rate.whole, k.rounder), n = shifted - k.rounder;
    const float scale = fl_float_from_bits(fl_bits_from_float(shifted) << 23);
    const float f = fl_rate_rest_f32(x, n, k.rate);
    return x < k.lowest ? 0.0f : FL_FMA_F32(fl_exp2_quotient_f32(f), f, 1.0f) * scale;
}

/* d, or 0 where the exponential of x is 0. */
FL_INLINE float fl_unless_zero_f32(float x, float d, float value, struct fl_power_f32 k)
{
    (void)value;
    return x < k.lowest ? 0.0f : d;
}

/* The constants for a maximum near `max` and the reciprocal of the temperature. */
FL_INLINE struct fl_power_f32 fl_power_of_f32(float max, double over_temperature)
{
    const double ln2 = 0.69314718055994530942, factor = FL_LOG2_E_F64 * over_temperature;
    const double n = rint((double)max * factor);
    struct fl_power_f32 k;
#ifdef FL_HAS_FMA
    const double most = 1.4e6;
#else
    const double most = 5900.0;
#endif
    k.rate = fl_rate_of_f32(over_temperature);
    k.is_usable = fabs(n) <= most && factor > 0x1p-60 && factor < 0x1p60;
    k.rounder = 12582912.0f + 127.0f - (float)n;
    k.lowest = (float)((n - 125.0) / factor);
    k.reference = (float)(n / factor);
    k.shift = n * ln2;
    return k;
}

/* The same in double: the shift is max / temperature, the difference of x and max is rounded once. Largest error:
 * that of exp_f64, and the rounding of the product with the reciprocal of the temperature. */
FL_INLINE double fl_power_f64(double x, struct fl_power_f64 k)
{
    return fl_exp_nonpositive_f64((x - k.reference) * k.factor);
}

FL_INLINE double fl_unless_zero_f64(double x, double d, double value, struct fl_power_f64 k)
{
    (void)x, (void)k;
    return value == 0.0 ? 0.0 : d;
}

FL_INLINE struct fl_power_f64 fl_power_of_f64(double max, double over_temperature)
{
    const double shift = max * over_temperature;
    const struct fl_power_f64 k = {over_temperature, max, shift,
                                   fabs(shift) <= DBL_MAX && over_temperature < DBL_MAX};
    return k;
}

#endif
