/* Maxima, exponentials and sums over a block of a row.
 *
 * kernels.inc includes this file twice, with REAL (float or double, the type of the computation) and FL_(name) (the
 * name with its suffix) defined. */

static inline REAL FL_(larger)(REAL a, REAL b) { return a > b ? a : b; }

/* The largest of sixteen, by loops of constant length: gcc does not unroll a loop over the widths. */
FL_INLINE REAL FL_(largest_of_lanes)(REAL *lane)
{
    for (int l = 0; l < 8; l++) lane[l] = FL_(larger)(lane[l], lane[l + 8]);
    for (int l = 0; l < 4; l++) lane[l] = FL_(larger)(lane[l], lane[l + 4]);
    return FL_(larger)(FL_(larger)(lane[0], lane[2]), FL_(larger)(lane[1], lane[3]));
}

/* The sum over the lanes, in a fixed order. */
static double FL_(sum_of_lanes)(double lane[FL_LANES])
{
    for (int l = 0; l < 8; l++) lane[l] += lane[l + 8];
    for (int l = 0; l < 4; l++) lane[l] += lane[l + 4];
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

static REAL FL_(block_max)(const REAL *x, ptrdiff_t n)
{
    REAL lane[64];
    ptrdiff_t i = 0;
    if (n < 32) { /* the lanes take longer for so few (measured: a fifth of the divergence of ten classes) */
        REAL max = (REAL)-INFINITY;
        for (; i < n; i++) max = x[i] > max ? x[i] : max;
        return max;
    }
    for (int l = 0; l < 64; l++) lane[l] = (REAL)-INFINITY;
    for (; i + 64 <= n; i += 64)
#pragma omp simd
        for (int l = 0; l < 64; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (int l = 0; i < n; i++, l++) lane[l] = x[i] > lane[l] ? x[i] : lane[l];
    for (int l = 0; l < 32; l++) lane[l] = FL_(larger)(lane[l], lane[l + 32]);
    for (int l = 0; l < 16; l++) lane[l] = FL_(larger)(lane[l], lane[l + 16]);
    return FL_(largest_of_lanes)(lane);
}

/* In a fixed order: sixteen lanes of double, each of which adds sums of four. */
static double FL_(block_sum)(const REAL *x, ptrdiff_t n)
{
    double lane[16] = {0};
    REAL tail[64] = {0};
    ptrdiff_t i = 0;
    for (; i + 64 <= n; i += 64)
#pragma omp simd
        for (int l = 0; l < 16; l++)
            lane[l] += (double)((x[i + l] + x[i + 16 + l]) + (x[i + 32 + l] + x[i + 48 + l]));
    if (i < n) {
        memcpy(tail, x + i, (size_t)(n - i) * sizeof(REAL));
#pragma omp simd
        for (int l = 0; l < 16; l++) lane[l] += (double)((tail[l] + tail[16 + l]) + (tail[32 + l] + tail[48 + l]));
    }
    return FL_(sum_of_lanes)(lane);
}

/* e may be x. */
static inline void FL_(block_exp)(const REAL *x, REAL max, REAL *e, ptrdiff_t n)
{
    const struct FL_(fl_shift) shift = FL_(fl_shift_of)(max);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) e[i] = FL_(fl_exp_difference)(x[i], shift);
}

/* sum_j a_j (x_j - max), in double; a class without weight contributes 0, even at -inf. Lanes as above. */
static double FL_(block_dot)(const REAL *a, const REAL *x, double max, ptrdiff_t n)
{
    double lane[16] = {0};
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16)
#pragma omp simd
        for (int l = 0; l < 16; l++) lane[l] += a[i + l] == 0 ? 0.0 : (double)a[i + l] * ((double)x[i + l] - max);
    for (int l = 0; i < n; i++, l++) lane[l] += a[i] == 0 ? 0.0 : (double)a[i] * ((double)x[i] - max);
    return FL_(sum_of_lanes)(lane);
}

/* From and to bfloat16 without an intermediate buffer, which would cost a tenth of the time. */
static inline void FL_(block_exp_bfloat16)(const uint16_t *x, REAL max, REAL *e, ptrdiff_t n)
{
    const struct FL_(fl_shift) shift = FL_(fl_shift_of)(max);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) e[i] = FL_(fl_exp_difference)((REAL)fl_float_from_bfloat16(x[i]), shift);
}

/* An exponential times a factor; 0 where the exponential is under `least`. */
static inline REAL FL_(scaled)(REAL e, REAL factor, REAL least) { return (e < least ? (REAL)0 : e) * factor; }

/* The exponential whose product with a factor is the smallest normal number, or 1e-12 of a gradient of the same row,
 * if that is less. Smaller exponentials count as 0: a subnormal product takes a hundred cycles on many processors,
 * and in a row of wide logits most products would be subnormal. (Measured: 18 ms instead of 4.) */
static inline REAL FL_(least_for)(REAL factor, REAL gradient)
{
    const REAL normal = sizeof(REAL) == sizeof(float) ? (REAL)FLT_MIN : (REAL)DBL_MIN;
    const REAL share = (gradient < 0 ? -gradient : gradient) * (REAL)1e-12;
    const REAL more = (REAL)1.0000005; /* so that a rounded product is not below */
    return (share < normal ? share : normal) / (factor < 0 ? -factor : factor) * more;
}

static inline void FL_(block_scale_bfloat16)(const REAL *e, REAL factor, REAL least, uint16_t *g, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) g[i] = fl_bfloat16_from_float((float)FL_(scaled)(e[i], factor, least));
}

/* Exponentials of n elements x of a row (NULL: of the bfloat16 at h). Meanwhile the same part of the next row (NULL:
 * none; `bytes` in all) is prefetched, because exponentials leave the memory idle. (Measured at 32000 classes: loss
 * alone 20 %, in place 10 %, bfloat16 15 % less time.) */
static void FL_(block_exp_prefetching)(const REAL *x, const uint16_t *h, REAL max, REAL *e, ptrdiff_t n,
                                       const char *next, ptrdiff_t bytes)
{
    ptrdiff_t fetched = 0;
    for (ptrdiff_t strip = 0; strip < n; strip += 256) {
        const ptrdiff_t end = n - strip < 256 ? n : strip + 256;
#if defined(__GNUC__)
        for (; next && fetched < bytes * end / n; fetched += 64) __builtin_prefetch(next + fetched, 0, 2);
#endif
        if (x)
            FL_(block_exp)(x + strip, max, e + strip, end - strip);
        else
            FL_(block_exp_bfloat16)(h + strip, max, e + strip, end - strip);
    }
}
