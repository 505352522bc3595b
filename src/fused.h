/* Long rows in one pass over memory: cross-entropy with its gradient in less time than a memcpy, softmax, log-softmax
 * and log-sum-exp.
 *
 * kernels.inc includes this file twice, after sweep.h.
 *
 * A row in three passes reads, computes and writes in bursts, which costs the sum of their times. Here one loop body
 * reads 64 elements of a row, and writes the gradients of the same 64 elements of the row before it past the caches,
 * so that memory reads and writes at once. (Measured, 2048 rows of 32000 floats, two threads of a Zen 4: 17.0 ms;
 * three passes over blocks of 8 KB 22.0; memcpy 19.7.) The exponentials of a row stay in one scratch row, in
 * which those of the next row replace them as they are used.
 *
 * There is no pass for the maximum. The exponentials are relative to a shift, an integer times log 2, near the
 * maximum of the first FL_FIRST elements. Where a later element exceeds that maximum by more than FL_HEADROOM, the
 * whole row is computed once more with a shift near its maximum (FL_BY_SHIFT); so every element is at most
 * FL_HEADROOM above the shift, or half of log 2 above it, and no sum overflows. Rows that have no such
 * shift (NaN, infinities, values beyond 1e6) are computed as in rows.h (FL_BY_MAXIMUM). The way of a row
 * depends on the row alone. Different shifts change no result by more than a rounding of the scale: the fractions of
 * the exponents are the same, except that smaller elements become 0 under a larger shift.
 *
 * The sums have the order of the elements: 16 lanes of double add sums of four, block by block.
 *
 * Smoothing needs only one more sum, of w_j (x_j - reference), where the reference is a number near the shift, so
 * that the differences are exact or small: with a = eps / C, and W the sum of the class weights (C without)
 *
 *   sum_j a w_j (z_j - shift) = a [sum_j w_j (x_j - reference) / T + W (reference / T - shift)]
 *
 * Probabilities are one more stream: see given.h. A hessian is written beside the gradient.
 *
 * With a softcap the exponentials are summed, but their products with the slope are kept, because the gradient needs
 * only these; with a hessian the exponentials are, and row_finish computes the products once more. Every row with a
 * finite maximum then has a shift: FL_BY_MAXIMUM would not be exact enough in float.
 */

/* ---- the way of a row ---- */

/* The constants of a row's exponentials with a softcap. */
FL_OUTLINE int FL_(capped_shift_near)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    const double over_temperature = fl_over(job->map.temperature);
    row->power.FL_(of) = FL_(fl_power_of)((REAL)FL_(capped)(job, row->near), over_temperature);
    row->cap = FL_(fl_cap_of)(job->map.softcap, over_temperature, row->power.FL_(of));
    return fabs(row->power.FL_(of).shift) <= DBL_MAX;
}

/* The constants of a row's exponentials; 0 if there are none. */
FL_INLINE int FL_(shift_near)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    if (job->map.softcap > 0.0) return FL_(capped_shift_near)(job, row);
    row->power.FL_(of) = FL_(fl_power_of)((REAL)row->near, fl_over(job->map.temperature));
    return row->power.FL_(of).is_usable;
}

/* Leaves the target out of the sums; probabilities have none, see given.h. */
static void FL_(leave_out_target)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    row->skip = row->target;
    row->at_skip = row->skip < 0 ? -(double)INFINITY : FL_(load_scalar)(job, row->input, row->skip);
}

/* Starts a row: a shift near the maximum of its first elements. */
static void FL_(enter)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    const struct fl_array *in = &job->rows.input;
    const ptrdiff_t n = job->rows.classes < FL_FIRST ? job->rows.classes : (ptrdiff_t)FL_FIRST;
    REAL buffer[FL_FIRST];
    row->top = -1;
    FL_(leave_out_target)(job, row);
    if (in->itemsize == 2 && in->class_stride == 2)
        row->near = (double)fl_max_16(row->input, in->dtype, n);
    else
        row->near = (double)FL_(block_max)(FL_(block_of)(in, row->input, 0, buffer, n), n);
    row->mode = FL_(shift_near)(job, row) ? FL_BY_START : FL_BY_MAXIMUM;
}

/* Whether the sums of a block are those of the row. */
static inline int FL_(is_within)(const struct fl_softmax_job *job, const struct fl_softmax_row *row, ptrdiff_t block)
{
    const double *partial = row->partial + block * FL_PARTIALS, headroom = FL_HEADROOM * job->map.temperature;
    const int is_low =
        partial[0] - row->near <= headroom || FL_(capped)(job, partial[0]) - FL_(capped)(job, row->near) <= headroom;
    return row->mode == FL_BY_START && is_low && fabs(partial[2]) <= DBL_MAX;
}

/* The way of a row whose blocks are not all within, from the maxima of its blocks. */
static void FL_(turn)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    const ptrdiff_t blocks = FL_(blocks)(job);
    int is_finite = 1;
    for (ptrdiff_t block = 0; block < blocks; block++)
        is_finite &= fabs(row->partial[block * FL_PARTIALS + 2]) <= DBL_MAX;
    row->mode = FL_BY_MAXIMUM;
    FL_(row_choose)(job, row);
    row->near = row->max;
    if (!is_finite || !FL_(shift_near)(job, row)) return;
    row->mode = FL_BY_SHIFT;
    FL_(leave_out_target)(job, row);
}

/* Whether the fused loop writes the gradient of a row; else row_finish does. Only finite gradients are rounded there.
 */
static inline int FL_(is_plain)(const struct fl_softmax_job *job, const struct fl_softmax_row *row)
{
    if (job->hessian.data && (job->map.softcap > 0.0 || job->hessian.class_stride != job->hessian.itemsize ||
                              !(fabs(row->curve) + fabs(row->bend) <= DBL_MAX)))
        return 0;
    if (job->operation == FL_LOG_SOFTMAX && job->rows.input.class_stride != job->rows.input.itemsize) return 0;
    return row->mode != FL_BY_MAXIMUM && !job->rows.accumulate &&
           job->rows.output.class_stride == job->rows.output.itemsize && fabs(row->loss) <= DBL_MAX &&
           fabs(row->share) <= DBL_MAX && fabs(row->skipped) <= DBL_MAX && fabs(row->scale) <= DBL_MAX;
}

/* ---- a row in steps, which several threads share ---- */

static int FL_(step_start)(const struct fl_softmax_job *job, struct fl_softmax_row *row, ptrdiff_t index,
                           void *scratch)
{
    if (!FL_(row_start)(job, row, index, scratch)) return 0;
    if (FL_(is_fused)(job)) FL_(enter)(job, row);
    return 1;
}

static void FL_(step_max)(const struct fl_softmax_job *job, struct fl_softmax_row *row, ptrdiff_t block)
{
    if (row->mode == FL_BY_START) {
        FL_(sweep)(job, row, NULL, block);
    } else {
        FL_(row_max)(job, row, block);
        row->partial[block * FL_PARTIALS + 2] = 0.0;
    }
}

/* Returns whether step_sum has something to do. */
static int FL_(step_choose)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    int is_within = FL_(is_fused)(job);
    for (ptrdiff_t block = 0; block < FL_(blocks)(job); block++) is_within &= FL_(is_within)(job, row, block);
    if (is_within) return 0;
    if (FL_(is_fused)(job))
        FL_(turn)(job, row);
    else
        FL_(row_choose)(job, row);
    return 1;
}

static void FL_(step_sum)(const struct fl_softmax_job *job, struct fl_softmax_row *row, ptrdiff_t block)
{
    if (row->mode == FL_BY_SHIFT) FL_(sweep)(job, row, NULL, block);
    if (row->mode == FL_BY_MAXIMUM) FL_(row_sum)(job, row, block);
}

static void FL_(step_finish)(const struct fl_softmax_job *job, struct fl_softmax_row *row, ptrdiff_t block)
{
    if (FL_(is_plain)(job, row))
        FL_(sweep)(job, NULL, row, block);
    else
        FL_(row_finish)(job, row, block);
}

/* ---- rows, in order ---- */

/* A thread's open row, whose gradient is written while the next row is summed; in the thread's scratch, from piece to
 * piece. */
struct FL_(pipeline) {
    struct fl_softmax_row *open; /* NULL: none */
    struct fl_softmax_row room[2];
};
typedef char FL_(pipeline_fits)[sizeof(struct FL_(pipeline)) <= FL_PIPELINE ? 1 : -1];

static void FL_(close)(const struct fl_softmax_job *job, struct FL_(pipeline) * p, ptrdiff_t block)
{
    if (p->open)
        for (; block < FL_(blocks)(job) && !fl_stops_at(block * FL_BLOCK); block++)
            FL_(step_finish)(job, p->open, block);
    p->open = NULL;
}

/* The sums of a row, while the open row is closed. Returns 0 if the call has been stopped. */
static int FL_(pass)(const struct fl_softmax_job *job, struct FL_(pipeline) * p, struct fl_softmax_row *row)
{
    const ptrdiff_t blocks = FL_(blocks)(job);
    const int plain = p->open && FL_(is_plain)(job, p->open);
    ptrdiff_t block = 0;
    for (; block < blocks && row->mode == FL_BY_START; block++) {
        if (fl_stops_at(block * FL_BLOCK)) return 0;
        if (p->open && !plain) FL_(row_finish)(job, p->open, block);
        FL_(sweep)(job, row, plain ? p->open : NULL, block);
        if (!FL_(is_within)(job, row, block)) break;
    }
    if (block == blocks) {
        p->open = NULL;
        return 1;
    }
    /* Once more. The open row is closed first, as both have their exponentials in one place. */
    if (row->mode == FL_BY_START) block++;
    FL_(close)(job, p, block);
    for (; block < blocks; block++) {
        if (fl_stops_at(block * FL_BLOCK)) return 0;
        FL_(step_max)(job, row, block);
    }
    FL_(step_choose)(job, row);
    for (block = 0; block < blocks; block++) {
        if (fl_stops_at(block * FL_BLOCK)) return 0;
        FL_(step_sum)(job, row, block);
    }
    return 1;
}

/* Rows of middle length. */
static struct fl_piece FL_(fused_batches)(const struct fl_softmax_job *job, ptrdiff_t begin, ptrdiff_t end,
                                          char *scratch)
{
    struct FL_(pipeline) none = {0};
    struct fl_softmax_row rows[FL_(batch)];
    char *buffers = scratch + FL_(scratch_bytes)(job) - FL_(buffer_bytes)(job);
    const ptrdiff_t step = (buffers - scratch - FL_PIPELINE) / FL_(batch);
    double total = 0.0;
    for (ptrdiff_t index = begin; index < end;) {
        int count = 0;
        for (; index < end && count < FL_(batch); index++) {
            struct fl_softmax_row *row = rows + count;
            if (!FL_(row_start)(job, row, index, scratch + FL_PIPELINE + count * step)) continue;
            FL_(enter)(job, row);
            row->buffers = buffers;
            if (!FL_(pass)(job, &none, row)) return fl_faultless(total);
            count++;
        }
        FL_(settle_batch)(job, rows, count);
        for (int l = 0; l < count; l++) {
            if (job->rows.losses) job->rows.losses[rows[l].index] = rows[l].loss;
            total += rows[l].loss;
            if (job->rows.output.data) FL_(step_finish)(job, rows + l, 0);
        }
    }
    return fl_faultless(total);
}

static struct fl_piece FL_(fused_rows)(const struct fl_softmax_job *job, ptrdiff_t begin, ptrdiff_t end,
                                       char *scratch)
{
    struct FL_(pipeline) *p = (struct FL_(pipeline) *)(void *)scratch;
    char *partials = scratch + FL_PIPELINE;
    char *buffers = scratch + FL_(scratch_bytes)(job) - FL_(buffer_bytes)(job);
    double total = 0.0;
    if (FL_(rows_of_batch)(job) > 1) return FL_(fused_batches)(job, begin, end, scratch);
    for (ptrdiff_t index = begin; index < end; index++) {
        struct fl_softmax_row *row = p->open == p->room ? p->room + 1 : p->room;
        if (!FL_(row_start)(job, row, index, partials)) continue;
        FL_(enter)(job, row);
        row->buffers = buffers;
        if (!FL_(pass)(job, p, row)) break;
        FL_(row_settle)(job, row);
        if (job->rows.losses) job->rows.losses[index] = row->loss;
        total += row->loss;
        p->open = job->rows.output.data ? row : NULL;
    }
    return fl_faultless(total);
}

static struct fl_piece FL_(rows)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_softmax_job *job = (const struct fl_softmax_job *)any;
    return FL_(is_fused)(job) ? FL_(fused_rows)(job, begin, end, (char *)scratch)
                              : FL_(rows_in_turns)(job, begin, end, (char *)scratch);
}

static void FL_(drain)(const void *any, void *scratch)
{
    const struct fl_softmax_job *job = (const struct fl_softmax_job *)any;
    if (!FL_(is_fused)(job)) return;
    FL_(close)(job, (struct FL_(pipeline) *)scratch, 0);
    if (job->rows.stream) fl_stream_end();
}
