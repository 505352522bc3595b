/* Plain rows of two classes in float, as they lie in memory: class targets without weights, smoothing or z-loss. See
 * short_rows.h, whose columns take all other rows of two classes. The results are those of short_pairs, short_scale
 * and short_finish, to the bit, in two loops instead of nine. (Measured: half of the time, on one thread and two.) */
#ifndef FASTLOSS_SHORT_TWO_H
#define FASTLOSS_SHORT_TWO_H

#include "short_flat.h"

/* Whether a job has such rows only. */
static int short_is_two(const struct fl_softmax_job *job, const struct short_terms *terms)
{
    const struct fl_array *x = &job->rows.input, *out = &job->rows.output;
    return job->rows.classes == 2 && job->operation == FL_CROSS_ENTROPY && job->targets.index &&
           short_is_plain(job, terms) && job->focusing.kind == FL_UNFOCUSED && !job->hessian.data &&
           !job->rows.accumulate && x->dtype == FL_FLOAT32 && short_is_packed(x, 2) &&
           (!out->data || (out->dtype == FL_FLOAT32 && short_is_packed(out, 2)));
}

/* Between both loops. A chain over both is longer than what a processor can reorder. */
struct short_two {
    float q[FL_GROUP], n[FL_GROUP], f[FL_GROUP];
    int32_t is_seldom[FL_GROUP];
};

/* The exponentials of a whole group; returns whether a row is odd. */
FL_OUTLINE int short_two_exps(const struct short_power *shared, const float *x, const struct short_rows *r,
                              struct short_two *two)
{
    const struct short_power power = *shared;
    int odd = 0;
    for (int part = 0, first = 0; part < FL_PARTS; part++, first += FL_LANES) {
        const int32_t *skip = r[part].skip;
        const float *of_part = x + 2 * first;
#pragma omp simd reduction(| : odd)
        for (int l = 0; l < FL_LANES; l++) {
            const struct short_pair y = short_pair_of(power, of_part[2 * l], of_part[2 * l + 1], skip[l]);
            two->q[first + l] = short_pair_exp(y.f, y.scale);
            two->n[first + l] = y.n;
            two->f[first + l] = y.f;
            two->is_seldom[first + l] = y.is_seldom;
            odd |= short_pair_is_odd(y.n);
        }
    }
    return odd;
}

/* The losses, and the gradients if there is an output. */
FL_OUTLINE void short_two_finish(float scale, const struct short_two *two, float *out, struct short_rows *r)
{
    for (int part = 0, first = 0; part < FL_PARTS; part++, first += FL_LANES) {
        const int32_t *skip = r[part].skip, *ignored = r[part].ignored;
        double *loss = r[part].loss;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const int i = first + l;
            const double value =
                short_pair_loss(fl_log1p_unit_f32(two->q[i]), two->n[i], two->f[i], two->is_seldom[i]);
            loss[l] = ignored[l] ? 0.0 : value;
        }
        if (!out) continue;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const float q = two->q[first + l], over = 1.0f / (1.0f + q), less = q * over;
            const float u = two->is_seldom[first + l] ? over : less, share = ignored[l] ? 0.0f : scale;
            const float other = u * share, own = ignored[l] ? 0.0f : 0.0f - scale * u;
            out[2 * (first + l)] = skip[l] ? other : own;
            out[2 * (first + l) + 1] = skip[l] ? own : other;
        }
    }
}

/* A whole group; returns 0, and has written nothing, if a row is odd. */
static int short_two(const struct fl_softmax_job *job, const struct short_power *power, struct fl_group group,
                     struct short_rows *r)
{
    const float *x = (const float *)(const void *)job->rows.input.data + 2 * group.first;
    float *out = (float *)(void *)job->rows.output.data;
    struct short_two two;
    for (int part = 0; part < FL_PARTS; part++) short_targets(&job->targets, group, part, &r[part]);
    if (short_two_exps(power, x, r, &two)) return 0;
    short_two_finish((float)(job->rows.grad_scale * power->over_temperature), &two,
                     out ? out + 2 * group.first : NULL, r);
    return 1;
}

#endif
