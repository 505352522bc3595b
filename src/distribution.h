/* Negative log-likelihoods of distributions and their derivatives by every parameter, all in double.
 *
 * Negative binomial, with x the logarithm of the mean m, dispersion a (variance m + a m^2), r = 1 / a, u = a m and a
 * count t:
 *
 *   log p = log(Gamma(t + r) / (Gamma(r) t!)) - r log(1 + u) + t log(u / (1 + u))
 *   -log p = log(1 + u) / a + t (log(1 + u) - x) - G(t, a) + log t!,    G = log(Gamma(t + r) / Gamma(r)) - t log r
 *   d / dx = (m - t) / (1 + u)
 *   d / da = t m / (1 + u) - m^2 H(u) - dG / da,    H(u) = (log(1 + u) - u / (1 + u)) / u^2
 *
 * For a -> 0 these are m - t x (Poisson) and ((t - m)^2 - t) / -2: log(1 + u), H and G keep their digits there, see
 * gamma.h. Only log t! has no parameter.
 *
 * Student-t, with z = (x - t) / s, n degrees of freedom and q = z^2 / n:
 *
 *   -log p = (n + 1) / 2 log(1 + q) + log s + log(2) / 2 - h(n / 2) + log(pi) / 2,
 *   h(y) = log(Gamma(y + 1/2) / Gamma(y)) - log(y) / 2
 *   d / dx = (1 + 1 / n) z / (s (1 + q)),    d / ds = (1 - z^2) / (s (1 + q))
 *   d / dn = (log(1 + q) - q / (1 + q) - q / (n (1 + q)) - h'(n / 2)) / 2
 *
 * For n -> infinity these are those of the normal distribution: log(1 + q) - q / (1 + q), h and h' keep their digits
 * there. Only log(pi) / 2 has no parameter. */

/* A strip: contiguous inputs (v is the second parameter), values and derivatives. */
struct distribution_strip {
    const double *x, *t, *u, *v;
    double *value, *by_x, *by_u, *by_v;
    ptrdiff_t n;
};

/* Beyond it the exponential is held, and log(1 + u) is linear. */
#define LARGEST_LOG_MEAN 600.0

static void negative_binomial_strip(const struct distribution_strip *in)
{
    const double *xs = in->x, *ts = in->t, *as = in->u;
    double *values = in->value, *by_x = in->by_x, *by_a = in->by_u;
#pragma omp simd
    for (ptrdiff_t i = 0; i < in->n; i++) {
        const double x = xs[i], t = ts[i], a = as[i], held = fl_choose_f64(x > LARGEST_LOG_MEAN, LARGEST_LOG_MEAN, x);
        const double m = fl_exp_f64(held), u = a * m, q = 1.0 / (1.0 + u), rest = x - held, r = 1.0 / a;
        const struct fl_log1p_parts log = fl_log1p_parts_f64(u);
        const struct fl_rising rising = fl_rising_f64(t, a);
        const double over = fl_choose_f64(x > LARGEST_LOG_MEAN, rest * r, 0.0);
        const double share = fl_choose_f64(u == 0.0, m, log.log * r) + over;
        const double counted = fl_choose_f64(t == 0.0, 0.0, t * (log.log - held));
        const double wide = (log.log - u * q) * (r * r),
                     beyond = fl_choose_f64(u < (double)INFINITY, wide, share * r);
        const double near = m * m * (q - fl_curvature_of_log1p(u, log.deficit));
        const double bend = fl_choose_f64(u > 1.0, beyond + over * r, near);
        values[i] = (share + counted) - rising.value;
        by_x[i] = (m - t) * q;
        by_a[i] = (t * (m * q) - bend) - rising.slope;
    }
}

static void student_t_strip(const struct distribution_strip *in)
{
    const double *xs = in->x, *ts = in->t, *ss = in->u, *ns = in->v;
    double *values = in->value, *by_x = in->by_x, *by_s = in->by_u, *by_n = in->by_v;
#pragma omp simd
    for (ptrdiff_t i = 0; i < in->n; i++) {
        const double n = ns[i], y = 1.0 / n, over_s = 1.0 / ss[i], z = (xs[i] - ts[i]) / ss[i], square = z * z;
        const double q = square * y, p = 1.0 / (1.0 + q), far = 1.0 / (1.0 + 1.0 / q), over = 1.0 / square;
        const struct fl_log1p_parts log = fl_log1p_parts_f64(q);
        const struct fl_rising step = fl_half_step_f64(2.0 * y);
        const double share = fl_choose_f64(q > 1.0, far, q * p);
        const double near = q * (q * p) - log.deficit, bend = fl_choose_f64(q > 1.0, log.log - far, near);
        const double main = fl_choose_f64(q == 0.0, 0.5 * square, 0.5 * (n + 1.0) * log.log);
        const double far_x = 1.0 / (1.0 / z + z * y), far_s = (over - 1.0) / (over + y);
        values[i] = main + (fl_log_f64(ss[i]) + (0.34657359027997265471 - step.value));
        by_x[i] = (1.0 + y) * over_s * fl_choose_f64(q > 1.0, far_x, z * p);
        by_s[i] = over_s * fl_choose_f64(q > 1.0, far_s, (1.0 - z) * (1.0 + z) * p);
        by_n[i] = 0.5 * (bend - share * y - step.slope);
    }
    /* Where z^2 / n overflows, its logarithm does not. */
    for (ptrdiff_t i = 0; i < in->n; i++) {
        const double z = fabs((xs[i] - ts[i]) / ss[i]), y = 1.0 / ns[i];
        if (z * z * y <= DBL_MAX || !(z <= DBL_MAX)) continue;
        const struct fl_rising step = fl_half_step_f64(2.0 * y);
        const double log = 2.0 * fl_log_f64(z) - fl_log_f64(ns[i]);
        values[i] = 0.5 * (ns[i] + 1.0) * log + (fl_log_f64(ss[i]) + (0.34657359027997265471 - step.value));
        by_n[i] = 0.5 * (log - 1.0 - y - step.slope);
    }
}

static void add_constants(const struct distribution_strip *in, int distribution)
{
    if (distribution == FL_STUDENT_T) {
        for (ptrdiff_t i = 0; i < in->n; i++) in->value[i] += 0.57236494292470008707; /* log(pi) / 2 */
        return;
    }
#pragma omp simd
    for (ptrdiff_t i = 0; i < in->n; i++) in->value[i] += fl_log_factorial_f64(in->t[i]);
}

/* Buffers: four inputs, weight and upstream, the value, three derivatives, and the present values of an output. */
enum { DISTRIBUTION_BYTES = 11 * FL_ELEMENT_STRIP * (int)sizeof(double) };

/* Multiplies derivatives by the scale of the call, leaves NaN where the value is, and writes and sums them. */
static void derivative_out(const struct fl_distribution_job *any, int k, ptrdiff_t first, ptrdiff_t n,
                           const double *weight, const double *upstream, const double *value, double *slope,
                           double *sums, double *before)
{
    const struct fl_element_job *job = &any->elements;
    const struct fl_array *arrays[3] = {&job->first, &job->second, &any->last};
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const double product = job->scale * slope[i];
        slope[i] = fl_choose_f64(value[i] == value[i], product, value[i]);
    }
    if (job->scale == 0) leave_out_f64(value, slope, n);
    finish_derivative_f64(job, arrays[k], first, n, weight, upstream, value, slope,
                          arrays[k]->data && (job->accumulate >> k & 1), before);
    if (arrays[k]->data) elements_out_f64(job, arrays[k], first, n, slope);
    if (sums) add_to_sums_f64(sums, slope, n);
}

static struct fl_piece distribution_elements(const void *given, ptrdiff_t begin, ptrdiff_t end, void *buffers)
{
    const struct fl_distribution_job *any = (const struct fl_distribution_job *)given;
    const struct fl_element_job *job = &any->elements;
    double *x = (double *)buffers, *t = x + FL_ELEMENT_STRIP, *u = t + FL_ELEMENT_STRIP, *v = u + FL_ELEMENT_STRIP;
    double *w = v + FL_ELEMENT_STRIP, *g = w + FL_ELEMENT_STRIP, *value = g + FL_ELEMENT_STRIP;
    double *slopes = value + FL_ELEMENT_STRIP, *before = slopes + 3 * FL_ELEMENT_STRIP;
    double sums[sums_f64] = {0}, by_parameter[2][sums_f64] = {{0}};
    const int is_t = any->distribution == FL_STUDENT_T;
    const int has_slopes = job->first.data || job->second.data || any->last.data || any->sums;
    struct distribution_strip strip = {
        x, t, u, v, value, slopes, slopes + FL_ELEMENT_STRIP, slopes + 2 * FL_ELEMENT_STRIP, 0};
    if (!job->target.data) fill_f64(t, job->target_value, FL_ELEMENT_STRIP);
    if (!job->third.data) fill_f64(u, job->third_value, FL_ELEMENT_STRIP);
    if (!any->fourth.data) fill_f64(v, any->fourth_value, FL_ELEMENT_STRIP);
    for (ptrdiff_t i = begin; i < end; i += FL_ELEMENT_STRIP) {
        const ptrdiff_t n = end - i < FL_ELEMENT_STRIP ? end - i : FL_ELEMENT_STRIP;
        const ptrdiff_t padded = (n + group_f64 - 1) / group_f64 * group_f64;
        const double *weight = NULL, *upstream = NULL;
        strip.n = padded;
        strip.x = strip_in_f64(job, &job->input, i, n, padded, x);
        if (job->target.data) strip.t = strip_in_f64(job, &job->target, i, n, padded, t);
        if (job->third.data) strip.u = strip_in_f64(job, &job->third, i, n, padded, u);
        if (any->fourth.data) strip.v = strip_in_f64(job, &any->fourth, i, n, padded, v);
        (is_t ? student_t_strip : negative_binomial_strip)(&strip);
        if (any->is_full) add_constants(&strip, any->distribution);
        if (job->weight.data) weight = elements_in_f64(job, &job->weight, i, n, w);
        if (job->upstream.data) upstream = elements_in_f64(job, &job->upstream, i, n, g);
        if (weight) weigh_f64(weight, value, n);
        if (has_slopes) {
            if (job->first.data) derivative_out(any, 0, i, n, weight, upstream, value, strip.by_x, NULL, before);
            derivative_out(any, 1, i, n, weight, upstream, value, strip.by_u, by_parameter[0], before);
            if (is_t) derivative_out(any, 2, i, n, weight, upstream, value, strip.by_v, by_parameter[1], before);
        }
        if (job->losses.data) elements_out_f64(job, &job->losses, i, n, value);
        add_to_sums_f64(sums, value, n);
    }
    if (any->sums)
        for (int k = 0; k < 2; k++) any->sums[2 * (begin / job->piece) + k] = total_of_sums_f64(by_parameter[k]);
    return fl_faultless(total_of_sums_f64(sums));
}

/* Objectives of boosting: rows of scores, one for the location or the logarithm of the mean, and logarithms of the
 * other parameters (the variance of the normal distribution). The second derivatives are the diagonal of the Fisher
 * information by the scores, which is positive:
 *
 *   normal               1 / v,  1/2
 *   negative binomial    m / (1 + u),  about (u / (b + c u))^2 with b^2 = 2 (1 + a), 1 / c^2 = (1 + 1 / (1 + 3 r)) /
 * 2 Student-t            (n + 1) / ((n + 3) s^2),  2 n / (n + 3),  about 1 / (1 + 0.95 n + 2/7 n^2)
 *
 * The two without a closed form have the limits of the exact ones on all sides: u^2 / (2 (1 + a)) for u -> 0 and r^2
 * trigamma(r) - r for u -> infinity (which 1 / c^2 meets within 4 %), 1 for n -> 0 and 7 / (2 n^2) for n -> infinity.
 * All but the first are held to LEAST_INFORMATION, as a step is the quotient of both derivatives: where the data say
 * nothing of a parameter it would be arbitrary. */
#define LEAST_INFORMATION 0.01

static void normal_objective(const struct distribution_strip *in, double *h)
{
    const double *xs = in->x, *ts = in->t, *us = in->u;
    double *by_x = in->by_x, *by_u = in->by_u;
#pragma omp simd
    for (ptrdiff_t i = 0; i < in->n; i++) {
        const double over = fl_exp_f64(-us[i]), r = xs[i] - ts[i];
        by_x[i] = r * over;
        by_u[i] = 0.5 - 0.5 * (r * (r * over));
        h[i] = over;
        h[i + FL_ELEMENT_STRIP] = 0.5;
    }
}

/* The logarithms of parameters become parameters. */
static void exponentials(double *values, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) values[i] = fl_exp_f64(values[i]);
}

static void negative_binomial_objective(const struct distribution_strip *in, double *h)
{
    const double *xs = in->x, *as = in->u;
    double *by_a = in->by_u;
    negative_binomial_strip(in);
#pragma omp simd
    for (ptrdiff_t i = 0; i < in->n; i++) {
        const double a = as[i], over_m = fl_exp_f64(-xs[i]), r = 1.0 / a, over_u = over_m * r;
        const double b = sqrt(2.0 * (1.0 + a)), c = 1.0 / sqrt(0.5 + 0.5 / (1.0 + 3.0 * r)),
                     root = 1.0 / (b * over_u + c);
        const double information = root * root;
        by_a[i] *= a;
        h[i] = 1.0 / (over_m + a);
        h[i + FL_ELEMENT_STRIP] = information > LEAST_INFORMATION ? information : LEAST_INFORMATION;
    }
}

static void student_t_objective(const struct distribution_strip *in, double *h)
{
    const double *ss = in->u, *ns = in->v;
    double *by_s = in->by_u, *by_n = in->by_v;
    student_t_strip(in);
#pragma omp simd
    for (ptrdiff_t i = 0; i < in->n; i++) {
        const double n = ns[i], s = ss[i], over = 1.0 / (n + 3.0), of_s = 2.0 * n * over;
        const double of_n = 1.0 / (1.0 + n * (0.95 + n * (2.0 / 7.0)));
        by_s[i] *= s;
        by_n[i] *= n;
        h[i] = (n + 1.0) * over / (s * s);
        h[i + FL_ELEMENT_STRIP] = of_s > LEAST_INFORMATION ? of_s : LEAST_INFORMATION;
        h[i + 2 * FL_ELEMENT_STRIP] = of_n > LEAST_INFORMATION ? of_n : LEAST_INFORMATION;
    }
}

/* Weighs a column of derivatives, holds it in the range of float, and writes it. */
static void column_out(const struct fl_array *column, ptrdiff_t first, ptrdiff_t n, const double *weight, double *x)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const double y = weight[i] * x[i], low = y < -FLT_MAX ? -FLT_MAX : y;
        x[i] = low > FLT_MAX ? FLT_MAX : low;
    }
    fl_store_f64(x, column->data + first * column->class_stride, column->class_stride, column->dtype, n);
}

static void column_in(const struct fl_array *column, ptrdiff_t first, ptrdiff_t n, ptrdiff_t padded, double *x)
{
    fl_load_f64(column->data + first * column->class_stride, column->class_stride, column->dtype, x, n);
    for (ptrdiff_t i = n; i < padded; i++) x[i] = x[n - 1];
}

/* Buffers: label, weight, value, and three each of scores, gradients and second derivatives. */
enum { OBJECTIVE_BYTES = 12 * FL_ELEMENT_STRIP * (int)sizeof(double) };

static struct fl_piece objective_rows(const void *given, ptrdiff_t begin, ptrdiff_t end, void *buffers)
{
    const struct fl_objective_job *job = (const struct fl_objective_job *)given;
    double *t = (double *)buffers, *w = t + FL_ELEMENT_STRIP, *value = w + FL_ELEMENT_STRIP;
    double *x = value + FL_ELEMENT_STRIP, *g = x + 3 * FL_ELEMENT_STRIP, *h = g + 3 * FL_ELEMENT_STRIP;
    struct distribution_strip strip = {x,     t, x + FL_ELEMENT_STRIP, x + 2 * FL_ELEMENT_STRIP,
                                       value, g, g + FL_ELEMENT_STRIP, g + 2 * FL_ELEMENT_STRIP,
                                       0};
    const int scores = job->distribution == FL_STUDENT_T ? 3 : 2;
    if (!job->weight.data) fill_f64(w, 1.0, FL_ELEMENT_STRIP);
    for (ptrdiff_t i = begin; i < end; i += FL_ELEMENT_STRIP) {
        const ptrdiff_t n = end - i < FL_ELEMENT_STRIP ? end - i : FL_ELEMENT_STRIP;
        const ptrdiff_t padded = strip.n = (n + group_f64 - 1) / group_f64 * group_f64;
        column_in(&job->label, i, n, padded, t);
        if (job->weight.data) column_in(&job->weight, i, n, padded, w);
        for (int k = 0; k < scores; k++) column_in(&job->scores[k], i, n, padded, x + k * FL_ELEMENT_STRIP);
        if (job->distribution == FL_NORMAL) {
            normal_objective(&strip, h);
        } else {
            for (int k = 1; k < scores; k++) exponentials(x + k * FL_ELEMENT_STRIP, padded);
            (scores == 3 ? student_t_objective : negative_binomial_objective)(&strip, h);
        }
        for (int k = 0; k < scores; k++) {
            column_out(&job->gradients[k], i, n, w, g + k * FL_ELEMENT_STRIP);
            column_out(&job->hessians[k], i, n, w, h + k * FL_ELEMENT_STRIP);
        }
    }
    return fl_faultless(0.0);
}
