/* Groups of short rows between memory and columns.
 *
 * A group is up to FL_GROUP rows, in parts of FL_LANES. Column c of a part holds class c of its rows, a row in each
 * lane, so that loops over lanes are the vector loops of the kernels. Lanes without a row repeat the last row.
 *
 * Rows whose classes are adjacent are transposed in squares of four classes. The four classes of the rows l, l + 4,
 * l + 8, l + 12 fill the quarters of a vector, and four such vectors are transposed, quarter by quarter. The last
 * square overlaps the one before. With AVX-512 this is a third of the instructions of squares of four rows. */
#ifndef FASTLOSS_SQUARES_H
#define FASTLOSS_SQUARES_H

#include "storage.h"

enum { FL_GROUP = 64, FL_PARTS = FL_GROUP / FL_LANES };

#ifdef __SSE2__
#if defined(__AVX512F__)
typedef __m512 fl_wide;
#define FL_WIDE(name) _mm512_##name
#elif defined(__AVX2__)
typedef __m256 fl_wide;
#define FL_WIDE(name) _mm256_##name
#else
typedef __m128 fl_wide;
#define FL_WIDE(name) _mm_##name
#endif
enum { FL_QUARTERS = sizeof(fl_wide) / 16 };

static inline __m128i fl_load_64(const char *p) { return _mm_loadl_epi64((const __m128i *)(const void *)p); }

static inline __m128i fl_load_2x64(const char *low, const char *high)
{
    return _mm_unpacklo_epi64(fl_load_64(low), fl_load_64(high));
}

/* Four elements of every fourth row from p; `four` and `twelve` are bytes of so many rows. */
FL_INLINE fl_wide fl_wide_of(const char *p, ptrdiff_t four, ptrdiff_t twelve, int dtype)
{
    (void)four, (void)twelve;
    if (dtype == FL_FLOAT32) {
        const __m128 first = _mm_loadu_ps((const float *)(const void *)(p));
#if defined(__AVX512F__)
        __m512 wide = _mm512_castps128_ps512(first);
        wide = _mm512_mask_broadcast_f32x4(wide, 0x00f0, _mm_loadu_ps((const float *)(const void *)(p + four)));
        wide = _mm512_mask_broadcast_f32x4(wide, 0x0f00, _mm_loadu_ps((const float *)(const void *)(p + 2 * four)));
        return _mm512_mask_broadcast_f32x4(wide, 0xf000, _mm_loadu_ps((const float *)(const void *)(p + twelve)));
#elif defined(__AVX2__)
        const __m128 second = _mm_loadu_ps((const float *)(const void *)(p + four));
        return _mm256_insertf128_ps(_mm256_castps128_ps256(first), second, 1);
#else
        return first;
#endif
    } else {
#if defined(__AVX512F__)
        const __m128i low = fl_load_2x64(p, p + four);
        const __m256i h =
            _mm256_inserti128_si256(_mm256_castsi128_si256(low), fl_load_2x64(p + 2 * four, p + twelve), 1);
        if (dtype == FL_FLOAT16) return _mm512_cvtph_ps(h);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
#elif defined(__AVX2__)
        const __m128i h = fl_load_2x64(p, p + four);
        if (dtype == FL_FLOAT16) return _mm256_cvtph_ps(h);
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
#else
        return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), fl_load_64(p)));
#endif
    }
}

static inline void fl_store_2x64(__m128i value, char *low, char *high)
{
    _mm_storel_epi64((__m128i *)(void *)low, value);
    _mm_storeh_pd((double *)(void *)high, _mm_castsi128_pd(value));
}

FL_INLINE void fl_wide_to(fl_wide wide, char *p, ptrdiff_t four, ptrdiff_t twelve, int dtype)
{
    (void)four, (void)twelve;
    if (dtype == FL_FLOAT32) {
#if defined(__AVX512F__)
        _mm_storeu_ps((float *)(void *)(p), _mm512_castps512_ps128(wide));
        _mm_storeu_ps((float *)(void *)(p + four), _mm512_extractf32x4_ps(wide, 1));
        _mm_storeu_ps((float *)(void *)(p + 2 * four), _mm512_extractf32x4_ps(wide, 2));
        _mm_storeu_ps((float *)(void *)(p + twelve), _mm512_extractf32x4_ps(wide, 3));
#elif defined(__AVX2__)
        _mm_storeu_ps((float *)(void *)(p), _mm256_castps256_ps128(wide));
        _mm_storeu_ps((float *)(void *)(p + four), _mm256_extractf128_ps(wide, 1));
#else
        _mm_storeu_ps((float *)(void *)(p), wide);
#endif
    } else {
        float values[4 * FL_QUARTERS];
        uint16_t h[4 * FL_QUARTERS];
        FL_WIDE(storeu_ps)(values, wide);
        fl_store_f32(values, (char *)h, 2, dtype, 4 * FL_QUARTERS);
        for (int k = 0; k < FL_QUARTERS; k++) memcpy(p + k * four, h + 4 * k, 8);
    }
}

static inline void fl_transpose_quarters(fl_wide r[4])
{
#define FL_PAIRS(half, a, b) FL_WIDE(castpd_ps)(FL_WIDE(half##_pd)(FL_WIDE(castps_pd)(a), FL_WIDE(castps_pd)(b)))
    const fl_wide a = FL_WIDE(unpacklo_ps)(r[0], r[1]), b = FL_WIDE(unpackhi_ps)(r[0], r[1]);
    const fl_wide c = FL_WIDE(unpacklo_ps)(r[2], r[3]), d = FL_WIDE(unpackhi_ps)(r[2], r[3]);
    r[0] = FL_PAIRS(unpacklo, a, c);
    r[1] = FL_PAIRS(unpackhi, a, c);
    r[2] = FL_PAIRS(unpacklo, b, d);
    r[3] = FL_PAIRS(unpackhi, b, d);
#undef FL_PAIRS
}

/* Whether squares of this type are transposed. */
static inline int fl_has_squares(int dtype)
{
#ifdef __F16C__
    return dtype != FL_FLOAT64;
#else
    return dtype == FL_FLOAT32 || dtype == FL_BFLOAT16;
#endif
}

FL_INLINE void fl_squares_in(const char *p, ptrdiff_t stride, int dtype, int classes, float *columns)
{
    const ptrdiff_t size = dtype == FL_FLOAT32 ? 4 : 2, four = 4 * stride, twelve = 12 * stride;
    for (int c = 0;; c = c + 8 <= classes ? c + 4 : classes - 4) {
        const char *square = p + c * size;
        for (int l = 0; l < FL_LANES; l += 4 * FL_QUARTERS, square += FL_QUARTERS * four) {
            fl_wide r[4];
            for (int j = 0; j < 4; j++) r[j] = fl_wide_of(square + j * stride, four, twelve, dtype);
            fl_transpose_quarters(r);
            for (int j = 0; j < 4; j++) FL_WIDE(storeu_ps)(columns + (c + j) * FL_LANES + l, r[j]);
        }
        if (c + 4 == classes) return;
    }
}

FL_INLINE void fl_squares_out(const float *columns, char *p, ptrdiff_t stride, int dtype, int classes)
{
    const ptrdiff_t size = dtype == FL_FLOAT32 ? 4 : 2, four = 4 * stride, twelve = 12 * stride;
    for (int c = 0;; c = c + 8 <= classes ? c + 4 : classes - 4) {
        char *square = p + c * size;
        for (int l = 0; l < FL_LANES; l += 4 * FL_QUARTERS, square += FL_QUARTERS * four) {
            fl_wide r[4];
            for (int j = 0; j < 4; j++) r[j] = FL_WIDE(loadu_ps)(columns + (c + j) * FL_LANES + l);
            fl_transpose_quarters(r);
            for (int j = 0; j < 4; j++) fl_wide_to(r[j], square + j * stride, four, twelve, dtype);
        }
        if (c + 4 == classes) return;
    }
}
#else
static inline int fl_has_squares(int dtype) { return (void)dtype, 0; }
static inline void fl_squares_in(const char *p, ptrdiff_t stride, int dtype, int classes, float *columns)
{
    (void)p, (void)stride, (void)dtype, (void)classes, (void)columns;
}
static inline void fl_squares_out(const float *columns, char *p, ptrdiff_t stride, int dtype, int classes)
{
    (void)columns, (void)p, (void)stride, (void)dtype, (void)classes;
}
#endif

/* FL_LANES rows of `classes` (a constant for the compiler) adjacent elements, and themselves adjacent. */
FL_INLINE void fl_packed_in(const float *x, int classes, float *columns)
{
    for (int c = 0; c < classes; c++)
#pragma omp simd
        for (int l = 0; l < FL_LANES; l++) columns[c * FL_LANES + l] = x[l * classes + c];
}

FL_INLINE void fl_packed_out(const float *columns, int classes, float *x)
{
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++)
        for (int c = 0; c < classes; c++) x[l * classes + c] = columns[c * FL_LANES + l];
}

/* Rows first .. first + count - 1. In 16 bytes, so that it is passed in registers. (Measured for two classes, when it
 * had 24 and was copied to the stack for each call: a tenth of the time.) */
struct fl_group {
    ptrdiff_t first;
    int16_t count, parts, classes;
    int16_t step; /* elements of a part: its columns, filled up to a multiple of four */
};

/* Rows of a group: fewer of many classes, so that its columns and its rows stay in the first-level cache. */
static inline int fl_rows_of_group(ptrdiff_t classes) { return classes <= FL_LANES ? FL_GROUP : FL_LANES; }

/* The group of rows from `first` on, before `end`. */
static inline struct fl_group fl_group_of(ptrdiff_t first, ptrdiff_t end, ptrdiff_t classes)
{
    const ptrdiff_t rows = fl_rows_of_group(classes), left = end - first;
    const int count = (int)(left < rows ? left : rows), step = ((int)classes + 3) / 4 * 4 * FL_LANES;
    const int parts = (count + FL_LANES - 1) / FL_LANES;
    const struct fl_group group = {first, (int16_t)count, (int16_t)parts, (int16_t)classes, (int16_t)step};
    return group;
}

static inline int fl_is_full(struct fl_group group) { return group.count == group.parts * FL_LANES; }

/* The row in a lane. */
static inline ptrdiff_t fl_row_of_lane(struct fl_group group, int lane)
{
    return group.first + (lane < group.count ? lane : group.count - 1);
}

/* Whether all lanes are adjacent in memory (a class axis that is not the last). */
static inline int fl_is_adjacent(const struct fl_array *array, struct fl_group group)
{
    const int inner = array->ndim - 1;
    return inner >= 0 && fl_is_full(group) && array->stride[inner] == array->itemsize &&
           group.first % array->shape[inner] + group.count <= array->shape[inner];
}

/* FL_LANES rows with adjacent classes, `stride` apart. */
static void fl_part_in(const char *p, ptrdiff_t stride, int dtype, int classes, float *columns)
{
    const ptrdiff_t size = dtype == FL_FLOAT32 ? 4 : 2;
    if ((classes == 2 || classes == 3) && stride == classes * size) {
        float copy[3 * FL_LANES];
        const float *x = dtype == FL_FLOAT32 ? (const float *)(const void *)p : copy;
        if (x == copy) fl_load_f32(p, size, dtype, copy, classes * FL_LANES);
        if (classes == 2)
            fl_packed_in(x, 2, columns);
        else
            fl_packed_in(x, 3, columns);
    } else if (classes < 4 || !fl_has_squares(dtype)) {
        for (int l = 0; l < FL_LANES; l++)
            for (int c = 0; c < classes; c++)
                columns[c * FL_LANES + l] = fl_load_scalar_f32(p + l * stride + c * size, dtype);
    } else if (dtype == FL_FLOAT32) {
        fl_squares_in(p, stride, FL_FLOAT32, classes, columns);
    } else if (dtype == FL_BFLOAT16) {
        fl_squares_in(p, stride, FL_BFLOAT16, classes, columns);
    } else {
        fl_squares_in(p, stride, FL_FLOAT16, classes, columns);
    }
}

static void fl_part_out(const float *columns, char *p, ptrdiff_t stride, int dtype, int classes)
{
    const ptrdiff_t size = dtype == FL_FLOAT32 ? 4 : 2;
    if ((classes == 2 || classes == 3) && stride == classes * size) {
        float copy[3 * FL_LANES], *x = dtype == FL_FLOAT32 ? (float *)(void *)p : copy;
        if (classes == 2)
            fl_packed_out(columns, 2, x);
        else
            fl_packed_out(columns, 3, x);
        if (x == copy) fl_store_f32(copy, p, size, dtype, classes * FL_LANES);
    } else if (classes < 4 || !fl_has_squares(dtype)) {
        for (int l = 0; l < FL_LANES; l++)
            for (int c = 0; c < classes; c++)
                fl_store_scalar_f32(p + l * stride + c * size, dtype, columns[c * FL_LANES + l]);
    } else if (dtype == FL_FLOAT32) {
        fl_squares_out(columns, p, stride, FL_FLOAT32, classes);
    } else if (dtype == FL_BFLOAT16) {
        fl_squares_out(columns, p, stride, FL_BFLOAT16, classes);
    } else {
        fl_squares_out(columns, p, stride, FL_FLOAT16, classes);
    }
}

/* The address of a part whose rows are full, equally spaced and have adjacent classes; else NULL. Other parts are
 * copied to such a place, or from it. */
static inline char *fl_regular_part(const struct fl_array *array, struct fl_group group, int part)
{
    const ptrdiff_t row = group.first + part * FL_LANES;
    const int inner = array->ndim - 1;
    if ((part + 1) * FL_LANES > group.count || array->class_stride != array->itemsize || inner < 0) return NULL;
    if (inner == 0) return array->data + row * array->stride[0];
    return row % array->shape[inner] + FL_LANES <= array->shape[inner] ? fl_row_address(array, row) : NULL;
}

/* A row of an array from or to adjacent elements. */
static inline void fl_copy_row(char *to, ptrdiff_t to_stride, const char *from, ptrdiff_t from_stride, ptrdiff_t size,
                               int classes)
{
    for (int c = 0; c < classes; c++, to += to_stride, from += from_stride)
        if (size == 4)
            memcpy(to, from, 4);
        else
            memcpy(to, from, 2);
}

/* Adjacent rows of a group from p on, and the way back. The type is a constant for the compiler. (Measured with a
 * choice for each vector: 16 % more time.) */
FL_INLINE void fl_adjacent_in(const char *p, ptrdiff_t stride, int dtype, struct fl_group group, float *columns)
{
    const ptrdiff_t size = dtype == FL_FLOAT32 ? 4 : 2;
    for (int c = 0; c < group.classes; c++, p += stride)
        for (int part = 0; part < group.parts; part++)
            fl_load_f32(p + part * FL_LANES * size, size, dtype, columns + part * group.step + c * FL_LANES,
                        FL_LANES);
}

FL_INLINE void fl_adjacent_out(const float *columns, char *p, ptrdiff_t stride, int dtype, struct fl_group group)
{
    const ptrdiff_t size = dtype == FL_FLOAT32 ? 4 : 2;
    for (int c = 0; c < group.classes; c++, p += stride)
        for (int part = 0; part < group.parts; part++)
            fl_store_f32(columns + part * group.step + c * FL_LANES, p + part * FL_LANES * size, size, dtype,
                         FL_LANES);
}

/* The rows of a group as columns of float; and the way back. */
FL_OUTLINE void fl_columns_in(const struct fl_array *array, struct fl_group group, float *columns)
{
    const ptrdiff_t stride = array->class_stride, size = array->itemsize;
    const int dtype = array->dtype, classes = group.classes;
    if (fl_is_adjacent(array, group)) {
        const char *p = fl_row_address(array, group.first);
        if (dtype == FL_FLOAT32)
            fl_adjacent_in(p, stride, FL_FLOAT32, group, columns);
        else if (dtype == FL_BFLOAT16)
            fl_adjacent_in(p, stride, FL_BFLOAT16, group, columns);
        else
            fl_adjacent_in(p, stride, FL_FLOAT16, group, columns);
        return;
    }
    for (int part = 0; part < group.parts; part++, columns += group.step) {
        const char *regular = fl_regular_part(array, group, part);
        char copy[FL_LANES * FL_SHORT_ROW * sizeof(float)];
        if (regular) {
            fl_part_in(regular, array->stride[array->ndim - 1], dtype, classes, columns);
            continue;
        }
        for (int c = 0; c < classes; c += FL_SHORT_ROW) {
            const int some = classes - c < FL_SHORT_ROW ? classes - c : (int)FL_SHORT_ROW;
            for (int l = 0; l < FL_LANES; l++)
                fl_copy_row(copy + l * some * size, size,
                            fl_row_address(array, fl_row_of_lane(group, part * FL_LANES + l)) + c * stride, stride,
                            size, some);
            fl_part_in(copy, some * size, dtype, some, columns + c * FL_LANES);
        }
    }
}

FL_OUTLINE void fl_columns_out(const float *columns, const struct fl_array *array, struct fl_group group)
{
    const ptrdiff_t stride = array->class_stride, size = array->itemsize;
    const int dtype = array->dtype, classes = group.classes;
    if (fl_is_adjacent(array, group)) {
        char *p = fl_row_address(array, group.first);
        if (dtype == FL_FLOAT32)
            fl_adjacent_out(columns, p, stride, FL_FLOAT32, group);
        else if (dtype == FL_BFLOAT16)
            fl_adjacent_out(columns, p, stride, FL_BFLOAT16, group);
        else
            fl_adjacent_out(columns, p, stride, FL_FLOAT16, group);
        return;
    }
    for (int part = 0; part < group.parts; part++, columns += group.step) {
        const int count = group.count - part * FL_LANES;
        char *regular = fl_regular_part(array, group, part);
        char copy[FL_LANES * FL_SHORT_ROW * sizeof(float)];
        if (regular && classes * size < 128) {
            fl_part_out(columns, regular, array->stride[array->ndim - 1], dtype, classes);
            continue;
        }
        /* Longer rows, too, so that they are written line by line. (Measured once, outside the cache, 64 classes:
         * 0.85 of the time.) */
        for (int c = 0; c < classes; c += FL_SHORT_ROW) {
            const int some = classes - c < FL_SHORT_ROW ? classes - c : (int)FL_SHORT_ROW;
            fl_part_out(columns + c * FL_LANES, copy, some * size, dtype, some);
            if (some == classes && regular && array->stride[array->ndim - 1] == classes * size) {
                memcpy(regular, copy, (size_t)(FL_LANES * classes * size));
                break;
            }
            for (int l = 0; l < FL_LANES && l < count; l++) {
                char *p = fl_row_address(array, group.first + part * FL_LANES + l) + c * stride;
                if (stride == size)
                    memcpy(p, copy + l * some * size, (size_t)(some * size));
                else
                    fl_copy_row(p, stride, copy + l * some * size, size, size, some);
            }
        }
    }
}

#endif
