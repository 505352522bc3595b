/* Elements of arrays of any strides and types, in the order of the indices: reading, weighting, summing and writing.
 *
 * kernels.inc includes this file twice, like softmax.h, samples.inc for double alone. */

/* Lanes of a group. */
enum { FL_(group) = 16 };

/* A product with 0 * inf = 0, so that a term without weight vanishes. NaN stays NaN. */
FL_INLINE REAL FL_(fl_times)(REAL factor, REAL term)
{
    const REAL product = factor * term;
    return FL_(fl_choose)(factor == 0, FL_(fl_choose)(term == term, 0, term), product);
}

/* The address of element `index` of an array, and the number of evenly spaced elements from there (at most
 * `length`). */
static inline char *FL_(run_from)(const struct fl_element_job *job, const struct fl_array *array, ptrdiff_t index,
                                  ptrdiff_t *length)
{
    ptrdiff_t row, offset;
    if (array->ndim == 0) return array->data + index * array->class_stride;
    row = index / job->inner;
    offset = index - row * job->inner;
    if (job->inner - offset < *length) *length = job->inner - offset;
    return fl_row_address(array, row) + offset * array->class_stride;
}

/* Whether elements can be used in place. */
static inline int FL_(lies_ready)(const struct fl_array *array)
{
    const ptrdiff_t size = (ptrdiff_t)sizeof(REAL);
    return array->ndim == 0 && array->itemsize == size && array->class_stride == size;
}

/* Whether the numbers of an array of one number a row are floats without gaps. */
static inline int FL_(lies_in_sequence)(const struct fl_array *array)
{
    return sizeof(REAL) == sizeof(float) && array->ndim == 1 && array->itemsize == 4 && array->stride[0] == 4;
}

/* Elements of an array that does not vary along the rows, such as the target of several predictions: the number of
 * each row, as often as the row has elements. A store of a whole vector costs as much as one of a number, so those of
 * short rows overlap. */
static void FL_(rows_of_one)(const struct fl_element_job *job, const struct fl_array *array, ptrdiff_t first,
                             ptrdiff_t n, REAL *buffer)
{
    const ptrdiff_t inner = job->inner, row = first / inner;
    const char *p = fl_row_address(array, row);
    ptrdiff_t begin = row * inner - first;
    if (FL_(lies_in_sequence)(array) && fl_repeats_rows(inner)) {
        fl_repeat_each((const float *)(const void *)p, first % inner, inner, n, (float *)(void *)buffer);
        return;
    }
    for (ptrdiff_t next = row; begin < n; begin += inner) {
        const ptrdiff_t from = begin < 0 ? 0 : begin, end = begin + inner < n ? begin + inner : n;
        REAL value;
        ptrdiff_t j = from;
        FL_(fl_load)(p, 0, array->dtype, &value, 1);
        for (; j < end && j + FL_(group) <= n; j += FL_(group))
#pragma omp simd
            for (int l = 0; l < FL_(group); l++) buffer[j + l] = value;
        for (; j < end; j++) buffer[j] = value;
        p = array->ndim == 1 ? p + array->stride[0] : fl_row_address(array, ++next);
    }
}

/* Elements of an array whose rows are all the same, such as the quantiles of several predictions. */
static void FL_(same_rows)(const struct fl_element_job *job, const struct fl_array *array, ptrdiff_t first,
                           ptrdiff_t n, REAL *buffer)
{
    const ptrdiff_t inner = job->inner, offset = first % inner, rest = inner - offset < n ? inner - offset : n;
    ptrdiff_t done = inner < n ? inner : n;
    if (sizeof(REAL) == sizeof(float) && array->itemsize == 4 && array->class_stride == 4 && fl_repeats_rows(inner)) {
        fl_repeat_all((const float *)(const void *)array->data, offset, inner, n, (float *)(void *)buffer);
        return;
    }
    FL_(fl_load)(array->data + offset * array->class_stride, array->class_stride, array->dtype, buffer, rest);
    FL_(fl_load)(array->data, array->class_stride, array->dtype, buffer + rest, done - rest);
    for (ptrdiff_t more; done < n; done += more) {
        more = done < n - done ? done : n - done;
        memcpy(buffer + done, buffer, (size_t)more * sizeof(REAL));
    }
}

/* Elements first .. first + n - 1 of an array as REAL: in place, or in the buffer. */
static const REAL *FL_(elements_in)(const struct fl_element_job *job, const struct fl_array *array, ptrdiff_t first,
                                    ptrdiff_t n, REAL *buffer)
{
    if (FL_(lies_ready)(array)) return (const REAL *)(const void *)array->data + first;
    if (array->class_stride == 0 && array->ndim) {
        FL_(rows_of_one)(job, array, first, n, buffer);
        return buffer;
    }
    if (array->ndim == 1 && array->stride[0] == 0) {
        FL_(same_rows)(job, array, first, n, buffer);
        return buffer;
    }
    for (ptrdiff_t done = 0, length; done < n; done += length) {
        const char *p;
        length = n - done;
        p = FL_(run_from)(job, array, first + done, &length);
        FL_(fl_load)(p, array->class_stride, array->dtype, buffer + done, length);
    }
    return buffer;
}

/* The same, padded to whole groups. */
static inline const REAL *FL_(strip_in)(const struct fl_element_job *job, const struct fl_array *array,
                                        ptrdiff_t first, ptrdiff_t n, ptrdiff_t padded, REAL *buffer)
{
    const REAL *x = FL_(elements_in)(job, array, first, n, buffer);
    if (n == padded) return x;
    if (x != buffer) memcpy(buffer, x, (size_t)n * sizeof(REAL));
    for (ptrdiff_t i = n; i < padded; i++) buffer[i] = buffer[n - 1];
    return buffer;
}

static void FL_(elements_out)(const struct fl_element_job *job, const struct fl_array *array, ptrdiff_t first,
                              ptrdiff_t n, const REAL *values)
{
    for (ptrdiff_t done = 0, length; done < n; done += length) {
        char *p;
        length = n - done;
        p = FL_(run_from)(job, array, first + done, &length);
        FL_(fl_store)(values + done, p, array->class_stride, array->dtype, length);
    }
}

/* Sums in a fixed order, every term in double: a term goes to the lane of its index. */
enum { FL_(sums) = 32 };

static inline void FL_(add_to_sums)(double *sums, const REAL *x, ptrdiff_t n)
{
    double lane[FL_(sums)];
    ptrdiff_t i = 0;
    memcpy(lane, sums, sizeof lane); /* in registers */
    for (; i + FL_(sums) <= n; i += FL_(sums))
#pragma omp simd
        for (int l = 0; l < FL_(sums); l++) lane[l] += (double)x[i + l];
    memcpy(sums, lane, sizeof lane);
    for (int l = 0; i < n; i++, l++) sums[l] += (double)x[i];
}

static double FL_(total_of_sums)(double *lane)
{
    for (int width = FL_(sums) / 2; width; width >>= 1)
        for (int l = 0; l < width; l++) lane[l] += lane[l + width];
    return lane[0];
}

static void FL_(fill)(REAL *buffer, REAL value, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) buffer[i] = value;
}

static void FL_(weigh)(const REAL *weight, REAL *values, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) values[i] = FL_(fl_times)(weight[i], values[i]);
}

/* Without weight the derivative is 0; the NaN of a loss stays. */
static void FL_(weigh_derivative)(const REAL *weight, const REAL *value, REAL *values, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL product = weight[i] * values[i];
        values[i] = weight[i] == 0 ? (value[i] == value[i] ? (REAL)0 : value[i]) : product;
    }
}

/* The same for a scale of 0. It is not a condition in the loop of a loss: gcc spends a hundred instructions on the
 * mask of a condition that is the same in all lanes. */
static void FL_(leave_out)(const REAL *value, REAL *values, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) values[i] = value[i] == value[i] ? (REAL)0 : value[i];
}

/* Multiplies a strip of derivatives by the upstream gradient and the weight, and adds the present values if asked.
 * The weight comes last: where it is 0, so is the derivative, even if the upstream gradient is infinite. */
static void FL_(finish_derivative)(const struct fl_element_job *job, const struct fl_array *array, ptrdiff_t first,
                                   ptrdiff_t n, const REAL *weight, const REAL *upstream, const REAL *value,
                                   REAL *values, int accumulate, REAL *buffer)
{
    if (upstream) FL_(weigh)(upstream, values, n);
    if (weight) FL_(weigh_derivative)(weight, value, values, n);
    if (accumulate) {
        const REAL *before = FL_(elements_in)(job, array, first, n, buffer);
        for (ptrdiff_t i = 0; i < n; i++) values[i] += before[i];
    }
}
