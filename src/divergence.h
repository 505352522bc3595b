/* Divergences of softmax(x / T), the student q, from softmax(t / T), the teacher p, row by row, with their gradients.
 * Each of the two has its own T, and may have a softcap: then x are the capped logits, rounded to REAL, and the
 * gradient by x is multiplied by the slope of the cap, 1 - tanh(logit / softcap)^2. Likewise t.
 *
 * kernels.inc includes this file twice, after elementwise.h and blocks.h, whose maxima and sums it uses, and
 * columns.h.
 *
 * With dx = (x - max x) / T, Sx = sum e^dx, q = e^dx / Sx, likewise dt, St, p, and the logarithm of the ratio
 *
 *   r_j = log p_j - log q_j = dt_j - dx_j - c,   c = log St - log Sx
 *
 * in which only the maxima are subtracted from the inputs, so that r_j is small where the rows are close:
 *
 *   KL(p || q) = sum_j p_j r_j = sum_j e^dt_j (dt_j - dx_j) / St - c
 *   by x_j: (q_j - p_j) / T      by t_j: p_j (r_j - KL) / T
 *
 * The generalised Jensen-Shannon divergence, m = (1 - beta) q + beta p, with a_j = log(q_j / m_j), b_j = log(p_j /
 * m_j) and their means A = sum q a, B = sum p b:
 *
 *   JS = beta B + (1 - beta) A
 *   by x_j: (1 - beta) q_j (a_j - A) / T      by t_j: beta p_j (b_j - B) / T
 *
 * (the derivatives of log m cancel, as m is the mean.) Of the two probabilities hi is the larger and lo the smaller.
 * Only the logarithm of hi is computed: log(m / hi) = log(1 + k (lo - hi) / hi), exactly 0 where they are equal; the
 * other differs from it by r. With s_j = sign(q_j - p_j), total variation is
 *
 *   TV = 1/2 sum_j |q_j - p_j|,   by x_j: q_j (s_j - sum q s) / 2T,   by t_j: -p_j (s_j - sum p s) / 2T
 *
 * Close rows are distinguished to rounding: in float32 the error of a divergence is at most 1e-6, or 2e-6 of its
 * value.
 *
 * A class without probability contributes 0 for any logarithm. A divergence is never negative: a result that
 * rounding makes negative is set to 0.
 *
 * Rows of few classes are computed in groups: see divergence_short.h. A longer row takes four passes over its blocks
 * (FL_MAXIMA .. FL_GRADIENTS), of which KL omits the third, and a call without gradients the last. Between passes the
 * row stays in the second-level cache. */

/* The rows of the scratch: exponentials of student and teacher; q a and p b; of a job with a softcap also the capped
 * logits and the slopes, of the student before those of the teacher. */
enum { FL_(x_exponentials), FL_(t_exponentials), FL_(x_terms), FL_(t_terms), FL_(capped_rows) };
enum { FL_(slope_rows) = FL_(capped_rows) + 2, FL_(most_rows) = FL_(slope_rows) + 2 };
/* Of the FL_BUFFERS of a block; FL_(divergence_gradients) has the remaining ones. */
enum { FL_(x_buffer), FL_(t_buffer), FL_(before_buffer), FL_(free_buffers) };
enum { FL_(divergence_buffer_bytes) = FL_BUFFERS * FL_BLOCK * (int)sizeof(REAL) };

static inline int FL_(has_gradients)(const struct fl_divergence_job *job)
{
    return job->rows.output.data != NULL || job->t_gradient.data != NULL;
}

static inline ptrdiff_t FL_(row_bytes)(const struct fl_divergence_job *job)
{
    return (job->rows.classes * (ptrdiff_t)sizeof(REAL) + 63) / 64 * 64;
}

static inline int FL_(is_capped)(const struct fl_divergence_job *job)
{
    return job->x_map.softcap > 0.0 || job->t_map.softcap > 0.0;
}

/* Bytes of all rows of the scratch. */
static inline ptrdiff_t FL_(bytes_of_rows)(const struct fl_divergence_job *job)
{
    return (FL_(is_capped)(job) ? FL_(most_rows) : FL_(capped_rows)) * FL_(row_bytes)(job);
}

static inline ptrdiff_t FL_(divergence_blocks)(const struct fl_divergence_job *job)
{
    return (job->rows.classes + FL_BLOCK - 1) / FL_BLOCK;
}

/* (Measured on a Zen 5, AVX-512 and AVX2: from there on, single rows take less time.) */
static inline int FL_(has_short_rows)(const struct fl_divergence_job *job)
{
    const ptrdiff_t most = sizeof(REAL) == sizeof(float) ? 512 : 192;
    return job->rows.classes <= (fl_has_adjacent_rows(&job->rows.input) ? (ptrdiff_t)FL_MIDDLE_ROW : most);
}

/* Columns of x, t, their exponentials, two results and slopes, and room for rows: see divergence_short.h. */
static inline ptrdiff_t FL_(short_scratch)(const struct fl_divergence_job *job)
{
    return 9 * FL_LANES * job->rows.classes * (ptrdiff_t)sizeof(REAL);
}

static ptrdiff_t FL_(divergence_scratch)(const struct fl_divergence_job *job)
{
    const ptrdiff_t partials = FL_(divergence_blocks)(job) * FL_PARTIALS * (ptrdiff_t)sizeof(double);
    if (FL_(has_short_rows)(job)) return FL_(short_scratch)(job);
    return FL_(bytes_of_rows)(job) + (partials + 63) / 64 * 64 + FL_(divergence_buffer_bytes);
}

static void FL_(divergence_start)(const struct fl_divergence_job *job, struct fl_divergence_row *row, ptrdiff_t index,
                                  void *scratch)
{
    row->index = index;
    row->x = fl_row_address(&job->rows.input, index);
    row->t = fl_row_address(&job->t, index);
    row->next_x = row->next_t = NULL;
    row->scratch = (char *)scratch;
    row->partial = (double *)(void *)((char *)scratch + FL_(bytes_of_rows)(job));
}

static inline REAL *FL_(scratch_row)(const struct fl_divergence_job *job, const struct fl_divergence_row *row,
                                     int which, ptrdiff_t first)
{
    return (REAL *)(void *)(row->scratch + which * FL_(row_bytes)(job)) + first;
}

/* ---- formulas of an element, for long and short rows ---- */

/* Clipped to the range of the type, so that its product with 0 is 0. */
static inline REAL FL_(finite)(double x)
{
    const double most = sizeof(REAL) == sizeof(float) ? (double)FLT_MAX : DBL_MAX;
    return (REAL)(x > most ? most : (x < -most ? -most : x));
}

/* e^dt (dt - dx), 0 where e^dt is. */
FL_INLINE REAL FL_(kl_term)(REAL et, REAL dt, REAL dx)
{
    const REAL product = et * (dt - dx);
    return FL_(fl_select)(et == 0, (REAL)0, product);
}

/* q a and p b of the Jensen-Shannon divergence; of_t is beta, of_x 1 - beta. */
struct FL_(mixture) {
    REAL qa, pb;
};

FL_INLINE struct FL_(mixture) FL_(mixture_term)(REAL q, REAL p, REAL r, REAL of_x, REAL of_t)
{
    const REAL least = sizeof(REAL) == sizeof(float) ? (REAL)FLT_MIN : (REAL)DBL_MIN;
    const int teacher = p >= q;
    const REAL high = teacher ? p : q, low = teacher ? q : p;
    const REAL share = teacher ? of_x : of_t, rest = teacher ? of_t : of_x;
    const REAL l = FL_(fl_log_quotient)(high > least ? high : least, rest * high + share * low, share * (low - high));
    const REAL of_high = (REAL)0 - l, a = teacher ? of_high - r : of_high, b = teacher ? of_high : r - l;
    const REAL by_q = q * a, by_p = p * b;
    const struct FL_(mixture)
        term = {FL_(fl_select)(q < least, (REAL)0, by_q), FL_(fl_select)(p < least, (REAL)0, by_p)};
    return term;
}

/* The gradients of KL, by x and by t; the rates contain the sums. */
FL_INLINE REAL FL_(kl_by_x)(REAL x, REAL ex, REAL et, REAL x_rate, REAL t_rate)
{
    const REAL gradient = ex * x_rate - et * t_rate;
    return FL_(fl_select)(x == (REAL)-INFINITY, (REAL)0, gradient);
}

FL_INLINE REAL FL_(kl_by_t)(REAL et, REAL dt, REAL dx, REAL t_rate, REAL level)
{
    const REAL product = et * t_rate * ((dt - dx) - level);
    return FL_(fl_select)(et == 0, (REAL)0, product);
}

/* The capped logits, computed in double and rounded once: an error of theirs is an error of the exponent. A class at
 * -inf stays masked. slope may be NULL, and capped may be x. */
static void FL_(cap)(const REAL *x, double softcap, REAL *capped, REAL *slope, ptrdiff_t n)
{
    const double over = fl_over(softcap);
    if (slope) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            const struct fl_bend bend = fl_bend_of_f64((double)x[i] * over);
            const REAL value = (REAL)(softcap * bend.tanh);
            slope[i] = (REAL)bend.slope;
            capped[i] = x[i] == (REAL)-INFINITY ? x[i] : value;
        }
        return;
    }
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL value = (REAL)(softcap * fl_bend_of_f64((double)x[i] * over).tanh);
        capped[i] = x[i] == (REAL)-INFINITY ? x[i] : value;
    }
}

static void FL_(times_slope)(REAL *g, const REAL *slope, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) g[i] *= slope[i];
}

/* c = log(St / Sx). */
FL_INLINE double FL_(log_of_sums)(double x_sum, double t_sum)
{
    const double quotient = t_sum / x_sum;
    return fl_log_of_f64(quotient, quotient - 1.0);
}

/* ---- long rows ---- */

static void FL_(scaled_differences)(const REAL *x, double max, double temperature, REAL *d, ptrdiff_t n)
{
    const REAL shift = (REAL)max, rate = FL_(finite)(1.0 / temperature);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) d[i] = (x[i] - shift) * rate;
}

/* A block of the logits of the student (0) or the teacher (1), capped where they have a softcap: then the pass of the
 * maxima has written it. */
static const REAL *FL_(logits_of)(const struct fl_divergence_job *job, const struct fl_divergence_row *row, int which,
                                  ptrdiff_t first, REAL *buffer, ptrdiff_t n)
{
    if ((which ? &job->t_map : &job->x_map)->softcap > 0.0)
        return FL_(scratch_row)(job, row, FL_(capped_rows) + which, first);
    return FL_(block_of)(which ? &job->t : &job->rows.input, which ? row->t : row->x, first, buffer, n);
}

/* The largest of a block, which is capped before. */
static REAL FL_(max_of)(const struct fl_divergence_job *job, const struct fl_divergence_row *row, int which,
                        ptrdiff_t first, REAL *buffer, ptrdiff_t n)
{
    const struct fl_array *in = which ? &job->t : &job->rows.input;
    const struct fl_array *gradient = which ? &job->t_gradient : &job->rows.output;
    const double softcap = (which ? &job->t_map : &job->x_map)->softcap;
    if (softcap > 0.0)
        FL_(cap)(FL_(block_of)(in, which ? row->t : row->x, first, buffer, n), softcap,
                 FL_(scratch_row)(job, row, FL_(capped_rows) + which, first),
                 gradient->data ? FL_(scratch_row)(job, row, FL_(slope_rows) + which, first) : NULL, n);
    return FL_(block_max)(FL_(logits_of)(job, row, which, first, buffer, n), n);
}

/* dx and dt of a block. */
static void FL_(both_differences)(const struct fl_divergence_job *job, const struct fl_divergence_row *row,
                                  ptrdiff_t first, REAL *dx, REAL *dt, ptrdiff_t n)
{
    FL_(scaled_differences)(FL_(logits_of)(job, row, 0, first, dx, n), row->x_max, job->x_map.temperature, dx, n);
    FL_(scaled_differences)(FL_(logits_of)(job, row, 1, first, dt, n), row->t_max, job->t_map.temperature, dt, n);
}

/* Prefetches the same elements of the next row (NULL: none), while the exponentials leave the memory idle.
 */
static inline void FL_(fetch)(const char *next, ptrdiff_t first, ptrdiff_t n, ptrdiff_t itemsize)
{
#if defined(__GNUC__)
    for (ptrdiff_t i = first * itemsize; next && i < (first + n) * itemsize; i += 64)
        __builtin_prefetch(next + i, 0, 2);
#else
    (void)next, (void)first, (void)n, (void)itemsize;
#endif
}

/* For KL, dt becomes e^dt (dt - dx). */
static void FL_(exponentials_of_strip)(int is_kl, const REAL *dx, REAL *dt, REAL *ex, REAL *et, ptrdiff_t n)
{
    if (is_kl) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            const REAL e = FL_(fl_exp_nonpositive)(dt[i]);
            ex[i] = FL_(fl_exp_nonpositive)(dx[i]);
            et[i] = e;
            dt[i] = FL_(kl_term)(e, dt[i], dx[i]);
        }
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            ex[i] = FL_(fl_exp_nonpositive)(dx[i]);
            et[i] = FL_(fl_exp_nonpositive)(dt[i]);
        }
    }
}

static void FL_(exponentials)(const struct fl_divergence_job *job, const struct fl_divergence_row *row,
                              ptrdiff_t first, ptrdiff_t n, double *partial, REAL *buffers)
{
    REAL *dx = buffers, *dt = buffers + FL_BLOCK;
    REAL *ex = FL_(scratch_row)(job, row, FL_(x_exponentials), first),
         *et = FL_(scratch_row)(job, row, FL_(t_exponentials), first);
    const int is_kl = job->operation == FL_KL;
    FL_(both_differences)(job, row, first, dx, dt, n);
    for (ptrdiff_t strip = 0; strip < n; strip += 256) {
        const ptrdiff_t length = n - strip < 256 ? n - strip : 256;
        FL_(fetch)(row->next_x, first + strip, length, job->rows.input.itemsize);
        FL_(fetch)(row->next_t, first + strip, length, job->t.itemsize);
        FL_(exponentials_of_strip)(is_kl, dx + strip, dt + strip, ex + strip, et + strip, length);
    }
    if (is_kl) partial[2] = FL_(block_sum)(dt, n);
    partial[0] = FL_(block_sum)(ex, n);
    partial[1] = FL_(block_sum)(et, n);
}

static void FL_(mixture_terms)(const struct fl_divergence_job *job, const struct fl_divergence_row *row,
                               ptrdiff_t first, ptrdiff_t n, double *partial, REAL *buffers)
{
    const REAL over_x = (REAL)(1.0 / row->x_sum), over_t = (REAL)(1.0 / row->t_sum), c = (REAL)row->c;
    const REAL of_t = (REAL)job->beta, of_x = (REAL)(1.0 - job->beta);
    REAL *dx = buffers, *dt = buffers + FL_BLOCK;
    const REAL *ex = FL_(scratch_row)(job, row, FL_(x_exponentials), first),
               *et = FL_(scratch_row)(job, row, FL_(t_exponentials), first);
    REAL *qa = FL_(scratch_row)(job, row, FL_(x_terms), first), *pb = FL_(scratch_row)(job, row, FL_(t_terms), first);
    FL_(both_differences)(job, row, first, dx, dt, n);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL q = ex[i] * over_x, p = et[i] * over_t, r = (dt[i] - dx[i]) - c;
        const struct FL_(mixture) term = FL_(mixture_term)(q, p, r, of_x, of_t);
        qa[i] = term.qa;
        pb[i] = term.pb;
    }
    partial[0] = FL_(block_sum)(qa, n);
    partial[1] = FL_(block_sum)(pb, n);
}

static void FL_(variation_terms)(const struct fl_divergence_job *job, const struct fl_divergence_row *row,
                                 ptrdiff_t first, ptrdiff_t n, double *partial, REAL *buffers)
{
    const REAL over_x = (REAL)(1.0 / row->x_sum), over_t = (REAL)(1.0 / row->t_sum);
    const REAL *ex = FL_(scratch_row)(job, row, FL_(x_exponentials), first),
               *et = FL_(scratch_row)(job, row, FL_(t_exponentials), first);
    REAL *qs = buffers, *ps = buffers + FL_BLOCK, *distance = buffers + 2 * FL_BLOCK;
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL q = ex[i] * over_x, p = et[i] * over_t, sign = FL_(fl_sign)(q - p);
        qs[i] = q * sign;
        ps[i] = p * sign;
        distance[i] = (q - p) * sign;
    }
    partial[0] = FL_(block_sum)(qs, n);
    partial[1] = FL_(block_sum)(ps, n);
    partial[2] = FL_(block_sum)(distance, n);
}

/* The gradients of a block, of the student at gx and of the teacher at gt (NULL: not wanted). gx may be the input. */
static void FL_(divergence_gradients)(const struct fl_divergence_job *job, const struct fl_divergence_row *row,
                                      ptrdiff_t first, ptrdiff_t n, REAL *gx, REAL *gt, REAL *buffers)
{
    const double upstream = fl_upstream(&job->rows, row->index);
    const double x_rate = upstream / job->x_map.temperature, t_rate = upstream / job->t_map.temperature;
    const REAL *ex = FL_(scratch_row)(job, row, FL_(x_exponentials), first),
               *et = FL_(scratch_row)(job, row, FL_(t_exponentials), first);
    const REAL *qa = FL_(scratch_row)(job, row, FL_(x_terms), first),
               *pb = FL_(scratch_row)(job, row, FL_(t_terms), first);
    const REAL x_mean = (REAL)row->x_mean, t_mean = (REAL)row->t_mean;
    const REAL *x = FL_(logits_of)(job, row, 0, first, buffers, n);
    if (job->operation == FL_KL && gt) {
        const REAL factor = FL_(finite)(t_rate / row->t_sum), level = (REAL)(row->c + row->loss);
        REAL *dx = buffers + FL_BLOCK, *dt = buffers + 2 * FL_BLOCK;
        FL_(both_differences)(job, row, first, dx, dt, n);
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) gt[i] = FL_(kl_by_t)(et[i], dt[i], dx[i], factor, level);
    }
    if (job->operation == FL_KL && gx) {
        const REAL of_x = FL_(finite)(x_rate / row->x_sum), of_t = FL_(finite)(x_rate / row->t_sum);
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) gx[i] = FL_(kl_by_x)(x[i], ex[i], et[i], of_x, of_t);
    }
    if (job->operation == FL_JS) {
        const REAL x_factor = FL_(finite)((1.0 - job->beta) * x_rate), t_factor = FL_(finite)(job->beta * t_rate);
        const REAL over_x = (REAL)(1.0 / row->x_sum), over_t = (REAL)(1.0 / row->t_sum);
        if (gx)
#pragma omp simd
            for (ptrdiff_t i = 0; i < n; i++) gx[i] = (qa[i] - ex[i] * over_x * x_mean) * x_factor;
        if (gt)
#pragma omp simd
            for (ptrdiff_t i = 0; i < n; i++) gt[i] = (pb[i] - et[i] * over_t * t_mean) * t_factor;
    }
    if (job->operation == FL_TV) {
        const REAL over_x = (REAL)(1.0 / row->x_sum), over_t = (REAL)(1.0 / row->t_sum);
        const REAL x_half = FL_(finite)(0.5 * x_rate), t_half = FL_(finite)(0.5 * t_rate);
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            const REAL q = ex[i] * over_x, p = et[i] * over_t, sign = FL_(fl_sign)(q - p);
            if (gx) gx[i] = q * (sign - x_mean) * x_half;
            if (gt) gt[i] = p * (t_mean - sign) * t_half;
        }
    }
    if (gx && job->x_map.softcap > 0.0) FL_(times_slope)(gx, FL_(scratch_row)(job, row, FL_(slope_rows), first), n);
    if (gt && job->t_map.softcap > 0.0)
        FL_(times_slope)(gt, FL_(scratch_row)(job, row, FL_(slope_rows) + 1, first), n);
}

static void FL_(put_gradients)(const struct fl_divergence_job *job, const struct fl_array *out, char *row,
                               ptrdiff_t first, ptrdiff_t n, REAL *g, int accumulate, REAL *buffer)
{
    char *destination = row + first * out->class_stride;
    if (accumulate) {
        const REAL *before = FL_(block_of)(out, row, first, buffer, n);
        for (ptrdiff_t i = 0; i < n; i++) g[i] += before[i];
    }
    if (FL_(is_direct)(out) && job->rows.stream)
        fl_stream(destination, (const char *)g, n * out->itemsize);
    else if ((char *)g != destination)
        FL_(fl_store)(g, destination, out->class_stride, out->dtype, n);
}

static void FL_(divergence_finish)(const struct fl_divergence_job *job, const struct fl_divergence_row *row,
                                   ptrdiff_t first, ptrdiff_t n, REAL *buffers)
{
    const struct fl_array *ox = &job->rows.output, *ot = &job->t_gradient;
    REAL *x_buffer = buffers + FL_(x_buffer) * FL_BLOCK, *t_buffer = buffers + FL_(t_buffer) * FL_BLOCK;
    REAL *before = buffers + FL_(before_buffer) * FL_BLOCK, *more = buffers + FL_(free_buffers) * FL_BLOCK;
    REAL *gx = ox->data ? x_buffer : NULL, *gt = ot->data ? t_buffer : NULL;
    char *x_row = gx ? fl_row_address(ox, row->index) : NULL, *t_row = gt ? fl_row_address(ot, row->index) : NULL;
    /* Both are computed before either is written: in place, they overwrite the values that they are computed
     * from. */
    if (gx && !gt && FL_(is_direct)(ox) && !(job->rows.accumulate & 1) && !job->rows.stream)
        gx = (REAL *)(void *)x_row + first;
    if (row->loss == row->loss)
        FL_(divergence_gradients)(job, row, first, n, gx, gt, more);
    else
        for (ptrdiff_t i = 0; i < n; i++) {
            if (gx) gx[i] = (REAL)NAN;
            if (gt) gt[i] = (REAL)NAN;
        }
    if (gx) FL_(put_gradients)(job, ox, x_row, first, n, gx, job->rows.accumulate & 1, before);
    if (gt) FL_(put_gradients)(job, ot, t_row, first, n, gt, job->rows.accumulate & 2, before);
}

/* One block of a pass. */
static void FL_(divergence_block)(const struct fl_divergence_job *job, struct fl_divergence_row *row, int pass,
                                  ptrdiff_t block, void *room)
{
    const ptrdiff_t first = block * FL_BLOCK, left = job->rows.classes - first, n = left < FL_BLOCK ? left : FL_BLOCK;
    double *partial = row->partial + block * FL_PARTIALS;
    REAL *buffers = (REAL *)room;
    if (pass == FL_MAXIMA) {
        partial[0] = (double)FL_(max_of)(job, row, 0, first, buffers, n);
        partial[1] = (double)FL_(max_of)(job, row, 1, first, buffers, n);
    } else if (pass == FL_EXPONENTIALS) {
        FL_(exponentials)(job, row, first, n, partial, buffers);
    } else if (pass == FL_TERMS) {
        if (job->operation == FL_JS) FL_(mixture_terms)(job, row, first, n, partial, buffers);
        if (job->operation == FL_TV) FL_(variation_terms)(job, row, first, n, partial, buffers);
    } else {
        FL_(divergence_finish)(job, row, first, n, buffers);
    }
}

/* The values that follow from all blocks of a pass. */
static void FL_(divergence_settle)(const struct fl_divergence_job *job, struct fl_divergence_row *row, int pass)
{
    const ptrdiff_t blocks = FL_(divergence_blocks)(job);
    double sum[3] = {0};
    if (pass == FL_MAXIMA) {
        row->x_max = row->t_max = -INFINITY;
        for (ptrdiff_t block = 0; block < blocks; block++) {
            const double *partial = row->partial + block * FL_PARTIALS;
            row->x_max = partial[0] > row->x_max ? partial[0] : row->x_max;
            row->t_max = partial[1] > row->t_max ? partial[1] : row->t_max;
        }
        return;
    }
    if (pass == FL_GRADIENTS || (pass == FL_TERMS && job->operation == FL_KL)) return;
    for (int k = 0; k < 3; k++)
        if (k < 2 || (job->operation == FL_KL) == (pass == FL_EXPONENTIALS))
            sum[k] = FL_(sum_of_blocks)(row->partial, blocks, k);
    if (pass == FL_EXPONENTIALS) {
        row->x_sum = sum[0];
        row->t_sum = sum[1];
        row->c = FL_(log_of_sums)(row->x_sum, row->t_sum);
        row->loss = sum[2] / row->t_sum - row->c;
    } else {
        row->x_mean = sum[0];
        row->t_mean = sum[1];
        row->loss = job->operation == FL_TV ? 0.5 * sum[2] : job->beta * sum[1] + (1.0 - job->beta) * sum[0];
    }
    if (row->loss <= 0.0) row->loss = 0.0;
    /* A NaN sum makes the row NaN for every divergence. */
    if (row->x_sum != row->x_sum || row->t_sum != row->t_sum) row->loss = (double)NAN;
}

static void FL_(clear_gradients)(const struct fl_divergence_job *job, ptrdiff_t index)
{
    if (!(job->rows.accumulate & 1)) FL_(clear_row)(&job->rows.output, index, job->rows.classes);
    if (!(job->rows.accumulate & 2)) FL_(clear_row)(&job->t_gradient, index, job->rows.classes);
}

/* Rows begin .. end - 1, in order; returns the sum of their losses. */
static struct fl_piece FL_(divergence_long_rows)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_divergence_job *job = (const struct fl_divergence_job *)any;
    const ptrdiff_t blocks = FL_(divergence_blocks)(job);
    char *buffers = (char *)scratch + FL_(divergence_scratch)(job) - FL_(divergence_buffer_bytes);
    double total = 0.0;
    for (ptrdiff_t index = begin; index < end; index++) {
        struct fl_divergence_row row;
        if (job->counted && !job->counted[index]) {
            FL_(clear_gradients)(job, index);
            if (job->rows.losses) job->rows.losses[index] = 0.0;
            continue;
        }
        FL_(divergence_start)(job, &row, index, scratch);
        if (index + 1 < end && job->rows.input.class_stride == job->rows.input.itemsize)
            row.next_x = fl_row_address(&job->rows.input, index + 1);
        if (index + 1 < end && job->t.class_stride == job->t.itemsize)
            row.next_t = fl_row_address(&job->t, index + 1);
        for (int pass = FL_MAXIMA; pass <= FL_GRADIENTS; pass++) {
            if (pass == FL_TERMS && job->operation == FL_KL) continue;
            if (pass == FL_GRADIENTS && !FL_(has_gradients)(job)) continue;
            for (ptrdiff_t block = 0; block < blocks; block++) {
                if (fl_stops_at(block * FL_BLOCK)) return fl_faultless(total);
                FL_(divergence_block)(job, &row, pass, block, buffers);
            }
            FL_(divergence_settle)(job, &row, pass);
        }
        if (job->rows.losses) job->rows.losses[index] = row.loss;
        total += row.loss;
    }
    if (job->rows.stream) fl_stream_end();
    return fl_faultless(total);
}
