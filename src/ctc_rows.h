/* Softmax of the rows of ctc.h. Included for float and for double. */

enum { FL_(ctc_lanes) = 64 / (int)sizeof(REAL) };

/* Writes the exponentials of whole vectors, and adds them to the sum. */
FL_INLINE double FL_(ctc_powers)(const REAL *x, REAL *e, ptrdiff_t n, struct FL_(fl_shift) shift, double sum)
{
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < n; i++) {
        e[i] = FL_(fl_exp_difference)(x[i], shift);
        sum += (double)e[i];
    }
    return sum;
}

/* Writes the exponentials of a row relative to its largest value, and returns their sum, at least 1; NaN for a row
 * with NaN or without a finite largest value. The last values are in a whole vector too, with exponentials of 0. */
static double FL_(ctc_exponentials)(const REAL *x, REAL *e, ptrdiff_t n, double *largest)
{
    const ptrdiff_t whole = n - n % FL_(ctc_lanes);
    REAL last[FL_(ctc_lanes)], max = (REAL)-INFINITY;
    for (int l = 0; l < FL_(ctc_lanes); l++) last[l] = (REAL)-INFINITY;
    memcpy(last, x + whole, (size_t)(n - whole) * sizeof(REAL));
#pragma omp simd reduction(max : max)
    for (int l = 0; l < FL_(ctc_lanes); l++) max = last[l] > max ? last[l] : max;
#pragma omp simd reduction(max : max)
    for (ptrdiff_t i = 0; i < whole; i++) max = x[i] > max ? x[i] : max;
    const struct FL_(fl_shift) shift = FL_(fl_shift_of)(max);
    const double sum = FL_(ctc_powers)(last, last, FL_(ctc_lanes), shift, 0.0);
    memcpy(e + whole, last, (size_t)(n - whole) * sizeof(REAL));
    *largest = (double)max;
    return FL_(ctc_powers)(x, e, whole, shift, sum);
}

/* Reads a row, and leaves its exponentials in the scratch, as row `slot` there. Returns their sum. */
static double FL_(ctc_softmax)(const struct fl_ctc_job *job, ptrdiff_t row, void *scratch, ptrdiff_t slot,
                               double *max)
{
    const char *p = fl_row_address(&job->input, row);
    REAL *copy = (REAL *)scratch, *e = copy + (slot + 1) * job->classes;
    const REAL *x = (const REAL *)(const void *)p;
    if (job->input.itemsize != (ptrdiff_t)sizeof(REAL) || job->input.class_stride != (ptrdiff_t)sizeof(REAL)) {
        FL_(fl_load)(p, job->input.class_stride, job->input.dtype, copy, job->classes);
        x = copy;
    }
    return FL_(ctc_exponentials)(x, e, job->classes, max);
}

/* Writes or adds the exponentials in the scratch times a factor. */
static void FL_(ctc_write)(const struct fl_ctc_job *job, ptrdiff_t row, void *scratch, ptrdiff_t slot, double factor)
{
    const struct fl_array *out = &job->output;
    char *p = fl_row_address(out, row);
    REAL *old = (REAL *)scratch, *e = old + (slot + 1) * job->classes;
    const REAL scale = (REAL)factor;
    if (job->accumulate) {
        FL_(fl_load)(p, out->class_stride, out->dtype, old, job->classes);
#pragma omp simd
        for (ptrdiff_t i = 0; i < job->classes; i++) e[i] = FL_(fl_fma)(scale, e[i], old[i]);
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < job->classes; i++) e[i] *= scale;
    }
    if (job->stream && out->class_stride == (ptrdiff_t)sizeof(REAL) && out->itemsize == (ptrdiff_t)sizeof(REAL))
        fl_stream(p, (const char *)e, job->classes * (ptrdiff_t)sizeof(REAL));
    else
        FL_(fl_store)(e, p, out->class_stride, out->dtype, job->classes);
}
