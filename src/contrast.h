/* Similarities of some queries with all keys: sums and gradients of the contrastive losses.
 *
 * kernels.inc includes this file twice, like softmax.h. z_ij is the similarity of query i and key j, T the
 * temperature, and the positive of query i is left out: its z is -inf, and the engine adds its terms in double. So
 * sums are those of the negatives, and a confident pair keeps the digits of its loss.
 *
 * columns adds to the log-sum-exp of each column, over the rows of one chunk after the other: a maximum m_j of z, and
 * the sum of exp((z_ij - m_j) / T).
 *
 * both replaces z by the gradient of a_i log sum_j exp(z_ij / T) + b_j log sum_i exp(z_ij / T), the sums with the
 * positive: a_i exp((z_ij - r_i) / T) + b_j exp((z_ij - c_j) / T). r and c are T times the logarithms, each as a
 * sum of two REALs: so the difference keeps its digits where the exponential counts.
 *
 * pairs has the sum over j of softplus(y_ij), y = scale z + bias, for each row; of its derivative p = sigmoid(y); and
 * of p z. It replaces z by a_i p.
 *
 * Precision: exponentials and sums of four of them are REAL, longer sums are double. */

/* Rows that are read twice, for the maxima and for the sums, while they are in the second-level cache. */
enum { FL_(contrast_rows) = 64 };

static inline const REAL *FL_(similarities)(const struct fl_contrast_job *job, ptrdiff_t row)
{
    return (const REAL *)job->z + row * job->row_stride;
}

static void FL_(raise_maxima)(const REAL *z, REAL *max, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t j = 0; j < n; j++) max[j] = z[j] > max[j] ? z[j] : max[j];
}

/* Adds four rows; a missing one is a repeated row whose share is 0. */
static void FL_(add_exponentials)(const REAL *const z[4], const REAL share[4], const REAL *max, REAL rate,
                                  double *sum, ptrdiff_t n)
{
    const REAL *z0 = z[0], *z1 = z[1], *z2 = z[2], *z3 = z[3];
    const REAL s1 = share[1], s2 = share[2], s3 = share[3];
#pragma omp simd
    for (ptrdiff_t j = 0; j < n; j++) {
        const REAL e0 = FL_(fl_exp_down)((z0[j] - max[j]) * rate), e1 = FL_(fl_exp_down)((z1[j] - max[j]) * rate);
        const REAL e2 = FL_(fl_exp_down)((z2[j] - max[j]) * rate), e3 = FL_(fl_exp_down)((z3[j] - max[j]) * rate);
        sum[j] += (double)((e0 + s1 * e1) + (s2 * e2 + s3 * e3));
    }
}

/* Columns begin .. end - 1, at most FL_CONTRAST_COLUMNS. A maximum of -inf counts as 0: the exponentials are 0. */
static struct fl_piece FL_(contrast_columns)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_contrast_job *job = (const struct fl_contrast_job *)any;
    const ptrdiff_t n = end - begin;
    double *top = job->top + begin, *sum = job->sum + begin;
    REAL *max = (REAL *)scratch, *base = max + FL_CONTRAST_COLUMNS;
    ptrdiff_t since = 0;
    for (ptrdiff_t j = 0; j < n; j++) max[j] = (REAL)top[j];
    for (ptrdiff_t first = 0; first < job->rows; first += FL_(contrast_rows)) {
        const ptrdiff_t last = job->rows - first < FL_(contrast_rows) ? job->rows : first + FL_(contrast_rows);
        if (fl_stops_after((last - first) * n, &since)) break;
        for (ptrdiff_t i = first; i < last; i++) FL_(raise_maxima)(FL_(similarities)(job, i) + begin, max, n);
        for (ptrdiff_t j = 0; j < n; j++) {
            const double fall = (top[j] - (double)max[j]) * job->rate;
            if (top[j] < (double)max[j]) sum[j] *= fl_exp_nonpositive_f64(fall);
            top[j] = (double)max[j];
            base[j] = max[j] == (REAL)-INFINITY ? (REAL)0 : max[j];
        }
        for (ptrdiff_t i = first; i < last; i += 4) {
            const REAL *z[4];
            REAL share[4];
            for (ptrdiff_t k = 0; k < 4; k++) {
                z[k] = FL_(similarities)(job, i + k < last ? i + k : i) + begin;
                share[k] = i + k < last;
            }
            FL_(add_exponentials)(z, share, base, (REAL)job->rate, sum, n);
        }
    }
    return fl_faultless(0.0);
}

static struct fl_piece FL_(contrast_both)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_contrast_job *job = (const struct fl_contrast_job *)any;
    const REAL *high = (const REAL *)job->column_high, *low = (const REAL *)job->column_low;
    const REAL *factor = (const REAL *)job->column_factor, rate = (REAL)job->rate;
    (void)scratch;
    for (ptrdiff_t i = begin; i < end; i++) {
        REAL *z = (REAL *)job->z + i * job->row_stride;
        const REAL own = (REAL)job->factor[i], own_high = (REAL)job->row_lse[i];
        const REAL own_low = (REAL)(job->row_lse[i] - (double)own_high);
#pragma omp simd
        for (ptrdiff_t j = 0; j < job->columns; j++) {
            const REAL by_row = FL_(fl_exp_down)(((z[j] - own_high) - own_low) * rate);
            const REAL by_column = FL_(fl_exp_down)(((z[j] - high[j]) - low[j]) * rate);
            z[j] = own * by_row + factor[j] * by_column;
        }
    }
    return fl_faultless(0.0);
}

/* The softplus of y and its derivative; of -inf both are 0. */
FL_INLINE REAL FL_(softplus)(REAL y, REAL *slope)
{
    const REAL e = FL_(fl_exp_down)(y < 0 ? y : -y), large = 1 / (1 + e);
    *slope = y < 0 ? e * large : large;
    return FL_(fl_log1p_unit)(e) + (y < 0 ? (REAL)0 : y);
}

static struct fl_piece FL_(contrast_pairs)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_contrast_job *job = (const struct fl_contrast_job *)any;
    const REAL scale = (REAL)job->scale, bias = (REAL)job->bias;
    REAL *value = (REAL *)scratch, *slope = value + FL_BLOCK, *product = slope + FL_BLOCK;
    for (ptrdiff_t i = begin; i < end; i++) {
        const REAL factor = job->factor ? (REAL)job->factor[i] : (REAL)0;
        double sums[3] = {0};
        for (ptrdiff_t first = 0; first < job->columns; first += FL_BLOCK) {
            const ptrdiff_t n = job->columns - first < FL_BLOCK ? job->columns - first : FL_BLOCK;
            REAL *z = (REAL *)job->z + i * job->row_stride + first;
#pragma omp simd
            for (ptrdiff_t j = 0; j < n; j++) {
                value[j] = FL_(softplus)(FL_(fl_fma)(scale, z[j], bias), &slope[j]);
                product[j] = slope[j] == 0 ? (REAL)0 : slope[j] * z[j];
            }
            sums[0] += FL_(block_sum)(value, n);
            if (!job->factor) continue;
            sums[1] += FL_(block_sum)(slope, n);
            sums[2] += FL_(block_sum)(product, n);
#pragma omp simd
            for (ptrdiff_t j = 0; j < n; j++) z[j] = factor * slope[j];
        }
        for (int k = 0; k < 3; k++) job->row_sums[k * job->rows + i] = sums[k];
    }
    return fl_faultless(0.0);
}
