/* Statistics of the softmax of rows with class indices, and the gradient of two of them.
 *
 * kernels.inc includes this file twice, after rows.h, whose blocks and elements it uses.
 *
 * With u = softcap(x) and z = u / T, z relative to the largest of the row d = z - max z, e = exp(d), S = sum e and
 * p = e / S, a row has
 *
 *   logsum = log S                      lse = max z + logsum
 *   log p_y = d_y - logsum              H = -sum p log p = logsum - D,   D = sum e d / S
 *   log sum p^2 = log(sum e^2) - 2 logsum         mean z = sum z / C
 *
 * and the gradient of f log p_y + h H, as log p_j + H = d_j - D, is
 *
 *   by z_j: f [j = y] - p_j (f + h (d_j - D));   by x_j: that times (1 - tanh(x_j / c)^2) / T
 *
 * A row is read once. Each block is summed relative to its own maximum, which is found while the block is in the
 * first-level cache; so no sum depends on other blocks, nothing overflows, and no row is summed twice. With m the
 * largest u of a block, and r = (m - max u) / T,
 *
 *   S = sum_blocks S_b e^r    sum e d = sum_blocks e^r (sum_b e d + r S_b)    sum e^2 = sum_blocks e^2r sum_b e^2
 *
 * In float the exponentials of a block are relative to an integer times log 2 near its maximum (see power.h); that
 * `offset` is part of r in the weights.
 *
 * Confident rows. If S < 3 the block with the maximum is summed once more without it, so that S - 1, the sum of the
 * others, keeps its digits; the maximum adds 0 to sum e d. Then logsum = log1p(S - 1), H, and log sum p^2 =
 * log1p(sum of the others e^2) - 2 logsum keep theirs, and so does 1 - p_y = -expm1(log p_y).
 *
 * The gradient computes the exponentials once more, from the statistics alone. So a band of longer rows has its
 * gradient from the statistics of these.
 *
 * Precision: exponentials and sums of four of them are REAL, longer sums are double; sums of sixteen products. Rows
 * that fl_power does not suit, and those with a softcap, are computed in double.
 */

/* Partial results of a block: the largest x, what its exponentials are relative to, and the sums. */
enum {
    FL_(part_max),
    FL_(part_offset),
    FL_(part_sum),
    FL_(part_product),
    FL_(part_square),
    FL_(part_spread),
    FL_(parts)
};
enum { FL_(statistics_buffer_bytes) = 3 * FL_BLOCK * (int)sizeof(REAL) };

static inline ptrdiff_t FL_(statistics_blocks)(const struct fl_statistics_job *job)
{
    return (job->rows.classes + FL_BLOCK - 1) / FL_BLOCK;
}

static inline ptrdiff_t FL_(statistics_length)(const struct fl_statistics_job *job, ptrdiff_t block)
{
    const ptrdiff_t left = job->rows.classes - block * FL_BLOCK;
    return left < FL_BLOCK ? left : FL_BLOCK;
}

static ptrdiff_t FL_(statistics_scratch)(const struct fl_statistics_job *job)
{
    const ptrdiff_t partials = FL_(statistics_blocks)(job) * FL_(parts) * (ptrdiff_t)sizeof(double);
    return (partials + 63) / 64 * 64 + FL_(statistics_buffer_bytes);
}

static inline double FL_(element_of)(const struct fl_statistics_job *job, const struct fl_statistics_row *row,
                                     ptrdiff_t c)
{
    const struct fl_array *in = &job->rows.input;
    return (double)FL_(fl_load_scalar)(row->input + c * in->class_stride, in->dtype);
}

/* softcap(x); a class at -inf stays masked. */
FL_INLINE double FL_(capped_by)(double x, double cap)
{
    const double value = cap * fl_tanh_f64(x / cap);
    return x == -(double)INFINITY ? x : value;
}

static inline double FL_(capped_of)(const struct fl_statistics_job *job, double x)
{
    return job->map.softcap > 0.0 ? FL_(capped_by)(x, job->map.softcap) : x;
}

static int FL_(statistics_start)(const struct fl_statistics_job *job, struct fl_statistics_row *row, ptrdiff_t index,
                                 void *scratch)
{
    const struct fl_rows *rows = &job->rows;
    const double over_temperature = fl_over(job->map.temperature);
    row->index = index;
    row->target = job->targets.index ? fl_class_of_row(&job->targets, index) : FL_ELSEWHERE;
    row->input = fl_row_address(&rows->input, index);
    row->output = rows->output.data ? fl_row_address(&rows->output, index) : NULL;
    row->partial = (double *)scratch;
    if (row->target == FL_IGNORED) {
        if (!rows->accumulate) FL_(clear_row)(&rows->output, index, rows->classes);
        if (!job->is_given) memset(job->statistics + index * FL_STATISTICS, 0, FL_STATISTICS * sizeof(double));
        return 0;
    }
    row->of_log_prob = fl_upstream(rows, index) * over_temperature;
    row->of_entropy = (job->entropy_upstream ? job->entropy_upstream[index] : 1.0) * job->entropy_scale;
    row->of_entropy *= over_temperature;
    return 1;
}

/* ---- the sums of a block ---- */

/* 64 elements of a block. Sums of sixteen are REAL. */
FL_INLINE void FL_(statistics_strip)(const REAL *x, REAL max, struct FL_(fl_power) power, int has_all, double *sum,
                                     REAL *product, REAL *square, REAL *spread)
{
    REAL e[FL_STRIP];
    for (int k = 0; k < FL_STRIP; k += FL_STEP)
#pragma omp simd
        for (int l = 0; l < FL_STEP; l++) {
            const REAL value = FL_(fl_power)(x[k + l], power);
            e[k + l] = value;
            if (has_all) {
                const REAL d = FL_(fl_unless_zero)(x[k + l], x[k + l] - max, value, power);
                product[l] = FL_(fl_fma)(value, d, product[l]);
                square[l] = FL_(fl_fma)(value, value, square[l]);
                spread[l] += x[k + l];
            }
        }
    FL_(add_strip)(e, sum);
}

/* Adds REAL lanes to double ones, and starts them again. */
FL_INLINE void FL_(add_lanes)(REAL *x, REAL start, double *lane)
{
#pragma omp simd
    for (int l = 0; l < FL_STEP; l++) {
        lane[l] += (double)x[l];
        x[l] = start;
    }
}

/* Read while a block is summed: the m elements of the next block, at most as many as the block has, whose maximum is
 * found; and the memory of the next block, which is prefetched with itemsize bytes for each element. */
struct FL_(ahead) {
    const REAL *next;
    ptrdiff_t m;
    const char *memory;
    ptrdiff_t itemsize;
};

/* The larger of lanes and elements. */
FL_INLINE void FL_(raise_lanes)(const REAL *x, REAL *lane)
{
    for (int k = 0; k < FL_STRIP; k += FL_STEP)
#pragma omp simd
        for (int l = 0; l < FL_STEP; l++) lane[l] = x[k + l] > lane[l] ? x[k + l] : lane[l];
}

/* The sums of n elements relative to max. Returns the largest of the elements ahead. */
FL_INLINE REAL FL_(sum_elements_as)(const REAL *x, ptrdiff_t n, REAL max, struct FL_(fl_power) power,
                                    double over_temperature, const struct FL_(ahead) * ahead, int has_all,
                                    double *part)
{
    /* So that no sum of squares is subnormal. */
    const REAL least = sizeof(REAL) == sizeof(float) ? (REAL)FLT_MIN : (REAL)DBL_MIN;
    REAL product[FL_STEP] = {0}, square[FL_STEP], spread[FL_STEP] = {0}, tail[FL_STRIP], largest[FL_STEP];
    double sum[FL_STEP] = {0}, products[FL_STEP] = {0}, squares[FL_STEP] = {0}, spreads[FL_STEP] = {0};
    double last = 0.0;
    const REAL *next = ahead->next;
    const ptrdiff_t m = ahead->m, itemsize = ahead->itemsize;
    ptrdiff_t i = 0, j = 0;
    for (int l = 0; l < FL_STEP; l++) square[l] = least;
    for (int l = 0; l < FL_STEP; l++) largest[l] = (REAL)-INFINITY;
    for (; i + FL_STRIP <= n; i += FL_STRIP) {
        if (itemsize == sizeof(REAL))
            fl_prefetch_ahead(ahead->memory + i * (ptrdiff_t)sizeof(REAL), sizeof(REAL));
        else
            fl_prefetch_ahead(ahead->memory + i * itemsize, itemsize);
        if (j + FL_STRIP <= m) {
            FL_(raise_lanes)(next + j, largest);
            j += FL_STRIP;
        }
        FL_(statistics_strip)(x + i, max, power, has_all, sum, product, square, spread);
        if (has_all && (i & (4 * FL_STRIP - 1)) == 3 * FL_STRIP) {
            FL_(add_lanes)(product, 0, products);
            FL_(add_lanes)(square, least, squares);
            FL_(add_lanes)(spread, 0, spreads);
        }
    }
    FL_(add_lanes)(spread, 0, spreads);
    if (i < n) {
        FL_(tail_in)(x + i, n - i, tail);
        FL_(statistics_strip)(tail, max, power, has_all, sum, product, square, spread);
        for (; i < n; i++) last += (double)x[i];
    }
    FL_(add_lanes)(product, 0, products);
    FL_(add_lanes)(square, least, squares);
    part[FL_(part_offset)] = power.shift - (double)max * over_temperature;
    part[FL_(part_sum)] = FL_(sum_of_lanes)(sum);
    part[FL_(part_product)] = FL_(sum_of_lanes)(products) * over_temperature;
    part[FL_(part_square)] = FL_(sum_of_lanes)(squares);
    part[FL_(part_spread)] = (FL_(sum_of_lanes)(spreads) + last) * over_temperature;
    for (int l = 0; j < m; j++, l = (l + 1) % FL_STEP) largest[l] = next[j] > largest[l] ? next[j] : largest[l];
    return FL_(largest_of_lanes)(largest);
}

FL_OUTLINE REAL FL_(sum_elements)(const REAL *x, ptrdiff_t n, REAL max, struct FL_(fl_power) power,
                                  double over_temperature, const struct FL_(ahead) * ahead, double *part)
{
    return FL_(sum_elements_as)(x, n, max, power, over_temperature, ahead, 1, part);
}

FL_OUTLINE REAL FL_(sum_exponentials)(const REAL *x, ptrdiff_t n, REAL max, struct FL_(fl_power) power,
                                      double over_temperature, const struct FL_(ahead) * ahead, double *part)
{
    return FL_(sum_elements_as)(x, n, max, power, over_temperature, ahead, 0, part);
}

/* u of up to 64 elements, -inf after them, and du/dx (NULL: not needed). */
FL_INLINE void FL_(wide_strip)(const REAL *x, ptrdiff_t n, double cap, double *u, double *slope)
{
    for (int l = 0; l < FL_STRIP; l++) u[l] = l < n ? (double)x[l] : -(double)INFINITY;
    if (slope)
#pragma omp simd
        for (int l = 0; l < FL_STRIP; l++) slope[l] = cap > 0.0 ? fl_sech_squared_f64(u[l] / cap) : 1.0;
    if (cap > 0.0)
#pragma omp simd
        for (int l = 0; l < FL_STRIP; l++) u[l] = FL_(capped_by)(u[l], cap);
}

/* The sums in double, with any map. */
FL_OUTLINE void FL_(sum_widely)(const struct fl_statistics_job *job, const REAL *x, ptrdiff_t n, double max,
                                double *part)
{
    const double top = FL_(capped_of)(job, max), rate = fl_over(job->map.temperature);
    double sum[FL_STEP] = {0}, product[FL_STEP] = {0}, square[FL_STEP] = {0}, spread[FL_STEP] = {0};
    for (ptrdiff_t i = 0; i < n; i += FL_STRIP) {
        double u[FL_STRIP];
        FL_(wide_strip)(x + i, n - i, job->map.softcap, u, NULL);
        for (int k = 0; k < FL_STRIP; k += FL_STEP)
#pragma omp simd
            for (int l = 0; l < FL_STEP; l++) {
                const double d = (u[k + l] - top) * rate, e = fl_exp_nonpositive_f64(d), term = e * d;
                sum[l] += e;
                product[l] += e == 0.0 ? 0.0 : term;
                square[l] += e * e;
                spread[l] += i + k + l < n ? u[k + l] : 0.0;
            }
    }
    part[FL_(part_offset)] = 0.0;
    part[FL_(part_sum)] = FL_(sum_of_lanes)(sum);
    part[FL_(part_product)] = FL_(sum_of_lanes)(product);
    part[FL_(part_square)] = FL_(sum_of_lanes)(square);
    part[FL_(part_spread)] = FL_(sum_of_lanes)(spread) * rate;
}

/* A block without a finite maximum: nothing but masked classes or NaN, or an infinite element. */
static void FL_(sum_infinite)(const REAL *x, ptrdiff_t n, double *part)
{
    double sum = 0.0;
    for (ptrdiff_t i = 0; i < n; i++) sum += (double)x[i];
    part[FL_(part_offset)] = 0.0;
    part[FL_(part_sum)] = part[FL_(part_product)] = part[FL_(part_square)] = sum < 0.0 ? 0.0 : (double)NAN;
    part[FL_(part_spread)] = sum;
}

/* The sums of n elements of a block, whose largest is in `part`. Returns the largest of the elements ahead. */
static REAL FL_(sum_of)(const struct fl_statistics_job *job, const REAL *x, ptrdiff_t n,
                        const struct FL_(ahead) * ahead, double *part)
{
    const double max = part[FL_(part_max)], over_temperature = fl_over(job->map.temperature);
    const struct FL_(fl_power) power = FL_(fl_power_of)((REAL)max, over_temperature);
    if (isinf(FL_(capped_of)(job, max)))
        FL_(sum_infinite)(x, n, part);
    else if (job->map.softcap > 0.0 || !power.is_usable || job->map.temperature > 1e18)
        FL_(sum_widely)(job, x, n, max, part);
    else if (job->has_all)
        return FL_(sum_elements)(x, n, (REAL)max, power, over_temperature, ahead, part);
    else
        return FL_(sum_exponentials)(x, n, (REAL)max, power, over_temperature, ahead, part);
    return FL_(block_max)(ahead->next, ahead->m);
}

/* The sums of a block. `max` is its largest element, or NULL; then that of the next block, where that is not
 * converted. */
static void FL_(sum_block)(const struct fl_statistics_job *job, struct fl_statistics_row *row, ptrdiff_t block,
                           void *buffers, REAL *max)
{
    const struct fl_array *in = &job->rows.input;
    const ptrdiff_t first = block * FL_BLOCK, n = FL_(statistics_length)(job, block);
    const int has_next = max && FL_(is_direct)(in);
    double *part = row->partial + block * FL_(parts);
    const REAL *x = FL_(block_of)(in, row->input, first, (REAL *)buffers, n);
    struct FL_(ahead) ahead = {x, 0, row->input + (first + n) * in->itemsize, 0};
    REAL found;
    if (in->class_stride == in->itemsize) ahead.itemsize = in->itemsize;
    if (has_next && block + 1 < FL_(statistics_blocks)(job)) {
        ahead.next = x + n;
        ahead.m = FL_(statistics_length)(job, block + 1);
    }
    part[FL_(part_max)] = (double)(has_next && block ? *max : FL_(block_max)(x, n));
    found = FL_(sum_of)(job, x, n, &ahead, part);
    if (max) *max = found;
}

static void FL_(statistics_sum)(const struct fl_statistics_job *job, struct fl_statistics_row *row, ptrdiff_t block,
                                void *buffers)
{
    if (!job->is_given) FL_(sum_block)(job, row, block, buffers, NULL);
}

/* ---- the statistics of a row ---- */

/* Sums relative to the largest u of a row, and the sum of all z. */
struct FL_(row_sums) {
    double sum, product, square, spread;
};

/* The sum of exponentials is compensated, as in rows.h. */
static struct FL_(row_sums)
    FL_(sums_of_row)(const struct fl_statistics_job *job, const struct fl_statistics_row *row, double largest)
{
    const double over_temperature = fl_over(job->map.temperature);
    struct FL_(row_sums) all = {0};
    double lost = 0.0;
    for (ptrdiff_t block = 0; block < FL_(statistics_blocks)(job); block++) {
        const double *part = row->partial + block * FL_(parts);
        double rise, weight, term, next, back;
        all.spread += part[FL_(part_spread)];
        if (part[FL_(part_sum)] == 0.0) continue; /* all masked */
        rise = (FL_(capped_of)(job, part[FL_(part_max)]) - largest) * over_temperature;
        weight = fl_exp_nonpositive_f64(rise + part[FL_(part_offset)]);
        term = weight * part[FL_(part_sum)];
        next = all.sum + term;
        back = next - all.sum;
        lost += (all.sum - (next - back)) + (term - back);
        all.sum = next;
        if (weight == 0.0) continue;
        all.product += weight * (part[FL_(part_product)] + rise * part[FL_(part_sum)]);
        all.square += weight * weight * part[FL_(part_square)];
    }
    all.sum += lost;
    return all;
}

/* The first position of a value in n elements, n - 1 if it is not among the others. */
static ptrdiff_t FL_(first_of)(const REAL *x, REAL value, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (int found = 0; i + 64 < n; i += 64) {
#pragma omp simd reduction(| : found)
        for (int l = 0; l < 64; l++) found |= x[i + l] == value;
        if (found) break;
    }
    while (i < n - 1 && !(x[i] == value)) i++;
    return i;
}

/* Sums the block with the maximum once more without it; its sum of all z stays. */
static void FL_(leave_out_largest)(const struct fl_statistics_job *job, struct fl_statistics_row *row, ptrdiff_t best,
                                   REAL *buffers)
{
    const ptrdiff_t n = FL_(statistics_length)(job, best);
    double *part = row->partial + best * FL_(parts);
    const double spread = part[FL_(part_spread)];
    const REAL *x = FL_(block_of)(&job->rows.input, row->input, best * FL_BLOCK, buffers, n);
    REAL *others = buffers + FL_BLOCK;
    const struct FL_(ahead) ahead = {others, 0, (const char *)others, 0};
    memcpy(others, x, (size_t)n * sizeof(REAL));
    others[FL_(first_of)(x, (REAL)part[FL_(part_max)], n)] = (REAL)-INFINITY;
    FL_(sum_of)(job, others, n, &ahead, part);
    part[FL_(part_spread)] = spread;
}

/* Whether the target is the first maximum of a row without NaN. */
static int FL_(is_first_largest)(const struct fl_statistics_job *job, const struct fl_statistics_row *row,
                                 double largest, REAL *buffers)
{
    const ptrdiff_t home = row->target / FL_BLOCK, n = FL_(statistics_length)(job, home);
    const REAL *x;
    if (row->target < 0 || FL_(element_of)(job, row, row->target) != largest) return 0;
    for (ptrdiff_t block = 0; block < home; block++)
        if (row->partial[block * FL_(parts) + FL_(part_max)] == largest) return 0;
    x = FL_(block_of)(&job->rows.input, row->input, home * FL_BLOCK, buffers, n);
    return FL_(first_of)(x, (REAL)largest, n) == row->target - home * FL_BLOCK;
}

/* A row whose largest u is infinite has no softmax: its log-sum-exp and its mean follow the formula. */
static void FL_(settle_infinite)(const struct fl_statistics_job *job, const struct fl_statistics_row *row,
                                 double largest, double *found)
{
    double sum = 0.0;
    int has_nan = 0;
    for (ptrdiff_t c = 0; c < job->rows.classes; c++) {
        const double u = FL_(capped_of)(job, FL_(element_of)(job, row, c));
        has_nan |= isnan(u);
        sum += u;
    }
    found[FL_LARGEST] = has_nan ? (double)NAN : largest;
    found[FL_LOGSUM] = has_nan ? (double)NAN : 0.0;
    found[FL_MEAN] = sum;
    found[FL_ROW_ENTROPY] = found[FL_LOG_PROB] = found[FL_LOG_SUM_SQ] = (double)NAN;
    if (has_nan) found[FL_IS_TOP] = 0.0;
}

static void FL_(statistics_settle)(const struct fl_statistics_job *job, struct fl_statistics_row *row, void *buffers)
{
    const ptrdiff_t blocks = FL_(statistics_blocks)(job);
    const double over_temperature = fl_over(job->map.temperature);
    double *found = job->statistics + row->index * FL_STATISTICS, max, largest, rest;
    struct FL_(row_sums) all;
    ptrdiff_t best = 0;
    int is_confident;
    if (job->is_given) return;
    for (ptrdiff_t block = 1; block < blocks; block++)
        if (row->partial[block * FL_(parts)] > row->partial[best * FL_(parts)]) best = block;
    max = row->partial[best * FL_(parts)];
    largest = FL_(capped_of)(job, max);
    found[FL_IS_TOP] = FL_(is_first_largest)(job, row, max, (REAL *)buffers);
    if (isinf(largest)) {
        FL_(settle_infinite)(job, row, largest, found);
        return;
    }
    all = FL_(sums_of_row)(job, row, largest);
    is_confident = all.sum < 3.0;
    if (is_confident) {
        FL_(leave_out_largest)(job, row, best, (REAL *)buffers);
        all = FL_(sums_of_row)(job, row, largest);
    }
    rest = is_confident ? all.sum : all.sum - 1.0;
    found[FL_LARGEST] = largest;
    found[FL_LOGSUM] = fl_log1p_nonnegative_f64(rest);
    found[FL_ROW_ENTROPY] = found[FL_LOGSUM] - all.product / (1.0 + rest);
    found[FL_LOG_SUM_SQ] = is_confident ? fl_log1p_nonnegative_f64(all.square) : fl_log_f64(all.square);
    found[FL_LOG_SUM_SQ] -= 2.0 * found[FL_LOGSUM];
    found[FL_MEAN] = all.spread / (double)job->rows.classes;
    found[FL_LOG_PROB] = (double)NAN;
    if (row->target >= 0) {
        const double u = FL_(capped_of)(job, FL_(element_of)(job, row, row->target));
        found[FL_LOG_PROB] = (u - largest) * over_temperature - found[FL_LOGSUM];
    }
    if (isnan(all.sum)) found[FL_LARGEST] = (double)NAN;
    if (isnan(all.sum)) found[FL_IS_TOP] = 0.0;
}

/* ---- the gradient of a row ---- */

/* p_j = exp(d_j) `share`, and the gradient p_j (base + rate d_j), from the statistics of a row. */
struct FL_(slopes) {
    double largest, share, base, rate, at_target;
    REAL least;
};

static struct FL_(slopes) FL_(slopes_of)(const struct fl_statistics_job *job, const struct fl_statistics_row *row)
{
    const double *found = job->statistics + row->index * FL_STATISTICS, f = row->of_log_prob, h = row->of_entropy;
    const double mean = h == 0.0 ? 0.0 : found[FL_LOGSUM] - found[FL_ROW_ENTROPY], log_p = found[FL_LOG_PROB];
    const double share = isnan(found[FL_ROW_ENTROPY]) ? (double)NAN : fl_exp_nonpositive_f64(0.0 - found[FL_LOGSUM]);
    struct FL_(slopes) slopes = {found[FL_LARGEST], share, h * mean - f, 0.0 - h, 0.0, 0};
    double most = share * fabs(h * mean);
    if (row->target >= 0) {
        const double p = fl_exp_nonpositive_f64(log_p);
        const double of_entropy = p == 0.0 || h == 0.0 ? 0.0 : p * h * (log_p + found[FL_ROW_ENTROPY]);
        slopes.at_target = f * (0.0 - fl_expm1_nonpositive_f64(log_p)) - of_entropy;
        most = most > fabs(slopes.at_target) ? most : fabs(slopes.at_target);
    }
    slopes.least = FL_(least_for)((REAL)(share * (fabs(slopes.base) + fabs(slopes.rate))), (REAL)most);
    return slopes;
}

FL_OUTLINE void FL_(entropy_slopes)(const struct FL_(slopes) * slopes, struct FL_(fl_power) power,
                                    double over_temperature, const REAL *x, REAL *g, ptrdiff_t n)
{
    const double offset = power.shift - slopes->largest * over_temperature;
    const REAL max = (REAL)slopes->largest;
    const REAL share = (REAL)(slopes->share * fl_exp_nonpositive_f64(offset)), least = slopes->least;
    const REAL base = (REAL)slopes->base, rate = (REAL)(slopes->rate * over_temperature);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL e = FL_(fl_power)(x[i], power), d = FL_(fl_unless_zero)(x[i], x[i] - max, e, power);
        g[i] = FL_(scaled)(e, share, least) * FL_(fl_fma)(rate, d, base);
    }
}

/* The same in double, with any map. */
FL_OUTLINE void FL_(wide_slopes)(const struct fl_statistics_job *job, const struct FL_(slopes) * slopes,
                                 const REAL *x, REAL *g, ptrdiff_t n)
{
    const double cap = job->map.softcap, over_temperature = fl_over(job->map.temperature);
    for (ptrdiff_t i = 0; i < n; i += FL_STRIP) {
        const ptrdiff_t some = n - i < FL_STRIP ? n - i : (ptrdiff_t)FL_STRIP;
        double u[FL_STRIP], slope[FL_STRIP];
        FL_(wide_strip)(x + i, some, cap, u, slope);
#pragma omp simd
        for (int l = 0; l < FL_STRIP; l++) {
            const double d = (u[l] - slopes->largest) * over_temperature;
            const double p = fl_exp_nonpositive_f64(d) * slopes->share;
            const double value = p * (slopes->base + slopes->rate * d) * slope[l];
            u[l] = p == 0.0 ? 0.0 : value;
        }
        for (ptrdiff_t l = 0; l < some; l++) g[i + l] = (REAL)u[l];
    }
}

static void FL_(statistics_finish)(const struct fl_statistics_job *job, struct fl_statistics_row *row,
                                   ptrdiff_t block, void *buffers)
{
    const ptrdiff_t first = block * FL_BLOCK, n = FL_(statistics_length)(job, block), at = row->target - first;
    const struct fl_array *in = &job->rows.input, *out = &job->rows.output;
    const int is_ready = FL_(is_direct)(out) && !job->rows.accumulate && !job->rows.stream;
    const struct FL_(slopes) slopes = FL_(slopes_of)(job, row);
    const double over_temperature = fl_over(job->map.temperature), cap = job->map.softcap;
    const struct FL_(fl_power) power = FL_(fl_power_of)((REAL)slopes.largest, over_temperature);
    char *destination = row->output + first * out->class_stride;
    REAL *g = is_ready ? (REAL *)(void *)destination : (REAL *)buffers + 2 * FL_BLOCK;
    const REAL *x = FL_(block_of)(in, row->input, first, (REAL *)buffers, n);
    double slope = 1.0;
    if (cap > 0.0 && at >= 0 && at < n) slope = fl_sech_squared_f64((double)x[at] / cap);
    if (cap > 0.0 || !power.is_usable || job->map.temperature > 1e18)
        FL_(wide_slopes)(job, &slopes, x, g, n);
    else
        FL_(entropy_slopes)(&slopes, power, over_temperature, x, g, n);
    if (at >= 0 && at < n) g[at] = (REAL)(slopes.at_target * slope);
    if (job->rows.accumulate) {
        const REAL *before = FL_(block_of)(out, row->output, first, (REAL *)buffers + FL_BLOCK, n);
        for (ptrdiff_t i = 0; i < n; i++) g[i] += before[i];
    }
    if (FL_(is_direct)(out) && job->rows.stream)
        fl_stream(destination, (const char *)g, n * out->itemsize);
    else if (!is_ready)
        FL_(fl_store)(g, destination, out->class_stride, out->dtype, n);
}

static struct fl_piece FL_(statistics_rows)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_statistics_job *job = (const struct fl_statistics_job *)any;
    const ptrdiff_t blocks = FL_(statistics_blocks)(job);
    void *buffers = (char *)scratch + FL_(statistics_scratch)(job) - FL_(statistics_buffer_bytes);
    for (ptrdiff_t index = begin; index < end; index++) {
        struct fl_statistics_row row;
        REAL max = 0;
        if (!FL_(statistics_start)(job, &row, index, scratch)) continue;
        for (ptrdiff_t block = 0; !job->is_given && block < blocks; block++) {
            if (fl_stops_at(block * FL_BLOCK)) return fl_faultless(0.0);
            FL_(sum_block)(job, &row, block, buffers, &max);
        }
        FL_(statistics_settle)(job, &row, buffers);
        for (ptrdiff_t block = 0; row.output && block < blocks; block++) {
            if (fl_stops_at(block * FL_BLOCK)) return fl_faultless(0.0);
            FL_(statistics_finish)(job, &row, block, buffers);
        }
    }
    if (job->rows.stream) fl_stream_end();
    return fl_faultless(0.0);
}
