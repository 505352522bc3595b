/* The focal factor of a cross-entropy with a class target, from what its settlement has.
 *
 * With p the probability of the target, u = 1 - p and l = -log p, a row of the focal loss is u^g l. As dl/dz_j = p_j
 * - (j = y) and du/dz_j = p (p_j - (j = y)), its gradient is that of the cross-entropy times a number:
 *
 *   d(u^g l)/dz_j = (u^g + g u^(g-1) p l) (p_j - (j = y)) = u^g (1 + g p l / u) (p_j - (j = y))
 *
 * u is the sum of the others over the total, without 1 - p, and l its log1p: l / u >= 1 keeps its digits, and is 1 in
 * the limit u = 0. Where p is 0, l may be infinite; p l is 0 there. */
#ifndef FASTLOSS_FOCUS_H
#define FASTLOSS_FOCUS_H

#include "compound.h"

/* The factors of the loss and of its gradient. */
struct fl_focus {
    double loss, gradient;
};

FL_INLINE struct fl_focus fl_focus_of_power(double gamma, double power, double u, double p, double surprise)
{
    const double ratio = fl_choose_f64(u > 0.0, surprise / u, 1.0), steep = gamma * p * ratio;
    const double factor = fl_choose_f64(p > 0.0, 1.0 + steep, 1.0);
    const struct fl_focus both = {power, fl_choose_f64(power == 0.0, 0.0, power * factor)};
    return both;
}

/* In double. The error of a logarithm is absolute, so u near 1 goes to that of p. */
FL_INLINE struct fl_focus fl_focus_f64(double gamma, double u, double p, double surprise)
{
    const double near = fl_log1p_f64(-p), far = fl_log_f64(u), log_u = fl_choose_f64(p < 0.5, near, far);
    const double power = fl_choose_f64(u > 0.0, fl_exp_f64(gamma * log_u), 0.0);
    return fl_focus_of_power(gamma, power, u, p, surprise);
}

/* For u and p with the errors of float, which the power magnifies by gamma. */
FL_INLINE struct fl_focus fl_focus_f32(double gamma, double u, double p, double surprise)
{
    const double y = gamma * fl_log2_near(u), power = y < -1000.0 ? 0.0 : fl_exp2_near(y < -1000.0 ? -1000.0 : y);
    return fl_focus_of_power(gamma, fl_choose_f64(u > 0.0, power, 0.0), u, p, surprise);
}

#endif
