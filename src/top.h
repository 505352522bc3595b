/* Long rows without a class target in one pass: softmax, log-softmax and log-sum-exp, for fused.h.
 *
 * kernels.inc includes this file twice, after rows.h.
 *
 * No class is left out of the sum S of the exponentials, but where the largest probability exceeds 1/2 (at most one
 * does): then the block with the maximum is summed once more without it, so that the sum of the others keeps its
 * digits. With t the exponential of the maximum, relative to the same shift as S, and rest = S - t,
 *
 *   lse - max z = log1p(rest / t) where t > rest, else log S - (max z - shift)
 */

/* Leaves the maximum out of the sum of a row if its probability exceeds 1/2: its block is summed once more. Returns
 * that block, or -1. */
static ptrdiff_t FL_(leave_out_top)(const struct fl_softmax_job *job, struct fl_softmax_row *row,
                                    struct FL_(sums) * sums)
{
    const struct FL_(fl_power) power = row->power.FL_(of);
    const ptrdiff_t best = FL_(block_of_max)(job, row), first = best * FL_BLOCK, n = FL_(block_length)(job, best);
    const double max = row->partial[best * FL_PARTIALS];
    const double top = FL_(above_shift)(power, max, fl_over(job->map.temperature));
    REAL *e = FL_(buffer)(row, 1);
    const REAL *x;
    row->skip = -1;
    row->at_skip = -(double)INFINITY;
    if (!(fl_exp_nonpositive_f64(top) > 0.5 * sums->rest)) return -1;
    row->skip = FL_(position_of_max)(job, row);
    row->at_skip = max;
    x = FL_(block_of)(&job->rows.input, row->input, first, FL_(buffer)(row, 0), n);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) e[i] = FL_(fl_power)(x[i], power);
    e[row->skip - first] = 0;
    sums->rest = FL_(sum_of_other_blocks)(row->partial, FL_(blocks)(job), 1, best) + FL_(block_sum)(e, n);
    return best;
}

/* A row of softmax, log-softmax or log-sum-exp. */
static void FL_(settle_top_and_rest)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    const double over_temperature = fl_over(job->map.temperature);
    struct FL_(sums) sums = {0};
    double top, at_top;
    sums.rest = FL_(sum_of_blocks)(row->partial, FL_(blocks)(job), 1);
    row->max = row->partial[FL_(block_of_max)(job, row) * FL_PARTIALS];
    FL_(leave_out_top)(job, row, &sums);
    top = FL_(above_shift)(row->power.FL_(of), row->max, over_temperature);
    at_top = fl_exp_nonpositive_f64(top);
    row->logsum = row->skip < 0 ? fl_log_f64(sums.rest) - top : fl_log1p_nonnegative_f64(sums.rest / at_top);
    row->loss = row->max * over_temperature + row->logsum;
    row->share = 1.0 / (row->skip < 0 ? sums.rest : sums.rest + at_top);
    row->skipped = at_top * row->share;
    row->scale = 0.0;
    row->least = (double)FL_(least_for)((REAL)row->share, (REAL)row->skipped);
}
