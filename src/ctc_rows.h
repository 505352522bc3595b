/* Softmax of the rows of ctc.h. Included for float and for double. */

/* Writes the exponentials of a row relative to its largest value, and returns their sum, at least 1; NaN for a row
 * with NaN or without a finite largest value. */
static double FL_(ctc_exponentials)(const REAL *x, REAL *e, ptrdiff_t n, double *largest)
{
    REAL max = (REAL)-INFINITY;
    double sum = 0.0;
#pragma omp simd reduction(max : max)
    for (ptrdiff_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    const struct FL_(fl_shift) shift = FL_(fl_shift_of)(max);
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < n; i++) {
        e[i] = FL_(fl_exp_difference)(x[i], shift);
        sum += (double)e[i];
    }
    *largest = (double)max;
    return sum;
}

/* Reads a row, and leaves its exponentials in the scratch. Returns the factor that makes them probabilities. */
static double FL_(ctc_softmax)(const struct fl_ctc_job *job, ptrdiff_t row, void *scratch, double *lse)
{
    const char *p = fl_row_address(&job->input, row);
    REAL *e = (REAL *)scratch, *copy = e + job->classes;
    const REAL *x = (const REAL *)(const void *)p;
    double max, sum;
    if (job->input.itemsize != (ptrdiff_t)sizeof(REAL) || job->input.class_stride != (ptrdiff_t)sizeof(REAL)) {
        FL_(fl_load)(p, job->input.class_stride, job->input.dtype, copy, job->classes);
        x = copy;
    }
    sum = FL_(ctc_exponentials)(x, e, job->classes, &max);
    *lse = max + fl_log_f64(sum);
    return 1.0 / sum;
}

/* Writes or adds the exponentials in the scratch times a factor. */
static void FL_(ctc_write)(const struct fl_ctc_job *job, ptrdiff_t row, void *scratch, double factor)
{
    const struct fl_array *out = &job->output;
    char *p = fl_row_address(out, row);
    REAL *e = (REAL *)scratch, *old = e + job->classes;
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
