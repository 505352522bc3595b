/* The margin loss of several labels compares every label y_k of a row with every class that is none:
 *
 *   loss = 1 / C sum_k sum_{j is no label} max(0, h_kj),   h_kj = 1 - x_{y_k} + x_j,
 *   dloss/dx_j = 1 / C times the number of k with h_kj > 0,   dloss/dx_{y_k} = -1 / C times that of j
 *
 * The labels are the indices before the first negative one; those behind it are not read. A label that is there twice
 * counts twice, as in torch. The derivatives are whole numbers over C, and the terms are computed and added in
 * double, from any type. A row whose loss is NaN is all NaN.
 *
 * samples.inc includes this file twice. The row is in a buffer of whole groups of lanes. */

enum { FL_(label_lanes) = 16 };

/* The row, which elements are no labels (1 or 0), and the derivatives, each of `padded` elements. */
struct FL_(label_row) {
    REAL *x, *is_other, *count;
    ptrdiff_t padded;
};

/* The next label of a row, or -1 behind the last. It is read once: another thread may change it. */
static inline ptrdiff_t FL_(label_at)(const struct fl_label_job *job, ptrdiff_t row, ptrdiff_t k)
{
    const ptrdiff_t classes = job->rows.classes;
    int64_t y = -1;
    if (k < classes) y = *(const volatile int64_t *)&job->target[row * classes + k];
    return y >= 0 && y < (int64_t)classes ? (ptrdiff_t)y : -1;
}

static void FL_(label_begin)(const struct fl_label_job *job, ptrdiff_t row, const struct FL_(label_row) * labels)
{
    const struct fl_array *in = &job->rows.input;
    const ptrdiff_t classes = job->rows.classes;
    FL_(fl_load)(fl_row_address(in, row), in->class_stride, in->dtype, labels->x, classes);
    for (ptrdiff_t j = classes; j < labels->padded; j++) labels->x[j] = 0;
    for (ptrdiff_t j = 0; j < labels->padded; j++) labels->is_other[j] = j < classes ? (REAL)1 : (REAL)0;
    for (ptrdiff_t j = 0; j < labels->padded; j++) labels->count[j] = 0;
    for (ptrdiff_t k = 0, y; (y = FL_(label_at)(job, row, k)) >= 0; k++) labels->is_other[y] = 0;
}

/* Adds the terms of a label, and returns how many are positive. */
static double FL_(label_terms)(const struct FL_(label_row) * labels, ptrdiff_t y, double sums[FL_(label_lanes)])
{
    const REAL *x = labels->x, *is_other = labels->is_other;
    REAL *count = labels->count;
    const double base = 1.0 - (double)x[y];
    double lane[FL_(label_lanes)], within[FL_(label_lanes)] = {0};
    memcpy(lane, sums, sizeof lane); /* in registers */
    for (ptrdiff_t j = 0; j < labels->padded; j += FL_(label_lanes))
#pragma omp simd
        for (int l = 0; l < FL_(label_lanes); l++) {
            const double h = base + (double)x[j + l], term = h < 0.0 ? 0.0 : h;
            const double kept = is_other[j + l] == 0 ? 0.0 : term, one = kept > 0.0 ? 1.0 : 0.0;
            lane[l] += kept;
            within[l] += one;
            count[j + l] += (REAL)one;
        }
    memcpy(sums, lane, sizeof lane);
    return FL_(pair_total)(within);
}

static void FL_(label_out)(const struct fl_label_job *job, ptrdiff_t row, const struct FL_(label_row) * labels,
                           double loss)
{
    const struct fl_array *out = &job->rows.output;
    const ptrdiff_t classes = job->rows.classes;
    const double scale = fl_upstream(&job->rows, row) / (double)classes;
    REAL *g = labels->count, *before = labels->x;
    char *p = fl_row_address(out, row);
    for (ptrdiff_t j = 0; j < classes; j++) {
        const double count = (double)g[j], slope = count == 0.0 ? 0.0 : scale * count;
        g[j] = (REAL)(loss == loss ? slope : loss);
    }
    if (job->rows.accumulate) {
        FL_(fl_load)(p, out->class_stride, out->dtype, before, classes);
        for (ptrdiff_t j = 0; j < classes; j++) g[j] += before[j];
    }
    FL_(fl_store)(g, p, out->class_stride, out->dtype, classes);
}

static struct fl_piece FL_(labels)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_label_job *job = (const struct fl_label_job *)any;
    const ptrdiff_t classes = job->rows.classes;
    const ptrdiff_t padded = (classes + FL_(label_lanes) - 1) / FL_(label_lanes) * FL_(label_lanes);
    const struct FL_(label_row)
        labels = {(REAL *)scratch, (REAL *)scratch + padded, (REAL *)scratch + 2 * padded, padded};
    ptrdiff_t since = 0;
    double total = 0.0;
    for (ptrdiff_t row = begin; row < end; row++) {
        double sums[FL_(label_lanes)] = {0}, loss;
        FL_(label_begin)(job, row, &labels);
        for (ptrdiff_t k = 0, y; (y = FL_(label_at)(job, row, k)) >= 0; k++) {
            if (fl_stops_after(padded, &since)) break;
            labels.count[y] -= (REAL)FL_(label_terms)(&labels, y, sums);
        }
        loss = FL_(pair_total)(sums) / (double)classes;
        if (job->rows.losses) job->rows.losses[row] = loss;
        if (job->rows.output.data) FL_(label_out)(job, row, &labels, loss);
        total += loss;
    }
    return fl_faultless(total);
}
