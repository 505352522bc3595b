/* Losses f(l) of the cross-entropy l = -log p of a class target, from what its settlement has.
 *
 * With p the probability of the target and u = 1 - p, the gradient of such a loss is that of the cross-entropy times
 * f'(l), a number of the row. As du/dl = p,
 *
 *   focal loss:                f = u^g l,            f' = u^g + g u^(g-1) p l = u^g (1 + g p l / u)
 *   poly loss:                 f = l + e u,          f' = 1 + e p
 *   generalised cross-entropy: f = (1 - p^q) / q,    f' = p^q,   with p^q = exp(-q l)
 *
 * u is the sum of the others over the total, without 1 - p, and l its log1p: l / u >= 1 keeps its digits, and is 1 in
 * the limit u = 0. Where p is 0, l may be infinite; p l is 0 there. */
#ifndef FASTLOSS_FOCUS_H
#define FASTLOSS_FOCUS_H

#include "compound.h"
#include "kernels.h"

/* f(l) and f'(l). */
struct fl_focus {
    double loss, gradient;
};

FL_INLINE struct fl_focus fl_focal_of_power(double gamma, double power, double u, double p, double surprise)
{
    const double ratio = fl_choose_f64(u > 0.0, surprise / u, 1.0), steep = gamma * p * ratio;
    const double factor = fl_choose_f64(p > 0.0, 1.0 + steep, 1.0), product = power * surprise;
    const struct fl_focus both = {fl_choose_f64(power == 0.0, 0.0, product),
                                  fl_choose_f64(power == 0.0, 0.0, power * factor)};
    return both;
}

/* In double. The error of a logarithm is absolute, so u near 1 goes to that of p. */
FL_INLINE struct fl_focus fl_focal_of_f64(double gamma, double u, double p, double surprise)
{
    const double near = fl_log1p_f64(-p), far = fl_log_f64(u), log_u = fl_choose_f64(p < 0.5, near, far);
    const double power = fl_choose_f64(u > 0.0, fl_exp_f64(gamma * log_u), u);
    return fl_focal_of_power(gamma, power, u, p, surprise);
}

/* For u and p with the errors of float, which the power magnifies by gamma. */
FL_INLINE struct fl_focus fl_focal_of_f32(double gamma, double u, double p, double surprise)
{
    const double y = gamma * fl_log2_near(u), power = y < -1000.0 ? 0.0 : fl_exp2_near(y < -1000.0 ? -1000.0 : y);
    return fl_focal_of_power(gamma, fl_choose_f64(u > 0.0, power, 0.0), u, p, surprise);
}

/* l + e u = (1 + e) u + (l - u), whose terms have one sign for e >= -1. For u < 1/4 the difference is a series: with
 * s = u / (2 - u), l = 2 atanh(s) and u = 2 s / (1 + s), so
 *
 *   l - u = u (s + s^2 (1 + s) (1/3 + s^2 / 5 + s^4 / 7 + ...))
 *
 * s < 1/7, so what follows s^16 / 19 is less than 3e-17. Elsewhere the difference costs 3 bits. */
FL_INLINE struct fl_focus fl_poly(double epsilon, double u, double p, double surprise)
{
    const double s = u / (2.0 - u), t = s * s;
    double series = 1.0 / 19.0, excess, gradient;
    series = FL_FMA_F64(series, t, 1.0 / 17.0);
    series = FL_FMA_F64(series, t, 1.0 / 15.0);
    series = FL_FMA_F64(series, t, 1.0 / 13.0);
    series = FL_FMA_F64(series, t, 1.0 / 11.0);
    series = FL_FMA_F64(series, t, 1.0 / 9.0);
    series = FL_FMA_F64(series, t, 1.0 / 7.0);
    series = FL_FMA_F64(series, t, 1.0 / 5.0);
    series = FL_FMA_F64(series, t, 1.0 / 3.0);
    excess = fl_choose_f64(u < 0.25, u * (s + t * (1.0 + s) * series), surprise - u);
    gradient = fl_choose_f64(epsilon > 0.0, 1.0 + epsilon * p, (1.0 + epsilon) - epsilon * u);
    const struct fl_focus both = {(1.0 + epsilon) * u + excess, gradient};
    return both;
}

/* In double. l may be infinite. */
FL_INLINE struct fl_focus fl_generalized_f64(double q, double surprise)
{
    const double x = -q * surprise;
    const struct fl_focus both = {-fl_expm1_nonpositive_f64(x) / q, fl_exp_nonpositive_f64(x)};
    return both;
}

/* For l with the errors of float. Where q l is small, l times the series of (1 - exp(-z)) / z. */
FL_INLINE struct fl_focus fl_generalized_f32(double q, double surprise)
{
    const double z = q * surprise, y = z * -1.4426950408889634, held = y < -1000.0 ? -1000.0 : y;
    const double power = y < -1000.0 ? 0.0 : fl_exp2_near(held);
    double series = -1.0 / 720.0;
    series = FL_FMA_F64(series, z, 1.0 / 120.0);
    series = FL_FMA_F64(series, z, -1.0 / 24.0);
    series = FL_FMA_F64(series, z, 1.0 / 6.0);
    series = FL_FMA_F64(series, z, -0.5);
    series = FL_FMA_F64(series, z, 1.0);
    const struct fl_focus both = {fl_choose_f64(z < 0.125, surprise * series, (1.0 - power) / q), power};
    return both;
}

FL_INLINE struct fl_focus fl_focus_f64(struct fl_focusing focusing, double u, double p, double surprise)
{
    if (focusing.kind == FL_FOCAL) return fl_focal_of_f64(focusing.by, u, p, surprise);
    if (focusing.kind == FL_POLY) return fl_poly(focusing.by, u, p, surprise);
    return fl_generalized_f64(focusing.by, surprise);
}

#endif
