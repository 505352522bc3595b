/* Strips of 64 elements, in registers or in the first-level cache: reading the storage types, and writing them, past
 * the caches too. Half types are converted here, 16 at a time, with instructions of 512 bits where plain C has become
 * two halves. */
#ifndef FASTLOSS_STRIPS_H
#define FASTLOSS_STRIPS_H

#include "storage.h"

enum { FL_STRIP = 64, FL_STEP = 16 };

/* Of fused.h: the elements from which the shift of a row follows, and the largest excess over their maximum. */
enum { FL_FIRST = 256, FL_HEADROOM = 40 };
/* Bytes by which reading is ahead. (Measured with the same loop on another day: none 16.0 ms, 512 14.5, 1024 13.3,
 * 2048 12.7, 4096 13.0.) */
enum { FL_AHEAD = 2048 };
/* The mass of the classes other than the target: none; none, of a log-softmax, which needs the input again; none,
 * with a hessian; none, with a softcap; the same for each; by class weights; by probabilities. */
enum { FL_NO_MASS, FL_LOGS, FL_CURVED, FL_CAPPED, FL_EVEN, FL_WEIGHTED, FL_GIVEN };

FL_INLINE ptrdiff_t fl_itemsize(int dtype) { return dtype == FL_FLOAT64 ? 8 : dtype == FL_FLOAT32 ? 4 : 2; }

/* Prefetches the strip that is FL_AHEAD behind a strip. */
FL_INLINE void fl_prefetch_ahead(const char *strip, ptrdiff_t itemsize)
{
    fl_prefetch_to_read(strip + FL_AHEAD, FL_STRIP * itemsize);
}

/* A strip of contiguous half types as floats. */
FL_INLINE void fl_strip_in_f32(const char *p, int dtype, float *out)
{
    const uint16_t *h = (const uint16_t *)(const void *)p;
    if (dtype == FL_FLOAT16) {
#ifdef __AVX512F__
        for (int k = 0; k < FL_STRIP; k += FL_STEP)
            _mm512_storeu_ps(out + k, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(h + k))));
#else
        fl_halves_to_floats(h, out, FL_STRIP);
#endif
        return;
    }
    for (int k = 0; k < FL_STRIP; k += FL_STEP) {
#if defined(__AVX512F__)
        const __m256i bits = _mm256_loadu_si256((const __m256i *)(const void *)(h + k));
        _mm512_storeu_ps(out + k, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)));
#else
#pragma omp simd
        for (int l = 0; l < FL_STEP; l++) out[k + l] = fl_float_from_bfloat16(h[k + l]);
#endif
    }
}

/* No half type is computed in double. */
FL_INLINE void fl_strip_in_f64(const char *p, int dtype, double *out)
{
    fl_load_f64(p, dtype == FL_FLOAT64 ? 8 : 2, dtype, out, FL_STRIP);
}

/* Writes n bytes (a multiple of 16), past the caches if asked; then `to` is aligned to n, or to 64 bytes. */
FL_INLINE void fl_bytes_out(char *to, const void *from, int n, int stream)
{
#if defined(__SSE2__)
    if (stream) {
#ifdef __AVX512F__
        if (n % 64 == 0) {
            for (int i = 0; i < n; i += 64)
                _mm512_stream_si512((void *)(to + i), _mm512_loadu_si512((const char *)from + i));
            return;
        }
#endif
#ifdef __AVX2__
        for (int i = 0; i < n; i += 32)
            _mm256_stream_si256((__m256i *)(void *)(to + i),
                                _mm256_loadu_si256((const __m256i *)(const void *)((const char *)from + i)));
#else
        for (int i = 0; i < n; i += 16)
            _mm_stream_si128((__m128i *)(void *)(to + i),
                             _mm_loadu_si128((const __m128i *)(const void *)((const char *)from + i)));
#endif
        return;
    }
#else
    (void)stream;
#endif
    memcpy(to, from, (size_t)n);
}

/* The instruction of AVX512-BF16. The flags of the level do not include it, so it is written in assembly. */
#if defined(__AVX512F__) && defined(__GNUC__)
#define FL_HAS_ROUNDING 1
FL_INLINE __m256i fl_rounded_to_bfloat16(__m512 x)
{
    __m256i h;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(h) : "v"(x));
    return h;
}
#else
#define FL_HAS_ROUNDING 0
#endif

/* Writes a step of finite floats. by_instruction: see fl_uses_bfloat16; then no value is subnormal. (Measured in
 * cache, cross-entropy with its gradient: an eighth less time.) */
FL_INLINE void fl_step_out_f32(const float *x, char *to, int dtype, int stream, int by_instruction)
{
    uint16_t h[FL_STEP];
    (void)by_instruction;
    if (dtype == FL_FLOAT32) {
        fl_bytes_out(to, x, FL_STEP * 4, stream);
        return;
    }
    if (dtype == FL_FLOAT16) {
#ifdef __AVX512F__
        _mm256_storeu_si256((__m256i *)(void *)h, _mm512_cvtps_ph(_mm512_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
#else
        fl_floats_to_halves(x, h, FL_STEP);
#endif
    } else {
#if FL_HAS_ROUNDING
        if (by_instruction) {
            _mm256_storeu_si256((__m256i *)(void *)h, fl_rounded_to_bfloat16(_mm512_loadu_ps(x)));
            fl_bytes_out(to, h, FL_STEP * 2, stream);
            return;
        }
#endif
#if defined(__AVX512F__)
        const __m512i bits = _mm512_castps_si512(_mm512_loadu_ps(x)), high = _mm512_srli_epi32(bits, 16);
        const __m512i tie = _mm512_add_epi32(_mm512_and_epi32(high, _mm512_set1_epi32(1)), _mm512_set1_epi32(0x7fff));
        _mm256_storeu_si256((__m256i *)(void *)h,
                            _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(bits, tie), 16)));
#else
#pragma omp simd
        for (int l = 0; l < FL_STEP; l++) {
            const uint32_t bits = fl_bits_from_float(x[l]);
            h[l] = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
        }
#endif
    }
    fl_bytes_out(to, h, FL_STEP * 2, stream);
}

FL_INLINE void fl_step_out_f64(const double *x, char *to, int dtype, int stream, int by_instruction)
{
    (void)dtype, (void)by_instruction;
    fl_bytes_out(to, x, FL_STEP * 8, stream);
}

#endif
