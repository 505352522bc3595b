/* The loops of fused.h: a block of a row is summed while the same block of the row before it is finished.
 *
 * kernels.inc includes this file twice, after given.h. */

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

/* The class weights of a job with smoothing. */
FL_INLINE const REAL *FL_(weights_of)(const struct fl_targets *targets)
{
    return sizeof(REAL) == sizeof(float) ? (const REAL *)(const void *)targets->narrow_weight
                                         : (const REAL *)(const void *)targets->class_weight;
}

/* Adds the differences from the reference, times the weights if there are some, to lanes. `left` is the number of
 * classes from the start of the strip. */
FL_INLINE void FL_(spread_strip)(const REAL *x, const REAL *weight, REAL reference, ptrdiff_t left, double *lane)
{
    REAL d[FL_STRIP];
#pragma omp simd
    for (int l = 0; l < FL_STRIP; l++) d[l] = x[l] - reference;
    for (ptrdiff_t l = left; l < FL_STRIP; l++) d[l] = 0;
    if (weight && left < FL_STRIP)
        for (ptrdiff_t l = 0; l < left; l++) d[l] *= weight[l];
    else if (weight)
#pragma omp simd
        for (int l = 0; l < FL_STRIP; l++) d[l] *= weight[l];
    FL_(add_strip)(d, lane);
}

/* The last `left` elements of a row, and -infinity. */
FL_INLINE void FL_(tail_in)(const REAL *x, ptrdiff_t left, REAL *buffer)
{
    const int n = (int)left;
#pragma omp simd
    for (int l = 0; l < FL_STRIP; l++) buffer[l] = l < n ? x[l] : (REAL)-INFINITY;
}

/* ---- the gradient of a row ---- */

/* A row whose gradient is written. */
struct FL_(finish) {
    const struct fl_softmax_job *job;
    const char *probabilities;
    const char *logits; /* of a log-softmax, else NULL */
    const REAL *e;
    const REAL *weight; /* of the classes; NULL: 1 */
    char *g;
    REAL factor, least, rate, even, skipped; /* even: a_j without a class weight */
    REAL max, logsum;                        /* of a log-softmax */
    ptrdiff_t skip, head, classes;           /* skip: -1 where finish_skipped writes the gradient of the target */
    int dtype, itemsize, stream, by_instruction;
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
        job->operation == FL_LOG_SOFTMAX ? row->input : NULL,
        (const REAL *)(const void *)row->exponentials,
        FL_(has_mass)(job) ? FL_(weights_of)(&job->targets) : NULL,
        row->output,
        (REAL)row->share,
        (REAL)row->least,
        FL_(has_mass)(job) ? (REAL)row->scale : (REAL)0,
        FL_(has_mass)(job) ? FL_(even_share)(job) : (REAL)0,
        (REAL)row->skipped,
        (REAL)row->max,
        (REAL)row->logsum,
        job->operation == FL_LOG_SOFTMAX || !job->rows.stream ? -1 : row->skip,
        FL_(head_of)(row->output, out->itemsize, job->rows.stream),
        job->rows.classes,
        out->dtype,
        (int)out->itemsize,
        job->rows.stream,
        FL_HAS_ROUNDING && fl_uses_bfloat16 && out->dtype == FL_BFLOAT16 && !FL_(has_mass)(job) &&
            job->operation != FL_LOG_SOFTMAX &&
            fabs(row->skipped) * 1e-12 >= (double)FLT_MIN, /* so no gradient is subnormal: see least_for */
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
        for (ptrdiff_t l = 0; l < n; l++) mass[l] = rate * even * f->weight[from + l];
    }
    if (f->logits) {
        FL_(fl_load)(f->logits + from * f->itemsize, f->itemsize, f->dtype, line, n);
        for (ptrdiff_t l = 0; l < n; l++) line[l] = (line[l] - f->max) - f->logsum;
    } else {
#pragma omp simd
        for (int l = 0; l < FL_STRIP; l++) line[l] = FL_(scaled)(e[l], factor, least) - mass[l];
    }
    if (f->skip >= from && f->skip < from + n) line[f->skip - from] = f->skipped;
    if (n == FL_STRIP)
        for (int k = 0; k < FL_STRIP; k += FL_STEP)
            FL_(fl_step_out)(line + k, to + k * f->itemsize, f->dtype, stream, f->by_instruction);
    else
        FL_(fl_store)(line, to, f->itemsize, f->dtype, n);
}

/* The derivatives of the target over those of the same loop as the others, where it is in the block and not written
 * past the caches. (Measured for 128 classes: a tenth less time than with a strip of its own.) */
FL_INLINE void FL_(finish_skipped)(const struct FL_(finish) * f, const struct fl_softmax_row *row, ptrdiff_t first,
                                   ptrdiff_t n)
{
    if (f->stream || f->logits || row->skip < first || row->skip >= first + n) return;
    FL_(fl_store_scalar)(f->g + row->skip * f->itemsize, f->dtype, f->skipped);
    if (f->hessian) FL_(fl_store_scalar)(f->hessian + row->skip * f->itemsize, f->dtype, (REAL)row->skipped_curve);
}

/* A step of the hessian, from exponentials. */
FL_INLINE void FL_(hessian_step)(const struct FL_(finish) * f, const REAL *e, REAL *h)
{
    const REAL curve = f->curve, bend = f->bend, over_total = f->over_total;
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
        FL_(hessian_step)(f, f->e + i, h);
        if (end - i >= FL_STEP)
            FL_(fl_step_out)(h, f->hessian + i * size, f->dtype, 0, 0);
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
        FL_(hessian_step)(f, f->e + from + k, h);
        FL_(fl_step_out)(h, f->hessian + (from + k) * fl_itemsize(dtype), dtype, 0, 0);
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
    if (left < FL_STRIP || mass == FL_LOGS || (f->skip >= from && f->skip < from + FL_STRIP)) {
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
            const REAL *weight = f->weight + from + k;
#pragma omp simd
            for (int l = 0; l < FL_STEP; l++) line[l] = FL_(scaled)(e[k + l], factor, least) - constant * weight[l];
        } else {
#pragma omp simd
            for (int l = 0; l < FL_STEP; l++) line[l] = FL_(scaled)(e[k + l], factor, least) - constant;
        }
        FL_(fl_step_out)(line, to + k * itemsize, dtype, f->stream, f->by_instruction);
    }
}

/* ---- a block of a row, and of the row before it ---- */

/* The strips of a row in sequence: what is read, and what is written. */
struct FL_(stream) {
    const char *x;        /* NULL: no row is summed */
    REAL *e;              /* its exponentials; NULL: they are not kept */
    const char *finished; /* exponentials of the row before, or logits of a log-softmax; NULL: none */
    char *g, *hessian;
    const REAL *weight, *finished_weight; /* of the classes from x, and from g on */
    ptrdiff_t strips;
};

/* The sums of a row: lanes of maxima, of exponentials, of the differences from the reference, and of
 * probabilities. */
struct FL_(lanes_of_sums) {
    REAL top[FL_STEP];
    double lane[FL_STEP], spread[FL_STEP], weights[FL_STEP];
};

/* The sums that a kind of mass has. (Measured for 128 classes: all of them take a tenth of the time, as gcc makes one
 * `rep stos` of them, which starts slowly.) */
FL_INLINE void FL_(start_sums)(struct FL_(lanes_of_sums) * to, int mass)
{
    for (int l = 0; l < FL_STEP; l++) to->top[l] = (REAL)-INFINITY;
    memset(to->lane, 0, sizeof to->lane);
    if (mass >= FL_EVEN) memset(to->spread, 0, sizeof to->spread);
    if (mass == FL_GIVEN) memset(to->weights, 0, sizeof to->weights);
}

/* Strips without a target, and without the end of a row. There is no call in this loop, so the constants stay in
 * registers. (Measured in cache: a tenth less time than strip by strip.) mass, sums, keeps, writes, streams and dtype
 * are constants of the caller. */
FL_INLINE void FL_(run_as)(struct FL_(stream) s, struct FL_(fl_power) power, const struct FL_(finish) * f,
                           struct FL_(lanes_of_sums) * to, int dtype, int mass, int sums, int keeps, int writes,
                           int streams)
{
    const REAL factor = writes ? f->factor : 0, least = writes ? f->least : 0;
    const REAL max = writes ? f->max : 0, logsum = writes ? f->logsum : 0;
    const REAL constant = writes ? f->rate * f->even : 0;
    const ptrdiff_t itemsize = fl_itemsize(dtype);
    for (ptrdiff_t i = 0; i < s.strips * FL_STRIP; i += FL_STRIP) {
        const char *x = s.x + i * itemsize;
        REAL buffer[FL_STRIP], strip[FL_STRIP], other[FL_STRIP], line[FL_STEP], *e = keeps ? s.e + i : strip;
        const REAL *values = buffer;
        const REAL *finished = other;
        if (writes && (mass != FL_LOGS || itemsize == (ptrdiff_t)sizeof(REAL)))
            finished = (const REAL *)(const void *)s.finished + i;
        else if (writes)
            FL_(fl_strip_in)(s.finished + i * itemsize, dtype, other);
        for (int k = 0; writes && mass == FL_CURVED && k < FL_STRIP; k += FL_STEP) {
            FL_(hessian_step)(f, finished + k, line);
            FL_(fl_step_out)(line, s.hessian + (i + k) * itemsize, dtype, 0, 0);
        }
        for (int k = 0; writes && k < FL_STRIP; k += FL_STEP) {
            if (mass == FL_LOGS)
#pragma omp simd
                for (int l = 0; l < FL_STEP; l++) line[l] = (finished[k + l] - max) - logsum;
            else
#pragma omp simd
                for (int l = 0; l < FL_STEP; l++) {
                    const REAL product = finished[k + l] * factor, kept = finished[k + l] < least ? (REAL)0 : product;
                    if (mass == FL_WEIGHTED)
                        line[l] = kept - constant * s.finished_weight[i + k + l];
                    else
                        line[l] = mass == FL_EVEN ? kept - constant : kept;
                }
            FL_(fl_step_out)(line, s.g + (i + k) * itemsize, dtype, streams, f->by_instruction);
        }
        if (!sums) continue;
        fl_prefetch_ahead(x, itemsize);
        if (itemsize == (ptrdiff_t)sizeof(REAL))
            values = (const REAL *)(const void *)x;
        else
            FL_(fl_strip_in)(x, dtype, buffer);
        FL_(exp_strip)(values, power, e, to->top);
        FL_(add_strip)(e, to->lane);
        if (mass == FL_EVEN || mass == FL_WEIGHTED)
            FL_(spread_strip)(values, mass == FL_WEIGHTED ? s.weight + i : NULL, power.reference, FL_STRIP,
                              to->spread);
    }
}

/* Whether strips of this kind are run. */
static inline int FL_(has_runs)(int mass) { return mass != FL_CAPPED && mass != FL_GIVEN; }

FL_INLINE void FL_(run)(struct FL_(stream) s, struct FL_(fl_power) power, const struct FL_(finish) * f,
                        struct FL_(lanes_of_sums) * to, int dtype, int mass)
{
    const int sums_of = mass == FL_LOGS || mass == FL_CURVED ? FL_NO_MASS : mass;
    if (!s.finished)
        if (s.e)
            FL_(run_as)(s, power, f, to, dtype, sums_of, 1, 1, 0, 0);
        else
            FL_(run_as)(s, power, f, to, dtype, sums_of, 1, 0, 0, 0);
    else if (!s.x)
        if (f->stream)
            FL_(run_as)(s, power, f, to, dtype, mass, 0, 0, 1, 1);
        else
            FL_(run_as)(s, power, f, to, dtype, mass, 0, 0, 1, 0);
    else if (f->stream)
        FL_(run_as)(s, power, f, to, dtype, mass, 1, mass != FL_LOGS, 1, 1);
    else
        FL_(run_as)(s, power, f, to, dtype, mass, 1, mass != FL_LOGS, 1, 0);
}

/* The number of strips from `from` on before the one that contains a position. */
static inline ptrdiff_t FL_(strips_before)(ptrdiff_t position, ptrdiff_t from)
{
    return position < from ? PTRDIFF_MAX : (position - from) / FL_STRIP;
}

static inline ptrdiff_t FL_(fewer)(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

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
    struct FL_(lanes_of_sums) to;
    REAL buffer[FL_STRIP], strip[FL_STRIP], capped[FL_STRIP];
    const char *x = NULL;
    REAL *exponentials = NULL;
    if (before) {
        ptrdiff_t head;
        finish = FL_(finish_of)(job, before);
        head = FL_(fewer)(finish.head, finish.classes);
        if (finish.hessian) { /* before its exponentials are replaced */
            const ptrdiff_t from = block == 0 ? 0 : first + finish.head, end = first + n + finish.head;
            const int is_last = first + n == finish.classes;
            if (mass != FL_CURVED)
                FL_(finish_hessian)(&finish, before, from, is_last || end > finish.classes ? finish.classes : end);
            else if (block == 0)
                FL_(finish_hessian)(&finish, before, 0, head);
        }
        if (block == 0 && finish.head > 0) FL_(finish_some)(&finish, 0, head, 0);
    }
    if (row) {
        power = row->power.FL_(of);
        x = row->input + first * stride;
        if (FL_(keeps_exponentials)(job)) exponentials = (REAL *)(void *)row->exponentials + first;
        FL_(start_sums)(&to, mass);
    }
    for (ptrdiff_t i = 0; i < n; i += FL_STRIP) {
        const ptrdiff_t left = n - i, here = row ? row->skip - first - i : -1;
        const REAL *values = buffer;
        REAL *e;
        if (FL_(has_runs)(mass) && (!row || stride == itemsize)) {
            struct FL_(stream) s = {NULL, NULL, NULL, NULL, NULL, NULL, NULL, left / FL_STRIP};
            if (row) {
                s.x = x + i * itemsize;
                s.e = exponentials ? exponentials + i : NULL;
                if (mass == FL_WEIGHTED) s.weight = FL_(weights_of)(&job->targets) + first + i;
                s.strips = FL_(fewer)(s.strips, FL_(strips_before)(row->skip, first + i));
            }
            if (before) {
                const ptrdiff_t from = first + i + finish.head;
                s.finished = mass == FL_LOGS ? finish.logits + from * itemsize : (const char *)(finish.e + from);
                s.g = finish.g + from * itemsize;
                if (mass == FL_WEIGHTED) s.finished_weight = finish.weight + from;
                if (mass == FL_CURVED) {
                    s.hessian = finish.hessian + from * itemsize;
                    s.strips = FL_(fewer)(s.strips, FL_(strips_before)(before->top, from));
                }
                s.strips = FL_(fewer)(s.strips, (finish.classes - from) / FL_STRIP);
                s.strips = FL_(fewer)(s.strips, FL_(strips_before)(finish.skip, from));
            }
            if (s.strips > 0) {
                FL_(run)(s, power, &finish, &to, dtype, mass);
                i += (s.strips - 1) * FL_STRIP;
                continue;
            }
        }
        if (before && mass == FL_CURVED) FL_(hessian_strip)(&finish, before, first + i + finish.head, dtype);
        if (before) FL_(finish_strip)(&finish, first + i + finish.head, dtype, mass);
        if (!row) continue;
        e = exponentials ? exponentials + i : strip;
        fl_prefetch_ahead(x + i * itemsize, itemsize);
        if (stride == itemsize && itemsize == (ptrdiff_t)sizeof(REAL) && left < FL_STRIP) {
            FL_(tail_in)((const REAL *)(const void *)(x + i * itemsize), left, buffer);
        } else if (left < FL_STRIP || stride != itemsize) {
            for (int l = 0; l < FL_STRIP; l++) buffer[l] = (REAL)-INFINITY;
            FL_(fl_load)(x + i * stride, stride, dtype, buffer, left < FL_STRIP ? left : (ptrdiff_t)FL_STRIP);
        } else if (itemsize == (ptrdiff_t)sizeof(REAL)) {
            values = (const REAL *)(const void *)(x + i * itemsize);
        } else {
            FL_(fl_strip_in)(x + i * itemsize, dtype, buffer);
        }
        if (mass == FL_CAPPED) {
            FL_(max_strip)(values, to.top);
            FL_(fl_capped_strip)(values, &row->cap, power, capped, e);
            e = capped;
        } else {
            FL_(exp_strip)(values, power, e, to.top);
        }
        if (here >= 0 && here < FL_STRIP) e[here] = 0;
        if (mass == FL_CAPPED && job->hessian.data && exponentials) memcpy(exponentials + i, e, sizeof capped);
        FL_(add_strip)(e, to.lane);
        if (mass == FL_GIVEN) {
            REAL shares[FL_STRIP];
            const REAL *a =
                FL_(given_of)(job, row->probabilities, first + i, left < FL_STRIP ? left : FL_STRIP, shares);
            FL_(given_strip)(values, a, power.reference, to.spread, to.weights);
        }
        if (mass == FL_EVEN) FL_(spread_strip)(values, NULL, power.reference, left, to.spread);
        if (mass == FL_WEIGHTED)
            FL_(spread_strip)(values, FL_(weights_of)(&job->targets) + first + i, power.reference, left, to.spread);
    }
    if (before) FL_(finish_skipped)(&finish, before, first, n);
    if (row) {
        double *partial = row->partial + block * FL_PARTIALS;
        partial[0] = (double)FL_(largest_of_lanes)(to.top);
        partial[1] = FL_(sum_of_lanes)(to.lane);
        partial[2] = mass >= FL_EVEN ? FL_(sum_of_lanes)(to.spread) : 0.0;
        partial[3] = mass == FL_GIVEN ? FL_(sum_of_lanes)(to.weights) : 0.0;
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
FL_SWEEP(sweep_logs, FL_LOGS)
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
    else if (job->operation == FL_LOG_SOFTMAX)
        FL_(sweep_logs)(job, row, before, block);
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
