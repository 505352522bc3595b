/* Elementary functions that the compiler can vectorise.
 *
 * Each is branch-free plain C, so a loop around it becomes SIMD code for the instruction set of the compilation.
 * Each states its largest error and its range. The files are compiled with -ffp-contract=off: fused multiply-adds
 * are written as FL_FMA_*, so an element gives the same bits in the vector body of a loop and in its scalar tail
 * with every compiler.
 *
 * All of them reduce the argument, approximate, and reconstruct.
 */
#ifndef FASTLOSS_VECMATH_H
#define FASTLOSS_VECMATH_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

/* A call in a loop prevents its vectorisation, and compilers do not inline functions that they consider large. */
#if defined(__GNUC__) || defined(__clang__)
#define FL_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define FL_INLINE static __forceinline
#else
#define FL_INLINE static inline
#endif

/* Keeps a function out of the frame and the registers of its caller. */
#if defined(__GNUC__) && !defined(__clang__)
#define FL_OUTLINE static __attribute__((noinline, noclone))
#elif defined(__clang__)
#define FL_OUTLINE static __attribute__((noinline))
#elif defined(_MSC_VER)
#define FL_OUTLINE static __declspec(noinline)
#else
#define FL_OUTLINE static
#endif

/* Without a fused instruction fmaf() is a library call (30 times slower); then multiply and add separately. */
#if (defined(__GNUC__) || defined(__clang__)) && (defined(__FMA__) || defined(__aarch64__) || defined(__FP_FAST_FMA))
#define FL_HAS_FMA 1
#endif

#ifdef FL_HAS_FMA
#define FL_FMA_F32(a, b, c) __builtin_fmaf((a), (b), (c))
#define FL_FMA_F64(a, b, c) __builtin_fma((a), (b), (c))
#else
#define FL_FMA_F32(a, b, c) ((a) * (b) + (c))
#define FL_FMA_F64(a, b, c) ((a) * (b) + (c))
#endif

FL_INLINE float fl_fma_f32(float a, float b, float c) { return FL_FMA_F32(a, b, c); }
FL_INLINE double fl_fma_f64(double a, double b, double c) { return FL_FMA_F64(a, b, c); }

FL_INLINE float fl_float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

FL_INLINE uint32_t fl_bits_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

FL_INLINE double fl_double_from_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

FL_INLINE uint64_t fl_bits_from_double(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* a if the condition (0 or 1) is true, else b, by masks: compilers turn selections that depend on each other into
 * branches, and do not vectorise a loop with branches. */
FL_INLINE float fl_select_f32(int condition, float a, float b)
{
    const uint32_t mask = 0u - (uint32_t)condition;
    return fl_float_from_bits((fl_bits_from_float(a) & mask) | (fl_bits_from_float(b) & ~mask));
}

FL_INLINE double fl_select_f64(int condition, double a, double b)
{
    const uint64_t mask = (uint64_t)0 - (uint64_t)condition;
    return fl_double_from_bits((fl_bits_from_double(a) & mask) | (fl_bits_from_double(b) & ~mask));
}

/* The same for a condition that is a single comparison; such selections may be nested. As the arguments of a function
 * are computed before it, compilers make no branches, and one instruction selects, where masks take five with
 * AVX-512. With two comparisons joined by & gcc makes branches, or needs masks that an instruction set lacks. */
FL_INLINE float fl_choose_f32(int condition, float a, float b) { return condition ? a : b; }
FL_INLINE double fl_choose_f64(int condition, double a, double b) { return condition ? a : b; }

/* a where the sign bit of x is set, else b; and y with its sign changed there. In float by shifts and masks: AVX-512
 * compares with the units that multiply, which are busy. In double by a comparison, as AVX2 cannot shift so; -0 is
 * not negative there, and the two agree. */
FL_INLINE float fl_by_sign_f32(float x, float a, float b)
{
    const uint32_t mask = (uint32_t)((int32_t)fl_bits_from_float(x) >> 31);
    return fl_float_from_bits((fl_bits_from_float(a) & mask) | (fl_bits_from_float(b) & ~mask));
}

FL_INLINE float fl_turned_f32(float x, float y)
{
    return fl_float_from_bits(fl_bits_from_float(y) ^ (fl_bits_from_float(x) & 0x80000000u));
}

FL_INLINE double fl_by_sign_f64(double x, double a, double b) { return x < 0.0 ? a : b; }
FL_INLINE double fl_turned_f64(double x, double y) { return x < 0.0 ? -y : y; }

/* A product in which a weight of 0 gives 0, also for an infinite value; NaN stays NaN. */
FL_INLINE double fl_weighed(double weight, double value)
{
    const double product = weight * value;
    return fl_select_f64((weight == 0.0) & (value == value), 0.0, product);
}

/* 1 / temperature, finite for the smallest temperatures, too. */
FL_INLINE double fl_over(double temperature)
{
    const double quotient = 1.0 / temperature;
    return quotient > DBL_MAX ? DBL_MAX : quotient;
}

/* x log2(e) - n to within half an ulp of 1, where that is under 1 and |n| < 2^13; with a fused multiply-add without
 * x FL_LOG2_E_LOW, which the caller adds. Without one, x is split in two, as its product with log2(e) would be
 * rounded before n is subtracted. */
#define FL_LOG2_E 1.44269502f
FL_INLINE float fl_log2_rest_f32(float x, float n)
{
#ifdef FL_HAS_FMA
    return FL_FMA_F32(x, FL_LOG2_E, -n);
#else
    const float log2_e_high = 1.44238281f, log2_e_low = 3.12228389e-4f;
    const float head = fl_float_from_bits(fl_bits_from_float(x) & 0xfffff000u), tail = x - head;
    return (head * log2_e_high - n) + (tail * FL_LOG2_E + head * log2_e_low);
#endif
}

#ifdef FL_HAS_FMA
#define FL_LOG2_E_LOW 1.92596303e-8f
#else
#define FL_LOG2_E_LOW 0.0f
#endif

/* The constants of fl_exp_difference_f32 that follow from a row's maximum. */
struct fl_shift_f32 {
    float max, base, log2, rounder, rest;
};

#define FL_ROUNDER_F32 12582912.0f

FL_INLINE struct fl_shift_f32 fl_shift_of_f32(float max)
{
    struct fl_shift_f32 shift;
    /* From 176 on the difference of two relevant logits is exact (Sterbenz), and from 4096 on the plain difference
     * is used. */
    const float base = fabsf(max) <= 4096.0f ? 0.0f : max, near = max - base;
    const float n = FL_FMA_F32(near, FL_LOG2_E, FL_ROUNDER_F32) - FL_ROUNDER_F32;
    shift.max = max;
    shift.base = base;
    shift.log2 = near * FL_LOG2_E;
    shift.rounder = FL_ROUNDER_F32 - n;
    shift.rest = fl_log2_rest_f32(near, n);
    return shift;
}

/* exp(x - max), float, as exact as with an unrounded difference: half an ulp of the difference is 1e-6 at -30.
 * Range: x <= max; 0 where the difference is below -87.33 and the true value leaves the normal range (it is under
 *        1.2e-38); exactly 1 at the maximum, 0 at -inf; NaN where x or max is NaN.
 * Largest relative error: 2.1e-7 (max = 0: every float in the range was tried).
 *
 * With max log2(e) = n_max + rest, an integer and a remainder, the power of two is n = round((x - max) log2(e)) and
 * the fraction f = (x log2(e) - (n + n_max)) - rest, in which nothing large is rounded. Adding 1.5 * 2^23 rounds to
 * an integer in the low bits of the sum: no rounding instruction is needed, and those bits, shifted into the
 * exponent, are 2^n. The polynomial is minimax for the relative error of 2^f on |f| <= 1/2 (9.2e-8), its first
 * coefficient held at 1. */
FL_INLINE float fl_exp_difference_f32(float x, struct fl_shift_f32 shift)
{
    const float difference = x - shift.max, near = x - shift.base;
    const float shifted = FL_FMA_F32(near, FL_LOG2_E, -shift.log2) + FL_ROUNDER_F32;
    const float rest = fl_log2_rest_f32(near, shifted - shift.rounder) - shift.rest;
    const float f = FL_FMA_F32(difference, FL_LOG2_E_LOW, rest);
    const float scale = fl_float_from_bits((fl_bits_from_float(shifted) << 23) + 0x3f800000u);
    float p = 0.0013264656299725175f;
    p = FL_FMA_F32(p, f, 0.00967156607657671f);
    p = FL_FMA_F32(p, f, 0.055507343262434006f);
    p = FL_FMA_F32(p, f, 0.24022240936756134f);
    p = FL_FMA_F32(p, f, 0.6931470036506653f);
    p = FL_FMA_F32(p, f, 1.0f);
    return difference < -87.33f ? 0.0f : p * scale;
}

FL_INLINE float fl_exp_nonpositive_f32(float x) { return fl_exp_difference_f32(x, fl_shift_of_f32(0.0f)); }

/* The reduction of x, double, x <= 0, by multiples of ln 2: exp(x) = scale * (1 + r + r * r * q). As above, but base
 * e: ln 2 is split so that n * high is exact, and q interpolates at Chebyshev nodes (1.7e-17). Its odd and even terms
 * are added apart: a loop waits half as long for them (0.9 of the time of elementwise losses, 0.97 of softmax). */
struct fl_reduced {
    double scale, r, q;
};

FL_INLINE struct fl_reduced fl_reduce_f64(double x)
{
    const double rounder = 6755399441055744.0;
    const double log2_e = 1.4426950408889634, ln2_high = 0.6931471803691238, ln2_low = 1.9082149292705877e-10;
    struct fl_reduced out;
    double shifted = FL_FMA_F64(x, log2_e, rounder);
    double n = shifted - rounder;
    double r = FL_FMA_F64(n, -ln2_low, FL_FMA_F64(n, -ln2_high, x));
    const double square = r * r;
    double odd = 2.5100424157005066788e-8, even = 2.7620138719973995569e-7;
    odd = FL_FMA_F64(odd, square, 2.7557268378684192873e-6);
    even = FL_FMA_F64(even, square, 2.4801521190217727651e-5);
    odd = FL_FMA_F64(odd, square, 1.9841269863105968748e-4);
    even = FL_FMA_F64(even, square, 1.3888888917881793308e-3);
    odd = FL_FMA_F64(odd, square, 8.3333333333300513464e-3);
    even = FL_FMA_F64(even, square, 4.1666666666623991516e-2);
    odd = FL_FMA_F64(odd, square, 1.6666666666666667456e-1);
    even = FL_FMA_F64(even, square, 0.5);
    const double q = FL_FMA_F64(odd, r, even);
    out.scale = fl_double_from_bits((fl_bits_from_double(shifted) << 52) + 0x3ff0000000000000u);
    out.r = r;
    out.q = q;
    return out;
}

/* exp(x), double.
 * Range: x <= 700; 0 below -708.39, where the true value leaves the normal range; NaN gives NaN.
 * Largest error, x <= 0: 1.7 ulp with a fused multiply-add, 2.0 without. */
FL_INLINE double fl_exp_nonpositive_f64(double x)
{
    struct fl_reduced y = fl_reduce_f64(x);
    double p = FL_FMA_F64(FL_FMA_F64(y.q, y.r, 1.0), y.r, 1.0);
    return x < -708.39 ? 0.0 : p * y.scale;
}

/* exp(x) - 1, double. Range and errors as exp; a tiny x keeps its digits. */
FL_INLINE double fl_expm1_nonpositive_f64(double x)
{
    struct fl_reduced y = fl_reduce_f64(x);
    double m = FL_FMA_F64(y.q * y.r, y.r, y.r);
    return x < -708.39 ? -1.0 : FL_FMA_F64(y.scale, m, y.scale - 1.0);
}

/* exp(x - max), double. The rounding error of the difference is negligible here: 1e-14 where |x - max| is 90. */
struct fl_shift_f64 {
    double max;
};

FL_INLINE struct fl_shift_f64 fl_shift_of_f64(double max)
{
    const struct fl_shift_f64 shift = {max};
    return shift;
}

FL_INLINE double fl_exp_difference_f64(double x, struct fl_shift_f64 shift)
{
    return fl_exp_nonpositive_f64(x - shift.max);
}

/* q(f) of 2^f = 1 + f q(f) for |f| <= 1/2, float, interpolated at Chebyshev nodes (9.2e-9 of 2^f). */
FL_INLINE float fl_exp2_quotient_f32(float f)
{
    float q = 0.0001545316294512069f;
    q = FL_FMA_F32(q, f, 0.0013390863364671234f);
    q = FL_FMA_F32(q, f, 0.0096180825572778515f);
    q = FL_FMA_F32(q, f, 0.055503571142190778f);
    q = FL_FMA_F32(q, f, 0.24022650760568127f);
    return FL_FMA_F32(q, f, 0.69314718802622878f);
}

/* c log2(e) as a sum, so that its product with x is not rounded before the integer is subtracted. With a fused
 * multiply-add high is the whole rounded, else it has 12 bits, for an exact product with 12 bits of x. */
#define FL_LOG2_E_F64 1.4426950408889634
static inline struct fl_rate_f32 fl_rate_of_f32(double c)
{
    const double exact = FL_LOG2_E_F64 * c;
    struct fl_rate_f32 rate;
    rate.whole = rate.high = (float)exact;
#ifndef FL_HAS_FMA
    rate.high = fl_float_from_bits(fl_bits_from_float(rate.whole) & 0xfffff000u);
#endif
    rate.low = (float)(exact - (double)rate.high);
    return rate;
}

/* c log2(e) x - n. */
FL_INLINE float fl_rate_rest_f32(float x, float n, struct fl_rate_f32 c)
{
#ifdef FL_HAS_FMA
    return FL_FMA_F32(x, c.low, FL_FMA_F32(x, c.high, -n));
#else
    const float head = fl_float_from_bits(fl_bits_from_float(x) & 0xfffff000u), tail = x - head;
    return (head * c.high - n) + (tail * c.whole + head * c.low);
#endif
}

/* ---- for the elementwise losses: any argument, slightly more accurate ---- */

/* 2^f - 1 for |f| <= 1/2, float. */
FL_INLINE float fl_exp2_minus_one_f32(float f) { return fl_exp2_quotient_f32(f) * f; }

/* 2^(n + f) as fraction times other: 2^n in two halves, one of which is in the fraction, without a condition. So
 * neither overflows or vanishes where only their product would. */
struct fl_halves_f32 {
    float fraction, other;
};

FL_INLINE struct fl_halves_f32 fl_halves_of_f32(float n, float f)
{
    const float m = fl_exp2_minus_one_f32(f);
    const float shifted = n * 0.5f + FL_ROUNDER_F32, rest = (n - (shifted - FL_ROUNDER_F32)) + FL_ROUNDER_F32;
    const float scale = fl_float_from_bits((fl_bits_from_float(shifted) << 23) + 0x3f800000u);
    const float other = fl_float_from_bits((fl_bits_from_float(rest) << 23) + 0x3f800000u);
    const struct fl_halves_f32 halves = {m * scale + scale, other};
    return halves;
}

FL_INLINE struct fl_halves_f32 fl_exp_halves_f32(float x)
{
    const float n = FL_FMA_F32(x, FL_LOG2_E, FL_ROUNDER_F32) - FL_ROUNDER_F32;
    return fl_halves_of_f32(n, FL_FMA_F32(x, FL_LOG2_E_LOW, fl_log2_rest_f32(x, n)));
}

/* exp(x), float. Any x; 0 below -87.33, where the true value leaves the normal range; inf where it is.
 * Largest error: 1.6 ulp. n is added to the exponent of 2^f, which leaves the normal range only with the value: 2^n
 * alone would for n = 128. */
FL_INLINE float fl_exp_f32(float x)
{
    const float shifted = FL_FMA_F32(x, FL_LOG2_E, FL_ROUNDER_F32);
    const float rest = fl_log2_rest_f32(x, shifted - FL_ROUNDER_F32);
    const float power = fl_exp2_minus_one_f32(FL_FMA_F32(x, FL_LOG2_E_LOW, rest)) + 1.0f;
    const float value = fl_float_from_bits(fl_bits_from_float(power) + (fl_bits_from_float(shifted) << 23));
    const float known = fl_choose_f32(x == x, value, x);
    return fl_choose_f32(x < -87.33f, 0.0f, fl_choose_f32(x > 88.72283f, (float)INFINITY, known));
}

/* t exp(x) without the overflow of an exponential whose product is finite. For t = 0 it is 0 for any x. Largest
 * error: 2.1 ulp; infinite where x exceeds 176 (double: 1418), where only a subnormal t would give a finite
 * product. */
FL_INLINE float fl_times_exp_f32(float t, float x)
{
    const struct fl_halves_f32 e = fl_exp_halves_f32(x);
    const float value = e.fraction * t * e.other;
    const float high = t * (float)INFINITY, capped = x > 176.0f ? high : value, low = t * 0.0f;
    const float product = x < -174.0f ? low : capped;
    return fl_choose_f32(t == 0.0f, fl_choose_f32(x == x, 0.0f, x), product);
}

/* The same for x <= 0, where 2^n needs no halves, and vanishes for n = -127, where -x is held: a minimum costs
 * nothing beside products. Largest error: 1.6 ulp (float, down to -87.33; 0 from -87.7 on), 1.7 ulp (double, 2.0
 * without a fused multiply-add). */
FL_INLINE float fl_exp_down_f32(float x)
{
    const float size = -x, held = size > 88.03f ? 88.03f : size;
    const float shifted = FL_FMA_F32(held, -FL_LOG2_E, FL_ROUNDER_F32);
    const float rest = fl_log2_rest_f32(-held, shifted - FL_ROUNDER_F32);
    const float m = fl_exp2_minus_one_f32(FL_FMA_F32(-held, FL_LOG2_E_LOW, rest));
    const float scale = fl_float_from_bits((fl_bits_from_float(shifted) << 23) + 0x3f800000u);
    return FL_FMA_F32(m, scale, scale);
}

FL_INLINE double fl_exp_down_f64(double x) { return fl_exp_nonpositive_f64(x); }

/* exp(x) - 1, float, x <= 0. Largest error: 2.5 ulp; a tiny x keeps its digits. */
FL_INLINE float fl_expm1_nonpositive_f32(float x)
{
    const float size = -x, held = size > 88.03f ? 88.03f : size;
    const float shifted = FL_FMA_F32(held, -FL_LOG2_E, FL_ROUNDER_F32);
    const float rest = fl_log2_rest_f32(-held, shifted - FL_ROUNDER_F32);
    const float m = fl_exp2_minus_one_f32(FL_FMA_F32(-held, FL_LOG2_E_LOW, rest));
    const float scale = fl_float_from_bits((fl_bits_from_float(shifted) << 23) + 0x3f800000u);
    return FL_FMA_F32(scale, m, scale - 1.0f);
}

struct fl_halves_f64 {
    double fraction, other;
};

FL_INLINE struct fl_halves_f64 fl_exp_halves_f64(double x)
{
    const double rounder = 6755399441055744.0;
    const struct fl_reduced y = fl_reduce_f64(x);
    const double p = FL_FMA_F64(FL_FMA_F64(y.q, y.r, 1.0), y.r, 1.0);
    const double n = FL_FMA_F64(x, 1.4426950408889634, rounder) - rounder;
    const double shifted = n * 0.5 + rounder, rest = (n - (shifted - rounder)) + rounder;
    const double scale = fl_double_from_bits((fl_bits_from_double(shifted) << 52) + 0x3ff0000000000000u);
    const double other = fl_double_from_bits((fl_bits_from_double(rest) << 52) + 0x3ff0000000000000u);
    const struct fl_halves_f64 halves = {p * scale, other};
    return halves;
}

/* exp(x), double. Any x; 0 below -708.39, inf where it overflows. Largest error: 2.0 ulp. As fl_exp_f32. */
FL_INLINE double fl_exp_f64(double x)
{
    const double capped = x > 710.0 ? 710.0 : x;
    const struct fl_halves_f64 e = fl_exp_halves_f64(capped);
    const double value = e.fraction * e.other;
    return x < -708.39 ? 0.0 : value;
}

/* t exp(x), double: as fl_times_exp_f32. Largest error: 2.5 ulp. */
FL_INLINE double fl_times_exp_f64(double t, double x)
{
    const struct fl_halves_f64 e = fl_exp_halves_f64(x);
    const double value = e.fraction * t * e.other;
    const double high = t * (double)INFINITY, capped = x > 1418.0 ? high : value, low = t * 0.0;
    const double product = x < -1416.0 ? low : capped;
    return fl_choose_f64(t == 0.0, fl_choose_f64(x == x, 0.0, x), product);
}

/* tanh(x), double. Any x. Largest error: 4 ulp, so that a softcap far
 * above the logits keeps their digits.
 */
FL_INLINE double fl_tanh_f64(double x)
{
    double m = fl_expm1_nonpositive_f64(-2.0 * fabs(x));
    return copysign(m / (2.0 + m), x);
}

/* 1 - tanh(x)^2 without cancellation, double. Any x. Largest error: 5 ulp while x^2 < 300. */
FL_INLINE double fl_sech_squared_f64(double x)
{
    double q = fl_exp_nonpositive_f64(-2.0 * fabs(x));
    return 4.0 * q / ((1.0 + q) * (1.0 + q));
}

/* Both of them, from one exponential and one quotient. Range and errors as above, but 5 and 6 ulp. */
struct fl_bend {
    double tanh, slope;
};

FL_INLINE struct fl_bend fl_bend_of_f64(double x)
{
    const double y = -2.0 * fabs(x);
    const struct fl_reduced reduced = fl_reduce_f64(y);
    const double rest = FL_FMA_F64(reduced.q * reduced.r, reduced.r, reduced.r);
    const double m = y < -708.39 ? -1.0 : FL_FMA_F64(reduced.scale, rest, reduced.scale - 1.0);
    const double q = y < -708.39 ? 0.0 : FL_FMA_F64(reduced.scale, rest, reduced.scale), over = 1.0 / (2.0 + m);
    const struct fl_bend bend = {copysign(m * over, x), 4.0 * q * over * over};
    return bend;
}

#endif
