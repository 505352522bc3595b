/* Cross-entropy of long rows in one pass over memory, with its gradient: less time than a memcpy.
 *
 * kernels.inc includes this file twice, after rows.h.
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

/* ---- the sum of a row ---- */

/* The exponentials of a strip. `top` are maxima of 16 lanes. */
FL_INLINE void FL_(exp_strip)(const REAL *x, struct FL_(fl_power) power, REAL *e, REAL *top)
{
    for (int k = 0; k < FL_STRIP; k += FL_STEP)
#pragma omp simd
        for (int l = 0; l < FL_STEP; l++) {
            const REAL value = x[k + l];
            top[l] = value > top[l] ? value : top[l];
            e[k + l] = FL_(fl_power)(value, power);
        }
}

FL_INLINE void FL_(max_strip)(const REAL *x, REAL *top)
{
    for (int k = 0; k < FL_STRIP; k += FL_STEP)
#pragma omp simd
        for (int l = 0; l < FL_STEP; l++) top[l] = x[k + l] > top[l] ? x[k + l] : top[l];
}

/* Adds a strip to 16 lanes. */
FL_INLINE void FL_(add_strip)(const REAL *x, double *lane)
{
#pragma omp simd
    for (int l = 0; l < FL_STEP; l++) lane[l] += (double)((x[l] + x[16 + l]) + (x[32 + l] + x[48 + l]));
}

/* Adds the differences from the reference, and the weights without that of the target, to lanes. `here` is the place
 * of the target in the strip, left the number of classes from the start of the strip. */
FL_INLINE void FL_(spread_strip)(const REAL *x, const double *weight, REAL reference, ptrdiff_t here, ptrdiff_t left,
                                 double *lane, double *weights)
{
    REAL d[FL_STRIP], w[FL_STRIP];
#pragma omp simd
    for (int l = 0; l < FL_STRIP; l++) d[l] = x[l] - reference;
    for (ptrdiff_t l = left; l < FL_STRIP; l++) d[l] = 0;
    if (weight) {
        for (int l = 0; l < FL_STRIP; l++) w[l] = 0;
        if (left < FL_STRIP)
            for (ptrdiff_t l = 0; l < left; l++) w[l] = (REAL)weight[l];
        else
#pragma omp simd
            for (int l = 0; l < FL_STRIP; l++) w[l] = (REAL)weight[l];
#pragma omp simd
        for (int l = 0; l < FL_STRIP; l++) d[l] *= w[l];
        if (here >= 0 && here < FL_STRIP) w[here] = 0;
        FL_(add_strip)(w, weights);
    }
    FL_(add_strip)(d, lane);
}

/* ---- the gradient of a row ---- */

/* A row whose gradient is written. */
struct FL_(finish) {
    const struct fl_softmax_job *job;
    const char *probabilities;
    const REAL *e;
    const double *weight; /* of the classes; NULL: 1 */
    char *g;
    REAL factor, least, rate, even, skipped; /* even: a_j without a class weight */
    ptrdiff_t skip, head, classes;
    int dtype, itemsize, stream;
    char *hessian; /* NULL: none */
    REAL curve, bend, over_total;
};

/* The elements before the first cache line of the output, if it is written past the caches. */
static inline ptrdiff_t FL_(head_of)(const char *g, ptrdiff_t itemsize, int stream)
{
    return stream ? (ptrdiff_t)(-(uintptr_t)g & 63u) / itemsize : 0;
}

FL_INLINE struct FL_(finish) FL_(finish_of)(const struct fl_softmax_job *job, const struct fl_softmax_row *row)
{
    const struct fl_array *out = &job->rows.output;
    const struct FL_(finish) finish = {
        job,
        row->probabilities,
        (const REAL *)(const void *)row->exponentials,
        FL_(has_mass)(job) ? job->targets.class_weight : NULL,
        row->output,
        (REAL)row->share,
        (REAL)row->least,
        FL_(has_mass)(job) ? (REAL)row->scale : (REAL)0,
        FL_(has_mass)(job) ? FL_(even_share)(job) : (REAL)0,
        (REAL)row->skipped,
        row->skip,
        FL_(head_of)(row->output, out->itemsize, job->rows.stream),
        job->rows.classes,
        out->dtype,
        (int)out->itemsize,
        job->rows.stream,
        job->hessian.data ? fl_row_address(&job->hessian, row->index) : NULL,
        (REAL)row->curve,
        (REAL)row->bend,
        (REAL)row->over_total,
    };
    return finish;
}

/* n elements from `from`, n <= FL_STRIP, through a buffer. The exponentials have room for a strip more. */
static void FL_(finish_some)(const struct FL_(finish) * f, ptrdiff_t from, ptrdiff_t n, int stream)
{
    const REAL factor = f->factor, least = f->least, rate = f->rate, even = f->even, *e = f->e + from;
    REAL line[FL_STRIP], mass[FL_STRIP];
    char *to = f->g + from * f->itemsize;
    for (int l = 0; l < FL_STRIP; l++) mass[l] = rate * even;
    if (f->probabilities) {
        const REAL *a = FL_(given_of)(f->job, f->probabilities, from, n, mass);
        for (int l = 0; l < FL_STRIP; l++) mass[l] = rate * a[l];
    } else if (f->weight) {
        for (ptrdiff_t l = 0; l < n; l++) mass[l] = rate * (even * (REAL)f->weight[from + l]);
    }
#pragma omp simd
    for (int l = 0; l < FL_STRIP; l++) line[l] = FL_(scaled)(e[l], factor, least) - mass[l];
    if (f->skip >= from && f->skip < from + n) line[f->skip - from] = f->skipped;
    if (n == FL_STRIP)
        for (int k = 0; k < FL_STRIP; k += FL_STEP)
            FL_(fl_step_out)(line + k, to + k * f->itemsize, f->dtype, stream);
    else
        FL_(fl_store)(line, to, f->itemsize, f->dtype, n);
}

/* A step of the hessian, at e + i. */
FL_INLINE void FL_(hessian_step)(const struct FL_(finish) * f, ptrdiff_t i, REAL *h)
{
    const REAL curve = f->curve, bend = f->bend, over_total = f->over_total, *e = f->e + i;
#pragma omp simd
    for (int l = 0; l < FL_STEP; l++) {
        const REAL p = e[l] * over_total;
        h[l] = curve * p * (1 - p) + bend * p * p;
    }
}

/* The hessian from .. end - 1 of a row. Its maximum and its target have values of their own. */
FL_OUTLINE void FL_(finish_hessian)(const struct FL_(finish) * f, const struct fl_softmax_row *row, ptrdiff_t from,
                                    ptrdiff_t end)
{
    const ptrdiff_t top = row->top, skip = row->skip, size = f->itemsize;
    for (ptrdiff_t i = from; i < end; i += FL_STEP) {
        REAL h[FL_STEP];
        FL_(hessian_step)(f, i, h);
        if (end - i >= FL_STEP)
            FL_(fl_step_out)(h, f->hessian + i * size, f->dtype, 0);
        else
            FL_(fl_store)(h, f->hessian + i * size, size, f->dtype, end - i);
    }
    if (top >= from && top < end) FL_(fl_store_scalar)(f->hessian + top * size, f->dtype, (REAL)row->top_curve);
    if (skip >= from && skip < end)
        FL_(fl_store_scalar)(f->hessian + skip * size, f->dtype, (REAL)row->skipped_curve);
}

/* The same for a strip, which ends with the row at the latest. */
FL_INLINE void FL_(hessian_strip)(const struct FL_(finish) * f, const struct fl_softmax_row *row, ptrdiff_t from,
                                  int dtype)
{
    const ptrdiff_t end = from + FL_STRIP;
    if (end > f->classes || (row->top >= from && row->top < end) || (row->skip >= from && row->skip < end)) {
        FL_(finish_hessian)(f, row, from, end < f->classes ? end : f->classes);
        return;
    }
    for (int k = 0; k < FL_STRIP; k += FL_STEP) {
        REAL h[FL_STEP];
        FL_(hessian_step)(f, from + k, h);
        FL_(fl_step_out)(h, f->hessian + (from + k) * fl_itemsize(dtype), dtype, 0);
    }
}

/* A strip from `from` on, which ends with the row at the latest. */
FL_INLINE void FL_(finish_strip)(const struct FL_(finish) * f, ptrdiff_t from, int dtype, int mass)
{
    const ptrdiff_t left = f->classes - from;
    const REAL factor = f->factor, least = f->least, rate = f->rate, even = f->even, *e = f->e + from;
    const REAL constant = rate * even;
    const ptrdiff_t itemsize = fl_itemsize(dtype);
    const REAL *given = NULL;
    REAL buffer[FL_STRIP];
    char *to = f->g + from * itemsize;
    if (left < FL_STRIP || (f->skip >= from && f->skip < from + FL_STRIP)) {
        if (left > 0) FL_(finish_some)(f, from, left < FL_STRIP ? left : FL_STRIP, f->stream);
        return;
    }
    if (mass == FL_GIVEN) given = FL_(given_of)(f->job, f->probabilities, from, FL_STRIP, buffer);
    for (int k = 0; k < FL_STRIP; k += FL_STEP) {
        REAL line[FL_STEP];
        if (mass == FL_GIVEN) {
#pragma omp simd
            for (int l = 0; l < FL_STEP; l++) line[l] = FL_(scaled)(e[k + l], factor, least) - rate * given[k + l];
        } else if (mass == FL_WEIGHTED) {
            const double *weight = f->weight + from + k;
#pragma omp simd
            for (int l = 0; l < FL_STEP; l++)
                line[l] = FL_(scaled)(e[k + l], factor, least) - rate * (even * (REAL)weight[l]);
        } else {
#pragma omp simd
            for (int l = 0; l < FL_STEP; l++) line[l] = FL_(scaled)(e[k + l], factor, least) - constant;
        }
        FL_(fl_step_out)(line, to + k * itemsize, dtype, f->stream);
    }
}

/* ---- a block of a row, and of the row before it ---- */

/* Sums a block of `row` and finishes the same block of `before`; either may be NULL. A row that is finished is ahead
 * by its head, so that no exponential is replaced before it is used. dtype and mass are constants of the caller. */
FL_INLINE void FL_(sweep_as)(const struct fl_softmax_job *job, struct fl_softmax_row *row,
                             const struct fl_softmax_row *before, ptrdiff_t block, int dtype, int mass)
{
    const ptrdiff_t first = block * FL_BLOCK, n = FL_(block_length)(job, block),
                    stride = job->rows.input.class_stride;
    const ptrdiff_t itemsize = fl_itemsize(dtype);
    struct FL_(finish) finish;
    struct FL_(fl_power) power;
    REAL top[FL_STEP], buffer[FL_STRIP], strip[FL_STRIP], capped[FL_STRIP];
    double lane[FL_STEP] = {0}, spread[FL_STEP] = {0}, weights[FL_STEP] = {0};
    const char *x = NULL;
    REAL *exponentials = NULL;
    if (before) {
        finish = FL_(finish_of)(job, before);
        if (finish.hessian) { /* before its exponentials are replaced */
            const ptrdiff_t from = block == 0 ? 0 : first + finish.head, end = first + n + finish.head;
            const int is_last = first + n == finish.classes;
            if (mass != FL_CURVED)
                FL_(finish_hessian)(&finish, before, from, is_last || end > finish.classes ? finish.classes : end);
            else if (block == 0)
                FL_(finish_hessian)(&finish, before, 0, finish.head < finish.classes ? finish.head : finish.classes);
        }
        if (block == 0 && finish.head > 0)
            FL_(finish_some)(&finish, 0, finish.head < finish.classes ? finish.head : finish.classes, 0);
    }
    if (row) {
        power = row->power.FL_(of);
        x = row->input + first * stride;
        if (row->exponentials) exponentials = (REAL *)(void *)row->exponentials + first;
    }
    for (int l = 0; l < FL_STEP; l++) top[l] = (REAL)-INFINITY;
    for (ptrdiff_t i = 0; i < n; i += FL_STRIP) {
        const ptrdiff_t left = n - i, here = row ? row->skip - first - i : -1;
        const REAL *values = buffer;
        REAL *e;
        if (before && mass == FL_CURVED) FL_(hessian_strip)(&finish, before, first + i + finish.head, dtype);
        if (before) FL_(finish_strip)(&finish, first + i + finish.head, dtype, mass);
        if (!row) continue;
        e = exponentials ? exponentials + i : strip;
#if defined(__GNUC__)
        for (ptrdiff_t line = 0; line < FL_STRIP * itemsize; line += 64)
            __builtin_prefetch(x + i * itemsize + FL_AHEAD + line, 0, 3);
#endif
        if (left < FL_STRIP || stride != itemsize) {
            for (int l = 0; l < FL_STRIP; l++) buffer[l] = (REAL)-INFINITY;
            FL_(fl_load)(x + i * stride, stride, dtype, buffer, left < FL_STRIP ? left : (ptrdiff_t)FL_STRIP);
        } else if (itemsize == (ptrdiff_t)sizeof(REAL)) {
            values = (const REAL *)(const void *)(x + i * itemsize);
        } else {
            FL_(fl_strip_in)(x + i * itemsize, dtype, buffer);
        }
        if (mass == FL_CAPPED) {
            FL_(max_strip)(values, top);
            FL_(fl_capped_strip)(values, &row->cap, power, capped, e);
            e = capped;
        } else {
            FL_(exp_strip)(values, power, e, top);
        }
        if (here >= 0 && here < FL_STRIP) e[here] = 0;
        if (mass == FL_CAPPED && job->hessian.data && exponentials) memcpy(exponentials + i, e, sizeof capped);
        FL_(add_strip)(e, lane);
        if (mass == FL_GIVEN) {
            REAL shares[FL_STRIP];
            const REAL *a =
                FL_(given_of)(job, row->probabilities, first + i, left < FL_STRIP ? left : FL_STRIP, shares);
            FL_(given_strip)(values, a, power.reference, spread, weights);
        }
        if (mass == FL_EVEN) FL_(spread_strip)(values, NULL, power.reference, here, left, spread, weights);
        if (mass == FL_WEIGHTED)
            FL_(spread_strip)(values, job->targets.class_weight + first + i, power.reference, here, left, spread,
                              weights);
    }
    if (row) {
        double *partial = row->partial + block * FL_PARTIALS;
        partial[0] = (double)FL_(largest_of_lanes)(top);
        partial[1] = FL_(sum_of_lanes)(lane);
        partial[2] = mass >= FL_EVEN ? FL_(sum_of_lanes)(spread) : 0.0;
        partial[3] = mass >= FL_WEIGHTED ? FL_(sum_of_lanes)(weights) : 0.0;
    }
}

/* One function for each kind of mass, so that a kind costs the others no registers and no stack. */
#define FL_SWEEP(name, mass)                                                                                         \
    FL_OUTLINE void FL_(name)(const struct fl_softmax_job *job, struct fl_softmax_row *row,                          \
                              const struct fl_softmax_row *before, ptrdiff_t block)                                  \
    {                                                                                                                \
        const int dtype = job->rows.input.dtype;                                                                     \
        if (sizeof(REAL) == sizeof(double))                                                                          \
            FL_(sweep_as)(job, row, before, block, FL_FLOAT64, (mass));                                              \
        else if (dtype == FL_FLOAT32)                                                                                \
            FL_(sweep_as)(job, row, before, block, FL_FLOAT32, (mass));                                              \
        else if (dtype == FL_BFLOAT16)                                                                               \
            FL_(sweep_as)(job, row, before, block, FL_BFLOAT16, (mass));                                             \
        else                                                                                                         \
            FL_(sweep_as)(job, row, before, block, FL_FLOAT16, (mass));                                              \
    }
FL_SWEEP(sweep_plain, FL_NO_MASS)
FL_SWEEP(sweep_curved, FL_CURVED)
FL_SWEEP(sweep_capped, FL_CAPPED)
FL_SWEEP(sweep_even, FL_EVEN)
FL_SWEEP(sweep_weighted, FL_WEIGHTED)
FL_SWEEP(sweep_given, FL_GIVEN)
#undef FL_SWEEP

static void FL_(sweep)(const struct fl_softmax_job *job, struct fl_softmax_row *row,
                       const struct fl_softmax_row *before, ptrdiff_t block)
{
    if (job->map.softcap > 0.0)
        FL_(sweep_capped)(job, row, before, block);
    else if (!FL_(has_mass)(job) && job->hessian.data)
        FL_(sweep_curved)(job, row, before, block);
    else if (!FL_(has_mass)(job))
        FL_(sweep_plain)(job, row, before, block);
    else if (job->targets.probabilities.data)
        FL_(sweep_given)(job, row, before, block);
    else if (!job->targets.class_weight)
        FL_(sweep_even)(job, row, before, block);
    else
        FL_(sweep_weighted)(job, row, before, block);
}

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

static void FL_(step_choose)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    int is_within = FL_(is_fused)(job);
    for (ptrdiff_t block = 0; block < FL_(blocks)(job); block++) is_within &= FL_(is_within)(job, row, block);
    if (is_within) return;
    if (FL_(is_fused)(job))
        FL_(turn)(job, row);
    else
        FL_(row_choose)(job, row);
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
        for (; block < FL_(blocks)(job); block++) FL_(step_finish)(job, p->open, block);
    p->open = NULL;
}

/* The sums of a row, while the open row is closed. */
static void FL_(pass)(const struct fl_softmax_job *job, struct FL_(pipeline) * p, struct fl_softmax_row *row)
{
    const ptrdiff_t blocks = FL_(blocks)(job);
    const int plain = p->open && FL_(is_plain)(job, p->open);
    ptrdiff_t block = 0;
    for (; block < blocks && row->mode == FL_BY_START; block++) {
        if (p->open && !plain) FL_(row_finish)(job, p->open, block);
        FL_(sweep)(job, row, plain ? p->open : NULL, block);
        if (!FL_(is_within)(job, row, block)) break;
    }
    if (block == blocks) {
        p->open = NULL;
        return;
    }
    /* Once more. The open row is closed first, as both have their exponentials in one place. */
    if (row->mode == FL_BY_START) block++;
    FL_(close)(job, p, block);
    for (; block < blocks; block++) FL_(step_max)(job, row, block);
    FL_(step_choose)(job, row);
    for (block = 0; block < blocks; block++) FL_(step_sum)(job, row, block);
}

static struct fl_piece FL_(fused_rows)(const struct fl_softmax_job *job, ptrdiff_t begin, ptrdiff_t end,
                                       char *scratch)
{
    struct FL_(pipeline) *p = (struct FL_(pipeline) *)(void *)scratch;
    char *partials = scratch + FL_PIPELINE;
    char *buffers = scratch + FL_(scratch_bytes)(job) - FL_(buffer_bytes)(job);
    double total = 0.0;
    for (ptrdiff_t index = begin; index < end; index++) {
        struct fl_softmax_row *row = p->open == p->room ? p->room + 1 : p->room;
        if (!FL_(row_start)(job, row, index, partials)) continue;
        FL_(enter)(job, row);
        row->buffers = buffers;
        FL_(pass)(job, p, row);
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
