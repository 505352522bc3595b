/* Short rows that repeat numbers: each of a sequence as often as a row has elements, such as the target of several
 * quantiles, or the same numbers in every row, such as the quantiles. Permutations of a vector take a third of the
 * time of a store for each row (measured for rows of 7). */
#ifndef FASTLOSS_REPEATS_H
#define FASTLOSS_REPEATS_H

#include "vecmath.h"

enum { FL_REPEATED = 16 };

#ifdef __AVX512F__

/* Whether fl_repeat_each and fl_repeat_all take rows of so many elements. */
FL_INLINE int fl_repeats_rows(ptrdiff_t inner) { return inner > 1 && inner <= FL_REPEATED; }

/* The quotient of an element and the length of rows; exact under 32. (A division takes longer than all the rest.) */
FL_INLINE uint32_t fl_over_length(ptrdiff_t inner) { return (uint32_t)((65536 + inner - 1) / inner); }
FL_INLINE uint32_t fl_row_of(uint32_t element, uint32_t over_length) { return element * over_length >> 16; }

/* The elements from `phase` on, and their rows. */
FL_INLINE __m512i fl_elements_from(uint32_t phase)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(lanes, _mm512_set1_epi32((int)phase));
}

FL_INLINE __m512i fl_rows_of(__m512i elements, uint32_t over_length)
{
    return _mm512_srli_epi32(_mm512_mullo_epi32(elements, _mm512_set1_epi32((int)over_length)), 16);
}

/* The element of a row at which the next vector begins. Returns whether it is in one row more than whole rows would
 * be. */
FL_INLINE int fl_moves_on(uint32_t *from, ptrdiff_t inner)
{
    const uint32_t next = *from + FL_REPEATED % (uint32_t)inner;
    const int is_beyond = next >= (uint32_t)inner;
    *from = is_beyond ? next - (uint32_t)inner : next;
    return is_beyond;
}

/* n elements from element `phase` of the first row on, all of them equal to the number of their row. The buffer has
 * room for whole vectors. No number of a later row is read. */
FL_INLINE void fl_repeat_each(const float *number, ptrdiff_t phase, ptrdiff_t inner, ptrdiff_t n, float *buffer)
{
    const uint32_t over_length = fl_over_length(inner);
    uint32_t from = (uint32_t)phase;
    for (ptrdiff_t i = 0; i < n; i += FL_REPEATED) {
        const uint32_t some = n - i < FL_REPEATED ? (uint32_t)(n - i) : FL_REPEATED;
        const __mmask16 read = (__mmask16)((2u << fl_row_of(from + some - 1, over_length)) - 1u);
        const __m512i rows = fl_rows_of(fl_elements_from(from), over_length);
        _mm512_storeu_ps(buffer + i, _mm512_permutexvar_ps(rows, _mm512_maskz_loadu_ps(read, number)));
        number += FL_REPEATED / inner + fl_moves_on(&from, inner);
    }
}

/* n elements from element `phase` of a row on; each row is `row`. */
FL_INLINE void fl_repeat_all(const float *row, ptrdiff_t phase, ptrdiff_t inner, ptrdiff_t n, float *buffer)
{
    const __m512 values = _mm512_maskz_loadu_ps((__mmask16)((1u << inner) - 1u), row);
    const __m512i length = _mm512_set1_epi32((int)inner);
    const uint32_t over_length = fl_over_length(inner);
    uint32_t from = (uint32_t)phase;
    for (ptrdiff_t i = 0; i < n; i += FL_REPEATED) {
        const __m512i elements = fl_elements_from(from), rows = fl_rows_of(elements, over_length);
        const __m512i place = _mm512_sub_epi32(elements, _mm512_mullo_epi32(rows, length));
        _mm512_storeu_ps(buffer + i, _mm512_permutexvar_ps(place, values));
        fl_moves_on(&from, inner);
    }
}

#else

FL_INLINE int fl_repeats_rows(ptrdiff_t inner)
{
    (void)inner;
    return 0;
}

FL_INLINE void fl_repeat_each(const float *number, ptrdiff_t phase, ptrdiff_t inner, ptrdiff_t n, float *buffer)
{
    (void)number, (void)phase, (void)inner, (void)n, (void)buffer;
}

FL_INLINE void fl_repeat_all(const float *row, ptrdiff_t phase, ptrdiff_t inner, ptrdiff_t n, float *buffer)
{
    (void)row, (void)phase, (void)inner, (void)n, (void)buffer;
}

#endif
#endif
