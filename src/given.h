/* Probabilities as targets of long rows in one pass, for fused.h.
 *
 * kernels.inc includes this file twice, after rows.h.
 *
 * Beside the sum of the exponentials a row needs sum_j a_j (x_j - reference), where the reference is a number near
 * the shift, and sum_j a_j, both in double. No class is left out of them, but where the largest probability exceeds
 * 1/2 (at most one does): the block with the maximum is summed once more without it, and the other sums are
 * converted. With r = max x - reference
 *
 *   sum_j a_j (z_j - max z) = [sum over the block, a_j (x_j - max x)
 *                              + sum over other blocks, a_j (x_j - reference) - r sum over other blocks, a_j] / T
 *
 * in which nothing cancels in a row of one certain class: it keeps the digits of a loss of 1e-13. */

/* a_j of n <= FL_STRIP classes, and 0 after them. */
FL_OUTLINE void FL_(given_load)(const struct fl_softmax_job *job, const char *p, ptrdiff_t first, ptrdiff_t n,
                                REAL *a)
{
    const struct fl_array *q = &job->targets.probabilities;
    for (ptrdiff_t l = n; l < FL_STRIP; l++) a[l] = 0;
    FL_(fl_load)(p, q->class_stride, q->dtype, a, n);
    if (job->targets.class_weight || job->targets.smoothing > 0.0) FL_(coefficients)(job, a, first, a, n);
}

/* The same, from `first`: in place, or in the buffer. */
FL_INLINE const REAL *FL_(given_of)(const struct fl_softmax_job *job, const char *probabilities, ptrdiff_t first,
                                    ptrdiff_t n, REAL *buffer)
{
    const struct fl_array *q = &job->targets.probabilities;
    const int is_plain = !job->targets.class_weight && job->targets.smoothing == 0.0;
    const char *p = probabilities + first * q->class_stride;
    if (n == FL_STRIP && is_plain && FL_(is_direct)(q)) return (const REAL *)(const void *)p;
    FL_(given_load)(job, p, first, n, buffer);
    return buffer;
}

/* Adds a_j (x_j - reference), in double, where float products are exact, and a_j to lanes. A class without weight
 * contributes 0, even at -inf. */
FL_INLINE void FL_(given_strip)(const REAL *x, const REAL *a, REAL reference, double *lane, double *mass)
{
    for (int k = 0; k < FL_STRIP; k += FL_STEP)
#pragma omp simd
        for (int l = 0; l < FL_STEP; l++) {
            const REAL value = a[k + l] == 0 ? reference : x[k + l];
            const double wide = (double)a[k + l];
            lane[l] = FL_FMA_F64(wide, (double)value - (double)reference, lane[l]);
            mass[l] += wide;
        }
}

/* The sums of a row from those of its blocks, its maximum, and the class left out: the maximum, or none. */
FL_OUTLINE void FL_(given_sums)(const struct fl_softmax_job *job, struct fl_softmax_row *row, struct FL_(sums) * sums)
{
    const ptrdiff_t blocks = FL_(blocks)(job), best = FL_(leave_out_top)(job, row, sums);
    const ptrdiff_t first = best * FL_BLOCK, n = best < 0 ? 0 : FL_(block_length)(job, best);
    const double over_temperature = fl_over(job->map.temperature);
    const double reference = (double)row->power.FL_(of).reference;
    REAL *a = FL_(buffer)(row, 2);
    const REAL *x;
    double rise;
    if (best < 0) {
        sums->mass_rest = FL_(sum_of_blocks)(row->partial, blocks, 3);
        sums->dot = FL_(sum_of_blocks)(row->partial, blocks, 2) * over_temperature +
                    sums->mass_rest * (reference * over_temperature - row->power.FL_(of).shift);
        return;
    }
    rise = row->at_skip - reference;
    x = FL_(block_of)(&job->rows.input, row->input, first, FL_(buffer)(row, 0), n);
    FL_(row_coefficients)(job, row, first, a, n);
    a[row->skip - first] = 0;
    sums->dot = FL_(sum_of_other_blocks)(row->partial, blocks, 2, best);
    sums->mass_rest = FL_(sum_of_other_blocks)(row->partial, blocks, 3, best);
    sums->dot = (sums->dot - rise * sums->mass_rest + FL_(block_dot)(a, x, row->at_skip, n)) * over_temperature;
    sums->mass_rest += FL_(block_sum)(a, n);
}
