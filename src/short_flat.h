/* Short rows of a class target in float, as they lie in memory: cross-entropy with weights, a temperature and a
 * z-loss, for rows whose inputs are small. With AVX-512; see short_rows.h, whose columns take all other short rows.
 *
 * Nothing is transposed, and no maximum is taken. A group of rows is one run of elements:
 *
 * 1. A row with an input over 32 T in size, or NaN, is left to the columns. Which rows these are depends on the row
 *    alone.
 * 2. Exponentials of 16 elements, whichever rows they belong to, without a shift: the sum of a row is between
 *    64 exp(-32) and 64 exp(32). The error of an exponential is that of short_rows.h.
 * 3. Sums of rows without their targets: a masked load for 16 classes, and a tree of shuffles that adds the lanes of
 *    16 rows in a fixed order, so that the sum of a row does not depend on its place.
 * 4. Settlement of short_settle.h, 16 rows at a time.
 * 5. Elements times the share of their row, which a permutation brings to them; gradients at the targets last.
 * Nothing is written before all rows of the group are read, so the output may be the input. */
#ifndef FASTLOSS_SHORT_FLAT_H
#define FASTLOSS_SHORT_FLAT_H

#include "short_settle.h"

#ifdef __AVX512F__
enum { SHORT_IS_FLAT = 1 };

/* The sum over quarters of four rows in turn: in each quarter those of its four elements of each row. */
FL_INLINE __m512 short_sums_of_four(__m512 a, __m512 b, __m512 c, __m512 d)
{
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
}

FL_INLINE __m512 short_sums_of_halves(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

/* The classes of a row but skip, added to one vector. */
FL_INLINE __m512 short_flat_row(int classes, uint64_t all, const float *e, int32_t skip)
{
    const uint64_t kept = all & ~((uint64_t)1 << skip);
    __m512 sum = _mm512_maskz_loadu_ps((__mmask16)kept, e);
    for (int c = FL_LANES; c < classes; c += FL_LANES)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps((__mmask16)(kept >> c), e + c));
    return sum;
}

/* The sums of FL_LANES rows without their classes at skip. Up to FL_LANES classes are `few`. */
FL_INLINE void short_flat_sums_of(int few, int classes, const float *e, struct short_rows *r)
{
    const uint64_t all = classes < 64 ? ((uint64_t)1 << classes) - 1 : ~(uint64_t)0;
    __m512 four[4];
    for (int k = 0; k < 4; k++, e += 4 * classes) {
        const int32_t *skip = r->skip + 4 * k;
        const int most = few ? FL_LANES : classes;
        four[k] = short_sums_of_four(
            short_flat_row(most, all, e, skip[0]), short_flat_row(most, all, e + classes, skip[1]),
            short_flat_row(most, all, e + 2 * classes, skip[2]), short_flat_row(most, all, e + 3 * classes, skip[3]));
    }
    _mm512_storeu_ps(r->rest, short_sums_of_halves(short_sums_of_halves(four[0], four[1]),
                                                   short_sums_of_halves(four[2], four[3])));
}

FL_OUTLINE void short_flat_sums(int classes, const float *e, struct short_rows *r)
{
    if (classes <= FL_LANES)
        short_flat_sums_of(1, classes, e, r);
    else
        short_flat_sums_of(0, classes, e, r);
}

/* e times the shares of their rows: `share` has that of the first row of e, and FL_LANES more behind the last row.
 * The rows of 16 elements are those of the first one, and (phase + j) / classes further. */
FL_OUTLINE void short_flat_scale(int classes, int count, const float *share, const int32_t (*further)[FL_LANES],
                                 const float *e, float *out)
{
    for (int i = 0, phase = 0; i < count; i += FL_LANES) {
        const __m512i row = _mm512_loadu_si512(further[phase]);
        const __m512 of_rows = _mm512_permutexvar_ps(row, _mm512_loadu_ps(share));
        const __m512 product = _mm512_mul_ps(_mm512_loadu_ps(e + i), of_rows);
        if (count - i >= FL_LANES)
            _mm512_storeu_ps(out + i, product);
        else
            _mm512_mask_storeu_ps(out + i, (__mmask16)((1u << (count - i)) - 1), product);
        for (phase += FL_LANES; phase >= classes; phase -= classes) share++;
    }
}
#else
enum { SHORT_IS_FLAT = 0 };
static inline void short_flat_sums(int classes, const float *e, struct short_rows *r)
{
    (void)classes, (void)e, (void)r;
}
static inline void short_flat_scale(int classes, int count, const float *share, const int32_t (*further)[FL_LANES],
                                    const float *e, float *out)
{
    (void)classes, (void)count, (void)share, (void)further, (void)e, (void)out;
}
#endif

/* Whether a job's rows are taken as they lie. */
static int short_is_flat(const struct fl_softmax_job *job)
{
    return SHORT_IS_FLAT && job->operation == FL_CROSS_ENTROPY && job->targets.index &&
           job->targets.smoothing == 0.0 && job->map.softcap == 0.0 && !job->hessian.data && job->rows.classes > 2 &&
           job->rows.classes <= FL_SHORT_ROW && !fl_has_adjacent_rows(&job->rows.input);
}

/* The rows of a group, from `first` on. Elements behind the last row are 0. */
struct short_flat {
    float e[FL_GROUP * FL_LANES + 2 * FL_SHORT_ROW + FL_LANES];
    float copy[FL_GROUP * FL_LANES + FL_LANES]; /* of inputs, if they are of another type or not adjacent */
    float share[FL_GROUP + FL_LANES], skipped[FL_GROUP];
    double loss[FL_GROUP];
    int32_t further[FL_SHORT_ROW][FL_LANES]; /* see short_flat_scale */
    int32_t at[FL_GROUP];                    /* the targets, from the first element of their part on */
    uint8_t is_left[FL_GROUP];               /* to the columns */
    int is_wary;                             /* all rows of the last group were: marks come before exponentials */
};

/* The quotients by a multiplication, which is exact for dividends under 2^16 / FL_SHORT_ROW. */
static void short_flat_start(int classes, struct short_flat *flat)
{
    const int32_t over_classes = 65536 / classes + 1;
    flat->is_wary = 0;
    for (int phase = 0; phase < classes; phase++)
#pragma omp simd
        for (int j = 0; j < FL_LANES; j++) flat->further[phase][j] = ((phase + j) * over_classes) >> 16;
}

/* Whether rows follow each other without gaps. */
static inline int short_is_packed(const struct fl_array *array, ptrdiff_t classes)
{
    ptrdiff_t step = classes * array->itemsize;
    if (array->class_stride != array->itemsize) return 0;
    for (int d = array->ndim - 1; d >= 0; step *= array->shape[d--])
        if (array->stride[d] != step) return 0;
    return 1;
}

static const float *short_flat_in(const struct fl_array *array, struct fl_group group, float *copy)
{
    const ptrdiff_t classes = group.classes, size = array->itemsize;
    if (short_is_packed(array, classes)) {
        const char *p = array->data + group.first * classes * size;
        if (array->dtype == FL_FLOAT32) return (const float *)(const void *)p;
        if (array->dtype == FL_BFLOAT16)
            fl_load_f32(p, 2, FL_BFLOAT16, copy, group.count * classes);
        else
            fl_load_f32(p, 2, FL_FLOAT16, copy, group.count * classes);
    } else {
        for (int l = 0; l < group.count; l++)
            fl_load_f32(fl_row_address(array, group.first + l), array->class_stride, array->dtype, copy + l * classes,
                        classes);
    }
    return copy;
}

static void short_flat_out(const float *x, const struct fl_array *array, struct fl_group group)
{
    const ptrdiff_t classes = group.classes, size = array->itemsize;
    if (short_is_packed(array, classes)) {
        char *p = array->data + group.first * classes * size;
        fl_store_f32(x, p, size, array->dtype, group.count * classes);
    } else {
        for (int l = 0; l < group.count; l++)
            fl_store_f32(x + l * classes, fl_row_address(array, group.first + l), array->class_stride, array->dtype,
                         classes);
    }
}

/* Twice the size of x in bits, which orders numbers by size, with NaN at the end. */
FL_INLINE uint32_t short_size(float x) { return 2 * fl_bits_from_float(x); }

/* The exponentials of x; returns the largest size. */
FL_OUTLINE uint32_t short_flat_exps(const struct short_power *shared, int count, const float *x, float *e)
{
    const struct short_power power = *shared;
    uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
    for (int i = 0; i < count; i++) {
        const uint32_t size = short_size(x[i]);
        e[i] = short_exp(short_parts_of(power, x[i], FL_ROUNDER_F32 + 127.0f));
        largest = size > largest ? size : largest;
    }
    return largest;
}

/* Marks the rows that are left to the columns, and returns their number. */
FL_OUTLINE int short_flat_marked(float limit, struct fl_group group, const float *x, uint8_t *is_left)
{
    int left = 0;
    for (int l = 0; l < group.count; l++) {
        uint32_t largest = 0;
        for (int c = 0; c < group.classes; c++) {
            const uint32_t size = short_size(x[l * group.classes + c]);
            largest = size > largest ? size : largest;
        }
        is_left[l] = largest > short_size(limit);
        left += is_left[l];
    }
    return left;
}

/* The last lane of a part with a row; FL_LANES - 1 or more for a full one. */
static inline int last_of(struct fl_group group, int part) { return group.count - part * FL_LANES - 1; }

/* Steps 3 and 4: the settled rows, whose factors and losses are put aside. */
static void short_flat_settle(const struct fl_softmax_job *job, const struct short_power *power,
                              const struct short_terms *terms, struct fl_group group, const float *x,
                              struct short_flat *flat, struct short_rows *r)
{
    const int classes = group.classes;
    for (int part = 0; part < group.parts; part++) {
        struct short_rows *p = r + part;
        const float *of_part = x + part * FL_LANES * classes;
        const int last = last_of(group, part);
        int32_t *at = flat->at + part * FL_LANES;
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) {
            at[l] = (l < last ? l : last) * classes + p->skip[l];
            p->shift[l] = FL_ROUNDER_F32 + 127.0f;
            p->least[l] = -FLT_MAX;
            p->low[l] = 0.0f;
        }
        for (int l = 0; l < FL_LANES; l++) p->at_skip[l] = of_part[at[l]];
        short_flat_sums(classes, flat->e + part * FL_LANES * classes, p);
        for (int l = last + 1; l < FL_LANES; l++) p->rest[l] = 0.0f;
    }
    short_settle(power, group.parts, r);
    if (short_has_lse(job)) short_lse(power, group.parts, r);
    for (int part = 0; part < group.parts; part++) {
        struct short_rows *p = r + part;
        short_end(job, terms, power->over_temperature, group, part, p);
        memcpy(flat->share + part * FL_LANES, p->share, sizeof p->share);
        memcpy(flat->skipped + part * FL_LANES, p->skipped, sizeof p->skipped);
        for (int l = last_of(group, part) + 1; l < FL_LANES; l++) p->loss[l] = 0.0;
        memcpy(flat->loss + part * FL_LANES, p->loss, sizeof p->loss);
    }
}

/* The results of the rows that are left to the columns, of which x holds the gradients. */
static void short_flat_take(struct fl_group group, const float *x, const struct short_rows *r,
                            struct short_flat *flat)
{
    for (int l = 0; l < group.count; l++) {
        const int part = l / FL_LANES, lane = l % FL_LANES;
        if (!flat->is_left[l]) continue;
        flat->loss[l] = r[part].loss[lane];
        for (int c = 0; c < group.classes; c++)
            flat->e[l * group.classes + c] = x[part * group.step + c * FL_LANES + lane];
    }
}

/* Step 5, to e or to the output itself. */
static void short_flat_finish(struct fl_group group, const struct short_flat *flat, float *out)
{
    const int classes = group.classes;
    short_flat_scale(classes, group.count * classes, flat->share, (const int32_t (*)[FL_LANES])flat->further, flat->e,
                     out);
    for (int part = 0; part < group.parts; part++, out += FL_LANES * classes) {
        const int32_t *at = flat->at + part * FL_LANES;
        const float *skipped = flat->skipped + part * FL_LANES;
        for (int l = 0; l < FL_LANES && l <= last_of(group, part); l++) out[at[l]] = skipped[l];
    }
}

/* Where the output of a group may be written as it is made; else NULL. */
static inline float *short_flat_place(const struct fl_rows *rows, struct fl_group group)
{
    const struct fl_array *output = &rows->output;
    if (rows->accumulate || output->dtype != FL_FLOAT32 || !short_is_packed(output, group.classes)) return NULL;
    return (float *)(void *)output->data + group.first * group.classes;
}

/* Writes a group, past the caches where the job says so. */
static void short_flat_write(const struct fl_rows *rows, struct fl_group group, float *x, float *copy)
{
    const struct fl_array *output = &rows->output;
    const int count = group.count * group.classes;
    if (rows->accumulate) {
        const float *before = short_flat_in(output, group, copy);
        for (int i = 0; i < count; i++) x[i] += before[i];
    }
    if (rows->stream && short_is_packed(output, group.classes)) {
        const char *from = (const char *)(output->dtype == FL_FLOAT32 ? x : copy);
        if (output->dtype != FL_FLOAT32) fl_store_f32(x, (char *)copy, output->itemsize, output->dtype, count);
        fl_stream(fl_row_address(output, group.first), from, count * output->itemsize);
        return;
    }
    short_flat_out(x, output, group);
}

#endif
