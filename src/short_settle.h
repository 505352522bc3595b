/* Short rows in float: the settlement of a row from its sums. See short_rows.h. */
#ifndef FASTLOSS_SHORT_SETTLE_H
#define FASTLOSS_SHORT_SETTLE_H

#include "focus.h"
#include "short_sums.h"

/* Whether a result has the logarithm of the sum of a row. */
static inline int short_has_lse(const struct fl_softmax_job *job)
{
    return job->z_loss != 0.0 || job->operation == FL_LOGSUMEXP;
}

/* Whether one factor serves all rows, and the loss is the cross-entropy alone. */
static inline int short_is_plain(const struct fl_softmax_job *job, const struct short_terms *terms)
{
    return !job->targets.class_weight && !job->targets.sample_weight && !job->rows.grad_output &&
           !short_has_lse(job) && !terms->has_mass && job->map.softcap == 0.0;
}

/* For weight 1: the losses; 1 / S as the share, and u as the gradient at skip. In stages over all parts, because one
 * chain of operations is longer than what a processor can reorder. (Measured for two classes: half of the time.) */
FL_OUTLINE void short_settle(const struct short_power *shared, int parts, struct short_rows *r)
{
    const double ln2 = 0.6931471805599453;
    const struct short_power power = *shared;
    for (struct short_rows *p = r; p < r + parts; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            struct short_parts y = short_parts_of(power, p->at_skip[l], p->shift[l]);
            y.f = FL_FMA_F32(p->low[l], power.rate.whole, y.f);
            p->t[l] = p->at_skip[l] < p->least[l] ? 0.0f : short_exp(y);
            p->n[l] = y.n;
            p->f[l] = y.f;
        }
    for (struct short_rows *p = r; p < r + parts; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float total = p->rest[l] + p->t[l], over_total = 1.0f / total, u = p->rest[l] * over_total;
            const float c = (FL_ROUNDER_F32 + 127.0f) - p->shift[l];
            const uint32_t bits = fl_bits_from_float(total) - 0x3f3504f3u;
            const float m = fl_float_from_bits((bits & 0x007fffffu) + 0x3f3504f3u);
            const float k = (float)((int32_t)bits >> 23) + c;
            const int likely = u <= 0.5f, twice = u > 0.29289f;
            const float near = twice ? 1.0f - 2.0f * u : -u, one = twice ? 1.0f : 0.0f;
            p->argument[l] = likely ? near : m - 1.0f;
            p->twos[l] = likely ? one : k - p->n[l];
            p->powers[l] = likely ? one : k;
            p->added[l] = likely ? p->at_skip[l] : 0.0f;
            p->low[l] = likely ? p->low[l] : 0.0f;
            p->share[l] = over_total;
            p->skipped[l] = u;
            p->odd[l] = !(fabsf(c) <= FL_LARGEST_POWER) | !(fabsf(p->n[l]) <= FL_LARGEST_POWER) | !(total <= 1e30f);
        }
    for (struct short_rows *p = r; p < r + parts; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float log = fl_log1p_near_f32(p->argument[l]);
            const float beyond = p->skipped[l] <= 0.5f ? -log : log;
            const float fraction = p->skipped[l] <= 0.5f ? -log : FL_FMA_F32(p->f[l], -0.693147182f, log);
            p->beyond[l] = beyond;
            p->loss[l] = (double)p->twos[l] * ln2 + (double)fraction;
        }
}

/* The log-sum-exps after a settlement. */
static void short_lse(const struct short_power *power, int parts, struct short_rows *r)
{
    const double ln2 = 0.6931471805599453, over_temperature = power->over_temperature;
    for (struct short_rows *p = r; p < r + parts; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++)
            p->lse[l] = ((double)p->added[l] + (double)p->low[l]) * over_temperature +
                        ((double)p->powers[l] * ln2 + (double)p->beyond[l]);
}

/* Two classes with a target, in place of steps 1 to 3. With the difference d of the other input and that at the
 * target, as an exact pair, and q = exp(-|d| / T) from 0 to 1:
 *
 *   loss = max(d, 0) / T + log1p(q),   u = 1 / (1 + q) if d > 0, else q / (1 + q)
 */
struct short_pair {
    float at_skip, larger, n, f, scale; /* -|d| b = n + f; 2^n, or 0 */
    int is_seldom;                      /* d > 0 */
};

FL_INLINE struct short_pair short_pair_of(struct short_power power, float first, float second, int32_t skip)
{
    const float at_skip = skip ? second : first, other = skip ? first : second;
    const float d = other - at_skip, back = d - other, lost = (other - (d - back)) - (at_skip + back);
    const float down = d > 0.0f ? -d : d, lower = d > 0.0f ? -lost : lost;
    const struct short_parts y = short_parts_of(power, down, FL_ROUNDER_F32 + 127.0f);
    struct short_pair pair;
    pair.at_skip = at_skip;
    pair.larger = d > 0.0f ? other : at_skip;
    pair.n = y.n;
    pair.f = FL_FMA_F32(lower, power.rate.whole, y.f);
    pair.scale = down < -power.range ? 0.0f : fl_float_from_bits(fl_bits_from_float(y.shifted) << 23);
    pair.is_seldom = d > 0.0f;
    return pair;
}

FL_INLINE int short_pair_is_odd(float n) { return !(fabsf(n) <= FL_LARGEST_POWER); }

/* q. */
FL_INLINE float short_pair_exp(float f, float scale) { return FL_FMA_F32(fl_exp2_minus_one_f32(f), scale, scale); }

/* The loss, from log1p(q). */
FL_INLINE double short_pair_loss(float log, float n, float f, int is_seldom)
{
    const double ln2 = 0.6931471805599453;
    const float twos = is_seldom ? -n : 0.0f, fraction = is_seldom ? FL_FMA_F32(f, -0.693147182f, log) : log;
    return (double)twos * ln2 + (double)fraction;
}

/* All of that for a group. The columns become u at the other class, and the shares 1. */
FL_OUTLINE void short_pairs(const struct short_power *shared, struct fl_group group, float *x, struct short_rows *r)
{
    const struct short_power power = *shared;
    struct short_rows *const end = r + group.parts;
    float *columns = x;
    for (struct short_rows *p = r; p < end; p++, columns += group.step)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const struct short_pair y = short_pair_of(power, columns[l], columns[l + FL_LANES], p->skip[l]);
            p->n[l] = y.n;
            p->f[l] = y.f;
            p->scale[l] = y.scale;
            p->added[l] = y.larger;
            p->at_skip[l] = y.at_skip;
            p->low[l] = 0.0f;
            p->seldom[l] = y.is_seldom;
            p->odd[l] = short_pair_is_odd(y.n);
        }
    for (struct short_rows *p = r; p < end; p++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float q = short_pair_exp(p->f[l], p->scale[l]);
            const float over = 1.0f / (1.0f + q), less = q * over;
            p->argument[l] = q;
            p->skipped[l] = p->seldom[l] ? over : less;
            p->t[l] = p->seldom[l] ? less : over;
            p->rest[l] = p->skipped[l];
            p->share[l] = 1.0f;
            p->powers[l] = 0.0f;
            p->least[l] = -FLT_MAX;
        }
    columns = x;
    for (struct short_rows *p = r; p < end; p++, columns += group.step) {
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float log = fl_log1p_unit_f32(p->argument[l]);
            p->beyond[l] = log;
            p->loss[l] = short_pair_loss(log, p->n[l], p->f[l], p->seldom[l]);
        }
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            columns[l] = p->skip[l] ? p->skipped[l] : 0.0f;
            columns[l + FL_LANES] = p->skip[l] ? 0.0f : p->skipped[l];
        }
    }
}

/* Factors of the rows of a part: class weight, sample weight, and upstream gradient over the temperature. A row
 * without weight has factors of 0, so that its loss and gradient are 0. */
struct short_factors {
    double weight[FL_LANES], sample[FL_LANES], scale[FL_LANES];
};

FL_OUTLINE void short_factors(const struct fl_softmax_job *job, const struct short_terms *terms,
                              double over_temperature, struct fl_group group, int part, const struct short_rows *r,
                              struct short_factors *factors)
{
    const struct fl_targets *targets = &job->targets;
    const double mass = terms->has_mass ? terms->even * terms->weights : 0.0;
    const double *class_weight = targets->index ? targets->class_weight : NULL;
    const double scale = job->rows.grad_scale * over_temperature;
    if (!class_weight && !targets->sample_weight && !job->rows.grad_output) {
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            factors->weight[l] = 1.0;
            factors->sample[l] = r->ignored[l] ? 0.0 : 1.0;
            factors->scale[l] = r->ignored[l] ? 0.0 : scale;
        }
        return;
    }
    for (int l = 0; l < FL_LANES; l++) {
        const ptrdiff_t row = fl_row_of_lane(group, part * FL_LANES + l);
        const double weight = class_weight ? class_weight[r->skip[l]] : 1.0;
        const double sample = targets->sample_weight ? targets->sample_weight[row] : 1.0;
        const int counts = !r->ignored[l] && (weight != 0.0 || mass != 0.0) && sample != 0.0;
        factors->weight[l] = weight;
        factors->sample[l] = counts ? sample : 0.0;
        factors->scale[l] = counts ? sample * fl_upstream(&job->rows, row) * over_temperature : 0.0;
    }
}

/* A, A - a at skip, a at skip, and the sum of a_j (z_skip - z_j). A row whose sum is not finite is odd. */
struct short_masses {
    double all[FL_LANES], rest[FL_LANES], at_skip[FL_LANES], deviation[FL_LANES];
};

FL_OUTLINE void short_masses(const struct short_terms *shared, double over_temperature, const double *weight,
                             struct short_rows *r, struct short_masses *mass)
{
    const struct short_terms terms = *shared;
    if (!terms.is_given)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            r->a_skip[l] = terms.even * weight[l];
            r->mass_rest[l] = terms.even * (terms.weights - weight[l]);
            r->dot[l] *= terms.even;
        }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const double rest = r->mass_rest[l], at = r->a_skip[l], all = rest + at;
        const double deviation = (all * (double)r->at_skip[l] - r->dot[l]) * over_temperature;
        mass->all[l] = all;
        mass->rest[l] = rest;
        mass->at_skip[l] = at;
        mass->deviation[l] = deviation;
        r->odd[l] |= !(fabs(deviation) <= DBL_MAX);
    }
}

/* The results of a row that has factors. Without has_mass the masses are 0, without has_z the z-loss is. (Measured
 * with class weights: one loop for all takes a fifth of the whole time longer.) */
FL_INLINE void short_combine(const struct short_terms *terms, double z_loss, double over_temperature,
                             const struct short_factors *factors, const struct short_masses *mass,
                             struct short_rows *r, int has_mass, int has_z)
{
    const double own_share = terms->own, even = terms->is_given ? 1.0 : terms->even;
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const double weight = factors->weight[l], scale = factors->scale[l], sample = factors->sample[l];
        const double own = own_share * weight, all = has_mass ? own + mass->all[l] : own;
        /* A Newton step to 1 / S in double, as the errors of slopes and, where the gradient is small, of a_j are
         * added. */
        const double others = (double)r->rest[l], at_skip = (double)r->t[l], estimate = (double)r->share[l];
        const double over_total = estimate * (2.0 - (others + at_skip) * estimate);
        const double u = others * over_total, p = at_skip * over_total;
        const double likely = has_mass ? mass->rest[l] - all * u : 0.0 - all * u;
        const double seldom = has_mass ? all * p - own - mass->at_skip[l] : 0.0 - all * u;
        const double lse = has_z ? r->lse[l] : 0.0, spread = has_z ? 2.0 * weight * z_loss * lse : 0.0;
        const double whole = has_z ? all + spread : all, slope = u <= 0.5 ? likely : seldom;
        const double main = has_mass ? all * r->loss[l] + mass->deviation[l] : all * r->loss[l];
        const double loss = has_z ? main + weight * z_loss * lse * lse : main, product = sample * loss;
        r->over_total[l] = (float)over_total;
        r->unlikely[l] = (float)u;
        /* 0.0 + makes -0 0: a row without weight has the bits of 0. */
        r->curve[l] = (float)(0.0 + scale * whole * over_temperature);
        r->share[l] = (float)(0.0 + scale * whole * over_total);
        r->skipped[l] = (float)(0.0 + scale * (has_z ? slope + spread * p : slope));
        r->rate[l] = (float)(scale * even);
        r->bend[l] = (float)(scale * weight * 2.0 * z_loss * over_temperature);
        r->loss[l] = sample == 0.0 ? 0.0 : product;
    }
}

/* Upstream gradients where all rows have the same weight. */
FL_INLINE void short_scale(const struct fl_softmax_job *job, double over_temperature, struct short_rows *r)
{
    const float scale = (float)(job->rows.grad_scale * over_temperature);
    const float curve = (float)(job->rows.grad_scale * over_temperature * over_temperature);
    if (job->hessian.data)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            r->over_total[l] = r->share[l];
            r->unlikely[l] = r->skipped[l];
            r->curve[l] = r->ignored[l] ? 0.0f : curve;
            r->bend[l] = 0.0f;
        }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        r->share[l] = r->ignored[l] ? 0.0f : scale * r->share[l];
        r->skipped[l] = r->ignored[l] ? 0.0f : 0.0f - scale * r->skipped[l];
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) r->loss[l] = r->ignored[l] ? 0.0 : r->loss[l];
}

/* Weights, upstream gradients, smoothing or probabilities, a z-loss, and the factors of the hessian. With
 * own = (1 - eps) w at a class target, else 0, and K = own + A,
 *
 *   loss = s [K (lse - z_skip) + sum_j a_j (z_skip - z_j) + w l lse^2]
 *
 * where K's factor has the digits of a confident row, and the other sum is exact but for the rounding of double. */
FL_OUTLINE void short_weigh(const struct fl_softmax_job *job, const struct short_terms *terms,
                            double over_temperature, struct fl_group group, int part, struct short_rows *r)
{
    const double z_loss = job->z_loss;
    struct short_factors factors;
    struct short_masses mass;
    if (short_is_plain(job, terms)) {
        short_scale(job, over_temperature, r);
        return;
    }
    short_factors(job, terms, over_temperature, group, part, r, &factors);
    if (terms->has_mass) {
        short_masses(terms, over_temperature, factors.weight, r, &mass);
        if (z_loss != 0.0)
            short_combine(terms, z_loss, over_temperature, &factors, &mass, r, 1, 1);
        else
            short_combine(terms, z_loss, over_temperature, &factors, &mass, r, 1, 0);
    } else if (z_loss != 0.0) {
        short_combine(terms, z_loss, over_temperature, &factors, &mass, r, 0, 1);
    } else {
        short_combine(terms, z_loss, over_temperature, &factors, &mass, r, 0, 0);
    }
}

/* A second derivative, where q is 1 - p: see short_hessian. */
FL_INLINE float short_curvature(float p, float q, float curve, float bend) { return curve * p * q + bend * p * p; }

/* The functions of the cross-entropies of a settlement of weight 1, and the factors of their gradients. */
struct short_focus {
    double loss[FL_LANES], gradient[FL_LANES];
};

/* With a Newton step to 1 / S, as in short_combine. The square needs neither power nor division. */
FL_OUTLINE void short_focus(struct fl_focusing focusing, const struct short_rows *r, struct short_focus *focus)
{
    const double by = focusing.by;
    double u[FL_LANES], p[FL_LANES];
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const double others = (double)r->rest[l], at_skip = (double)r->t[l], estimate = (double)r->share[l];
        const double over_total = estimate * (2.0 - (others + at_skip) * estimate);
        u[l] = others * over_total;
        p[l] = at_skip * over_total;
    }
    if (focusing.kind == FL_FOCAL && by == 2.0)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            focus->loss[l] = u[l] * u[l] * r->loss[l];
            focus->gradient[l] = u[l] * (u[l] + 2.0 * p[l] * r->loss[l]);
        }
    else if (focusing.kind == FL_FOCAL)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const struct fl_focus both = fl_focal_of_f32(by, u[l], p[l], r->loss[l]);
            focus->loss[l] = both.loss;
            focus->gradient[l] = both.gradient;
        }
    else if (focusing.kind == FL_POLY)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const struct fl_focus both = fl_poly(by, u[l], p[l], r->loss[l]);
            focus->loss[l] = both.loss;
            focus->gradient[l] = both.gradient;
        }
    else
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const struct fl_focus both = fl_generalized_f32(by, r->loss[l]);
            focus->loss[l] = both.loss;
            focus->gradient[l] = both.gradient;
        }
}

/* Loss, gradient and weights of a job with a focusing. Class weights alone are factors here, without short_combine.
 */
FL_OUTLINE void short_weigh_focused(const struct fl_softmax_job *job, const struct short_terms *terms,
                                    double over_temperature, struct fl_group group, int part, struct short_rows *r)
{
    const double *class_weight = job->targets.class_weight;
    const int has_factors = job->targets.sample_weight || job->rows.grad_output;
    struct short_focus focus;
    short_focus(job->focusing, r, &focus);
    if (class_weight && !has_factors)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const double weight = class_weight[r->skip[l]];
            focus.loss[l] *= weight;
            focus.gradient[l] *= weight;
        }
    memcpy(r->loss, focus.loss, sizeof r->loss);
    if (has_factors)
        short_weigh(job, terms, over_temperature, group, part, r);
    else
        short_scale(job, over_temperature, r);
    /* 0.0 + makes -0 0, as in short_combine. */
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        r->share[l] = (float)(0.0 + (double)r->share[l] * focus.gradient[l]);
        r->skipped[l] = (float)(0.0 + (double)r->skipped[l] * focus.gradient[l]);
    }
}

/* The end of a settlement: of a cross-entropy, of a loss that is a function of it, of softmax or log-sum-exp. */
static inline void short_end(const struct fl_softmax_job *job, const struct short_terms *terms,
                             double over_temperature, struct fl_group group, int part, struct short_rows *r)
{
    if (job->operation == FL_SOFTMAX)
        for (int l = 0; l < FL_LANES; l++) r->skipped[l] = r->t[l] * r->share[l];
    else if (job->operation == FL_LOGSUMEXP)
        memcpy(r->loss, r->lse, sizeof r->loss);
    else if (job->operation == FL_CROSS_ENTROPY && job->focusing.kind != FL_UNFOCUSED)
        short_weigh_focused(job, terms, over_temperature, group, part, r);
    else if (job->operation == FL_CROSS_ENTROPY)
        short_weigh(job, terms, over_temperature, group, part, r);
}

#endif
