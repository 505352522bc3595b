/* The softmax family: cross-entropy with its gradient, softmax, log-softmax, log-sum-exp.
 *
 * kernels.inc includes this file twice, with REAL (float or double, the type of the computation) and FL_(name) (the
 * name with its suffix) defined.
 *
 * A row takes three passes: the maximum; the exponentials, written to the place of the gradient, and their sum; and
 * scaling in place. Each element needs one exponential, and the row stays in the second-level cache between passes.
 * (Measured: computing the exponential twice costs a third more.) If the gradient is written past the caches, the
 * exponentials are kept in a scratch row instead.
 *
 * Meanings. x are the inputs, C their number, u = softcap(x) = c tanh(x / c) (monotone, so the maximum can be
 * taken first), z = u / T, d = z - max z <= 0, lse = max z + logsum, logsum = log sum exp d. With class weights
 * w, sample weight s, smoothing eps, z-loss factor l:
 *
 *   class y:          loss = s [k (logsum - d_y) + sum_j a_j (logsum - d_j) + w_y l lse^2]
 *                     k = (1 - eps) w_y,  a_j = eps / C w_j
 *   probabilities q:  loss = s [sum_j a_j (logsum - d_j) + l lse^2],  a_j = w_j ((1 - eps) q_j + eps / C)
 *
 * With p = exp(d) / sum exp(d), d logsum / dz_j = d lse / dz_j = p_j. So, with A = sum_j a_j (the mass),
 *
 *   dloss/dz_j = s [(k + A + 2 w_y l lse) p_j - a_j - k (j = y)]        (w_y is 1 with probabilities)
 *   dloss/dx_j = dloss/dz_j / T * (1 - tanh(x_j / c)^2)
 *
 * Confident rows. One element, `skip`, is left out of the sum: the target, or the maximum if there is no class
 * target. With rest = the sum of the others, logsum = log1p(rest) where skip is the maximum, so a loss of 1e-13
 * keeps its digits. The gradient at skip is computed without p - 1 (S = sum exp d, p = 1 - rest / S, A - a_skip
 * summed without a_skip; k is 0 with probabilities):
 *
 *   (k + A + 2 w_y l lse) p - a_skip - k = (A - a_skip) - (k + A) rest / S + 2 w_y l lse p
 *
 * (the right-hand side where p > 1/2, the left-hand side elsewhere).
 *
 * The diagonal of the hessian. With dp_j / dz_j = p_j (1 - p_j), where at skip 1 - p = rest / S (and at the maximum,
 * the only other element where p may be nearly 1, 1 - p is the sum of the others over S, computed without it),
 *
 *   d2loss/dz_j^2 = s [(k + A + 2 w_y l lse) p_j (1 - p_j) + 2 w_y l p_j^2]
 *   d2loss/dx_j^2 = d2loss/dz_j^2 (u'/T)^2 + dloss/dz_j u''/T,   u' = 1 - tanh(x/c)^2, u'' = -2/c tanh(x/c) u'
 *
 * A band of a longer row. The exponentials of the classes outside the band, known by their lse, are added to the sum
 * of the others (rest). The terms k, a and 2 w_y l lse of the factor of p_j that belong to classes outside the band
 * are added to A.
 *
 * The entropy H = -sum_j p_j log p_j = logsum - D with D = sum_j p_j d_j <= 0 (two terms of one sign, neither of
 * which is rounded away in a confident row), and, as log p_j = d_j - logsum,
 *
 *   dH/dz_j = -p_j (log p_j + H) = p_j (D - d_j)
 *
 * Precision: exponentials and sums of four of them are REAL, longer sums are double; the values of a whole row
 * (losses, logarithms, scales) are double.
 */

/* ---- over a block ---- */

static inline REAL FL_(larger)(REAL a, REAL b) { return a > b ? a : b; }

/* The largest of sixteen, by loops of constant length: gcc does not unroll a loop over the widths. */
FL_INLINE REAL FL_(largest_of_lanes)(REAL *lane)
{
    for (int l = 0; l < 8; l++) lane[l] = FL_(larger)(lane[l], lane[l + 8]);
    for (int l = 0; l < 4; l++) lane[l] = FL_(larger)(lane[l], lane[l + 4]);
    return FL_(larger)(FL_(larger)(lane[0], lane[2]), FL_(larger)(lane[1], lane[3]));
}

/* The sum over the lanes, in a fixed order. */
static double FL_(sum_of_lanes)(double lane[FL_LANES])
{
    for (int l = 0; l < 8; l++) lane[l] += lane[l + 8];
    for (int l = 0; l < 4; l++) lane[l] += lane[l + 4];
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

static REAL FL_(block_max)(const REAL *x, ptrdiff_t n)
{
    REAL lane[64];
    ptrdiff_t i = 0;
    if (n < 32) { /* the lanes take longer for so few (measured: a fifth of the divergence of ten classes) */
        REAL max = (REAL)-INFINITY;
        for (; i < n; i++) max = x[i] > max ? x[i] : max;
        return max;
    }
    for (int l = 0; l < 64; l++) lane[l] = (REAL)-INFINITY;
    for (; i + 64 <= n; i += 64)
#pragma omp simd
        for (int l = 0; l < 64; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (int l = 0; i < n; i++, l++) lane[l] = x[i] > lane[l] ? x[i] : lane[l];
    for (int l = 0; l < 32; l++) lane[l] = FL_(larger)(lane[l], lane[l + 32]);
    for (int l = 0; l < 16; l++) lane[l] = FL_(larger)(lane[l], lane[l + 16]);
    return FL_(largest_of_lanes)(lane);
}

/* In a fixed order: sixteen lanes of double, each of which adds sums of four. */
static double FL_(block_sum)(const REAL *x, ptrdiff_t n)
{
    double lane[16] = {0};
    REAL tail[64] = {0};
    ptrdiff_t i = 0;
    for (; i + 64 <= n; i += 64)
#pragma omp simd
        for (int l = 0; l < 16; l++)
            lane[l] += (double)((x[i + l] + x[i + 16 + l]) + (x[i + 32 + l] + x[i + 48 + l]));
    if (i < n) {
        memcpy(tail, x + i, (size_t)(n - i) * sizeof(REAL));
#pragma omp simd
        for (int l = 0; l < 16; l++) lane[l] += (double)((tail[l] + tail[16 + l]) + (tail[32 + l] + tail[48 + l]));
    }
    return FL_(sum_of_lanes)(lane);
}

/* e may be x. */
static inline void FL_(block_exp)(const REAL *x, REAL max, REAL *e, ptrdiff_t n)
{
    const struct FL_(fl_shift) shift = FL_(fl_shift_of)(max);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) e[i] = FL_(fl_exp_difference)(x[i], shift);
}

/* sum_j a_j (x_j - max), in double; a class without weight contributes 0, even at -inf. Lanes as above. */
static double FL_(block_dot)(const REAL *a, const REAL *x, double max, ptrdiff_t n)
{
    double lane[16] = {0};
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16)
#pragma omp simd
        for (int l = 0; l < 16; l++) lane[l] += a[i + l] == 0 ? 0.0 : (double)a[i + l] * ((double)x[i + l] - max);
    for (int l = 0; i < n; i++, l++) lane[l] += a[i] == 0 ? 0.0 : (double)a[i] * ((double)x[i] - max);
    return FL_(sum_of_lanes)(lane);
}

/* From and to bfloat16 without an intermediate buffer, which would cost a tenth of the time. */
static inline void FL_(block_exp_bfloat16)(const uint16_t *x, REAL max, REAL *e, ptrdiff_t n)
{
    const struct FL_(fl_shift) shift = FL_(fl_shift_of)(max);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) e[i] = FL_(fl_exp_difference)((REAL)fl_float_from_bfloat16(x[i]), shift);
}

/* An exponential times a factor; 0 where the exponential is under `least`. */
static inline REAL FL_(scaled)(REAL e, REAL factor, REAL least) { return (e < least ? (REAL)0 : e) * factor; }

/* The exponential whose product with a factor is the smallest normal number, or 1e-12 of a gradient of the same row,
 * if that is less. Smaller exponentials count as 0: a subnormal product takes a hundred cycles on many processors,
 * and in a row of wide logits most products would be subnormal. (Measured: 18 ms instead of 4.) */
static inline REAL FL_(least_for)(REAL factor, REAL gradient)
{
    const REAL normal = sizeof(REAL) == sizeof(float) ? (REAL)FLT_MIN : (REAL)DBL_MIN;
    const REAL share = (gradient < 0 ? -gradient : gradient) * (REAL)1e-12;
    return (share < normal ? share : normal) / (factor < 0 ? -factor : factor);
}

static inline void FL_(block_scale_bfloat16)(const REAL *e, REAL factor, REAL least, uint16_t *g, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) g[i] = fl_bfloat16_from_float((float)FL_(scaled)(e[i], factor, least));
}

/* Exponentials of n elements x of a row (NULL: of the bfloat16 at h). Meanwhile the same part of the next row (NULL:
 * none; `bytes` in all) is prefetched, because exponentials leave the memory idle. (Measured at 32000 classes: loss
 * alone 20 %, in place 10 %, bfloat16 15 % less time.) */
static void FL_(block_exp_prefetching)(const REAL *x, const uint16_t *h, REAL max, REAL *e, ptrdiff_t n,
                                       const char *next, ptrdiff_t bytes)
{
    ptrdiff_t fetched = 0;
    for (ptrdiff_t strip = 0; strip < n; strip += 256) {
        const ptrdiff_t end = n - strip < 256 ? n : strip + 256;
#if defined(__GNUC__)
        for (; next && fetched < bytes * end / n; fetched += 64) __builtin_prefetch(next + fetched, 0, 2);
#endif
        if (x)
            FL_(block_exp)(x + strip, max, e + strip, end - strip);
        else
            FL_(block_exp_bfloat16)(h + strip, max, e + strip, end - strip);
    }
}

/* ---- options of a job ---- */

static inline int FL_(has_mass)(const struct fl_softmax_job *job)
{
    return job->targets.probabilities.data != NULL || job->targets.smoothing > 0.0;
}

/* Whether rows can be used in place: of type REAL, and contiguous. */
static inline int FL_(is_direct)(const struct fl_array *array)
{
    return array->itemsize == (ptrdiff_t)sizeof(REAL) && array->class_stride == (ptrdiff_t)sizeof(REAL);
}

static inline int FL_(is_packed_bfloat16)(const struct fl_array *array)
{
    return array->dtype == FL_BFLOAT16 && array->class_stride == 2;
}

/* Whether a job goes through fused.h: cross-entropy with a class for each long row. A temperature beyond the range of
 * float is left to the kernels of double. */
static int FL_(is_fused)(const struct fl_softmax_job *job)
{
    const int is_half = job->rows.input.itemsize == 2 && sizeof(REAL) == sizeof(float);
    const int is_own = job->rows.input.itemsize == (ptrdiff_t)sizeof(REAL);
    return job->operation == FL_CROSS_ENTROPY && job->targets.index && !job->targets.has_elsewhere &&
           job->map.softcap == 0.0 && (is_own || is_half) && job->rows.classes > FL_SHORT_ROW &&
           (sizeof(REAL) == sizeof(double) || (job->map.temperature > 1e-18 && job->map.temperature < 1e18));
}

/* Whether the exponentials can be stored in the output until they are scaled: nothing needs the values that they
 * overwrite, the input (in place) or a gradient that is accumulated. */
static inline int FL_(is_straight)(const struct fl_softmax_job *job)
{
    return FL_(is_direct)(&job->rows.output) && !FL_(has_mass)(job) && job->map.softcap == 0.0 &&
           !job->rows.accumulate && !job->rows.stream && job->operation != FL_ENTROPY && !FL_(is_fused)(job);
}

static inline int FL_(keeps_exponentials)(const struct fl_softmax_job *job)
{
    return job->rows.output.data != NULL && job->operation != FL_LOG_SOFTMAX;
}

static inline int FL_(needs_scratch_row)(const struct fl_softmax_job *job)
{
    return FL_(keeps_exponentials)(job) && !FL_(is_straight)(job);
}

static inline double FL_(capped)(const struct fl_softmax_job *job, double x)
{
    /* A class at -inf stays masked. */
    return job->map.softcap > 0.0 && x != -INFINITY ? job->map.softcap * fl_tanh_f64(x / job->map.softcap) : x;
}

/* dz/dx without the factor 1 / T. */
static inline double FL_(slope)(const struct fl_softmax_job *job, double x)
{
    return job->map.softcap > 0.0 ? fl_sech_squared_f64(x / job->map.softcap) : 1.0;
}

/* d2u/dx2. */
static inline double FL_(second_slope)(const struct fl_softmax_job *job, double x)
{
    const double cap = job->map.softcap;
    return cap > 0.0 ? -2.0 / cap * fl_tanh_f64(x / cap) * fl_sech_squared_f64(x / cap) : 0.0;
}

static inline double FL_(sample)(const struct fl_softmax_job *job, ptrdiff_t row)
{
    return job->targets.sample_weight ? job->targets.sample_weight[row] : 1.0;
}

static inline double FL_(class_weight)(const struct fl_softmax_job *job, ptrdiff_t c)
{
    return job->targets.class_weight ? job->targets.class_weight[c] : 1.0;
}

static inline int FL_(has_map)(const struct fl_softmax_job *job)
{
    return job->map.softcap > 0.0 || job->map.temperature != 1.0;
}

/* z - max z of n classes with a softcap or a temperature; z may be x. Such jobs are computed in double. */
static void FL_(mapped)(const struct fl_softmax_job *job, double capped_max, const REAL *x, REAL *z, ptrdiff_t n)
{
    const double cap = job->map.softcap, temperature = job->map.temperature;
    if (cap > 0.0) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            const REAL value = (REAL)((cap * fl_tanh_f64((double)x[i] / cap) - capped_max) / temperature);
            z[i] = x[i] == (REAL)-INFINITY ? x[i] : value;
        }
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) z[i] = (REAL)(((double)x[i] - capped_max) / temperature);
    }
}

/* a_j. kept_q is (1 - eps) q_j, uniform is eps / C. A class without probability ignores its weight. */
static inline REAL FL_(coefficient)(REAL kept_q, REAL uniform, REAL weight)
{
    const REAL a = kept_q + uniform;
    return a == 0 ? (REAL)0 : a * weight;
}

/* a_j of smoothing without class weights. */
static inline REAL FL_(even_share)(const struct fl_softmax_job *job)
{
    return (REAL)(job->targets.smoothing / (double)job->band.all_classes);
}

/* a_j for n classes from `first`. q: their probabilities, or NULL for smoothing alone. a may be q. */
static void FL_(coefficients)(const struct fl_softmax_job *job, const REAL *q, ptrdiff_t first, REAL *a, ptrdiff_t n)
{
    const double *w = job->targets.class_weight ? job->targets.class_weight + first : NULL;
    const REAL uniform = FL_(even_share)(job);
    const REAL kept = (REAL)(1.0 - job->targets.smoothing);
    if (q == NULL) {
        for (ptrdiff_t i = 0; i < n; i++) a[i] = FL_(coefficient)(0, uniform, w ? (REAL)w[i] : (REAL)1);
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) a[i] = FL_(coefficient)(kept * q[i], uniform, w ? (REAL)w[i] : (REAL)1);
    }
}

/* Gradients of n classes from their exponentials, the input x if a masked class or a softcap may need it (else
 * NULL), and coefficients a (or NULL). g may be e. */
static void FL_(gradients)(const struct fl_softmax_job *job, const struct fl_softmax_row *row, const REAL *e,
                           const REAL *a, const REAL *x, REAL *g, ptrdiff_t n)
{
    const REAL factor = (REAL)row->share, rate = (REAL)row->scale, least = (REAL)row->least;
    if (a) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            g[i] = FL_(scaled)(e[i], factor, least) - (x[i] == (REAL)-INFINITY ? (REAL)0 : rate * a[i]);
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) g[i] = FL_(scaled)(e[i], factor, least);
    }
    if (job->map.softcap > 0.0) {
        const double cap = job->map.softcap;
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) g[i] = (REAL)(g[i] * fl_sech_squared_f64((double)x[i] / cap));
    }
}

/* Second derivatives of n classes from their exponentials e and, with a softcap, from the input x and (with mass)
 * the coefficients a. `top` is the index of the maximum. */
static void FL_(hessians)(const struct fl_softmax_job *job, const struct fl_softmax_row *row, const REAL *e,
                          const REAL *a, const REAL *x, REAL *h, ptrdiff_t top, ptrdiff_t n)
{
    const REAL curve = (REAL)row->curve, bend = (REAL)row->bend, over_total = (REAL)row->over_total;
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL p = e[i] * over_total;
        h[i] = curve * p * (1 - p) + bend * p * p;
    }
    if (top >= 0 && top < n) h[top] = (REAL)row->top_curve;
    if (job->map.softcap == 0.0) return;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double slope = FL_(slope)(job, (double)x[i]);
        const double gradient = row->share * (double)e[i] - (a ? row->scale * (double)a[i] : 0.0);
        if (x[i] == (REAL)-INFINITY) continue;
        h[i] = (REAL)((double)h[i] * slope * slope + gradient * FL_(second_slope)(job, (double)x[i]));
    }
}

/* d of n classes of a row whose maximum is max (capped: capped_max). */
static void FL_(differences)(const struct fl_softmax_job *job, double max, double capped_max, const REAL *x, REAL *d,
                             ptrdiff_t n)
{
    if (FL_(has_map)(job)) {
        FL_(mapped)(job, capped_max, x, d, n);
        return;
    }
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) d[i] = x[i] - (REAL)max;
}

/* p_j (D - d_j) times the upstream gradient; `share` is that over the sum, `mean` D. g may be d. */
static void FL_(entropy_gradients)(const REAL *e, const REAL *d, REAL share, REAL mean, REAL *g, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL product = e[i] * (mean - d[i]);
        g[i] = (e[i] == 0 ? (REAL)0 : product) * share;
    }
}

/* The input of a row's settlement. The sums exclude skip. dot includes it: there skip adds 0 if it is the maximum,
 * and its term if it is a class target. */
struct FL_(sums) {
    double rest, dot, mass_rest;
    double difference, coefficient, slope; /* d, a and du/dx at skip */
    double shift, logsum, surprise;        /* z - d; surprise is logsum - d at skip */
    double weight, sample, upstream;
    double second_slope; /* d2u/dx2 at skip */
};

/* The gradient of class j is exp(d_j) * share - scale * a_j, times the slope of the softcap; at skip, `skipped`.
 * Its second derivative by u, with p = exp(d_j) * over_total, is curve p (1 - p) + bend p^2; by x at skip,
 * skipped_curve. */
struct FL_(settled) {
    double loss, share, scale, skipped;
    double curve, bend, over_total, skipped_curve;
};

/* The second derivative with respect to u of a class, from its exponential and the sum of the others. */
static inline double FL_(curvature)(struct FL_(settled) row, double e, double others)
{
    const double p = e * row.over_total;
    return row.curve * p * (others * row.over_total) + row.bend * p * p;
}

static inline double FL_(rest_over_one)(double rest, double difference)
{
    /* sum - 1: logsum is its log1p. */
    return difference == 0.0 ? rest : (rest + fl_exp_nonpositive_f64(difference)) - 1.0;
}

/* The parts of a job that settlements need, by value, so that a loop over lanes has constants. */
struct FL_(terms) {
    double own, z_loss, over_temperature;
};

static inline struct FL_(terms) FL_(terms_of)(const struct fl_softmax_job *job)
{
    const double own = job->targets.index ? 1.0 - job->targets.smoothing : 0.0;
    const struct FL_(terms) terms = {own, job->z_loss, fl_over(job->map.temperature)};
    return terms;
}

/* Terms with a factor of 0 are left out, as the other factor may be infinite; NaN stays NaN. */
static inline struct FL_(settled) FL_(settle)(struct FL_(terms) terms, struct FL_(sums) in)
{
    struct FL_(settled) out;
    const double own = terms.own * in.weight, z_weight = terms.z_loss * in.weight;
    const double mass = in.mass_rest + in.coefficient;
    const double lse = in.shift + in.logsum;
    const double at_skip = fl_exp_nonpositive_f64(in.difference), over_total = 1.0 / (in.rest + at_skip);
    const double z_gradient = 2.0 * z_weight * lse, spread = z_weight != 0.0 ? z_gradient : 0.0;
    /* Either 1 - p or p is the difference to avoid. */
    const int likely = at_skip > in.rest;
    const double p = at_skip * over_total, spread_p = spread * p;
    const double mostly = in.mass_rest - (own + mass) * (in.rest * over_total) + spread_p;
    const double seldom = (own + mass) * p - own - in.coefficient + spread_p;
    const double own_loss = own * in.surprise, mass_loss = mass * in.logsum - in.dot;
    const double z_term = z_weight * lse * lse;
    const double loss =
        (own != 0.0 ? own_loss : 0.0) + (mass != 0.0 ? mass_loss : 0.0) + (z_weight != 0.0 ? z_term : 0.0);
    out.loss = in.sample * (in.logsum == in.logsum ? loss : in.logsum);
    out.scale = in.upstream * in.sample * terms.over_temperature;
    out.share = out.scale * (own + mass + spread) * over_total;
    out.skipped = out.scale * in.slope * (likely ? mostly : seldom);
    out.over_total = over_total;
    out.curve = out.scale * terms.over_temperature * (own + mass + spread);
    out.bend = out.scale * terms.over_temperature * 2.0 * z_weight;
    out.skipped_curve = FL_(curvature)(out, at_skip, in.rest) * in.slope * in.slope +
                        out.scale * (likely ? mostly : seldom) * in.second_slope;
    return out;
}

/* Whether a row has no weight: then its loss and gradient are 0 for any loss, upstream gradient and denominator of
 * the mean. A NaN row stays NaN. */
static inline int FL_(is_left_out)(struct FL_(sums) in)
{
    const int is_class = in.weight == 0.0 && in.mass_rest + in.coefficient == 0.0;
    return in.logsum == in.logsum && (in.sample == 0.0 || is_class);
}

static inline struct FL_(settled) FL_(settle_or_leave_out)(struct FL_(terms) terms, struct FL_(sums) in)
{
    const struct FL_(settled) none = {0};
    return FL_(is_left_out)(in) ? none : FL_(settle)(terms, in);
}

/* ---- a row, in steps ---- */

static ptrdiff_t FL_(buffer_bytes)(const struct fl_softmax_job *job);

static inline ptrdiff_t FL_(block_length)(const struct fl_softmax_job *job, ptrdiff_t block)
{
    const ptrdiff_t left = job->rows.classes - block * FL_BLOCK;
    return left < FL_BLOCK ? left : FL_BLOCK;
}

static inline ptrdiff_t FL_(blocks)(const struct fl_softmax_job *job)
{
    return (job->rows.classes + FL_BLOCK - 1) / FL_BLOCK;
}

static ptrdiff_t FL_(scratch_bytes)(const struct fl_softmax_job *job)
{
    const ptrdiff_t length = (job->rows.classes + FL_STRIP - 1) / FL_STRIP * FL_STRIP + FL_STRIP;
    const ptrdiff_t row = FL_(needs_scratch_row)(job) ? length * (ptrdiff_t)sizeof(REAL) : 0;
    const ptrdiff_t partials = FL_(blocks)(job) * FL_PARTIALS * (ptrdiff_t)sizeof(double);
    const ptrdiff_t rows = FL_(is_fused)(job) ? 1 : 2;
    return FL_PIPELINE + rows * ((partials + 63) / 64 * 64 + row) + FL_(buffer_bytes)(job);
}

/* One of the FL_BUFFERS of a block. */
static inline REAL *FL_(buffer)(const struct fl_softmax_row *row, int which)
{
    return (REAL *)(void *)row->buffers + (ptrdiff_t)which * FL_BLOCK;
}

static inline double FL_(load_scalar)(const struct fl_softmax_job *job, const char *row, ptrdiff_t c)
{
    return (double)FL_(fl_load_scalar)(row + c * job->rows.input.class_stride, job->rows.input.dtype);
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

/* The block of a row of an array as REAL: in place, or in the buffer. */
static inline const REAL *FL_(block_of)(const struct fl_array *array, const char *row, ptrdiff_t first, REAL *buffer,
                                        ptrdiff_t n)
{
    const char *p = row + first * array->class_stride;
    if (FL_(is_direct)(array)) return (const REAL *)(const void *)p;
    FL_(fl_load)(p, array->class_stride, array->dtype, buffer, n);
    return buffer;
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
    while (i < n - 1 && !((double)x[i] == row->partial[best * FL_PARTIALS])) i++;
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
    if (job->operation == FL_ENTROPY) {
        REAL *d = FL_(buffer)(row, 2);
        const REAL *x = FL_(block_of)(in, row->input, first, FL_(buffer)(row, 1), n);
        FL_(differences)(job, row->max, row->capped_max, x, d, n);
        if (FL_(has_map)(job))
            FL_(block_exp)(d, 0, e, n);
        else
            FL_(block_exp)(x, (REAL)row->max, e, n);
        partial[2] = FL_(block_dot)(e, d, 0.0, n);
    } else if (FL_(has_map)(job) || FL_(has_mass)(job)) {
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

/* The result of a row without a finite maximum: log-sum-exp is the maximum, all else is NaN. */
static double FL_(infinite_row)(const struct fl_softmax_job *job, const char *row, double max)
{
    if (job->operation != FL_LOGSUMEXP) return (double)NAN;
    for (ptrdiff_t c = 0; c < job->rows.classes; c++)
        if (isnan(FL_(load_scalar)(job, row, c))) return (double)NAN;
    return max;
}

/* The contribution of the classes outside the band to the sum of a row's exponentials. Beyond e^700 the classes of
 * the band are negligible. */
static double FL_(sum_elsewhere)(const struct fl_softmax_job *job, const struct fl_softmax_row *row)
{
    const double above = job->band.lse[row->index] - row->capped_max / job->map.temperature;
    return fl_exp_f64(above > 700.0 ? 700.0 : above);
}

/* One of the sums over all blocks, in order. The rounding errors of the additions are added at the end (Knuth's
 * TwoSum): otherwise a million equal terms would lose a digit. */
static double FL_(sum_of_blocks)(const double *partial, ptrdiff_t blocks, int which)
{
    double sum = 0.0, lost = 0.0;
    for (ptrdiff_t block = 0; block < blocks; block++) {
        const double term = partial[block * FL_PARTIALS + which], next = sum + term, back = next - sum;
        lost += (sum - (next - back)) + (term - back);
        sum = next;
    }
    return isinf(sum) ? sum : sum + lost;
}

/* dot and mass of a row with smoothing, from its sums of x - reference and, with class weights, of the weights: see
 * fused.h. */
static void FL_(spread)(const struct fl_softmax_job *job, const struct fl_softmax_row *row, struct FL_(sums) * sums)
{
    const struct FL_(fl_power) power = row->power.FL_(of);
    const ptrdiff_t blocks = FL_(blocks)(job);
    const double over_temperature = fl_over(job->map.temperature), weight = FL_(class_weight)(job, row->skip);
    const double others =
        job->targets.class_weight ? FL_(sum_of_blocks)(row->partial, blocks, 3) : (double)job->rows.classes - 1.0;
    const double a = (double)FL_(even_share)(job), offset = (double)power.reference * over_temperature - power.shift;
    const double spread = FL_(sum_of_blocks)(row->partial, blocks, 2);
    sums->dot = a * (spread * over_temperature + (others + weight) * offset);
    sums->mass_rest = a * others;
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
        const double reference = (double)power.reference;
        sums->shift = power.shift;
        /* In two parts, of which the first has no rounding errors where the input has a large offset. */
        sums->difference =
            (row->at_skip - reference) * over_temperature + (reference * over_temperature - power.shift);
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

static void FL_(row_settle)(const struct fl_softmax_job *job, struct fl_softmax_row *row)
{
    const ptrdiff_t blocks = FL_(blocks)(job), skip = row->skip;
    struct FL_(sums) sums = {0};
    struct FL_(settled) settled;
    sums.rest = FL_(sum_of_blocks)(row->partial, blocks, 1);
    if (FL_(has_mass)(job) && row->mode == FL_BY_MAXIMUM) {
        sums.dot = FL_(sum_of_blocks)(row->partial, blocks, 2);
        sums.mass_rest = FL_(sum_of_blocks)(row->partial, blocks, 3);
    } else if (FL_(has_mass)(job)) {
        FL_(spread)(job, row, &sums);
    }
    FL_(locate)(job, row, &sums);
    sums.slope = FL_(slope)(job, row->at_skip);
    sums.second_slope = FL_(second_slope)(job, row->at_skip);
    if (FL_(has_mass)(job)) {
        REAL a;
        FL_(row_coefficients)(job, row, skip, &a, 1);
        sums.coefficient = (double)a;
    }
    if (job->band.lse) {
        sums.rest += FL_(sum_elsewhere)(job, row);
        sums.mass_rest += job->band.mass[row->index];
    }
    FL_(take_logarithm)(row, &sums);
    sums.weight = row->weight;
    sums.sample = FL_(sample)(job, row->index);
    sums.upstream = fl_upstream(&job->rows, row->index);
    row->logsum = sums.logsum;
    if (job->operation == FL_CROSS_ENTROPY) {
        settled = FL_(settle_or_leave_out)(FL_(terms_of)(job), sums);
        row->loss = settled.loss;
        row->share = settled.share;
        row->scale = settled.scale;
        row->skipped = settled.skipped;
        row->curve = settled.curve;
        row->bend = settled.bend;
        row->over_total = settled.over_total;
        row->skipped_curve = settled.skipped_curve;
        if (job->hessian.data) FL_(settle_top)(job, row, settled, sums.rest, fl_exp_nonpositive_f64(sums.difference));
    } else {
        row->share = row->skipped = 1.0 / (1.0 + sums.rest); /* skip is the maximum: its exponential is 1 */
        row->loss = sums.shift + row->logsum;
        if (job->operation == FL_ENTROPY) {
            row->scale = FL_(sum_of_blocks)(row->partial, blocks, 2) * row->share;
            row->loss = row->logsum - row->scale;
            row->share *= sums.upstream * fl_over(job->map.temperature);
            row->skipped = row->share * row->scale;
        }
        if (isinf(row->max)) {
            row->loss = FL_(infinite_row)(job, row->input, row->max);
            row->share = row->skipped = (double)NAN;
        }
    }
    row->least = (double)FL_(least_for)((REAL)row->share, (REAL)row->skipped);
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
    if (FL_(is_packed_bfloat16)(out) && job->operation != FL_LOG_SOFTMAX && job->operation != FL_ENTROPY && !mass &&
        job->map.softcap == 0.0 && !job->rows.accumulate) {
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
    if (mass || job->map.softcap > 0.0 || job->operation == FL_LOG_SOFTMAX || job->operation == FL_ENTROPY)
        x = FL_(block_of)(&job->rows.input, row->input, first, input, n);
    if (job->operation == FL_LOG_SOFTMAX) {
        const REAL max = (REAL)row->max, logsum = (REAL)row->logsum;
        for (ptrdiff_t i = 0; i < n; i++) g[i] = (x[i] - max) - logsum;
    } else if (job->operation == FL_ENTROPY) {
        FL_(differences)(job, row->max, row->capped_max, x, a, n);
        FL_(entropy_gradients)(e, a, (REAL)row->share, (REAL)row->scale, g, n);
        if (skip >= 0 && skip < n) g[skip] = skipped;
    } else {
        if (mass) FL_(row_coefficients)(job, row, first, a, n);
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

/* ---- short rows: one row in each vector lane ---- */

/* Rows of a tile, which fits 16 KiB of stack, because threads may have small stacks. (A tile is a local variable, so
 * the compiler knows that no array or pointer of the job aliases it. Measured without this: (65536, 10) takes 1.4
 * times as long.) Each FL_LANES of them have a sum. */
enum { FL_(lanes) = 64 / sizeof(REAL) };

/* Whether FL_(lanes) rows from `row` lie one element apart (a class axis that is not the last). */
static inline int FL_(lanes_are_adjacent)(const struct fl_array *array, ptrdiff_t row, ptrdiff_t count)
{
    const int inner = array->ndim - 1;
    return count == FL_(lanes) && inner >= 0 && array->stride[inner] == array->itemsize &&
           row % array->shape[inner] + FL_(lanes) <= array->shape[inner];
}

/* Whether rows are transposed into and out of lanes in squares of four classes of four rows; the last square may
 * overlap the one before. */
static inline int FL_(can_transpose)(const struct fl_softmax_job *job, const struct fl_array *array, ptrdiff_t count)
{
    return sizeof(REAL) == sizeof(float) && FL_(is_direct)(array) && count == FL_(lanes) && job->rows.classes >= 4;
}

FL_OUTLINE void FL_(tile_load)(const struct fl_softmax_job *job, const struct fl_array *array, ptrdiff_t row,
                               ptrdiff_t count, REAL (*tile)[FL_(lanes)])
{
    if (FL_(lanes_are_adjacent)(array, row, count)) {
        const char *p = fl_row_address(array, row);
        for (ptrdiff_t c = 0; c < job->rows.classes; c++)
            FL_(fl_load)(p + c * array->class_stride, array->itemsize, array->dtype, tile[c], FL_(lanes));
        return;
    }
    if (FL_(can_transpose)(job, array, count)) {
        for (int l = 0; l < FL_(lanes); l += 4) {
            const char *p[4];
            for (int k = 0; k < 4; k++) p[k] = fl_row_address(array, row + l + k);
            for (ptrdiff_t c = 0;; c = c + 8 <= job->rows.classes ? c + 4 : job->rows.classes - 4) {
                fl_transpose_in(p, c * 4, (float *)(void *)&tile[c][l], FL_(lanes));
                if (c + 4 == job->rows.classes) break;
            }
        }
        return;
    }
    for (ptrdiff_t l = 0; l < count; l++) {
        const char *p = fl_row_address(array, row + l);
        REAL buffer[FL_SHORT_ROW];
        const REAL *values = FL_(block_of)(array, p, 0, buffer, job->rows.classes);
        for (ptrdiff_t c = 0; c < job->rows.classes; c++) tile[c][l] = values[c];
    }
    for (int l = (int)count; l < FL_(lanes); l++)
        for (int c = 0; c < (int)job->rows.classes; c++) tile[c][l] = 0;
}

FL_OUTLINE void FL_(tile_store)(const struct fl_softmax_job *job, const struct fl_array *out, ptrdiff_t row,
                                ptrdiff_t count, REAL (*tile)[FL_(lanes)])
{
    if (FL_(lanes_are_adjacent)(out, row, count)) {
        char *p = fl_row_address(out, row);
        for (ptrdiff_t c = 0; c < job->rows.classes; c++)
            FL_(fl_store)(tile[c], p + c * out->class_stride, out->itemsize, out->dtype, FL_(lanes));
        return;
    }
    if (FL_(can_transpose)(job, out, count)) {
        for (int l = 0; l < FL_(lanes); l += 4) {
            char *p[4];
            for (int k = 0; k < 4; k++) p[k] = fl_row_address(out, row + l + k);
            for (ptrdiff_t c = 0;; c = c + 8 <= job->rows.classes ? c + 4 : job->rows.classes - 4) {
                fl_transpose_out((const float *)(const void *)&tile[c][l], FL_(lanes), p, c * 4);
                if (c + 4 == job->rows.classes) break;
            }
        }
        return;
    }
    for (ptrdiff_t l = 0; l < count; l++) {
        char *p = fl_row_address(out, row + l);
        REAL buffer[FL_SHORT_ROW], *values = FL_(is_direct)(out) ? (REAL *)(void *)p : buffer;
        for (ptrdiff_t c = 0; c < job->rows.classes; c++) values[c] = tile[c][l];
        if (values == buffer) FL_(fl_store)(values, p, out->class_stride, out->dtype, job->rows.classes);
    }
}

/* The state of FL_(lanes) rows: class c of row l is at [c][l]. */
struct FL_(tile) {
    REAL x[FL_SHORT_ROW][FL_(lanes)], e[FL_SHORT_ROW][FL_(lanes)], a[FL_SHORT_ROW][FL_(lanes)];
    REAL max[FL_(lanes)], at_skip[FL_(lanes)];
    REAL share[FL_(lanes)], scale[FL_(lanes)], skipped[FL_(lanes)];
    double capped_max[FL_(lanes)], difference[FL_(lanes)], slope[FL_(lanes)], coefficient[FL_(lanes)];
    double rest[FL_(lanes)], dot[FL_(lanes)], mass_rest[FL_(lanes)];
    double logsum[FL_(lanes)], loss[FL_(lanes)], weight[FL_(lanes)], sample[FL_(lanes)], upstream[FL_(lanes)];
    int32_t skip[FL_(lanes)], ignored[FL_(lanes)];
};

/* Four classes at a time, because each step depends on the result of the previous one. */
static void FL_(tile_max)(int classes, struct FL_(tile) * t)
{
    int c = 0;
    for (; c + 4 <= classes; c += 4)
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) {
            const REAL a = FL_(larger)(t->x[c][l], t->x[c + 1][l]), b = FL_(larger)(t->x[c + 2][l], t->x[c + 3][l]);
            t->max[l] = FL_(larger)(FL_(larger)(a, b), t->max[l]);
        }
    for (; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) t->max[l] = FL_(larger)(t->x[c][l], t->max[l]);
}

/* The maximum of each row, and the class left out of its sum. */
static void FL_(tile_choose)(const struct fl_softmax_job *job, struct FL_(tile) * t, ptrdiff_t first, ptrdiff_t count)
{
    for (int l = 0; l < FL_(lanes); l++) {
        t->max[l] = (REAL)-INFINITY;
        t->skip[l] = t->ignored[l] = 0;
    }
    if (job->targets.index) {
        const int64_t *target = job->targets.index + first, ignored = job->targets.ignored;
        const uint64_t classes = (uint64_t)job->targets.classes;
        const int may_ignore = job->targets.has_ignored;
        FL_(tile_max)((int)job->rows.classes, t);
        /* As in fl_class_of: a target that has become invalid means class 0. */
        for (int l = 0; l < count; l++) {
            const int64_t y = target[l];
            t->ignored[l] = may_ignore && y == ignored;
            t->skip[l] = (int32_t)(t->ignored[l] || (uint64_t)y >= classes ? 0 : y);
        }
    } else {
        for (int c = 0; c < (int)job->rows.classes; c++)
#pragma omp simd
            for (int l = 0; l < FL_(lanes); l++) {
                const int larger = t->x[c][l] > t->max[l];
                t->max[l] = larger ? t->x[c][l] : t->max[l];
                t->skip[l] = larger ? c : t->skip[l];
            }
    }
    for (int l = 0; l < FL_(lanes); l++) t->at_skip[l] = t->x[t->skip[l]][l];
    if (job->map.softcap > 0.0) {
        for (int l = 0; l < FL_(lanes); l++) {
            t->capped_max[l] = FL_(capped)(job, (double)t->max[l]);
            t->difference[l] = (FL_(capped)(job, (double)t->at_skip[l]) - t->capped_max[l]) / job->map.temperature;
            t->slope[l] = FL_(slope)(job, (double)t->at_skip[l]);
        }
    } else {
        const double over_temperature = fl_over(job->map.temperature);
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) {
            t->capped_max[l] = (double)t->max[l];
            t->difference[l] = ((double)t->at_skip[l] - (double)t->max[l]) * over_temperature;
            t->slope[l] = 1.0;
        }
    }
}

/* FL_(mapped) for a class of all lanes. */
static inline void FL_(tile_mapped)(const struct fl_softmax_job *job, const struct FL_(tile) * t, const REAL *x,
                                    REAL *z)
{
    const double cap = job->map.softcap, temperature = job->map.temperature;
    if (cap > 0.0) {
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) {
            const REAL value = (REAL)((cap * fl_tanh_f64((double)x[l] / cap) - t->capped_max[l]) / temperature);
            z[l] = x[l] == (REAL)-INFINITY ? x[l] : value;
        }
    } else {
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) z[l] = (REAL)(((double)x[l] - t->capped_max[l]) / temperature);
    }
}

/* Exponentials, and their sums without skip: of four in REAL, longer ones in double. */
static void FL_(tile_exp)(const struct fl_softmax_job *job, struct FL_(tile) * t)
{
    const int classes = (int)job->rows.classes, mapped = FL_(has_map)(job);
    for (int c = 0; c < classes; c++) {
        if (mapped) {
            FL_(tile_mapped)(job, t, t->x[c], t->e[c]);
#pragma omp simd
            for (int l = 0; l < FL_(lanes); l++) t->e[c][l] = FL_(fl_exp_difference)(t->e[c][l], FL_(fl_shift_of)(0));
        } else {
#pragma omp simd
            for (int l = 0; l < FL_(lanes); l++)
                t->e[c][l] = FL_(fl_exp_difference)(t->x[c][l], FL_(fl_shift_of)(t->max[l]));
        }
    }
    for (int c = classes; c % 4; c++)
        for (int l = 0; l < FL_(lanes); l++) t->e[c][l] = 0;
    for (int c = 0; c < classes; c += 4)
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) {
            const int skip = t->skip[l] - c;
            const REAL a = skip == 0 ? 0 : t->e[c][l], b = skip == 1 ? 0 : t->e[c + 1][l];
            const REAL d = skip == 2 ? 0 : t->e[c + 2][l], e = skip == 3 ? 0 : t->e[c + 3][l];
            t->rest[l] += (double)((a + b) + (d + e));
        }
}

/* d of each class in place of a, and their sum weighted by the exponentials. */
static void FL_(tile_entropy)(const struct fl_softmax_job *job, struct FL_(tile) * t)
{
    for (int c = 0; c < (int)job->rows.classes; c++) {
        if (FL_(has_map)(job))
            FL_(tile_mapped)(job, t, t->x[c], t->a[c]);
        else
#pragma omp simd
            for (int l = 0; l < FL_(lanes); l++) t->a[c][l] = t->x[c][l] - t->max[l];
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++)
            t->dot[l] += t->e[c][l] == 0 ? 0.0 : (double)t->e[c][l] * (double)t->a[c][l];
    }
}

static void FL_(tile_mass)(const struct fl_softmax_job *job, struct FL_(tile) * t, ptrdiff_t first, ptrdiff_t count)
{
    const int given = job->targets.probabilities.data != NULL;
    const REAL uniform = FL_(even_share)(job);
    const REAL kept = given ? (REAL)(1.0 - job->targets.smoothing) : (REAL)0;
    if (given)
        FL_(tile_load)(job, &job->targets.probabilities, first, count, t->a);
    else
        memset(t->a, 0, sizeof t->a);
    for (int c = 0; c < (int)job->rows.classes; c++) {
        const REAL weight = (REAL)FL_(class_weight)(job, c);
        REAL z[FL_(lanes)];
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) {
            t->a[c][l] = FL_(coefficient)(kept * t->a[c][l], uniform, weight);
            z[l] = t->x[c][l] - t->max[l];
        }
        if (FL_(has_map)(job)) FL_(tile_mapped)(job, t, t->x[c], z);
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) {
            t->dot[l] += t->a[c][l] == 0 ? 0.0 : (double)t->a[c][l] * (double)z[l];
            t->mass_rest[l] += (double)(c == t->skip[l] ? (REAL)0 : t->a[c][l]);
        }
    }
}

static inline struct FL_(sums)
    FL_(lane_sums)(const struct FL_(tile) * t, int l, double over_temperature, double second_slope)
{
    const struct FL_(sums) sums = {
        t->rest[l],
        t->dot[l],
        t->mass_rest[l],
        t->difference[l],
        t->coefficient[l],
        t->slope[l],
        t->capped_max[l] * over_temperature,
        t->logsum[l],
        t->logsum[l] - t->difference[l],
        t->weight[l],
        t->sample[l],
        t->upstream[l],
        second_slope,
    };
    return sums;
}

FL_OUTLINE void FL_(tile_settle)(const struct fl_softmax_job *job, struct FL_(tile) * t, ptrdiff_t first,
                                 ptrdiff_t count)
{
    const struct FL_(terms) terms = FL_(terms_of)(job);
#pragma omp simd
    for (int l = 0; l < FL_(lanes); l++)
        t->logsum[l] = fl_log1p_nonnegative_f64(FL_(rest_over_one)(t->rest[l], t->difference[l]));
    for (int l = 0; l < FL_(lanes); l++)
        if (isinf(t->capped_max[l])) t->logsum[l] = (double)NAN;
    if (job->operation != FL_CROSS_ENTROPY) {
        for (int l = 0; l < count; l++) {
            const int infinite = isinf(t->max[l]);
            t->loss[l] = t->capped_max[l] / job->map.temperature + t->logsum[l];
            t->share[l] = t->skipped[l] = infinite ? (REAL)NAN : (REAL)(1.0 / (1.0 + t->rest[l]));
            if (job->operation == FL_ENTROPY) {
                const double share = 1.0 / (1.0 + t->rest[l]), mean = t->dot[l] * share;
                const double factor = fl_upstream(&job->rows, first + l) * fl_over(job->map.temperature) * share;
                t->loss[l] = t->logsum[l] - mean;
                t->scale[l] = (REAL)mean;
                t->share[l] = infinite ? (REAL)NAN : (REAL)factor;
                t->skipped[l] = infinite ? (REAL)NAN : (REAL)(factor * mean);
            }
            if (infinite)
                t->loss[l] = FL_(infinite_row)(job, fl_row_address(&job->rows.input, first + l), (double)t->max[l]);
        }
        return;
    }
    for (int l = 0; l < FL_(lanes); l++) {
        t->weight[l] = t->sample[l] = 1.0;
        t->upstream[l] = job->rows.grad_scale;
        t->coefficient[l] = 0.0;
    }
    if (job->targets.index && job->targets.class_weight)
        for (int l = 0; l < FL_(lanes); l++) t->weight[l] = job->targets.class_weight[t->skip[l]];
    if (job->targets.sample_weight)
        for (int l = 0; l < count; l++) t->sample[l] = job->targets.sample_weight[first + l];
    if (job->rows.grad_output)
        for (int l = 0; l < count; l++) t->upstream[l] = fl_upstream(&job->rows, first + l);
    if (FL_(has_mass)(job))
        for (int l = 0; l < FL_(lanes); l++) t->coefficient[l] = (double)t->a[t->skip[l]][l];
#pragma omp simd
    for (int l = 0; l < FL_(lanes); l++) {
        const struct FL_(settled) settled = FL_(settle)(terms, FL_(lane_sums)(t, l, terms.over_temperature, 0.0));
        t->loss[l] = t->ignored[l] ? 0.0 : settled.loss;
        t->share[l] = (REAL)settled.share;
        t->scale[l] = (REAL)settled.scale;
        t->skipped[l] = (REAL)settled.skipped;
    }
    if (!job->targets.sample_weight && !job->targets.class_weight) return;
    for (int l = 0; l < count; l++) {
        const struct FL_(sums) sums = FL_(lane_sums)(t, l, terms.over_temperature, 0.0);
        if (!FL_(is_left_out)(sums)) continue;
        t->loss[l] = 0.0;
        t->share[l] = t->scale[l] = t->skipped[l] = 0;
    }
}

/* The sum of a row's exponentials without its maximum. */
static double FL_(lane_others)(const struct FL_(tile) * t, int classes, int l)
{
    double sum = 0.0;
    for (int c = 0, is_past = 0; c < classes; c++) {
        const int is_top = !is_past && t->x[c][l] == t->max[l];
        sum += is_top ? 0.0 : (double)t->e[c][l];
        is_past |= is_top;
    }
    return sum;
}

/* The hessian of count rows, one in each lane, from their exponentials. The buffer has room for a tile. */
FL_OUTLINE void FL_(tile_hessian)(const struct fl_softmax_job *job, const struct FL_(tile) * t, ptrdiff_t first,
                                  ptrdiff_t count, void *buffers)
{
    const struct FL_(terms) terms = FL_(terms_of)(job);
    REAL(*h)[FL_(lanes)] = (REAL(*)[FL_(lanes)])buffers;
    const int mass = FL_(has_mass)(job);
    for (int l = 0; l < (int)count; l++) {
        const double second_slope = FL_(second_slope)(job, (double)t->at_skip[l]);
        const struct FL_(settled) settled =
            FL_(settle_or_leave_out)(terms, FL_(lane_sums)(t, l, terms.over_temperature, second_slope));
        struct fl_softmax_row row;
        row.share = settled.share;
        row.scale = settled.scale;
        row.curve = settled.curve;
        row.bend = settled.bend;
        row.over_total = settled.over_total;
        row.top_curve = FL_(curvature)(settled, 1.0, FL_(lane_others)(t, (int)job->rows.classes, l));
        for (int c = 0; c < (int)job->rows.classes; c++) {
            const int is_top = t->x[c][l] == t->max[l];
            const REAL *a = mass ? &t->a[c][l] : NULL;
            FL_(hessians)(job, &row, &t->e[c][l], a, &t->x[c][l], &h[c][l], is_top ? 0 : -1, 1);
        }
        h[t->skip[l]][l] = (REAL)settled.skipped_curve;
        for (int c = 0; t->ignored[l] && c < (int)job->rows.classes; c++) h[c][l] = 0;
    }
    FL_(tile_store)(job, &job->hessian, first, count, h);
}

static void FL_(tile_finish)(const struct fl_softmax_job *job, struct FL_(tile) * t)
{
    const int mass = FL_(has_mass)(job);
    const double cap = job->map.softcap;
    REAL least[FL_(lanes)];
#pragma omp simd
    for (int l = 0; l < FL_(lanes); l++) least[l] = FL_(least_for)(t->share[l], t->skipped[l]);
    for (int c = 0; c < (int)job->rows.classes; c++) {
        REAL *e = t->e[c];
        const REAL *x = t->x[c], *a = t->a[c];
        if (job->operation == FL_LOG_SOFTMAX) {
            for (int l = 0; l < FL_(lanes); l++) e[l] = (x[l] - t->max[l]) - (REAL)t->logsum[l];
            continue;
        }
        if (job->operation == FL_ENTROPY) {
#pragma omp simd
            for (int l = 0; l < FL_(lanes); l++) {
                const REAL product = e[l] * (t->scale[l] - a[l]);
                e[l] = c == t->skip[l] ? t->skipped[l] : (e[l] == 0 ? (REAL)0 : product) * t->share[l];
            }
            continue;
        }
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) e[l] = FL_(scaled)(e[l], t->share[l], least[l]);
        if (mass)
#pragma omp simd
            for (int l = 0; l < FL_(lanes); l++) e[l] -= x[l] == (REAL)-INFINITY ? (REAL)0 : t->scale[l] * a[l];
        if (cap > 0.0)
#pragma omp simd
            for (int l = 0; l < FL_(lanes); l++)
                e[l] = (REAL)((double)e[l] * fl_sech_squared_f64((double)x[l] / cap));
#pragma omp simd
        for (int l = 0; l < FL_(lanes); l++) {
            e[l] = c == t->skip[l] ? t->skipped[l] : e[l];
            e[l] = t->ignored[l] ? (REAL)0 : e[l];
        }
    }
}

/* Rows first .. first + count - 1, count <= FL_(lanes); their losses go to `losses`. */
static void FL_(tile_rows)(const struct fl_softmax_job *job, ptrdiff_t first, ptrdiff_t count, double *losses,
                           void *buffers)
{
    struct FL_(tile) t;
    FL_(tile_load)(job, &job->rows.input, first, count, t.x);
    FL_(tile_choose)(job, &t, first, count);
#pragma omp simd
    for (int l = 0; l < FL_(lanes); l++) t.rest[l] = t.dot[l] = t.mass_rest[l] = 0.0;
    if (FL_(has_mass)(job)) FL_(tile_mass)(job, &t, first, count);
    FL_(tile_exp)(job, &t);
    if (job->operation == FL_ENTROPY) FL_(tile_entropy)(job, &t);
    FL_(tile_settle)(job, &t, first, count);
    for (int l = 0; l < count; l++) losses[l] = t.loss[l];
    if (job->rows.output.data == NULL) return;
    if (job->hessian.data) FL_(tile_hessian)(job, &t, first, count, buffers);
    FL_(tile_finish)(job, &t);
    if (job->rows.accumulate) {
        FL_(tile_load)(job, &job->rows.output, first, count, t.x);
        for (int c = 0; c < (int)job->rows.classes; c++)
            for (int l = 0; l < FL_(lanes); l++) t.e[c][l] += t.x[c][l];
    }
    FL_(tile_store)(job, &job->rows.output, first, count, t.e);
}

/* Up to FL_LANES rows from `first` to `end`; returns the sum of their losses. */
FL_OUTLINE double FL_(tiles_of_rows)(const struct fl_softmax_job *job, ptrdiff_t first, ptrdiff_t end, void *buffers)
{
    const ptrdiff_t count = end - first < FL_LANES ? end - first : FL_LANES;
    double losses[FL_LANES] = {0};
    for (ptrdiff_t l = 0; l < count; l += FL_(lanes)) {
        const ptrdiff_t some = count - l < FL_(lanes) ? count - l : FL_(lanes);
        FL_(tile_rows)(job, first + l, some, losses + l, buffers);
    }
    if (job->rows.losses)
        for (ptrdiff_t l = 0; l < count; l++) job->rows.losses[first + l] = losses[l];
    return FL_(sum_of_lanes)(losses);
}

/* ---- rows, in order ---- */

static inline int FL_(goes_by_tiles)(const struct fl_softmax_job *job)
{
    return job->rows.classes <= FL_SHORT_ROW && !job->band.lse;
}

static inline int FL_(goes_by_groups)(const struct fl_softmax_job *job)
{
    return sizeof(REAL) == sizeof(float) && short_rows_are(job);
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
