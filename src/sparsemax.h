/* The sparsemax loss. With the largest logit of a row as its origin, d_j = x_j - max,
 *
 *   p_j = max(0, d_j - tau),  tau such that sum_j p_j = 1,
 *   loss = -x_y + 1/2 sum_{p_j > 0} (x_j^2 - (max + tau)^2) + 1/2,   dloss/dx_j = p_j - (j = y).
 *
 * On the support x_j^2 - (max + tau)^2 = p_j (p_j + 2 (max + tau)), and the p_j sum to 1. So
 *
 *   loss = 1/2 sum_j p_j^2 + tau - d_y + 1/2 = 1/2 sum_{j != y} p_j^2 + 1/2 (1 - p_y)^2 + max(0, tau - d_y),
 *
 * as d_y = p_y + tau on the support. Every term is at least 0, and none depends on the size of the logits. All of
 * them are exactly 0 if all other d_j are at most d_y - 1.
 *
 * tau is the zero of f(t) = sum_j max(0, d_j - t) - 1, which is convex, and f(-1) >= 0. Newton's step from the left
 * is t <- (sum_{d_j > t} d_j - 1) / n, n the number of these d_j. It never passes the zero, n never grows, and t is
 * the zero if n stays. By convexity f_{k+1} / f_k + n_{k+1} / n_k <= 1: f n falls to a quarter at least in each step,
 * so few are needed for any row. Only logits within 1 of the maximum count. If they fit in a block, they are
 * collected, and the steps go over them alone.
 *
 * Differences and sums are double. A row with NaN, with inf or with -inf alone is all NaN; another -inf has p_j = 0.
 *
 * kernels.inc includes this file twice, after margin.h. */

/* The classes that are looked at together, before those near the maximum are collected. */
enum { FL_(sparsemax_group) = 64 };

/* The logits near the maximum, without that of the target: their differences if `count` is at most FL_BLOCK. */
struct FL_(sparsemax_near) {
    double *d;
    ptrdiff_t count;
    int has_fault; /* NaN, inf, or -inf alone */
};

/* Collects from n classes that do not contain the target. */
static void FL_(sparsemax_collect)(struct FL_(sparsemax_near) * near, const REAL *x, ptrdiff_t n, double max)
{
    for (ptrdiff_t first = 0; first < n; first += FL_(sparsemax_group)) {
        const ptrdiff_t some = n - first < FL_(sparsemax_group) ? n - first : FL_(sparsemax_group);
        double d[FL_(sparsemax_group)];
        int hits = 0, faults = 0;
#pragma omp simd reduction(+ : hits, faults)
        for (ptrdiff_t i = 0; i < some; i++) {
            d[i] = (double)x[first + i] - max;
            hits += d[i] > -1.0;
            faults += !(d[i] <= 0.0);
        }
        near->has_fault |= faults != 0;
        if (hits && near->count + hits <= FL_BLOCK) {
            ptrdiff_t count = near->count;
            for (ptrdiff_t i = 0; i < some; i++)
                if (d[i] > -1.0) near->d[count++] = d[i];
        }
        near->count += hits;
    }
}

/* Adds the d > tau to `sum`, and their number to `count`. */
static void FL_(sparsemax_add)(const double *d, ptrdiff_t n, double tau, double *sum, double *count)
{
    double sums[FL_LANES] = {0}, counts[FL_LANES] = {0};
    ptrdiff_t i = 0;
    for (; i + FL_LANES <= n; i += FL_LANES)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            sums[l] += d[i + l] > tau ? d[i + l] : 0.0;
            counts[l] += d[i + l] > tau ? 1.0 : 0.0;
        }
    for (int l = 0; i < n; i++, l++)
        if (d[i] > tau) sums[l] += d[i], counts[l] += 1.0;
    *sum += FL_(sum_of_lanes)(sums);
    *count += FL_(sum_of_lanes)(counts);
}

/* The sum of the squares of max(0, d - tau). */
static double FL_(sparsemax_squares)(const double *d, ptrdiff_t n, double tau)
{
    double sums[FL_LANES] = {0};
    ptrdiff_t i = 0;
    for (; i + FL_LANES <= n; i += FL_LANES)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            const double p = d[i + l] > tau ? d[i + l] - tau : 0.0;
            sums[l] += p * p;
        }
    for (int l = 0; i < n; i++, l++)
        if (d[i] > tau) sums[l] += (d[i] - tau) * (d[i] - tau);
    return FL_(sum_of_lanes)(sums);
}

/* A row, and its buffers of a block. */
struct FL_(sparsemax_row) {
    const struct fl_array *in;
    const char *values;
    ptrdiff_t classes, y;
    REAL *x;
    double max, d_y;
    struct FL_(sparsemax_near) near;
};

/* The differences of the next classes from `first`, returned with their number: those near the maximum at once, or
 * all of a block. None at the end of the row. */
static ptrdiff_t FL_(sparsemax_next)(const struct FL_(sparsemax_row) * row, ptrdiff_t *first)
{
    const ptrdiff_t begin = *first, left = row->classes - begin, n = left < FL_BLOCK ? left : FL_BLOCK;
    double *d = row->near.d;
    if (n <= 0 || fl_stops_at(begin)) return 0;
    if (row->near.count <= FL_BLOCK) {
        *first = row->classes;
        return row->near.count;
    }
    const REAL *x = FL_(block_of)(row->in, row->values, begin, row->x, n);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) d[i] = (double)x[i] - row->max;
    if (row->y >= begin && row->y < begin + n) d[row->y - begin] = -2.0;
    *first = begin + n;
    return n;
}

static double FL_(sparsemax_threshold)(const struct FL_(sparsemax_row) * row)
{
    double tau = -1.0, before = INFINITY;
    for (;;) {
        const int has_y = row->d_y > tau;
        double sum = has_y ? row->d_y : 0.0, count = has_y ? 1.0 : 0.0;
        for (ptrdiff_t first = 0, n; (n = FL_(sparsemax_next)(row, &first)) > 0;)
            FL_(sparsemax_add)(row->near.d, n, tau, &sum, &count);
        if (!(count < before)) return tau;
        before = count;
        tau = (sum - 1.0) / count;
    }
}

static double FL_(sparsemax_value)(const struct FL_(sparsemax_row) * row, double tau)
{
    const double p = row->d_y > tau ? row->d_y - tau : 0.0, beyond = row->d_y < tau ? tau - row->d_y : 0.0;
    double squares = (1.0 - p) * (1.0 - p);
    for (ptrdiff_t first = 0, n; (n = FL_(sparsemax_next)(row, &first)) > 0;)
        squares += FL_(sparsemax_squares)(row->near.d, n, tau);
    return 0.5 * squares + beyond;
}

/* Reads the row twice: for its maximum, and for what is near it. */
static void FL_(sparsemax_survey)(struct FL_(sparsemax_row) * row)
{
    REAL max = (REAL)-INFINITY;
    for (ptrdiff_t first = 0; first < row->classes && !fl_stops_at(first); first += FL_BLOCK) {
        const ptrdiff_t n = row->classes - first < FL_BLOCK ? row->classes - first : FL_BLOCK;
        max = FL_(larger)(FL_(block_max)(FL_(block_of)(row->in, row->values, first, row->x, n), n), max);
    }
    row->max = (double)max;
    for (ptrdiff_t first = 0; first < row->classes && !fl_stops_at(first); first += FL_BLOCK) {
        const ptrdiff_t n = row->classes - first < FL_BLOCK ? row->classes - first : FL_BLOCK;
        const REAL *x = FL_(block_of)(row->in, row->values, first, row->x, n);
        const ptrdiff_t y = row->y - first, before = y >= 0 && y < n ? y : n;
        FL_(sparsemax_collect)(&row->near, x, before, row->max);
        if (before == n) continue;
        row->d_y = (double)x[y] - row->max;
        row->near.has_fault |= !(row->d_y <= 0.0);
        FL_(sparsemax_collect)(&row->near, x + y + 1, n - y - 1, row->max);
    }
}

/* The gradients of n classes; g may be x. A row with a fault has the rate NaN. */
static void FL_(sparsemax_block)(const REAL *x, const REAL *before, ptrdiff_t n, ptrdiff_t y, double max, double tau,
                                 double rate, REAL *g)
{
    double own = 0.0;
    if (y >= 0 && y < n) {
        const double d = (double)x[y] - max;
        own = rate * ((d > tau ? d - tau : 0.0) - 1.0) + (before ? (double)before[y] : 0.0);
    }
    if (before) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            const double d = (double)x[i] - max;
            g[i] = (REAL)(rate * (d > tau ? d - tau : 0.0) + (double)before[i]);
        }
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            const double d = (double)x[i] - max;
            g[i] = (REAL)(rate * (d > tau ? d - tau : 0.0));
        }
    }
    if (y >= 0 && y < n) g[y] = (REAL)own;
}

static void FL_(sparsemax_gradient)(const struct fl_target_job *job, const struct FL_(sparsemax_row) * row,
                                    ptrdiff_t index, double tau, double rate)
{
    const struct fl_array *out = &job->rows.output;
    REAL *before_buffer = (REAL *)(void *)row->near.d;
    for (ptrdiff_t first = 0; first < row->classes && !fl_stops_at(first); first += FL_BLOCK) {
        const ptrdiff_t n = row->classes - first < FL_BLOCK ? row->classes - first : FL_BLOCK;
        char *destination = fl_row_address(out, index) + first * out->class_stride;
        const REAL *x = FL_(block_of)(row->in, row->values, first, row->x, n), *before = NULL;
        REAL *g = FL_(is_direct)(out) ? (REAL *)(void *)destination : row->x;
        if (job->rows.accumulate) before = FL_(block_of)(out, destination, 0, before_buffer, n);
        FL_(sparsemax_block)(x, before, n, row->y - first, row->max, tau, rate, g);
        if (g == row->x) FL_(fl_store)(g, destination, out->class_stride, out->dtype, n);
    }
}

static double FL_(sparsemax_of_row)(const struct fl_target_job *job, ptrdiff_t index, char *scratch)
{
    struct FL_(sparsemax_row) row = {0};
    double tau = -1.0, loss = (double)NAN;
    row.y = fl_class_of_row(&job->targets, index);
    if (row.y == FL_IGNORED) {
        if (!job->rows.accumulate) FL_(clear_row)(&job->rows.output, index, job->rows.classes);
        return 0.0;
    }
    row.in = &job->rows.input;
    row.values = fl_row_address(row.in, index);
    row.classes = job->rows.classes;
    row.x = (REAL *)(void *)scratch;
    row.near.d = (double *)(void *)(scratch + FL_TARGET_SCRATCH / 2);
    FL_(sparsemax_survey)(&row);
    if (!row.near.has_fault) {
        tau = FL_(sparsemax_threshold)(&row);
        loss = FL_(sparsemax_value)(&row, tau);
    }
    if (job->rows.output.data)
        FL_(sparsemax_gradient)(job, &row, index, tau, row.near.has_fault ? loss : fl_upstream(&job->rows, index));
    return loss;
}

static struct fl_piece FL_(sparsemax_rows)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_target_job *job = (const struct fl_target_job *)any;
    double total = 0.0;
    for (ptrdiff_t row = begin; row < end; row++) {
        const double loss = FL_(sparsemax_of_row)(job, row, (char *)scratch);
        if (job->rows.losses) job->rows.losses[row] = loss;
        total += loss;
    }
    return fl_faultless(total);
}
