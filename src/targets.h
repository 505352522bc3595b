/* Kernels that need class targets and no exponentials: the survey of the targets, and negative log-likelihood. The
 * multi-class margin loss is in margin.h, the sparsemax loss in sparsemax.h. */

/* w_y s of a row; y < 0 if the target is not a class. */
static double row_weight(const struct fl_targets *targets, ptrdiff_t row, ptrdiff_t y)
{
    double weight = targets->sample_weight ? targets->sample_weight[row] : 1.0;
    if (targets->class_weight && y >= 0) weight *= targets->class_weight[y];
    return weight;
}

static int has_weights(const struct fl_targets *targets)
{
    return targets->sample_weight != NULL || targets->class_weight != NULL;
}

static int is_bad_target(const struct fl_targets *targets, int64_t y)
{
    return !(targets->has_ignored && y == targets->ignored) && (y < 0 || y >= (int64_t)targets->classes);
}

static struct fl_piece survey(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_targets *targets = (const struct fl_targets *)any;
    const int64_t classes = (int64_t)targets->classes, ignored = targets->ignored;
    const int64_t keep_ignored = targets->has_ignored ? 0 : 1;
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
        const int64_t keep = y[i] == ignored ? keep_ignored : 1,
                      outside = (y[i] < 0 ? 1 : 0) + (y[i] >= classes ? 1 : 0);
        kept += keep;
        bad += keep * outside;
    }
    if (bad) {
        piece.fault = begin; /* if another thread has corrected the target meanwhile */
        for (ptrdiff_t i = end - 1; i >= begin; i--)
            if (is_bad_target(targets, y[i])) piece.fault = i;
        return piece;
    }
    piece.total = (double)kept;
    if (!has_weights(targets)) return piece;
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
 *
 * So there is little to compute, and much to address: rows go in groups, each step in a loop of its own without
 * branches. The values of a group are read before its gradient is written, which in place overwrites them. */
enum { NLL_ROWS = 128 };

struct nll_group {
    ptrdiff_t first, count;
    int64_t ignored, target[NLL_ROWS];
    ptrdiff_t y[NLL_ROWS]; /* a class also in rows that are ignored, whose weight is 0 */
    double weight[NLL_ROWS], value[NLL_ROWS];
    float narrow[NLL_ROWS];
    uint16_t half[NLL_ROWS];
};

static void nll_classes(const struct fl_targets *targets, struct nll_group *group)
{
    const volatile int64_t *given = targets->index + group->first; /* each is read once: see fl_class_of */
    /* Without an ignored index, a number that the survey has refused. */
    const int64_t ignored = targets->has_ignored ? targets->ignored : INT64_MIN, classes = (int64_t)targets->classes;
    const double *sample = targets->sample_weight ? targets->sample_weight + group->first : NULL;
    const ptrdiff_t n = group->count;
    double *weight = group->weight;
    for (ptrdiff_t i = 0; i < n; i++) group->target[i] = given[i];
    group->ignored = ignored;
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const int64_t t = group->target[i], low = t < 0 ? 0 : t;
        group->y[i] = (ptrdiff_t)(low < classes ? low : 0);
        weight[i] = t == ignored ? 0.0 : 1.0;
    }
    for (ptrdiff_t i = 0; sample && i < n; i++) weight[i] = group->target[i] == ignored ? 0.0 : sample[i];
    if (targets->class_weight == NULL) return;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double product = weight[i] * targets->class_weight[group->y[i]];
        weight[i] = group->target[i] == ignored ? 0.0 : product;
    }
}

/* The elements at the targets, to or from the array of their type in the group. */
#define NLL_MOVE(type, kept_in, move)                                                                                \
    {                                                                                                                \
        type *kept = group->kept_in + i;                                                                             \
        for (ptrdiff_t k = 0; k < run; k++, p += stride) {                                                           \
            type *at = (type *)(void *)(p + group->y[i + k] * array->class_stride);                                  \
            move;                                                                                                    \
        }                                                                                                            \
    }
#define NLL_EACH_RUN(move)                                                                                           \
    for (ptrdiff_t i = 0, run; i < group->count; i += run) {                                                         \
        ptrdiff_t stride;                                                                                            \
        char *p = fl_row_address(array, group->first + i);                                                           \
        run = fl_run_of_rows(array, group->first + i, group->count - i, &stride);                                    \
        if (array->itemsize == 2) NLL_MOVE(uint16_t, half, move)                                                     \
        if (array->itemsize == 4) NLL_MOVE(float, narrow, move)                                                      \
        if (array->itemsize == 8) NLL_MOVE(double, value, move)                                                      \
    }

static void nll_read(const struct fl_array *array, struct nll_group *group) { NLL_EACH_RUN(kept[k] = *at) }

static void nll_write(const struct fl_array *array, struct nll_group *group, int accumulate)
{
    NLL_EACH_RUN(if (!accumulate || group->target[i + k] != group->ignored) *at = kept[k])
}

/* What has been read, as double. */
static void nll_widen(int dtype, struct nll_group *group)
{
    const ptrdiff_t n = group->count;
    if (dtype == FL_FLOAT64) return;
    if (dtype != FL_FLOAT32) fl_load_f32((const char *)group->half, 2, dtype, group->narrow, n);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) group->value[i] = (double)group->narrow[i];
}

static void nll_gradients(const struct fl_rows *rows, struct nll_group *group)
{
    const struct fl_array *out = &rows->output;
    const double *upstream = rows->grad_output ? rows->grad_output + group->first : NULL;
    const double scale = rows->grad_scale;
    const ptrdiff_t n = group->count;
    double gradient[NLL_ROWS];
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const double weight = group->weight[i], product = -weight * (upstream ? upstream[i] : 1.0) * scale;
        gradient[i] = weight == 0.0 ? 0.0 : product;
    }
    if (rows->accumulate) {
        nll_read(out, group);
        nll_widen(out->dtype, group);
    } else {
        fl_clear_rows(out, group->first, n, rows->classes);
    }
    if (out->dtype == FL_FLOAT64) {
        for (ptrdiff_t i = 0; i < n; i++)
            group->value[i] = rows->accumulate ? gradient[i] + group->value[i] : gradient[i];
    } else {
        float *narrow = group->narrow;
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            narrow[i] = rows->accumulate ? (float)gradient[i] + narrow[i] : (float)gradient[i];
        if (out->dtype != FL_FLOAT32) fl_store_f32(narrow, (char *)group->half, 2, out->dtype, n);
    }
    nll_write(out, group, rows->accumulate);
}

static struct fl_piece nll_rows(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_target_job *job = (const struct fl_target_job *)any;
    struct nll_group *group = (struct nll_group *)scratch;
    double total = 0.0;
    for (ptrdiff_t first = begin; first < end; first += NLL_ROWS) {
        double loss[NLL_ROWS];
        int64_t ignored;
        const ptrdiff_t n = group->count = end - first < NLL_ROWS ? end - first : NLL_ROWS;
        group->first = first;
        nll_classes(&job->targets, group);
        nll_read(&job->rows.input, group);
        nll_widen(job->rows.input.dtype, group);
        ignored = group->ignored;
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            const double value = group->target[i] == ignored ? 0.0 : -group->value[i], weight = group->weight[i];
            const double product = weight * value, none = value == value ? 0.0 : value;
            loss[i] = weight == 0.0 ? none : product; /* fl_weighed, which gcc does not vectorise here */
        }
        if (job->rows.losses) memcpy(job->rows.losses + first, loss, (size_t)n * sizeof(double));
        total += sum_of_values_f64(loss, n);
        if (job->rows.output.data) nll_gradients(&job->rows, group);
    }
    return fl_faultless(total);
}
