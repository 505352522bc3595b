/* Rows of the softmax family in blocks; softmax.h has the formulas.
 *
 * kernels.inc includes this file twice, after tiles.h.
 *
 * A row takes three passes: the maximum; the exponentials, written to the place of the gradient, and their sum; and
 * scaling in place. Each element needs one exponential, and the row stays in the second-level cache between passes.
 * (Measured: computing the exponential twice costs a third more.) If the gradient is written past the caches, the
 * exponentials are kept in a scratch row instead. Cross-entropy of long rows takes one pass instead: see
 * fused.h.
 */

/* ---- a row, in steps ---- */

static ptrdiff_t FL_(buffer_bytes)(const struct fl_softmax_job *job);
/* Of top.h and given.h. */
static void FL_(settle_top_and_rest)(const struct fl_softmax_job *job, struct fl_softmax_row *row);
FL_OUTLINE void FL_(given_sums)(const struct fl_softmax_job *job, struct fl_softmax_row *row,
                                struct FL_(sums) * sums);

static inline ptrdiff_t FL_(block_length)(const struct fl_softmax_job *job, ptrdiff_t block)
{
    const ptrdiff_t left = job->rows.classes - block * FL_BLOCK;
    return left < FL_BLOCK ? left : FL_BLOCK;
}

static inline ptrdiff_t FL_(blocks)(const struct fl_softmax_job *job)
{
    return (job->rows.classes + FL_BLOCK - 1) / FL_BLOCK;
}

/* Rows of middle length are summed in batches, whose settlements are one: see batches.h. */
enum { FL_(batch) = 8, FL_(batch_elements) = 4096 };

static ptrdiff_t FL_(rows_of_batch)(const struct fl_softmax_job *job)
{
    const ptrdiff_t rows = FL_(batch_elements) / job->rows.classes;
    if (job->operation != FL_CROSS_ENTROPY || job->hessian.data || rows < FL_(batch)) return 1;
    return FL_(batch);
}

static ptrdiff_t FL_(scratch_bytes)(const struct fl_softmax_job *job)
{
    const ptrdiff_t length = (job->rows.classes + FL_STRIP - 1) / FL_STRIP * FL_STRIP + FL_STRIP;
    const ptrdiff_t row = FL_(needs_scratch_row)(job) ? length * (ptrdiff_t)sizeof(REAL) : 0;
    const ptrdiff_t partials = FL_(blocks)(job) * FL_PARTIALS * (ptrdiff_t)sizeof(double);
    const ptrdiff_t rows = FL_(is_fused)(job) ? FL_(rows_of_batch)(job) : 2;
    return FL_PIPELINE + rows * ((partials + 63) / 64 * 64 + row) + FL_(buffer_bytes)(job);
}

/* One of the FL_BUFFERS of a block. */
static inline REAL *FL_(buffer)(const struct fl_softmax_row *row, int which)
{
    return (REAL *)(void *)row->buffers + (ptrdiff_t)which * FL_BLOCK;
}

/* Sets a row of an array to 0, if there is an array. */
static void FL_(clear_row)(const struct fl_array *out, ptrdiff_t index, ptrdiff_t classes)
{
    char *row;
    if (out->data == NULL) return;
    row = fl_row_address(out, index);
    if (out->class_stride == out->itemsize) {
        memset(row, 0, (size_t)(classes * out->itemsize));
    } else {
        for (ptrdiff_t c = 0; c < classes; c++) memset(row + c * out->class_stride, 0, (size_t)out->itemsize);
    }
}

static int FL_(row_start)(const struct fl_softmax_job *job, struct fl_softmax_row *row, ptrdiff_t index,
                          void *scratch)
{
    const ptrdiff_t partials = FL_(blocks)(job) * FL_PARTIALS * (ptrdiff_t)sizeof(double);
    const ptrdiff_t target = job->targets.index ? fl_class_of_row(&job->targets, index) : FL_ELSEWHERE;
    row->index = index;
    row->input = fl_row_address(&job->rows.input, index);
    row->output = job->rows.output.data ? fl_row_address(&job->rows.output, index) : NULL;
    row->probabilities = job->targets.probabilities.data ? fl_row_address(&job->targets.probabilities, index) : NULL;
    row->partial = (double *)scratch;
    row->exponentials = row->output;
    if (FL_(needs_scratch_row)(job)) row->exponentials = (char *)scratch + (partials + 63) / 64 * 64;
    row->next = NULL;
    row->mode = FL_BY_MAXIMUM;
    row->loss = 0.0;
    if (target == FL_IGNORED) {
        if (!job->rows.accumulate) FL_(clear_row)(&job->rows.output, index, job->rows.classes);
        FL_(clear_row)(&job->hessian, index, job->rows.classes);
        if (job->rows.losses) job->rows.losses[index] = 0.0;
        return 0;
    }
    row->target = target;
    row->weight = row->target >= 0 ? FL_(class_weight)(job, row->target) : 1.0;
    if (job->targets.index && row->target < 0) row->weight = 0.0;
    return 1;
}

static void FL_(row_max)(const struct fl_softmax_job *job, struct fl_softmax_row *row, ptrdiff_t block)
{
    const struct fl_array *in = &job->rows.input;
    const ptrdiff_t first = block * FL_BLOCK, n = FL_(block_length)(job, block);
    double max;
    if (in->itemsize == 2 && in->class_stride == 2)
        max = (double)fl_max_16(row->input + first * 2, in->dtype, n);
    else
        max = (double)FL_(block_max)(FL_(block_of)(in, row->input, first, FL_(buffer)(row, 0), n), n);
    row->partial[block * FL_PARTIALS] = max;
}

/* The first block with the maximum of a row. */
static ptrdiff_t FL_(block_of_max)(const struct fl_softmax_job *job, const struct fl_softmax_row *row)
{
    ptrdiff_t best = 0;
    for (ptrdiff_t block = 1; block < FL_(blocks)(job); block++)
        if (row->partial[block * FL_PARTIALS] > row->partial[best * FL_PARTIALS]) best = block;
    return best;
}

/* The position of the maximum of a row, from the maxima of its blocks. */
static ptrdiff_t FL_(position_of_max)(const struct fl_softmax_job *job, const struct fl_softmax_row *row)
{
    const ptrdiff_t best = FL_(block_of_max)(job, row), n = FL_(block_length)(job, best);
    ptrdiff_t i = 0;
    const REAL *x = FL_(block_of)(&job->rows.input, row->input, best * FL_BLOCK, FL_(buffer)(row, 0), n);
    const REAL max = (REAL)row->partial[best * FL_PARTIALS];
    /* In strips. (Measured: one by one takes a sixth of the time of a hessian of 1000 classes.) */
    for (int found = 0; i + 64 < n; i += 64) {
#pragma omp simd reduction(| : found)
        for (int l = 0; l < 64; l++) found |= x[i + l] == max;
        if (found) break;
    }
    while (i < n - 1 && !(x[i] == max)) i++;
    return best * FL_BLOCK + i;
}

/* The maximum of the row, the shift, and the class left out of the sum. */
static void FL_(row_choose)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    row->max = row->partial[FL_(block_of_max)(job, row) * FL_PARTIALS];
    row->capped_max = FL_(capped)(job, row->max);
    row->skip = row->target;
    row->top = -1;
    if (row->target < 0 || job->hessian.data) {
        row->top = FL_(position_of_max)(job, row);
        if (row->target < 0) row->skip = row->top;
    }
    /* Read now: in place, an exponential overwrites it. */
    row->at_skip = FL_(load_scalar)(job, row->input, row->skip);
}

/* a_j of a block of the row. */
static void FL_(row_coefficients)(const struct fl_softmax_job *job, const struct fl_softmax_row *row, ptrdiff_t first,
                                  REAL *a, ptrdiff_t n)
{
    const struct fl_array *q = &job->targets.probabilities;
    const REAL *given = q->data ? FL_(block_of)(q, row->probabilities, first, a, n) : NULL;
    FL_(coefficients)(job, given, first, a, n);
}

static void FL_(row_sum)(const struct fl_softmax_job *job, struct fl_softmax_row *row, ptrdiff_t block)
{
    const ptrdiff_t first = block * FL_BLOCK, n = FL_(block_length)(job, block), skip = row->skip - first;
    const int skip_is_here = skip >= 0 && skip < n;
    double *partial = row->partial + block * FL_PARTIALS;
    const struct fl_array *in = &job->rows.input, *out = &job->rows.output;
    REAL *buffer = FL_(buffer)(row, 0), *e = buffer;
    if (FL_(keeps_exponentials)(job)) e = (REAL *)(void *)row->exponentials + first;
    if (FL_(has_map)(job) || FL_(has_mass)(job)) {
        const REAL *x = FL_(block_of)(in, row->input, first, buffer, n);
        double max = row->max;
        if (FL_(has_map)(job)) {
            FL_(mapped)(job, row->capped_max, x, e, n);
            x = e;
            max = 0.0;
        }
        if (FL_(has_mass)(job)) {
            REAL *a = FL_(buffer)(row, 1);
            FL_(row_coefficients)(job, row, first, a, n);
            partial[2] = FL_(block_dot)(a, x, max, n);
            if (skip_is_here) a[skip] = 0;
            partial[3] = FL_(block_sum)(a, n);
        }
        FL_(block_exp)(x, (REAL)max, e, n);
    } else {
        const uint16_t *h = (const uint16_t *)(const void *)row->input + first;
        const REAL *x = FL_(is_packed_bfloat16)(in) ? NULL : FL_(block_of)(in, row->input, first, buffer, n);
        const char *next = row->next ? row->next + first * in->itemsize : NULL;
        if (FL_(needs_scratch_row)(job) && out->class_stride == out->itemsize && !job->rows.stream)
            fl_prefetch_to_write(row->output + first * out->itemsize, n * out->itemsize);
        FL_(block_exp_prefetching)(x, h, (REAL)row->max, e, n, next, n * in->itemsize);
    }
    if (skip_is_here) e[skip] = 0;
    partial[1] = FL_(block_sum)(e, n);
    if (job->hessian.data) {
        const ptrdiff_t top = row->top - first;
        const REAL at_top = top >= 0 && top < n ? e[top] : 0;
        if (at_top != 0) e[top] = 0;
        partial[4] = FL_(block_sum)(e, n);
        if (at_top != 0) e[top] = at_top;
    }
}

/* The contribution of the classes outside the band to the sum of a row's exponentials. Beyond e^700 the classes of
 * the band are negligible. */
static double FL_(sum_elsewhere)(const struct fl_softmax_job *job, const struct fl_softmax_row *row)
{
    const double above = job->band.lse[row->index] - row->capped_max / job->map.temperature;
    return fl_exp_f64(above > 700.0 ? 700.0 : above);
}

/* One of the sums over all blocks but `except`, in order. The rounding errors of the additions are added at the end
 * (Knuth's TwoSum): otherwise a million equal terms would lose a digit. */
static double FL_(sum_of_other_blocks)(const double *partial, ptrdiff_t blocks, int which, ptrdiff_t except)
{
    double sum = 0.0, lost = 0.0;
    for (ptrdiff_t block = 0; block < blocks; block++) {
        const double term = block == except ? 0.0 : partial[block * FL_PARTIALS + which], next = sum + term,
                     back = next - sum;
        lost += (sum - (next - back)) + (term - back);
        sum = next;
    }
    return isinf(sum) ? sum : sum + lost;
}

static double FL_(sum_of_blocks)(const double *partial, ptrdiff_t blocks, int which)
{
    return FL_(sum_of_other_blocks)(partial, blocks, which, -1);
}

/* The sum of the class weights but one; added up where that is most of all, so that no digits cancel. */
static double FL_(other_weights)(const struct fl_softmax_job *job, ptrdiff_t skip)
{
    const double *weight = job->targets.class_weight, all = job->targets.all_weights;
    double sum = 0.0;
    if (!weight) return (double)job->rows.classes - 1.0;
    if (weight[skip] >= 0.0 && weight[skip] < 0.5 * all) return all - weight[skip];
    for (ptrdiff_t c = 0; c < job->rows.classes; c++) sum += c == skip ? 0.0 : weight[c];
    return sum;
}

/* dot and mass of a row with smoothing, from its sum of x - reference: see fused.h. */
static void FL_(spread)(const struct fl_softmax_job *job, const struct fl_softmax_row *row, struct FL_(sums) * sums)
{
    const struct FL_(fl_power) power = row->power.FL_(of);
    const ptrdiff_t blocks = FL_(blocks)(job);
    const double over_temperature = fl_over(job->map.temperature), weight = FL_(class_weight)(job, row->skip);
    const double others = FL_(other_weights)(job, row->skip);
    const double a = (double)FL_(even_share)(job), offset = (double)power.reference * over_temperature - power.shift;
    const double spread = FL_(sum_of_blocks)(row->partial, blocks, 2);
    sums->dot = a * (spread * over_temperature + (others + weight) * offset);
    sums->mass_rest = a * others;
}

/* z of a capped input relative to the shift of its row. In two parts, of which the first has no rounding errors where
 * the input has a large offset. */
static inline double FL_(above_shift)(struct FL_(fl_power) power, double x, double over_temperature)
{
    const double reference = (double)power.reference;
    return (x - reference) * over_temperature + (reference * over_temperature - power.shift);
}

/* The shift of a row's exponentials, and d at skip. */
static void FL_(locate)(const struct fl_softmax_job *job, const struct fl_softmax_row *row, struct FL_(sums) * sums)
{
    const double over_temperature = fl_over(job->map.temperature);
    if (row->mode == FL_BY_MAXIMUM) {
        sums->shift = row->capped_max * over_temperature;
        sums->difference = (FL_(capped)(job, row->at_skip) - row->capped_max) * over_temperature;
    } else {
        const struct FL_(fl_power) power = row->power.FL_(of);
        sums->shift = power.shift;
        sums->difference = FL_(above_shift)(power, FL_(capped)(job, row->at_skip), over_temperature);
    }
}

/* logsum and surprise. If the shift is not the maximum, d may be positive at skip; log1p keeps the digits of a
 * confident row. */
static void FL_(take_logarithm)(const struct fl_softmax_row *row, struct FL_(sums) * sums)
{
    if (row->mode == FL_BY_MAXIMUM) {
        sums->logsum = fl_log1p_nonnegative_f64(FL_(rest_over_one)(sums->rest, sums->difference));
        if (isinf(row->capped_max)) sums->logsum = (double)NAN;
        sums->surprise = sums->logsum - sums->difference;
    } else {
        const double at_skip = fl_exp_nonpositive_f64(sums->difference);
        if (at_skip > sums->rest) {
            sums->surprise = fl_log1p_nonnegative_f64(sums->rest / at_skip);
            sums->logsum = sums->surprise + sums->difference;
        } else {
            sums->logsum = fl_log_f64(sums->rest + at_skip);
            sums->surprise = sums->logsum - sums->difference;
        }
    }
}

/* The second derivative at the maximum of a row, where 1 - p is the sum of the others: the difference of the total
 * and its exponential, if that is less than half of the total, else a sum of its own. */
static void FL_(settle_top)(const struct fl_softmax_job *job, struct fl_softmax_row *row, struct FL_(settled) settled,
                            double rest, double at_skip)
{
    REAL *e = (REAL *)(void *)row->exponentials;
    double at_top = 1.0, others;
    if (row->mode == FL_BY_MAXIMUM) {
        others = FL_(sum_of_blocks)(row->partial, FL_(blocks)(job), 4) + at_skip;
    } else {
        row->top = FL_(position_of_max)(job, row);
        if (row->top == row->skip) return;
        at_top = (double)e[row->top];
        others = rest + at_skip - at_top;
        if (at_top > others) {
            others = at_skip;
            for (ptrdiff_t block = 0; block < FL_(blocks)(job); block++) {
                const ptrdiff_t first = block * FL_BLOCK, n = FL_(block_length)(job, block), top = row->top - first;
                REAL *some = FL_(buffer)(row, 1);
                memcpy(some, e + first, (size_t)n * sizeof(REAL));
                if (top >= 0 && top < n) some[top] = 0;
                others += FL_(block_sum)(some, n);
            }
        }
    }
    row->top_curve = FL_(curvature)(settled, at_top, others);
}

/* The sums of a row whose loss is a cross-entropy, or of one by its maximum, before the logarithm. */
static void FL_(gather)(const struct fl_softmax_job *job, struct fl_softmax_row *row, struct FL_(sums) * sums)
{
    const ptrdiff_t blocks = FL_(blocks)(job);
    sums->rest = FL_(sum_of_blocks)(row->partial, blocks, 1);
    if (FL_(has_mass)(job) && row->mode == FL_BY_MAXIMUM) {
        sums->dot = FL_(sum_of_blocks)(row->partial, blocks, 2);
        sums->mass_rest = FL_(sum_of_blocks)(row->partial, blocks, 3);
    } else if (job->targets.probabilities.data && row->mode != FL_BY_MAXIMUM) {
        FL_(given_sums)(job, row, sums);
    } else if (FL_(has_mass)(job)) {
        FL_(spread)(job, row, sums);
    }
    FL_(locate)(job, row, sums);
    sums->slope = FL_(slope)(job, row->at_skip);
    sums->second_slope = FL_(second_slope)(job, row->at_skip);
    if (FL_(has_mass)(job) && row->skip >= 0) {
        REAL a;
        FL_(row_coefficients)(job, row, row->skip, &a, 1);
        sums->coefficient = (double)a;
    }
    if (job->band.lse) {
        sums->rest += FL_(sum_elsewhere)(job, row);
        sums->mass_rest += job->band.mass[row->index];
    }
    sums->weight = row->weight;
    sums->sample = FL_(sample)(job, row->index);
    sums->upstream = fl_upstream(&job->rows, row->index);
}

/* After the logarithm: the sums of a row with probabilities are relative to the maximum, as dot. */
FL_INLINE void FL_(relate)(const struct fl_softmax_job *job, const struct fl_softmax_row *row,
                           struct FL_(sums) * sums)
{
    if (!job->targets.probabilities.data || row->mode == FL_BY_MAXIMUM || row->skip < 0) return;
    sums->shift += sums->difference;
    sums->logsum = sums->surprise;
}

/* Moves the sums to those of the function of the cross-entropy; returns the factor of its gradient. */
static double FL_(refocus)(const struct fl_softmax_job *job, struct FL_(sums) * sums)
{
    struct fl_focus focus;
    if (job->focusing.kind == FL_UNFOCUSED) return 1.0;
    focus = FL_(focus)(job->focusing, sums);
    sums->surprise = focus.loss;
    return focus.gradient;
}

/* Keeps the settlement of a row, and the factor of the gradient of a function of the cross-entropy. */
FL_INLINE void FL_(take)(struct fl_softmax_row *row, struct FL_(settled) settled, double factor)
{
    row->loss = settled.loss;
    row->share = settled.share * factor;
    row->scale = settled.scale;
    row->skipped = settled.skipped * factor;
    row->curve = settled.curve;
    row->bend = settled.bend;
    row->over_total = settled.over_total;
    row->skipped_curve = settled.skipped_curve;
}

FL_INLINE void FL_(take_least)(struct fl_softmax_row *row)
{
    row->least = (double)FL_(least_for)((REAL)row->share, (REAL)(row->skip < 0 ? row->share : row->skipped));
}

static void FL_(row_settle)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    struct FL_(sums) sums = {0};
    if (job->operation != FL_CROSS_ENTROPY && row->mode != FL_BY_MAXIMUM) {
        FL_(settle_top_and_rest)(job, row);
        return;
    }
    FL_(gather)(job, row, &sums);
    FL_(take_logarithm)(row, &sums);
    FL_(relate)(job, row, &sums);
    row->logsum = sums.logsum;
    if (job->operation == FL_CROSS_ENTROPY) {
        const double factor = FL_(refocus)(job, &sums);
        const struct FL_(settled) settled = FL_(settle_or_leave_out)(FL_(terms_of)(job), sums);
        FL_(take)(row, settled, factor);
        if (job->hessian.data) FL_(settle_top)(job, row, settled, sums.rest, fl_exp_nonpositive_f64(sums.difference));
    } else {
        row->share = row->skipped = 1.0 / (1.0 + sums.rest); /* skip is the maximum: its exponential is 1 */
        row->loss = sums.shift + row->logsum;
        if (isinf(row->max)) {
            row->loss = FL_(infinite_row)(job, row->input, row->max);
            row->share = row->skipped = (double)NAN;
        }
    }
    FL_(take_least)(row);
}

static void FL_(row_hessian)(const struct fl_softmax_job *job, const struct fl_softmax_row *row, ptrdiff_t block)
{
    const ptrdiff_t first = block * FL_BLOCK, n = FL_(block_length)(job, block), skip = row->skip - first;
    const struct fl_array *out = &job->hessian;
    const int mass = FL_(has_mass)(job) && job->map.softcap > 0.0;
    REAL *input = FL_(buffer)(row, 3), *a = FL_(buffer)(row, 4), *h = FL_(buffer)(row, 5);
    const REAL *x = job->map.softcap > 0.0 ? FL_(block_of)(&job->rows.input, row->input, first, input, n) : NULL;
    if (mass) FL_(row_coefficients)(job, row, first, a, n);
    FL_(hessians)(job, row, (const REAL *)(const void *)row->exponentials + first, mass ? a : NULL, x, h,
                  row->top - first, n);
    if (skip >= 0 && skip < n) h[skip] = (REAL)row->skipped_curve;
    FL_(fl_store)(h, fl_row_address(out, row->index) + first * out->class_stride, out->class_stride, out->dtype, n);
}

/* The products of the exponentials of a block with the slopes of a softcap, as in fused.h. */
static void FL_(capped_products)(const struct fl_softmax_row *row, const REAL *x, REAL *products, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += FL_STRIP) {
        const ptrdiff_t some = n - i < FL_STRIP ? n - i : (ptrdiff_t)FL_STRIP;
        REAL values[FL_STRIP], e[FL_STRIP];
        for (int l = 0; l < FL_STRIP; l++) values[l] = l < some ? x[i + l] : (REAL)-INFINITY;
        FL_(fl_capped_strip)(values, &row->cap, row->power.FL_(of), e, products + i);
    }
}

static void FL_(row_finish)(const struct fl_softmax_job *job, struct fl_softmax_row *row, ptrdiff_t block)
{
    const ptrdiff_t first = block * FL_BLOCK, n = FL_(block_length)(job, block), skip = row->skip - first;
    const struct fl_array *out = &job->rows.output;
    char *destination = row->output + first * out->class_stride;
    const REAL *x = NULL, *e = (const REAL *)(const void *)row->exponentials + first;
    const REAL skipped = (REAL)row->skipped;
    REAL *input = FL_(buffer)(row, 0), *a = FL_(buffer)(row, 1), *gradient = FL_(buffer)(row, 2), *g = gradient;
    const int mass = FL_(has_mass)(job);
    /* Before the exponentials are overwritten. */
    if (job->hessian.data) FL_(row_hessian)(job, row, block);
    if (FL_(is_packed_bfloat16)(out) && job->operation != FL_LOG_SOFTMAX && !mass && job->map.softcap == 0.0 &&
        !job->rows.accumulate) {
        uint16_t *buffer = (uint16_t *)(void *)FL_(buffer)(row, 6);
        uint16_t *h = job->rows.stream ? buffer : (uint16_t *)(void *)destination;
        FL_(block_scale_bfloat16)(e, (REAL)row->share, (REAL)row->least, h, n);
        if (skip >= 0 && skip < n) h[skip] = fl_bfloat16_from_float((float)skipped);
        if (h == buffer) fl_stream(destination, (const char *)buffer, n * 2);
        return;
    }
    /* A softcap reads the input again after the gradient is computed, so the gradient must not overwrite it. */
    if (FL_(is_direct)(out) && !job->rows.accumulate && job->map.softcap == 0.0 && !job->rows.stream)
        g = (REAL *)(void *)destination;
    if (mass || job->map.softcap > 0.0 || job->operation == FL_LOG_SOFTMAX)
        x = FL_(block_of)(&job->rows.input, row->input, first, input, n);
    if (job->operation == FL_LOG_SOFTMAX) {
        const REAL max = (REAL)row->max, logsum = (REAL)row->logsum;
        for (ptrdiff_t i = 0; i < n; i++) g[i] = (x[i] - max) - logsum;
    } else {
        if (mass) FL_(row_coefficients)(job, row, first, a, n);
        if (job->map.softcap > 0.0 && job->hessian.data && row->mode != FL_BY_MAXIMUM) {
            FL_(capped_products)(row, x, a, n);
            e = a;
        }
        FL_(gradients)(job, row, e, mass ? a : NULL, x, g, n);
        if (skip >= 0 && skip < n) g[skip] = skipped;
    }
    if (job->rows.accumulate) {
        const REAL *before = FL_(block_of)(out, row->output, first, a, n);
        for (ptrdiff_t i = 0; i < n; i++) g[i] += before[i];
    }
    if (FL_(is_direct)(out) && job->rows.stream)
        fl_stream(destination, (const char *)g, n * out->itemsize);
    else if (g == gradient)
        FL_(fl_store)(g, destination, out->class_stride, out->dtype, n);
}

/* ---- rows, in order ---- */

static inline int FL_(goes_by_tiles)(const struct fl_softmax_job *job)
{
    return job->rows.classes <= FL_SHORT_ROW && !job->band.lse;
}

/* Whether the bounds of a job hold in REAL. The exponential magnifies the rounding of a softcap, and of a temperature
 * outside of fused.h and short_rows.h. The tiles of short rows with smoothing or probabilities have gradients that
 * are small differences near the optimum, without a larger one in the row. */
static int FL_(suits)(const struct fl_softmax_job *job)
{
    if (sizeof(REAL) == sizeof(double) || FL_(goes_by_groups)(job) || FL_(is_fused)(job)) return 1;
    return job->rows.input.dtype != FL_FLOAT64 && !FL_(has_map)(job) &&
           !(FL_(has_mass)(job) && job->rows.classes <= FL_SHORT_ROW);
}

static ptrdiff_t FL_(buffer_bytes)(const struct fl_softmax_job *job)
{
    if (FL_(goes_by_groups)(job)) return short_bytes(job);
    if (FL_(goes_by_tiles)(job)) return job->hessian.data ? FL_SHORT_ROW * FL_(lanes) * (ptrdiff_t)sizeof(REAL) : 0;
    return (ptrdiff_t)FL_BUFFERS * FL_BLOCK * (ptrdiff_t)sizeof(REAL);
}

static struct fl_softmax_row *FL_(next_row)(const struct fl_softmax_job *job, struct fl_softmax_row *row,
                                            ptrdiff_t *index, ptrdiff_t end, void *scratch, char *buffers)
{
    row->buffers = buffers;
    while (*index < end)
        if (FL_(row_start)(job, row, (*index)++, scratch)) return row;
    return NULL;
}

/* Three rows are processed at a time, a block of each in turn: the gradient of the first is written, the
 * exponentials of the second are summed, and the maximum of the third is computed, so that reading, computing and
 * writing overlap. */
static struct fl_piece FL_(rows_in_turns)(const struct fl_softmax_job *job, ptrdiff_t begin, ptrdiff_t end,
                                          char *scratch)
{
    const ptrdiff_t blocks = FL_(blocks)(job),
                    half = (FL_(scratch_bytes)(job) - FL_PIPELINE - FL_(buffer_bytes)(job)) / 2;
    char *buffers = (char *)scratch + 2 * half;
    struct fl_softmax_row room[3], *finishing = NULL, *summing = NULL, *entering;
    ptrdiff_t index = begin;
    double total = 0.0;
    if (FL_(goes_by_groups)(job)) return fl_faultless(short_rows(job, begin, end, buffers));
    if (FL_(goes_by_tiles)(job)) {
        for (ptrdiff_t row = begin; row < end; row += FL_LANES) total += FL_(tiles_of_rows)(job, row, end, buffers);
        return fl_faultless(total);
    }
    for (int turn = 0;; turn++) {
        entering = FL_(next_row)(job, &room[turn % 3], &index, end, (char *)scratch + turn % 2 * half, buffers);
        if (entering == NULL && summing == NULL && finishing == NULL) break;
        if (summing && entering && job->rows.input.class_stride == job->rows.input.itemsize)
            summing->next = entering->input;
        for (ptrdiff_t block = 0; block < blocks; block++) {
            if (fl_stops_at(block * FL_BLOCK)) return fl_faultless(total);
            if (finishing && job->rows.output.data) FL_(row_finish)(job, finishing, block);
            if (summing) FL_(row_sum)(job, summing, block);
            if (entering) FL_(row_max)(job, entering, block);
        }
        if (entering) FL_(row_choose)(job, entering);
        if (summing) {
            FL_(row_settle)(job, summing);
            if (job->rows.losses) job->rows.losses[summing->index] = summing->loss;
            total += summing->loss;
        }
        finishing = summing;
        summing = entering;
    }
    if (job->rows.stream) fl_stream_end();
    return fl_faultless(total);
}
