/* Short rows of the softmax family, one row in each vector lane: see softmax.h for the formulas.
 *
 * kernels.inc includes this file twice, after softmax.h. */

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
    for (int l = 0; job->focusing.kind != FL_UNFOCUSED && l < count; l++) {
        struct FL_(sums) sums = FL_(lane_sums)(t, l, terms.over_temperature, 0.0);
        const struct fl_focus focus = FL_(focus)(job->focusing, &sums);
        sums.surprise = focus.loss;
        t->loss[l] = t->ignored[l] ? 0.0 : FL_(settle)(terms, sums).loss;
        t->share[l] = (REAL)((double)t->share[l] * focus.gradient);
        t->skipped[l] = (REAL)((double)t->skipped[l] * focus.gradient);
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
