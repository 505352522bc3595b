/* The multi-class margin loss compares every class with the target, h_j = m - x_y + x_j:
 *
 *   loss = w_y / C sum_{j != y} max(0, h_j)^p,   dloss/dx_j = w_y / C p h_j^(p - 1) (h_j > 0),
 *   dloss/dx_y = minus the sum of the others
 *
 * in double from any type; p is 1 or 2. A row with a NaN is all NaN.
 *
 * kernels.inc includes this file twice, after columns.h. Rows of few classes go FL_LANES at a time, one in each
 * vector lane, longer ones one by one in blocks; both go over their elements twice, as the gradient needs to know
 * whether the row has a NaN. */

/* max(0, h): NaN where h is. `base` is m - x_y. */
FL_INLINE double FL_(margin_excess)(double base, REAL x)
{
    const double h = base + (double)x;
    return h < 0.0 ? 0.0 : h;
}

/* p h^(p - 1) where h > 0; p - 1 is `square`, 0 or 1. */
FL_INLINE double FL_(margin_slope)(double h, int square) { return h > 0.0 ? (square ? 2.0 * h : 1.0) : 0.0; }

/* ---- rows of few classes ---- */

/* The state of a group of rows. */
struct FL_(margin_group) {
    double y[FL_LANES], base[FL_LANES], weight[FL_LANES], rate[FL_LANES];
    double loss[FL_LANES], pull[FL_LANES]; /* the sum of the slopes */
};

static void FL_(margin_start)(const struct fl_target_job *job, struct FL_(margin_group) * group, ptrdiff_t first,
                              ptrdiff_t count, REAL (*x)[FL_LANES])
{
    const double margin = job->margin, share = 1.0 / (double)job->rows.classes, scale = job->rows.grad_scale;
    ptrdiff_t y[FL_LANES];
    for (ptrdiff_t l = 0; l < FL_LANES; l++) y[l] = l < count ? fl_class_of_row(&job->targets, first + l) : y[0];
    for (ptrdiff_t l = 0; l < FL_LANES; l++) {
        group->y[l] = (double)y[l];
        group->base[l] = (double)x[y[l]][l];
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        group->base[l] = margin - group->base[l];
        group->weight[l] = share;
        group->rate[l] = scale;
        group->loss[l] = group->pull[l] = 0.0;
    }
    for (ptrdiff_t l = 0; has_weights(&job->targets) && l < count; l++)
        group->weight[l] = row_weight(&job->targets, first + l, y[l]) / (double)job->rows.classes;
    for (ptrdiff_t l = 0; job->rows.grad_output && l < count; l++)
        group->rate[l] = fl_upstream(&job->rows, first + l);
}

/* Adds classes first .. first + n - 1, n a constant up to 4, of all rows. */
FL_INLINE void FL_(margin_add)(struct FL_(margin_group) * group, REAL (*x)[FL_LANES], ptrdiff_t first, int n,
                               int square, int has_slopes)
{
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        double value = 0.0, slope = 0.0;
        for (int k = 0; k < n; k++) {
            const double y = group->y[l], h = group->base[l] + (double)x[first + k][l];
            const double excess = (y == (double)(first + k)) | (h < 0.0) ? 0.0 : h;
            value += square ? excess * excess : excess;
            slope += FL_(margin_slope)(excess, square);
        }
        group->loss[l] += value;
        if (has_slopes) group->pull[l] += slope;
    }
}

FL_INLINE void FL_(margin_of_group)(struct FL_(margin_group) * group, REAL (*x)[FL_LANES], ptrdiff_t classes,
                                    int square, int has_slopes)
{
    ptrdiff_t c = 0;
    for (; c + 4 <= classes; c += 4) FL_(margin_add)(group, x, c, 4, square, has_slopes);
    for (; c + 2 <= classes; c += 2) FL_(margin_add)(group, x, c, 2, square, has_slopes);
    for (; c < classes; c++) FL_(margin_add)(group, x, c, 1, square, has_slopes);
}

/* The gradients of a group in the place of x. */
FL_INLINE void FL_(margin_gradients)(const struct FL_(margin_group) * group, REAL (*x)[FL_LANES], ptrdiff_t classes,
                                     int square)
{
    REAL y[FL_LANES], rate[FL_LANES], none[FL_LANES], at_y[FL_LANES];
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        y[l] = (REAL)group->y[l];
        rate[l] = (REAL)group->rate[l];
        none[l] = (REAL)(group->rate[l] * 0.0); /* NaN in a row that has one */
        at_y[l] = (REAL)(group->rate[l] * -group->pull[l]);
    }
    for (ptrdiff_t c = 0; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const double h = group->base[l] + (double)x[c][l];
            const REAL slope = square ? (REAL)(group->rate[l] * (2.0 * h)) : rate[l],
                       gradient = h > 0.0 ? slope : none[l];
            x[c][l] = y[l] == (REAL)c ? at_y[l] : gradient;
        }
}

/* The same, added to what is there. */
FL_INLINE void FL_(margin_more)(const struct FL_(margin_group) * group, REAL (*x)[FL_LANES], REAL (*before)[FL_LANES],
                                ptrdiff_t classes, int square)
{
    for (ptrdiff_t c = 0; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const double slope = FL_(margin_slope)(group->base[l] + (double)x[c][l], square);
            const double gradient = group->rate[l] * (group->y[l] == (double)c ? -group->pull[l] : slope);
            x[c][l] = (REAL)(gradient + (double)before[c][l]);
        }
}

/* Rows first .. first + count - 1, whose losses are added to `totals`, one for each lane. */
static void FL_(margin_short_rows)(const struct fl_target_job *job, ptrdiff_t first, ptrdiff_t count, char *scratch,
                                   double totals[FL_LANES])
{
    REAL(*x)[FL_LANES] = (REAL(*)[FL_LANES])(void *)scratch;
    REAL(*before)[FL_LANES] = (REAL(*)[FL_LANES])(void *)(scratch + FL_(group_bytes));
    REAL *room = (REAL *)(void *)(scratch + 2 * FL_(group_bytes));
    const ptrdiff_t classes = job->rows.classes;
    const int square = job->power == 2.0;
    struct FL_(margin_group) group;
    FL_(load_columns)(&job->rows.input, first, count, classes, x, room);
    FL_(margin_start)(job, &group, first, count, x);
    /* Four loops, each with its conditions known to the compiler. */
    if (job->rows.output.data)
        square ? FL_(margin_of_group)(&group, x, classes, 1, 1) : FL_(margin_of_group)(&group, x, classes, 0, 1);
    else
        square ? FL_(margin_of_group)(&group, x, classes, 1, 0) : FL_(margin_of_group)(&group, x, classes, 0, 0);
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const double weight = group.weight[l], loss = group.loss[l], value = weight * loss;
        const double rate = weight * group.rate[l], none = loss == loss ? 0.0 : loss;
        group.rate[l] = loss == loss ? (weight == 0.0 ? 0.0 : rate) : loss;
        group.loss[l] = weight == 0.0 ? none : value;
    }
    for (ptrdiff_t l = count; l < FL_LANES; l++) group.loss[l] = 0.0;
    if (job->rows.losses) memcpy(job->rows.losses + first, group.loss, (size_t)count * sizeof(double));
    for (int l = 0; l < FL_LANES; l++) totals[l] += group.loss[l];
    if (job->rows.output.data == NULL) return;
    if (job->rows.accumulate) {
        FL_(load_columns)(&job->rows.output, first, count, classes, before, room);
        square ? FL_(margin_more)(&group, x, before, classes, 1) : FL_(margin_more)(&group, x, before, classes, 0);
    } else {
        square ? FL_(margin_gradients)(&group, x, classes, 1) : FL_(margin_gradients)(&group, x, classes, 0);
    }
    FL_(store_columns)(&job->rows.output, first, count, classes, x, room);
}

/* ---- longer rows ---- */

/* Adds the values and slopes of n classes, without class y, in a fixed order: sixteen lanes, each of which adds sums
 * of four. */
static void FL_(margin_sums)(const REAL *x, ptrdiff_t n, ptrdiff_t y, double base, int square, double *loss,
                             double *pull)
{
    double value[16] = {0}, slope[16] = {0}, h[64];
    for (ptrdiff_t i = 0; i < n; i += 64) {
        const ptrdiff_t some = n - i < 64 ? n - i : 64;
#pragma omp simd
        for (ptrdiff_t l = 0; l < some; l++) h[l] = FL_(margin_excess)(base, x[i + l]);
        for (ptrdiff_t l = some; l < 64; l++) h[l] = 0.0;
        if (y >= i && y < i + some) h[y - i] = 0.0;
#pragma omp simd
        for (int l = 0; l < 16; l++) {
            const double a = h[l], b = h[l + 16], c = h[l + 32], d = h[l + 48];
            value[l] += square ? (a * a + b * b) + (c * c + d * d) : (a + b) + (c + d);
            slope[l] += (FL_(margin_slope)(a, square) + FL_(margin_slope)(b, square)) +
                        (FL_(margin_slope)(c, square) + FL_(margin_slope)(d, square));
        }
    }
    for (int width = 8; width; width >>= 1)
        for (int l = 0; l < width; l++) value[l] += value[l + width], slope[l] += slope[l + width];
    *loss += value[0];
    *pull += slope[0];
}

/* The gradients of n classes, with -pull at y; g may be x. */
static void FL_(margin_block)(const REAL *x, const REAL *before, ptrdiff_t n, ptrdiff_t y, double base, double rate,
                              double pull, int square, REAL *g)
{
    const REAL at_y = y >= 0 && y < n ? (REAL)(rate * -pull + (before ? (double)before[y] : 0.0)) : (REAL)0;
    if (before) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            g[i] = (REAL)(rate * FL_(margin_slope)(FL_(margin_excess)(base, x[i]), square) + (double)before[i]);
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            g[i] = (REAL)(rate * FL_(margin_slope)(FL_(margin_excess)(base, x[i]), square));
    }
    if (y >= 0 && y < n) g[y] = at_y;
}

static double FL_(margin_row)(const struct fl_target_job *job, ptrdiff_t row, char *scratch)
{
    const struct fl_array *in = &job->rows.input, *out = &job->rows.output;
    REAL *x_buffer = (REAL *)(void *)scratch, *before_buffer = x_buffer + FL_BLOCK;
    const ptrdiff_t y = fl_class_of_row(&job->targets, row), classes = job->rows.classes;
    const char *p = fl_row_address(in, row);
    const double base = job->margin - (double)FL_(fl_load_scalar)(p + y * in->class_stride, in->dtype);
    const double weight = row_weight(&job->targets, row, y) / (double)classes,
                 upstream = fl_upstream(&job->rows, row);
    const int square = job->power == 2.0;
    double loss = 0.0, pull = 0.0, rate;
    for (ptrdiff_t first = 0; first < classes; first += FL_BLOCK) {
        const ptrdiff_t n = classes - first < FL_BLOCK ? classes - first : FL_BLOCK;
        if (fl_stops_at(first)) return loss;
        const REAL *x = FL_(block_of)(in, p, first, x_buffer, n);
        if (square)
            FL_(margin_sums)(x, n, y - first, base, 1, &loss, &pull);
        else
            FL_(margin_sums)(x, n, y - first, base, 0, &loss, &pull);
    }
    rate = loss == loss ? fl_times_f64(weight, upstream) : (double)NAN;
    for (ptrdiff_t first = 0; out->data && first < classes; first += FL_BLOCK) {
        const ptrdiff_t n = classes - first < FL_BLOCK ? classes - first : FL_BLOCK;
        char *destination = fl_row_address(out, row) + first * out->class_stride;
        if (fl_stops_at(first)) return loss;
        const REAL *x = FL_(block_of)(in, p, first, x_buffer, n), *before = NULL;
        REAL *g = FL_(is_direct)(out) ? (REAL *)(void *)destination : x_buffer;
        if (job->rows.accumulate) before = FL_(block_of)(out, destination, 0, before_buffer, n);
        FL_(margin_block)(x, before, n, y - first, base, rate, pull, square, g);
        if (g == x_buffer) FL_(fl_store)(g, destination, out->class_stride, out->dtype, n);
    }
    loss = fl_times_f64(weight, loss);
    if (job->rows.losses) job->rows.losses[row] = loss;
    return loss;
}

static struct fl_piece FL_(margin_rows)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_target_job *job = (const struct fl_target_job *)any;
    double totals[FL_LANES] = {0}, total = 0.0;
    if (job->rows.classes > FL_SHORT_ROW) {
        for (ptrdiff_t row = begin; row < end; row++) total += FL_(margin_row)(job, row, (char *)scratch);
        return fl_faultless(total);
    }
    for (ptrdiff_t row = begin; row < end; row += FL_LANES)
        FL_(margin_short_rows)(job, row, end - row < FL_LANES ? end - row : FL_LANES, (char *)scratch, totals);
    return fl_faultless(FL_(sum_of_lanes)(totals));
}
