/* Divergences of rows of few classes, in groups of FL_LANES rows, one in each vector lane (columns.h). The formulas
 * are those of divergence.h.
 *
 * kernels.inc includes this file twice, after divergence.h. Every step is a loop over the classes whose body is a
 * loop over the lanes. Sums over the classes add sums of four (and of the rest) in REAL to double, in the order of
 * the classes; the values of a whole row are double. */

/* The columns of a group: (capped) input, exponentials, and results: q a and p b, then the gradients; and the slopes
 * of softcaps. */
struct FL_(short_columns) {
    REAL (*x)[FL_LANES], (*t)[FL_LANES], (*ex)[FL_LANES], (*et)[FL_LANES], (*gx)[FL_LANES], (*gt)[FL_LANES];
    REAL (*x_slope)[FL_LANES], (*t_slope)[FL_LANES];
    ptrdiff_t classes;
};

/* The values of the rows of a group. over_x, over_t: 1 / Sx, 1 / St. */
struct FL_(short_rows) {
    REAL x_max[FL_LANES], t_max[FL_LANES], over_x[FL_LANES], over_t[FL_LANES], c[FL_LANES];
    REAL x_rate, t_rate;
    double x_sum[FL_LANES], t_sum[FL_LANES], sum[FL_LANES], level[FL_LANES], loss[FL_LANES];
};

static void FL_(short_maxima)(const struct FL_(short_columns) * in, struct FL_(short_rows) * rows)
{
    for (int l = 0; l < FL_LANES; l++) rows->x_max[l] = rows->t_max[l] = (REAL)-INFINITY;
    for (ptrdiff_t k = 0; k < in->classes; k++) {
        const REAL *x = in->x[k], *t = in->t[k];
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            rows->x_max[l] = x[l] > rows->x_max[l] ? x[l] : rows->x_max[l];
            rows->t_max[l] = t[l] > rows->t_max[l] ? t[l] : rows->t_max[l];
        }
    }
}

/* The statements for i = 0 .. n - 1, where n, up to 4, is a constant. A loop in a vector loop is not always unrolled
 * first, and then not vectorised. (Measured: 3 times as long, AVX2 and baseline.) */
#define FL_IF_ABOVE(n, k, ...)                                                                                       \
    if (n > k) {                                                                                                     \
        enum { i = k };                                                                                              \
        __VA_ARGS__                                                                                                  \
    }
#define FL_UP_TO_FOUR(n, ...)                                                                                        \
    FL_IF_ABOVE(n, 0, __VA_ARGS__)                                                                                   \
    FL_IF_ABOVE(n, 1, __VA_ARGS__)                                                                                   \
    FL_IF_ABOVE(n, 2, __VA_ARGS__)                                                                                   \
    FL_IF_ABOVE(n, 3, __VA_ARGS__)

/* Sums of up to four classes. */
struct FL_(short_sums) {
    REAL x[FL_LANES], t[FL_LANES], both[FL_LANES];
};

/* In a loop of its own: gcc 12 keeps a copy that is not vectorised of a loop over steps with one loop over lanes, and
 * takes it. (Measured, AVX2: 3 times as long.) */
FL_INLINE void FL_(short_add)(const struct FL_(short_sums) * sums, struct FL_(short_rows) * rows)
{
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        rows->x_sum[l] += (double)sums->x[l];
        rows->t_sum[l] += (double)sums->t[l];
        rows->sum[l] += (double)sums->both[l];
    }
}

/* Adds the sums of step(in, rows, sums, first class, number of classes, ...), the number a constant. */
#define FL_STEP(n, step, ...)                                                                                        \
    {                                                                                                                \
        step(in, rows, &sums, k, n, __VA_ARGS__);                                                                    \
        FL_(short_add)(&sums, rows);                                                                                 \
    }
#define FL_FOUR_AT_A_TIME(step, ...)                                                                                 \
    {                                                                                                                \
        struct FL_(short_sums) sums;                                                                                 \
        ptrdiff_t k = 0;                                                                                             \
        for (; k + 4 <= in->classes; k += 4) FL_STEP(4, step, __VA_ARGS__)                                           \
        if (k + 2 <= in->classes) {                                                                                  \
            FL_STEP(2, step, __VA_ARGS__)                                                                            \
            k += 2;                                                                                                  \
        }                                                                                                            \
        if (k < in->classes) FL_STEP(1, step, __VA_ARGS__)                                                           \
    }

FL_INLINE void FL_(short_exponentials)(const struct FL_(short_columns) * in, const struct FL_(short_rows) * rows,
                                       struct FL_(short_sums) * sums, ptrdiff_t first, int n, int is_kl)
{
    const REAL(*x)[FL_LANES] = (const REAL(*)[FL_LANES])in->x + first;
    const REAL(*t)[FL_LANES] = (const REAL(*)[FL_LANES])in->t + first;
    REAL(*ex)[FL_LANES] = in->ex + first, (*et)[FL_LANES] = in->et + first;
    const REAL x_rate = rows->x_rate, t_rate = rows->t_rate;
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        REAL x_sum = 0, t_sum = 0, sum = 0;
        FL_UP_TO_FOUR(n, {
            const REAL dx = (x[i][l] - rows->x_max[l]) * x_rate;
            const REAL dt = (t[i][l] - rows->t_max[l]) * t_rate;
            const REAL of_x = FL_(fl_exp_nonpositive)(dx);
            const REAL of_t = FL_(fl_exp_nonpositive)(dt);
            x_sum += of_x;
            t_sum += of_t;
            if (is_kl) sum += FL_(kl_term)(of_t, dt, dx);
            ex[i][l] = of_x;
            et[i][l] = of_t;
        })
        sums->x[l] = x_sum;
        sums->t[l] = t_sum;
        sums->both[l] = sum;
    }
}

/* q a and p b, and their sums in the place of those of the exponentials. */
FL_INLINE void FL_(short_mixture)(const struct FL_(short_columns) * in, const struct FL_(short_rows) * rows,
                                  struct FL_(short_sums) * sums, ptrdiff_t first, int n, REAL of_x, REAL of_t)
{
    const REAL(*x)[FL_LANES] = (const REAL(*)[FL_LANES])in->x + first;
    const REAL(*t)[FL_LANES] = (const REAL(*)[FL_LANES])in->t + first;
    const REAL(*ex)[FL_LANES] = (const REAL(*)[FL_LANES])in->ex + first;
    const REAL(*et)[FL_LANES] = (const REAL(*)[FL_LANES])in->et + first;
    REAL(*qa)[FL_LANES] = in->gx + first, (*pb)[FL_LANES] = in->gt + first;
    const REAL x_rate = rows->x_rate, t_rate = rows->t_rate;
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        REAL x_sum = 0, t_sum = 0;
        FL_UP_TO_FOUR(n, {
            const REAL dx = (x[i][l] - rows->x_max[l]) * x_rate;
            const REAL dt = (t[i][l] - rows->t_max[l]) * t_rate;
            const REAL q = ex[i][l] * rows->over_x[l];
            const REAL p = et[i][l] * rows->over_t[l];
            const struct FL_(mixture) term = FL_(mixture_term)(q, p, (dt - dx) - rows->c[l], of_x, of_t);
            x_sum += term.qa;
            t_sum += term.pb;
            qa[i][l] = term.qa;
            pb[i][l] = term.pb;
        })
        sums->x[l] = x_sum;
        sums->t[l] = t_sum;
        sums->both[l] = 0;
    }
}

/* The three sums of total variation, which start at `zero` (an argument because FL_FOUR_AT_A_TIME passes one). */
FL_INLINE void FL_(short_variation)(const struct FL_(short_columns) * in, const struct FL_(short_rows) * rows,
                                    struct FL_(short_sums) * sums, ptrdiff_t first, int n, REAL zero)
{
    const REAL(*ex)[FL_LANES] = (const REAL(*)[FL_LANES])in->ex + first;
    const REAL(*et)[FL_LANES] = (const REAL(*)[FL_LANES])in->et + first;
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        REAL x_sum = zero, t_sum = zero, sum = zero;
        FL_UP_TO_FOUR(n, {
            const REAL q = ex[i][l] * rows->over_x[l];
            const REAL p = et[i][l] * rows->over_t[l];
            const REAL sign = FL_(fl_sign)(q - p);
            x_sum += q * sign;
            t_sum += p * sign;
            sum += (q - p) * sign;
        })
        sums->x[l] = x_sum;
        sums->t[l] = t_sum;
        sums->both[l] = sum;
    }
}

static void FL_(short_losses)(const struct fl_divergence_job *job, const struct FL_(short_columns) * in,
                              struct FL_(short_rows) * rows)
{
    const double beta = job->beta;
    double bad[FL_LANES];
    rows->x_rate = FL_(finite)(1.0 / job->x_map.temperature);
    rows->t_rate = FL_(finite)(1.0 / job->t_map.temperature);
    for (int l = 0; l < FL_LANES; l++) rows->x_sum[l] = rows->t_sum[l] = rows->sum[l] = 0.0;
    FL_(short_maxima)(in, rows);
    if (job->operation == FL_KL)
        FL_FOUR_AT_A_TIME(FL_(short_exponentials), 1)
    else
        FL_FOUR_AT_A_TIME(FL_(short_exponentials), 0)
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const double x_sum = rows->x_sum[l], t_sum = rows->t_sum[l];
        const double c = FL_(log_of_sums)(x_sum, t_sum);
        rows->over_x[l] = (REAL)(1.0 / x_sum);
        rows->over_t[l] = (REAL)(1.0 / t_sum);
        rows->c[l] = (REAL)c;
        rows->loss[l] = rows->sum[l] / t_sum - c;
        rows->level[l] = c;
        bad[l] = x_sum + t_sum; /* NaN in a row that is NaN for every divergence */
    }
    if (job->operation != FL_KL) {
        for (int l = 0; l < FL_LANES; l++) rows->x_sum[l] = rows->t_sum[l] = rows->sum[l] = 0.0;
        if (job->operation == FL_JS)
            FL_FOUR_AT_A_TIME(FL_(short_mixture), (REAL)(1.0 - beta), (REAL)beta)
        else
            FL_FOUR_AT_A_TIME(FL_(short_variation), (REAL)0)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++)
            rows->loss[l] =
                job->operation == FL_TV ? 0.5 * rows->sum[l] : beta * rows->t_sum[l] + (1.0 - beta) * rows->x_sum[l];
    }
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++) {
        const double loss = rows->loss[l] <= 0.0 ? 0.0 : rows->loss[l];
        rows->loss[l] = bad[l] == bad[l] ? loss : (double)NAN;
        rows->level[l] += loss;
    }
}

/* The gradients, by x in gx where `by_x`, by t in gt where `by_t`; of a row that is NaN all are. */
static void FL_(short_gradients)(const struct fl_divergence_job *job, const struct FL_(short_columns) * in,
                                 const struct FL_(short_rows) * rows, ptrdiff_t first, ptrdiff_t count, int by_x,
                                 int by_t)
{
    const int operation = job->operation;
    const double beta = job->beta;
    REAL x_factor[FL_LANES], t_factor[FL_LANES], et_factor[FL_LANES], x_mean[FL_LANES], t_mean[FL_LANES],
        loss[FL_LANES];
    for (ptrdiff_t l = 0; l < FL_LANES; l++) {
        const double upstream = fl_upstream(&job->rows, l < count ? first + l : first);
        const double x_rate = upstream / job->x_map.temperature, t_rate = upstream / job->t_map.temperature;
        const double x_share = operation == FL_KL ? 1.0 / rows->x_sum[l] : (operation == FL_JS ? 1.0 - beta : 0.5);
        const double t_share = operation == FL_KL ? 1.0 / rows->t_sum[l] : (operation == FL_JS ? beta : 0.5);
        x_factor[l] = FL_(finite)(x_rate * x_share);
        t_factor[l] = FL_(finite)(t_rate * t_share);
        et_factor[l] = FL_(finite)(x_rate * t_share);
        x_mean[l] = (REAL)rows->x_sum[l];
        t_mean[l] = operation == FL_KL ? (REAL)rows->level[l] : (REAL)rows->t_sum[l];
        loss[l] = (REAL)(rows->loss[l] == rows->loss[l] ? 0.0 : rows->loss[l]);
    }
#define FL_EACH_CLASS(which, gradient)                                                                               \
    for (ptrdiff_t k = 0; k < in->classes; k++) {                                                                    \
        const REAL *x = in->x[k], *t = in->t[k], *ex = in->ex[k], *et = in->et[k];                                   \
        REAL *g = in->which[k];                                                                                      \
        (void)x, (void)t, (void)ex, (void)et;                                                                        \
        _Pragma("omp simd") for (int l = 0; l < FL_LANES; l++)                                                       \
        {                                                                                                            \
            const REAL of_class = (gradient);                                                                        \
            g[l] = loss[l] == loss[l] ? of_class : loss[l];                                                          \
        }                                                                                                            \
    }
#define DIFFERENCE(x, max, rate) (((x)[l] - rows->max[l]) * rows->rate)
#define SIGN_OF_CLASS FL_(fl_sign)(ex[l] * rows->over_x[l] - et[l] * rows->over_t[l])
    if (operation == FL_KL && by_x) FL_EACH_CLASS(gx, FL_(kl_by_x)(x[l], ex[l], et[l], x_factor[l], et_factor[l]))
    if (operation == FL_KL && by_t)
        FL_EACH_CLASS(gt, FL_(kl_by_t)(et[l], DIFFERENCE(t, t_max, t_rate), DIFFERENCE(x, x_max, x_rate), t_factor[l],
                                       t_mean[l]))
    if (operation == FL_JS && by_x) FL_EACH_CLASS(gx, (g[l] - ex[l] * rows->over_x[l] * x_mean[l]) * x_factor[l])
    if (operation == FL_JS && by_t) FL_EACH_CLASS(gt, (g[l] - et[l] * rows->over_t[l] * t_mean[l]) * t_factor[l])
    if (operation == FL_TV && by_x)
        FL_EACH_CLASS(gx, ex[l] * rows->over_x[l] * (SIGN_OF_CLASS - x_mean[l]) * x_factor[l])
    if (operation == FL_TV && by_t)
        FL_EACH_CLASS(gt, et[l] * rows->over_t[l] * (t_mean[l] - SIGN_OF_CLASS) * t_factor[l])
#undef SIGN_OF_CLASS
#undef DIFFERENCE
#undef FL_EACH_CLASS
    if (by_x && job->x_map.softcap > 0.0) FL_(times_slope)(in->gx[0], in->x_slope[0], in->classes * FL_LANES);
    if (by_t && job->t_map.softcap > 0.0) FL_(times_slope)(in->gt[0], in->t_slope[0], in->classes * FL_LANES);
}

/* Stores the gradients of a group, or adds them to what is there; rows that do not count get 0, or stay. */
static void FL_(short_store)(const struct fl_divergence_job *job, const struct fl_array *out, int accumulate,
                             ptrdiff_t first, ptrdiff_t count, REAL (*g)[FL_LANES], REAL (*before)[FL_LANES],
                             REAL *room)
{
    const ptrdiff_t classes = job->rows.classes;
    if (accumulate) FL_(load_columns)(out, first, count, classes, before, room);
    for (ptrdiff_t k = 0; accumulate && k < classes; k++)
        for (int l = 0; l < FL_LANES; l++) g[k][l] += before[k][l];
    for (ptrdiff_t l = 0; job->counted && l < count; l++)
        if (!job->counted[first + l])
            for (ptrdiff_t k = 0; k < classes; k++) g[k][l] = accumulate ? before[k][l] : (REAL)0;
    FL_(store_columns)(out, first, count, classes, g, room);
}

static void FL_(short_group)(const struct fl_divergence_job *job, ptrdiff_t first, ptrdiff_t count, char *scratch,
                             double totals[FL_LANES])
{
    REAL(*columns)[FL_LANES] = (REAL(*)[FL_LANES])(void *)scratch;
    const ptrdiff_t n = job->rows.classes;
    const struct FL_(short_columns) in = {columns,         columns + n,     columns + 2 * n,
                                          columns + 3 * n, columns + 4 * n, columns + 5 * n,
                                          columns + 6 * n, columns + 7 * n, n};
    REAL *room = (REAL *)(void *)(columns + 8 * n);
    const struct fl_array *ox = &job->rows.output, *ot = &job->t_gradient;
    struct FL_(short_rows) rows;
    FL_(load_columns)(&job->rows.input, first, count, in.classes, in.x, room);
    FL_(load_columns)(&job->t, first, count, in.classes, in.t, room);
    if (job->x_map.softcap > 0.0)
        FL_(cap)(in.x[0], job->x_map.softcap, in.x[0], ox->data ? in.x_slope[0] : NULL, in.classes * FL_LANES);
    if (job->t_map.softcap > 0.0)
        FL_(cap)(in.t[0], job->t_map.softcap, in.t[0], ot->data ? in.t_slope[0] : NULL, in.classes * FL_LANES);
    if (ox->data) { /* (measured: a tenth less time from 32 classes on) */
        const struct FL_(group) group = FL_(group_of)(ox, first, count, in.classes);
        if (group.is_packed) fl_prefetch_to_write(group.p, count * group.stride);
    }
    FL_(short_losses)(job, &in, &rows);
    if (ox->data || ot->data) FL_(short_gradients)(job, &in, &rows, first, count, ox->data != NULL, ot->data != NULL);
    for (ptrdiff_t l = 0; l < FL_LANES; l++)
        if (l >= count || (job->counted && !job->counted[first + l])) rows.loss[l] = 0.0;
    for (int l = 0; l < FL_LANES; l++) totals[l] += rows.loss[l];
    if (job->rows.losses) memcpy(job->rows.losses + first, rows.loss, (size_t)count * sizeof(double));
    if (ox->data) FL_(short_store)(job, ox, job->rows.accumulate & 1, first, count, in.gx, in.x, room);
    if (ot->data) FL_(short_store)(job, ot, job->rows.accumulate & 2, first, count, in.gt, in.t, room);
}

static struct fl_piece FL_(divergence_rows)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_divergence_job *job = (const struct fl_divergence_job *)any;
    double totals[FL_LANES] = {0};
    if (!FL_(has_short_rows)(job)) return FL_(divergence_long_rows)(any, begin, end, scratch);
    for (ptrdiff_t row = begin; row < end; row += FL_LANES)
        FL_(short_group)(job, row, end - row < FL_LANES ? end - row : FL_LANES, (char *)scratch, totals);
    return fl_faultless(FL_(sum_of_lanes)(totals));
}

#undef FL_FOUR_AT_A_TIME
#undef FL_STEP
#undef FL_UP_TO_FOUR
#undef FL_IF_ABOVE
