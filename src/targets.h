/* Kernels that need class targets and no exponentials: the survey of the targets, negative log-likelihood, and the
 * multi-class margin loss. */

/* w_y s of a row; y < 0 if the target is not a class. */
static double row_weight(const struct fl_targets *targets, ptrdiff_t row, ptrdiff_t y)
{
    double weight = targets->sample_weight ? targets->sample_weight[row] : 1.0;
    if (targets->class_weight && y >= 0) weight *= targets->class_weight[y];
    return weight;
}

static int is_bad_target(const struct fl_targets *targets, int64_t y)
{
    return !(targets->has_ignored && y == targets->ignored) && (y < 0 || y >= (int64_t)targets->classes);
}

static struct fl_piece survey(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_targets *targets = (const struct fl_targets *)any;
    const int64_t classes = (int64_t)targets->classes, ignored = targets->ignored, use = targets->has_ignored;
    const int64_t *y = targets->index;
    struct fl_piece piece = {0.0, -1};
    int64_t kept = 0, bad = 0;
    (void)scratch;
    if (y == NULL) {
        for (ptrdiff_t i = begin; i < end; i++) piece.total += row_weight(targets, i, -1);
        return piece;
    }
#pragma omp simd reduction(+ : kept, bad)
    for (ptrdiff_t i = begin; i < end; i++) {
        const int64_t keep = !(use && y[i] == ignored);
        kept += keep;
        bad += keep && (y[i] < 0 || y[i] >= classes);
    }
    if (bad) {
        piece.fault = begin; /* if another thread has corrected the target meanwhile */
        for (ptrdiff_t i = end - 1; i >= begin; i--)
            if (is_bad_target(targets, y[i])) piece.fault = i;
        return piece;
    }
    piece.total = (double)kept;
    if (!targets->class_weight && !targets->sample_weight) return piece;
    piece.total = 0.0;
    for (ptrdiff_t i = begin; i < end; i++) {
        const ptrdiff_t c = fl_class_of_row(targets, i);
        if (c != FL_IGNORED) piece.total += row_weight(targets, i, c);
    }
    return piece;
}

/* Negative log-likelihood selects one log-probability of each row:
 *
 *   loss = -w_y s x_y,   dloss/dx_j = -w_y s (j = y)
 */
static double nll_load(const struct fl_target_job *job, const char *p)
{
    if (job->rows.input.dtype == FL_FLOAT64) return fl_load_scalar_f64(p, FL_FLOAT64);
    return (double)fl_load_scalar_f32(p, job->rows.input.dtype);
}

static void nll_store(const struct fl_target_job *job, char *p, double value)
{
    const int dtype = job->rows.output.dtype;
    if (dtype == FL_FLOAT64)
        fl_store_scalar_f64(p, dtype, value + (job->rows.accumulate ? fl_load_scalar_f64(p, dtype) : 0.0));
    else
        fl_store_scalar_f32(p, dtype, (float)value + (job->rows.accumulate ? fl_load_scalar_f32(p, dtype) : 0.0f));
}

static struct fl_piece nll_rows(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_target_job *job = (const struct fl_target_job *)any;
    double total = 0.0;
    (void)scratch;
    for (ptrdiff_t row = begin; row < end; row++) {
        const ptrdiff_t target = fl_class_of_row(&job->targets, row);
        const int ignored = target == FL_IGNORED;
        double loss = 0.0, weight = 0.0;
        if (!ignored) {
            weight = row_weight(&job->targets, row, target);
            loss = -nll_load(job, fl_row_address(&job->rows.input, row) + target * job->rows.input.class_stride);
            loss = fl_weighed(weight, loss);
        }
        if (job->rows.output.data) {
            char *out = fl_row_address(&job->rows.output, row);
            const double upstream = job->rows.grad_output ? job->rows.grad_output[row] : 1.0;
            if (!job->rows.accumulate) clear_row_f32(&job->rows.output, row, job->rows.classes);
            if (!ignored)
                nll_store(job, out + target * job->rows.output.class_stride,
                          weight == 0.0 ? 0.0 : -weight * upstream * job->rows.grad_scale);
        }
        total += loss;
        if (job->rows.losses) job->rows.losses[row] = loss;
    }
    return fl_faultless(total);
}

/* The multi-class margin loss compares every class with the target, h_j = m - x_y + x_j:
 *
 *   loss = w_y / C sum_{j != y} max(0, h_j)^p,   dloss/dx_j = w_y / C p h_j^(p - 1) (h_j > 0),
 *   dloss/dx_y = minus the sum of the others
 *
 * in double from any type; p is 1 or 2. A row with a NaN is all NaN. One block of a row: values max(0, h)^p and
 * slopes, 0 at the target. */
static void margin_block(const struct fl_target_job *job, const char *row, ptrdiff_t first, ptrdiff_t n, ptrdiff_t y,
                         double at_target, double *value, double *slope)
{
    const double margin = job->margin;
    const int squared = job->power == 2.0;
    fl_load_f64(row + first * job->rows.input.class_stride, job->rows.input.class_stride, job->rows.input.dtype,
                value, n);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const double h = fl_positive_f64(margin - at_target + value[i]);
        slope[i] = h > 0.0 ? (squared ? 2.0 * h : 1.0) : 0.0;
        value[i] = squared ? h * h : h;
    }
    if (y >= first && y < first + n) value[y - first] = slope[y - first] = 0.0;
}

static struct fl_piece margin_rows(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_target_job *job = (const struct fl_target_job *)any;
    const struct fl_array *in = &job->rows.input, *out = &job->rows.output;
    double *value = (double *)scratch, *slope = value + FL_BLOCK, total = 0.0;
    for (ptrdiff_t row = begin; row < end; row++) {
        const ptrdiff_t y = fl_class_of_row(&job->targets, row);
        const char *p = fl_row_address(in, row);
        const double at_target = fl_load_scalar_f64(p + y * in->class_stride, in->dtype);
        const double weight = row_weight(&job->targets, row, y) / (double)job->rows.classes;
        const double upstream = fl_upstream(&job->rows, row);
        double loss = 0.0, pull = 0.0, rate;
        for (ptrdiff_t first = 0; first < job->rows.classes; first += FL_BLOCK) {
            const ptrdiff_t n = job->rows.classes - first < FL_BLOCK ? job->rows.classes - first : FL_BLOCK;
            margin_block(job, p, first, n, y, at_target, value, slope);
            loss += sum_of_values_f64(value, n);
            pull += sum_of_values_f64(slope, n);
        }
        rate = loss == loss ? fl_times_f64(weight, upstream) : (double)NAN;
        for (ptrdiff_t first = 0; out->data && first < job->rows.classes; first += FL_BLOCK) {
            const ptrdiff_t n = job->rows.classes - first < FL_BLOCK ? job->rows.classes - first : FL_BLOCK;
            char *destination = fl_row_address(out, row) + first * out->class_stride;
            margin_block(job, p, first, n, y, at_target, value, slope);
            if (y >= first && y < first + n) slope[y - first] = -pull;
            if (job->rows.accumulate) fl_load_f64(destination, out->class_stride, out->dtype, value, n);
            for (ptrdiff_t i = 0; i < n; i++) slope[i] = rate * slope[i] + (job->rows.accumulate ? value[i] : 0.0);
            fl_store_f64(slope, destination, out->class_stride, out->dtype, n);
        }
        loss = fl_times_f64(weight, loss);
        total += loss;
        if (job->rows.losses) job->rows.losses[row] = loss;
    }
    return fl_faultless(total);
}
