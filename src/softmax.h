/* The softmax family: cross-entropy with its gradient, softmax, log-softmax, log-sum-exp.
 *
 * kernels.inc includes this file twice, with REAL (float or double, the type of the computation) and FL_(name) (the
 * name with its suffix) defined. blocks.h has loops over a part of a row, tiles.h rows of few classes, rows.h rows in
 * blocks, fused.h long rows in one pass, short_rows.h short rows of floats.
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
 * The entropy (FL_ENTROPY, of short rows alone: statistics.h has those of long rows) is H = -sum_j p_j log p_j =
 * logsum - D with D = sum_j p_j d_j <= 0 (two terms of one sign, neither of which is rounded away in a confident
 * row), and, as log p_j = d_j - logsum,
 *
 *   dH/dz_j = -p_j (log p_j + H) = p_j (D - d_j)
 *
 * Precision: exponentials and sums of four of them are REAL, longer sums are double; the values of a whole row
 * (losses, logarithms, scales) are double.
 */

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

/* Whether a softcap is computed in one pass: of cross-entropy without mass, in float in the range of softcap.h. */
static int FL_(is_cap_fused)(const struct fl_softmax_job *job)
{
    const double cap = job->map.softcap, most = FL_LARGEST_CAP_F32 * job->map.temperature;
    return job->operation == FL_CROSS_ENTROPY && !FL_(has_mass)(job) &&
           (sizeof(REAL) == sizeof(double) || (cap > 1e-18 && cap < 1e18 && cap <= most));
}

/* Whether a job goes through short_rows.h. */
static inline int FL_(goes_by_groups)(const struct fl_softmax_job *job)
{
    return sizeof(REAL) == sizeof(float) && short_rows_are(job);
}

/* Whether a job goes through fused.h: long rows. A temperature beyond the range of
 * float is left to the kernels of double. */
static int FL_(is_fused)(const struct fl_softmax_job *job)
{
    const int is_half = job->rows.input.itemsize == 2 && sizeof(REAL) == sizeof(float);
    const int is_own = job->rows.input.itemsize == (ptrdiff_t)sizeof(REAL);
    return !job->targets.has_elsewhere && !job->band.lse && (job->map.softcap == 0.0 || FL_(is_cap_fused)(job)) &&
           (is_own || is_half) && job->rows.classes > FL_SHORT_ROW && !FL_(goes_by_groups)(job) &&
           (sizeof(REAL) == sizeof(double) || (job->map.temperature > 1e-18 && job->map.temperature < 1e18));
}

/* Whether the exponentials can be stored in the output until they are scaled: nothing needs the values that they
 * overwrite, the input (in place) or a gradient that is accumulated. */
static inline int FL_(is_straight)(const struct fl_softmax_job *job)
{
    return FL_(is_direct)(&job->rows.output) && !FL_(has_mass)(job) && job->map.softcap == 0.0 &&
           !job->rows.accumulate && !job->rows.stream && !FL_(is_fused)(job);
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
    /* In fused.h the exponentials have the slope as a factor. */
    if (job->map.softcap > 0.0 && row->mode == FL_BY_MAXIMUM) {
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

/* The loss that is a function of the cross-entropy of these sums, and the factor of its gradient. */
static inline struct fl_focus FL_(focus)(struct fl_focusing focusing, const struct FL_(sums) * in)
{
    const double at_skip = fl_exp_nonpositive_f64(in->difference), over_total = 1.0 / (in->rest + at_skip);
    return fl_focus_f64(focusing, in->rest * over_total, at_skip * over_total, in->surprise);
}

/* ---- elements of an array ---- */

static inline double FL_(load_scalar)(const struct fl_softmax_job *job, const char *row, ptrdiff_t c)
{
    return (double)FL_(fl_load_scalar)(row + c * job->rows.input.class_stride, job->rows.input.dtype);
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

/* The result of a row without a finite maximum: log-sum-exp is the maximum, all else is NaN. */
static double FL_(infinite_row)(const struct fl_softmax_job *job, const char *row, double max)
{
    if (job->operation != FL_LOGSUMEXP) return (double)NAN;
    for (ptrdiff_t c = 0; c < job->rows.classes; c++)
        if (isnan(FL_(load_scalar)(job, row, c))) return (double)NAN;
    return max;
}
