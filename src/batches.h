/* Rows of middle length, 65 to 512 classes, in batches of eight: those that short_rows.h does not take.
 *
 * kernels.inc includes this file twice, after sweep.h.
 *
 * A row of 128 classes took nearly as long for its settlement as for its exponentials: two logarithms, an exponential
 * and divisions, each of which waits for the one before. The sums of eight rows come first, then one settlement with
 * a row in each lane, then the gradients. Each lane has the operations of row_settle, so the bits are the same. */

/* The sums and the results of a batch: see softmax.h. */
struct FL_(lanes_of_rows) {
    double rest[FL_(batch)], dot[FL_(batch)], mass_rest[FL_(batch)], difference[FL_(batch)], coefficient[FL_(batch)];
    double slope[FL_(batch)], shift[FL_(batch)], logsum[FL_(batch)], surprise[FL_(batch)], weight[FL_(batch)];
    double sample[FL_(batch)], upstream[FL_(batch)], factor[FL_(batch)];
    double loss[FL_(batch)], share[FL_(batch)], scale[FL_(batch)], skipped[FL_(batch)];
};

FL_INLINE struct FL_(sums) FL_(sums_of_lane)(const struct FL_(lanes_of_rows) * r, int l)
{
    const struct FL_(sums) sums = {
        r->rest[l],   r->dot[l],      r->mass_rest[l], r->difference[l], r->coefficient[l], r->slope[l], r->shift[l],
        r->logsum[l], r->surprise[l], r->weight[l],    r->sample[l],     r->upstream[l],    0.0};
    return sums;
}

/* take_logarithm of rows that have a shift. */
FL_INLINE void FL_(take_logarithms)(struct FL_(lanes_of_rows) * r)
{
#pragma omp simd
    for (int l = 0; l < FL_(batch); l++) {
        const double at_skip = fl_exp_nonpositive_f64(r->difference[l]);
        const int likely = at_skip > r->rest[l];
        const double quotient = r->rest[l] / at_skip, total = r->rest[l] + at_skip;
        const double beyond = fl_log1p_nonnegative_f64(likely ? quotient : 0.0),
                     log = fl_log_f64(likely ? 1.0 : total);
        r->logsum[l] = likely ? beyond + r->difference[l] : log;
        r->surprise[l] = likely ? beyond : log - r->difference[l];
    }
}

FL_INLINE void FL_(settle_lanes)(struct FL_(terms) terms, struct FL_(lanes_of_rows) * r)
{
#pragma omp simd
    for (int l = 0; l < FL_(batch); l++) {
        const struct FL_(settled) settled = FL_(settle)(terms, FL_(sums_of_lane)(r, l));
        r->loss[l] = settled.loss;
        r->share[l] = settled.share;
        r->scale[l] = settled.scale;
        r->skipped[l] = settled.skipped;
    }
}

/* row_settle of `count` rows. */
FL_OUTLINE void FL_(settle_batch)(const struct fl_softmax_job *job, struct fl_softmax_row *rows, int count)
{
    struct FL_(lanes_of_rows) r;
    int has_shifts = 1;
    for (int l = 0; l < count; l++) has_shifts &= rows[l].mode != FL_BY_MAXIMUM;
    if (!has_shifts) {
        for (int l = 0; l < count; l++) FL_(row_settle)(job, rows + l);
        return;
    }
    memset(&r, 0, sizeof r);
    for (int l = 0; l < count; l++) {
        struct FL_(sums) sums = {0};
        FL_(gather)(job, rows + l, &sums);
        r.rest[l] = sums.rest;
        r.dot[l] = sums.dot;
        r.mass_rest[l] = sums.mass_rest;
        r.difference[l] = sums.difference;
        r.coefficient[l] = sums.coefficient;
        r.slope[l] = sums.slope;
        r.shift[l] = sums.shift;
        r.weight[l] = sums.weight;
        r.sample[l] = sums.sample;
        r.upstream[l] = sums.upstream;
    }
    FL_(take_logarithms)(&r);
    for (int l = 0; l < count; l++) {
        struct FL_(sums) sums = FL_(sums_of_lane)(&r, l);
        FL_(relate)(job, rows + l, &sums);
        rows[l].logsum = sums.logsum;
        r.factor[l] = FL_(refocus)(job, &sums);
        r.shift[l] = sums.shift;
        r.logsum[l] = sums.logsum;
        r.surprise[l] = sums.surprise;
    }
    FL_(settle_lanes)(FL_(terms_of)(job), &r);
    for (int l = 0; l < count; l++) {
        struct FL_(settled) settled = {0};
        if (!FL_(is_left_out)(FL_(sums_of_lane)(&r, l))) {
            settled.loss = r.loss[l];
            settled.share = r.share[l];
            settled.scale = r.scale[l];
            settled.skipped = r.skipped[l];
        }
        FL_(take)(rows + l, settled, r.factor[l]);
        FL_(take_least)(rows + l);
    }
}
