/* Losses of pairs and triples of vectors, a row of each array: the cosine embedding loss and the triplet loss.
 *
 * samples.inc includes this file twice, like softmax.h. A row goes by twice while it is in the first-level cache, for
 * its sums and for its gradients, in strips that also bring other types and strides into buffers. All arithmetic is
 * double, for every type: a row of float32 gives the float64 result, rounded once.
 *
 * Cosine. a = x.y, b = x.x + e, c = y.y + e, e = 1e-12; cos = a / sqrt(b c). The loss is 1 - cos for the target 1,
 * max(0, cos - margin) for -1, and
 *
 *   dcos/dx = y / sqrt(b c) - x cos / b,   dcos/dy = x / sqrt(b c) - y cos / c.
 *
 * Triplet. D(x, y) is the p-norm of d = x - y + eps. The loss is max(0, margin + D(a, p) - min(D(a, n), D(p, n))),
 * the last only with swap; its positive part includes 0 for the gradient, and equal distances share it, as in torch.
 * With w(d) = sign(d) (|d| / D)^(p - 1), the gradient of D(x, y) is w with respect to x and -w with respect to y. For
 * p = 2 it is d / D, for p = 1 sign(d). For p = inf the n elements with |d| = D have sign(d) / n each. Where D is 0
 * the gradient is 0. Other p: |d| / D and D, relative to the largest |d|, by exponentials of logarithms, so that no
 * power overflows.
 *
 * A row whose loss is NaN has NaN gradients. */

enum { FL_(pair_sums) = 16 };

/* Elements first .. first + n - 1 of a row at p: in place, or in the buffer. */
static const REAL *FL_(pair_in)(const struct fl_array *array, const char *p, ptrdiff_t first, ptrdiff_t n,
                                REAL *buffer)
{
    const ptrdiff_t size = (ptrdiff_t)sizeof(REAL);
    p += first * array->class_stride;
    if (array->itemsize == size && array->class_stride == size) return (const REAL *)(const void *)p;
    FL_(fl_load)(p, array->class_stride, array->dtype, buffer, n);
    return buffer;
}

/* Sums in a fixed order: a term goes to the lane of its index. */
static double FL_(pair_total)(double lane[FL_(pair_sums)])
{
    for (int l = 0; l < 8; l++) lane[l] += lane[l + 8];
    for (int l = 0; l < 4; l++) lane[l] += lane[l + 4];
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

/* Rows whose sums are computed before the first of their gradients: the roots and quotients of a row would otherwise
 * delay the next. They stay in the first-level cache: at most so many rows, and so many elements in all. */
enum { FL_(pair_rows) = 8, FL_(pair_elements) = 1024 };

static ptrdiff_t FL_(rows_at_once)(const struct fl_pair_job *job)
{
    const ptrdiff_t rows = FL_(pair_elements) / job->width;
    return rows < 1 ? 1 : rows < FL_(pair_rows) ? rows : FL_(pair_rows);
}

/* Prefetches a row of the vectors while another is in hand, as the sums of a batch come before its gradients and so
 * leave the memory idle half of the time. (Measured for the cosine of 100,000 rows of 128: 0.92 of the time. The
 * triplet loss, which does more on each row, gains nothing.) */
static void FL_(pair_ahead)(const struct fl_pair_job *job, ptrdiff_t row, ptrdiff_t end)
{
    if (row >= end) return;
    for (int k = 0; k < FL_VECTORS; k++) {
        const struct fl_array *in = &job->vectors[k];
        if (in->data && in->class_stride == in->itemsize)
            fl_prefetch_to_read(fl_row_address(in, row), job->width * in->itemsize);
    }
}

/* ---- gradients ---- */

/* The buffers of a thread: strips of the inputs and of the gradients, the present values of a gradient, and the lines
 * of streamed gradients. */
struct FL_(pair_room) {
    REAL in[FL_VECTORS][FL_ELEMENT_STRIP], out[FL_VECTORS][FL_ELEMENT_STRIP], before[FL_ELEMENT_STRIP];
    struct fl_lines lines[FL_VECTORS];
};
_Static_assert(sizeof(struct FL_(pair_room)) <= FL_PAIR_SCRATCH, "scratch of pairs");

/* Where the gradients of a strip go: to their place, to lines that are streamed, or to a buffer. */
static void FL_(pair_places)(const struct fl_pair_job *job, ptrdiff_t row, ptrdiff_t first,
                             struct FL_(pair_room) * room, REAL *g[FL_VECTORS])
{
    const ptrdiff_t size = (ptrdiff_t)sizeof(REAL);
    for (int k = 0; k < FL_VECTORS; k++) {
        const struct fl_array *out = &job->gradients[k];
        g[k] = room->out[k];
        if (out->data == NULL || out->itemsize != size || out->class_stride != size || job->accumulate & 1 << k)
            continue;
        g[k] = job->stream ? (REAL *)(void *)(room->lines[k].line + room->lines[k].phase)
                           : (REAL *)(void *)(fl_row_address(out, row) + first * size);
    }
}

/* Writes the gradients of a strip that are not in their place; is_last: nothing follows in this piece. */
static void FL_(pair_out)(const struct fl_pair_job *job, ptrdiff_t row, ptrdiff_t first, ptrdiff_t n, int is_last,
                          struct FL_(pair_room) * room)
{
    for (int k = 0; k < FL_VECTORS; k++) {
        const struct fl_array *out = &job->gradients[k];
        char *p;
        if (out->data == NULL) continue;
        if (job->stream) {
            struct fl_lines *lines = &room->lines[k];
            if (out->itemsize != (ptrdiff_t)sizeof(REAL))
                FL_(fl_store)(room->out[k], lines->line + lines->phase, out->itemsize, out->dtype, n);
            fl_lines_out(lines, n * out->itemsize, is_last);
            continue;
        }
        p = fl_row_address(out, row) + first * out->class_stride;
        if (job->accumulate & 1 << k) {
            const REAL *before = FL_(pair_in)(out, p, 0, n, room->before);
            for (ptrdiff_t i = 0; i < n; i++) room->out[k][i] += before[i];
        } else if (out->itemsize == (ptrdiff_t)sizeof(REAL) && out->class_stride == out->itemsize) {
            continue;
        }
        FL_(fl_store)(room->out[k], p, out->class_stride, out->dtype, n);
    }
}

/* One value in the gradients of a row: 0, or the NaN of its loss. */
static void FL_(pair_fill)(const struct fl_pair_job *job, ptrdiff_t row, ptrdiff_t end, double value,
                           struct FL_(pair_room) * room)
{
    for (ptrdiff_t first = 0; first < job->width && !fl_stops_at(first); first += FL_ELEMENT_STRIP) {
        const ptrdiff_t n = job->width - first < FL_ELEMENT_STRIP ? job->width - first : FL_ELEMENT_STRIP;
        REAL *g[FL_VECTORS];
        FL_(pair_places)(job, row, first, room, g);
        for (int k = 0; k < FL_VECTORS; k++)
            for (ptrdiff_t i = 0; job->gradients[k].data && i < n; i++) g[k][i] = (REAL)value;
        FL_(pair_out)(job, row, first, n, row + 1 == end && first + n == job->width, room);
    }
}

static void FL_(pair_begin)(const struct fl_pair_job *job, ptrdiff_t begin, struct FL_(pair_room) * room)
{
    for (int k = 0; job->stream && k < FL_VECTORS; k++)
        if (job->gradients[k].data)
            fl_lines_begin(&room->lines[k], job->gradients[k].data + begin * job->width * job->gradients[k].itemsize);
}

/* ---- cosine ---- */

/* Adds x.y, x.x and y.y. */
static void FL_(cosine_sums)(const REAL *x, const REAL *y, ptrdiff_t n, double *const sums[3])
{
    double xy[FL_(pair_sums)], xx[FL_(pair_sums)], yy[FL_(pair_sums)];
    ptrdiff_t i = 0;
    memcpy(xy, sums[0], sizeof xy); /* in registers */
    memcpy(xx, sums[1], sizeof xx);
    memcpy(yy, sums[2], sizeof yy);
    for (; i + FL_(pair_sums) <= n; i += FL_(pair_sums))
#pragma omp simd
        for (int l = 0; l < FL_(pair_sums); l++) {
            const double a = (double)x[i + l], b = (double)y[i + l];
            xy[l] = FL_FMA_F64(a, b, xy[l]);
            xx[l] = FL_FMA_F64(a, a, xx[l]);
            yy[l] = FL_FMA_F64(b, b, yy[l]);
        }
    memcpy(sums[0], xy, sizeof xy);
    memcpy(sums[1], xx, sizeof xx);
    memcpy(sums[2], yy, sizeof yy);
    for (int l = 0; i < n; i++, l++) {
        const double a = (double)x[i], b = (double)y[i];
        sums[0][l] = FL_FMA_F64(a, b, sums[0][l]);
        sums[1][l] = FL_FMA_F64(a, a, sums[1][l]);
        sums[2][l] = FL_FMA_F64(b, b, sums[2][l]);
    }
}

/* across y - of_x x, across x - of_y y. */
static void FL_(cosine_gradients)(const REAL *x, const REAL *y, ptrdiff_t n, double across, double of_x, double of_y,
                                  REAL *g, REAL *h)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const double a = (double)x[i], b = (double)y[i];
        g[i] = (REAL)FL_FMA_F64(across, b, -of_x * a);
        h[i] = (REAL)FL_FMA_F64(across, a, -of_y * b);
    }
}

/* Rows of a batch: their products x.y, x.x and y.y, and what their gradients are made of. */
struct FL_(cosine_batch) {
    double xy[FL_(pair_rows)], xx[FL_(pair_rows)], yy[FL_(pair_rows)];
    double loss[FL_(pair_rows)], across[FL_(pair_rows)], of_x[FL_(pair_rows)], of_y[FL_(pair_rows)];
};

/* (The sums are separate arrays: gcc would take `rep stos`, which starts slowly, for the zeros of a single one.) */
static void FL_(cosine_products)(const struct fl_pair_job *job, ptrdiff_t row, ptrdiff_t k,
                                 struct FL_(cosine_batch) * batch, struct FL_(pair_room) * room)
{
    const struct fl_array *vectors = job->vectors;
    const char *x_row = fl_row_address(&vectors[0], row), *y_row = fl_row_address(&vectors[1], row);
    double xy[FL_(pair_sums)], xx[FL_(pair_sums)], yy[FL_(pair_sums)], *const sums[3] = {xy, xx, yy};
    for (int v = 0; v < 3; v++) memset(sums[v], 0, sizeof xy);
    for (ptrdiff_t first = 0; first < job->width && !fl_stops_at(first); first += FL_ELEMENT_STRIP) {
        const ptrdiff_t n = job->width - first < FL_ELEMENT_STRIP ? job->width - first : FL_ELEMENT_STRIP;
        FL_(cosine_sums)(FL_(pair_in)(&vectors[0], x_row, first, n, room->in[0]),
                         FL_(pair_in)(&vectors[1], y_row, first, n, room->in[1]), n, sums);
    }
    batch->xy[k] = FL_(pair_total)(sums[0]);
    batch->xx[k] = FL_(pair_total)(sums[1]);
    batch->yy[k] = FL_(pair_total)(sums[2]);
}

/* Losses and factors of all rows of a batch at once, as roots and quotients of one after the other would take a third
 * of the time. Rows behind the last have some finite products. */
static void FL_(cosine_settle)(const struct fl_pair_job *job, ptrdiff_t row, ptrdiff_t some,
                               struct FL_(cosine_batch) * batch)
{
    double target[FL_(pair_rows)], upstream[FL_(pair_rows)];
    for (ptrdiff_t k = 0; k < FL_(pair_rows); k++) {
        if (k >= some) batch->xy[k] = batch->xx[k] = batch->yy[k] = 1.0;
        target[k] = k < some ? job->target[row + k] : 0.0;
        upstream[k] = k < some ? fl_pair_upstream(job, row + k) : 0.0;
    }
#pragma omp simd
    for (int k = 0; k < FL_(pair_rows); k++) {
        const double t = target[k], x_size = batch->xx[k] + job->eps, y_size = batch->yy[k] + job->eps;
        const double lengths = sqrt(x_size) * sqrt(y_size), cosine = batch->xy[k] / lengths;
        const double excess = fl_choose_f64(cosine < job->margin, 0.0, cosine - job->margin);
        const double far = fl_choose_f64(t == -1.0, excess, 0.0), loss = fl_choose_f64(t == 1.0, 1.0 - cosine, far);
        const double push = fl_choose_f64((t == -1.0) & (cosine >= job->margin), upstream[k], 0.0);
        const double slope = fl_choose_f64(t == 1.0, 0.0 - upstream[k], push);
        /* NaN of the cosine or of the target */
        batch->loss[k] = loss + fl_choose_f64((cosine != cosine) | (t != t), cosine + t, 0.0);
        batch->across[k] = slope / lengths;
        batch->of_x[k] = slope * cosine / x_size;
        batch->of_y[k] = slope * cosine / y_size;
    }
}

static void FL_(cosine_row)(const struct fl_pair_job *job, ptrdiff_t row, ptrdiff_t end, ptrdiff_t k,
                            const struct FL_(cosine_batch) * batch, struct FL_(pair_room) * room)
{
    const struct fl_array *vectors = job->vectors;
    const char *x_row = fl_row_address(&vectors[0], row), *y_row = fl_row_address(&vectors[1], row);
    const double loss = batch->loss[k];
    if (loss != loss || batch->across[k] == 0.0) {
        FL_(pair_fill)(job, row, end, loss != loss ? loss : 0.0, room);
        return;
    }
    for (ptrdiff_t first = 0; first < job->width && !fl_stops_at(first); first += FL_ELEMENT_STRIP) {
        const ptrdiff_t n = job->width - first < FL_ELEMENT_STRIP ? job->width - first : FL_ELEMENT_STRIP;
        const REAL *x = FL_(pair_in)(&vectors[0], x_row, first, n, room->in[0]);
        const REAL *y = FL_(pair_in)(&vectors[1], y_row, first, n, room->in[1]);
        REAL *g[FL_VECTORS];
        FL_(pair_places)(job, row, first, room, g);
        FL_(cosine_gradients)(x, y, n, batch->across[k], batch->of_x[k], batch->of_y[k], g[0], g[1]);
        FL_(pair_out)(job, row, first, n, row + 1 == end && first + n == job->width, room);
    }
}

static struct fl_piece FL_(cosine)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_pair_job *job = (const struct fl_pair_job *)any;
    struct FL_(pair_room) *room = (struct FL_(pair_room) *)scratch;
    const ptrdiff_t step = FL_(rows_at_once)(job);
    struct FL_(cosine_batch) batch;
    double total = 0.0;
    FL_(pair_begin)(job, begin, room);
    for (ptrdiff_t row = begin, some; row < end; row += some) {
        some = end - row < step ? end - row : step;
        for (ptrdiff_t k = 0; k < some; k++) FL_(cosine_products)(job, row + k, k, &batch, room);
        FL_(cosine_settle)(job, row, some, &batch);
        for (ptrdiff_t k = 0; k < some; k++) {
            total += batch.loss[k];
            if (job->losses) job->losses[row + k] = batch.loss[k];
            FL_(pair_ahead)(job, row + some + k, end);
            if (job->has_gradients) FL_(cosine_row)(job, row + k, end, k, &batch, room);
        }
    }
    if (job->stream) fl_stream_end();
    return fl_faultless(total);
}

/* ---- triplet ---- */

FL_INLINE double FL_(difference)(REAL x, REAL y, double eps) { return ((double)x - (double)y) + eps; }

/* The larger of two, NaN if one is. */
FL_INLINE double FL_(larger_norm)(double largest, double size)
{
    const double larger = size <= largest ? largest : size;
    return largest != largest ? largest : larger;
}

/* A sum or maximum of the norm with one more element; `stage` says which, a constant. */
FL_INLINE double FL_(norm_term)(double sum, double d, double p, double scale, int stage)
{
    const double size = fabs(d), share = size / scale;
    if (stage == FL_SIZES) return sum + size;
    if (stage == FL_LARGEST_SIZE) return FL_(larger_norm)(sum, size);
    if (stage == FL_NUMBER) return sum + (size == scale ? 1.0 : 0.0);
    return sum + (share > 0.0 ? fl_exp_nonpositive_f64(p * fl_log_f64(share)) : 0.0);
}

FL_INLINE void FL_(norm_terms)(const REAL *x, const REAL *y, ptrdiff_t n, double eps, double p, double scale,
                               double *sums, int stage)
{
    double lane[FL_(pair_sums)];
    ptrdiff_t i = 0;
    memcpy(lane, sums, sizeof lane); /* in registers */
    for (; i + FL_(pair_sums) <= n; i += FL_(pair_sums))
#pragma omp simd
        for (int l = 0; l < FL_(pair_sums); l++)
            lane[l] = FL_(norm_term)(lane[l], FL_(difference)(x[i + l], y[i + l], eps), p, scale, stage);
    memcpy(sums, lane, sizeof lane);
    for (int l = 0; i < n; i++, l++)
        sums[l] = FL_(norm_term)(sums[l], FL_(difference)(x[i], y[i], eps), p, scale, stage);
}

/* The rows of a triple. */
struct FL_(triple) {
    const struct fl_pair_job *job;
    const char *rows[FL_VECTORS];
    struct FL_(pair_room) * room;
};

static const REAL *FL_(triple_in)(const struct FL_(triple) * triple, int k, ptrdiff_t first, ptrdiff_t n)
{
    return FL_(pair_in)(&triple->job->vectors[k], triple->rows[k], first, n, triple->room->in[k]);
}

/* One stage of the norm of the difference of vectors j and k. */
static double FL_(norm_stage)(const struct FL_(triple) * triple, int j, int k, double scale, int stage)
{
    const double eps = triple->job->eps, p = triple->job->p;
    const ptrdiff_t width = triple->job->width;
    double sums[FL_(pair_sums)], largest = 0.0;
    memset(sums, 0, sizeof sums);
    for (ptrdiff_t first = 0; first < width && !fl_stops_at(first); first += FL_ELEMENT_STRIP) {
        const ptrdiff_t n = width - first < FL_ELEMENT_STRIP ? width - first : FL_ELEMENT_STRIP;
        const REAL *x = FL_(triple_in)(triple, j, first, n), *y = FL_(triple_in)(triple, k, first, n);
        /* Separate loops, in which the stage is a constant. */
        switch (stage) {
        case FL_SIZES:
            FL_(norm_terms)(x, y, n, eps, p, scale, sums, FL_SIZES);
            break;
        case FL_LARGEST_SIZE:
            FL_(norm_terms)(x, y, n, eps, p, scale, sums, FL_LARGEST_SIZE);
            break;
        case FL_NUMBER:
            FL_(norm_terms)(x, y, n, eps, p, scale, sums, FL_NUMBER);
            break;
        default:
            FL_(norm_terms)(x, y, n, eps, p, scale, sums, FL_POWERS);
        }
    }
    if (stage != FL_LARGEST_SIZE) return FL_(pair_total)(sums);
    for (int l = 0; l < FL_(pair_sums); l++) largest = FL_(larger_norm)(largest, sums[l]);
    return largest;
}

/* The norm D of a difference, and the factor of w in its gradient (of d for p = 2, whose norm is taken below). */
struct FL_(norm) {
    double size, factor;
};

static struct FL_(norm) FL_(norm_of)(const struct FL_(triple) * triple, int j, int k)
{
    const double p = triple->job->p;
    struct FL_(norm) norm = {0.0, 1.0};
    if (p == 1.0) {
        norm.size = FL_(norm_stage)(triple, j, k, 1.0, FL_SIZES);
    } else {
        const double largest = FL_(norm_stage)(triple, j, k, 1.0, FL_LARGEST_SIZE);
        norm.size = largest;
        if (largest == 0.0 || !(largest < (double)INFINITY)) return norm;
        if (p == (double)INFINITY)
            norm.factor = 1.0 / FL_(norm_stage)(triple, j, k, largest, FL_NUMBER);
        else
            norm.size *= fl_exp_f64(fl_log_f64(FL_(norm_stage)(triple, j, k, largest, FL_POWERS)) / p);
    }
    return norm;
}

/* w(d), or d for p = 2; `kind` is a constant. */
FL_INLINE double FL_(norm_slope)(double d, double norm, double power, int kind)
{
    const double size = fabs(d), sign = d > 0.0 ? 1.0 : d < 0.0 ? -1.0 : d;
    if (kind == FL_SQUARES) return d;
    if (kind == FL_SIZES) return sign;
    if (kind == FL_LARGEST_SIZE) return size == norm ? sign : 0.0;
    return size == 0.0 ? 0.0 : sign * fl_exp_f64(power * fl_log_f64(size / norm));
}

/* The distances of a triple, in the order (a, p), (a, n), (p, n): their sizes, and the factors of their slopes. */
struct FL_(distances) {
    double size[FL_VECTORS], factor[FL_VECTORS], upstream;
};

/* The gradients of a strip: of D(a, p), and with `by_anchor` and `by_positive`, constants, of the other distances. */
FL_INLINE void FL_(triplet_strip)(const REAL *const v[FL_VECTORS], ptrdiff_t n, double eps, double power,
                                  const struct FL_(distances) * distances, REAL *const g[FL_VECTORS], int kind,
                                  int by_anchor, int by_positive)
{
    const REAL *a = v[0], *p = v[1], *q = v[2];
    REAL *of_a = g[0], *of_p = g[1], *of_q = g[2];
    const double upstream = distances->upstream, pull = distances->factor[0], push = distances->factor[1],
                 swapped = distances->factor[2];
    const double near = distances->size[0], far = distances->size[1], other = distances->size[2];
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const double x = pull * FL_(norm_slope)(FL_(difference)(a[i], p[i], eps), near, power, kind);
        double y = 0.0, z = 0.0;
        if (by_anchor) y = push * FL_(norm_slope)(FL_(difference)(a[i], q[i], eps), far, power, kind);
        if (by_positive) z = swapped * FL_(norm_slope)(FL_(difference)(p[i], q[i], eps), other, power, kind);
        of_a[i] = (REAL)(upstream * (x - y));
        of_p[i] = (REAL)(upstream * (-x - z));
        of_q[i] = (REAL)(upstream * (y + z));
    }
}

/* A separate loop for each kind of norm, and for each choice of the distance to the negative. */
#define FL_STRIP_OF(kind)                                                                                            \
    static void FL_(triplet_##kind)(const REAL *const v[FL_VECTORS], ptrdiff_t n, double eps, double power,          \
                                    const struct FL_(distances) * distances, REAL *const g[FL_VECTORS])              \
    {                                                                                                                \
        if (distances->factor[2] == 0.0)                                                                             \
            FL_(triplet_strip)(v, n, eps, power, distances, g, FL_##kind, 1, 0);                                     \
        else if (distances->factor[1] == 0.0)                                                                        \
            FL_(triplet_strip)(v, n, eps, power, distances, g, FL_##kind, 0, 1);                                     \
        else                                                                                                         \
            FL_(triplet_strip)(v, n, eps, power, distances, g, FL_##kind, 1, 1);                                     \
    }
FL_STRIP_OF(SQUARES)
FL_STRIP_OF(SIZES)
FL_STRIP_OF(LARGEST_SIZE)
FL_STRIP_OF(POWERS)
#undef FL_STRIP_OF

static void FL_(triplet_gradients)(const struct FL_(triple) * triple, const struct FL_(distances) * distances,
                                   ptrdiff_t row, ptrdiff_t end)
{
    const struct fl_pair_job *job = triple->job;
    const double p = job->p;
    for (ptrdiff_t first = 0; first < job->width && !fl_stops_at(first); first += FL_ELEMENT_STRIP) {
        const ptrdiff_t n = job->width - first < FL_ELEMENT_STRIP ? job->width - first : FL_ELEMENT_STRIP;
        const REAL *v[FL_VECTORS];
        REAL *g[FL_VECTORS];
        for (int k = 0; k < FL_VECTORS; k++) v[k] = FL_(triple_in)(triple, k, first, n);
        FL_(pair_places)(job, row, first, triple->room, g);
        if (p == 2.0)
            FL_(triplet_SQUARES)(v, n, job->eps, 0.0, distances, g);
        else if (p == 1.0)
            FL_(triplet_SIZES)(v, n, job->eps, 0.0, distances, g);
        else if (p == (double)INFINITY)
            FL_(triplet_LARGEST_SIZE)(v, n, job->eps, 0.0, distances, g);
        else
            FL_(triplet_POWERS)(v, n, job->eps, p - 1.0, distances, g);
        FL_(pair_out)(job, row, first, n, row + 1 == end && first + n == job->width, triple->room);
    }
}

/* The norms of the distances of a triple, in the same order. */
struct FL_(norms) {
    struct FL_(norm) near, far, other;
};

static struct FL_(triple) FL_(triple_of)(const struct fl_pair_job *job, ptrdiff_t row, struct FL_(pair_room) * room)
{
    const struct FL_(triple) triple = {
        job,
        {fl_row_address(&job->vectors[0], row), fl_row_address(&job->vectors[1], row),
         fl_row_address(&job->vectors[2], row)},
        room,
    };
    return triple;
}

/* Adds the squares of a - p and a - n, and those of p - n with swap, a constant. */
FL_INLINE void FL_(triple_squares)(const REAL *a, const REAL *p, const REAL *q, ptrdiff_t n, double eps,
                                   double *const sums[FL_VECTORS], int swap)
{
    double lane[FL_VECTORS][FL_(pair_sums)];
    ptrdiff_t i = 0;
    for (int k = 0; k < FL_VECTORS; k++) memcpy(lane[k], sums[k], sizeof lane[k]); /* in registers */
    for (; i + FL_(pair_sums) <= n; i += FL_(pair_sums))
#pragma omp simd
        for (int l = 0; l < FL_(pair_sums); l++) {
            const double x = (double)a[i + l], y = (double)p[i + l], z = (double)q[i + l];
            const double near = x - y + eps, far = x - z + eps, other = y - z + eps;
            lane[0][l] = FL_FMA_F64(near, near, lane[0][l]);
            lane[1][l] = FL_FMA_F64(far, far, lane[1][l]);
            if (swap) lane[2][l] = FL_FMA_F64(other, other, lane[2][l]);
        }
    for (int k = 0; k < FL_VECTORS; k++) memcpy(sums[k], lane[k], sizeof lane[k]);
    for (int l = 0; i < n; i++, l++) {
        const double near = FL_(difference)(a[i], p[i], eps), far = FL_(difference)(a[i], q[i], eps);
        const double other = FL_(difference)(p[i], q[i], eps);
        sums[0][l] = FL_FMA_F64(near, near, sums[0][l]);
        sums[1][l] = FL_FMA_F64(far, far, sums[1][l]);
        if (swap) sums[2][l] = FL_FMA_F64(other, other, sums[2][l]);
    }
}

static struct FL_(norm) FL_(norm_of_squares)(double lane[FL_(pair_sums)])
{
    const double size = sqrt(FL_(pair_total)(lane));
    const struct FL_(norm) norm = {size, size == 0.0 ? 0.0 : 1.0 / size};
    return norm;
}

/* For p = 2, all from one reading of the three vectors. */
static struct FL_(norms) FL_(lengths_of)(const struct FL_(triple) * triple)
{
    const ptrdiff_t width = triple->job->width;
    const double eps = triple->job->eps;
    double near[FL_(pair_sums)], far[FL_(pair_sums)], other[FL_(pair_sums)], *const sums[] = {near, far, other};
    struct FL_(norms) norms;
    for (int k = 0; k < FL_VECTORS; k++) memset(sums[k], 0, sizeof near);
    for (ptrdiff_t first = 0; first < width && !fl_stops_at(first); first += FL_ELEMENT_STRIP) {
        const ptrdiff_t n = width - first < FL_ELEMENT_STRIP ? width - first : FL_ELEMENT_STRIP;
        const REAL *v[FL_VECTORS];
        for (int k = 0; k < FL_VECTORS; k++) v[k] = FL_(triple_in)(triple, k, first, n);
        if (triple->job->swap)
            FL_(triple_squares)(v[0], v[1], v[2], n, eps, sums, 1);
        else
            FL_(triple_squares)(v[0], v[1], v[2], n, eps, sums, 0);
    }
    norms.near = FL_(norm_of_squares)(sums[0]);
    norms.far = FL_(norm_of_squares)(sums[1]);
    norms.other = triple->job->swap ? FL_(norm_of_squares)(sums[2]) : norms.far;
    return norms;
}

static struct FL_(norms) FL_(norms_of)(const struct fl_pair_job *job, ptrdiff_t row, struct FL_(pair_room) * room)
{
    const struct FL_(triple) triple = FL_(triple_of)(job, row, room);
    struct FL_(norms) norms;
    if (job->p == 2.0) return FL_(lengths_of)(&triple);
    norms.near = FL_(norm_of)(&triple, 0, 1);
    norms.far = FL_(norm_of)(&triple, 0, 2);
    norms.other = job->swap ? FL_(norm_of)(&triple, 1, 2) : norms.far;
    return norms;
}

static double FL_(triplet_row)(const struct fl_pair_job *job, ptrdiff_t row, ptrdiff_t end,
                               const struct FL_(norms) * norms, struct FL_(pair_room) * room)
{
    const struct FL_(norm) near = norms->near, far = norms->far, other = norms->other;
    const double upstream = fl_pair_upstream(job, row);
    /* The smaller distance of the two counts, NaN too; equal ones count half each. */
    const double share = !job->swap || far.size < other.size ? 1.0 : far.size == other.size ? 0.5 : 0.0;
    const double smaller = far.size != far.size || share > 0.0 ? far.size : other.size;
    const double excess = job->margin + near.size - smaller, loss = excess < 0.0 ? 0.0 : excess;
    if (job->losses) job->losses[row] = loss;
    if (!job->has_gradients) return loss;
    if (!(excess >= 0.0) || upstream == 0.0) {
        FL_(pair_fill)(job, row, end, loss != loss ? loss : 0.0, room);
    } else {
        const struct FL_(triple) triple = FL_(triple_of)(job, row, room);
        const struct FL_(distances) distances = {
            {near.size, far.size, other.size},
            {near.factor, share * far.factor, (1.0 - share) * other.factor},
            upstream,
        };
        FL_(triplet_gradients)(&triple, &distances, row, end);
    }
    return loss;
}

static struct fl_piece FL_(triplet)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_pair_job *job = (const struct fl_pair_job *)any;
    struct FL_(pair_room) *room = (struct FL_(pair_room) *)scratch;
    const ptrdiff_t step = FL_(rows_at_once)(job);
    struct FL_(norms) norms[FL_(pair_rows)];
    double total = 0.0;
    FL_(pair_begin)(job, begin, room);
    for (ptrdiff_t row = begin, some; row < end; row += some) {
        some = end - row < step ? end - row : step;
        for (ptrdiff_t k = 0; k < some; k++) norms[k] = FL_(norms_of)(job, row + k, room);
        for (ptrdiff_t k = 0; k < some; k++) total += FL_(triplet_row)(job, row + k, end, &norms[k], room);
    }
    if (job->stream) fl_stream_end();
    return fl_faultless(total);
}
