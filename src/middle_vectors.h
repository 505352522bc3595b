/* Loops over rows of more than FL_SHORT_ROW classes as they lie, with AVX-512: see middle_rows.h. */
#ifndef FASTLOSS_MIDDLE_VECTORS_H
#define FASTLOSS_MIDDLE_VECTORS_H

#include "short_flat.h"

#ifdef __AVX512F__
FL_INLINE __m512 middle_float(__m512d low, __m512d high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}

/* The sixteen sums of a row of more than FL_SHORT_ROW classes, as in short_quarter. */
FL_INLINE __m512 middle_sum(int classes, const float *e)
{
    __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
    for (int first = 0; first < classes; first += FL_SHORT_ROW, e += FL_SHORT_ROW) {
        const int some = classes - first < FL_SHORT_ROW ? classes - first : (int)FL_SHORT_ROW;
        const uint64_t kept = some < 64 ? ((uint64_t)1 << some) - 1 : ~(uint64_t)0;
        __m512 sum = _mm512_maskz_loadu_ps((__mmask16)kept, e);
        for (int c = FL_LANES; c < FL_SHORT_ROW; c += FL_LANES)
            sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps((__mmask16)(kept >> c), e + c));
        low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(sum)));
        high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(sum, 1)));
    }
    return middle_float(low, high);
}

/* Those of `count` rows; the others are copies of the last. */
FL_OUTLINE void middle_sums(int classes, int count, const float *e, float sums[FL_LANES])
{
    const ptrdiff_t last = count - 1;
    __m512 four[4];
    for (int k = 0; k < 4; k++) {
        __m512 of_row[4];
        for (int l = 0; l < 4; l++)
            of_row[l] = middle_sum(classes, e + (4 * k + l < last ? 4 * k + l : last) * classes);
        four[k] = short_sums_of_four(of_row[0], of_row[1], of_row[2], of_row[3]);
    }
    _mm512_storeu_ps(
        sums, short_sums_of_halves(short_sums_of_halves(four[0], four[1]), short_sums_of_halves(four[2], four[3])));
}

/* The sum of a row of more than FL_SHORT_ROW classes. */
FL_INLINE float middle_total(int classes, const float *e)
{
    float sums[FL_LANES];
    _mm512_storeu_ps(sums, middle_sum(classes, e));
    return FL_TREE_16(sums);
}

/* The hessians of up to FL_LANES rows from their exponentials, which are 0 at skip: see short_hessian. */
FL_OUTLINE void middle_hessian(int classes, int count, float *e, const struct short_rows *r, float *h)
{
    const __m512 half = _mm512_set1_ps(0.5f), one = _mm512_set1_ps(1.0f);
    float at_skip[FL_LANES];
#pragma omp simd
    for (int l = 0; l < FL_LANES; l++)
        at_skip[l] = short_curvature(r->t[l] * r->over_total[l], r->unlikely[l], r->curve[l], r->bend[l]);
    for (int l = 0; l < count; l++, e += classes, h += classes) {
        const __m512 over_total = _mm512_set1_ps(r->over_total[l]), curve = _mm512_set1_ps(r->curve[l]);
        const __m512 bend = _mm512_set1_ps(r->bend[l]);
        int top = -1;
        for (int c = 0; c < classes; c += FL_LANES) {
            const int some = classes - c < FL_LANES ? classes - c : (int)FL_LANES;
            const __mmask16 kept = (__mmask16)((1u << some) - 1);
            const __m512 p = _mm512_mul_ps(_mm512_maskz_loadu_ps(kept, e + c), over_total);
            const __m512 up = _mm512_mul_ps(_mm512_mul_ps(curve, p), _mm512_sub_ps(one, p));
            const __m512 down = _mm512_mul_ps(_mm512_mul_ps(bend, p), p);
            if (_mm512_cmp_ps_mask(p, half, _CMP_GT_OQ)) top = c;
            _mm512_mask_storeu_ps(h + c, kept, _mm512_add_ps(up, down));
        }
        for (; top >= 0; top++) {
            const float largest = e[top], p = largest * r->over_total[l];
            if (!(p > 0.5f)) continue;
            e[top] = 0.0f;
            h[top] =
                short_curvature(p, (middle_total(classes, e) + r->t[l]) * r->over_total[l], r->curve[l], r->bend[l]);
            e[top] = largest;
            break;
        }
        h[r->skip[l]] = at_skip[l];
    }
}

/* The maximum of a row of more than FL_SHORT_ROW classes, without NaN. Four vectors, because each step depends on the
 * result of the previous one. */
FL_OUTLINE float middle_top(int classes, const float *x)
{
    __m512 top[4];
    int c = 0;
    for (int k = 0; k < 4; k++) top[k] = _mm512_loadu_ps(x + k * FL_LANES);
    for (; c + 4 * FL_LANES <= classes; c += 4 * FL_LANES)
        for (int k = 0; k < 4; k++) top[k] = _mm512_max_ps(_mm512_loadu_ps(x + c + k * FL_LANES), top[k]);
    for (; c < classes; c += FL_LANES) {
        const int last = classes - FL_LANES;
        top[0] = _mm512_max_ps(_mm512_loadu_ps(x + (c < last ? c : last)), top[0]);
    }
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])));
}

/* The first class of such a row that equals top, or 0. */
FL_OUTLINE int middle_first(int classes, const float *x, float top)
{
    const __m512 wanted = _mm512_set1_ps(top);
    for (int c = 0; c < classes; c += FL_LANES) {
        const int first = c < classes - FL_LANES ? c : classes - FL_LANES;
        unsigned mask = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + first), wanted, _CMP_EQ_OQ);
        for (int k = first; mask; k++, mask >>= 1)
            if (mask & 1) return k;
    }
    return 0;
}

/* Whether an exponential counts: not below r->least. */
FL_INLINE __m512 middle_kept(__m512 e, __m512 least)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(e, least, _CMP_NLT_UQ), e);
}

/* Exponentials times the shares of their rows; odd rows are gradients already. */
FL_OUTLINE void middle_scale(int classes, int count, const struct short_rows *r, const float *e, float *out)
{
    const __mmask16 last = (__mmask16)((1u << (classes % FL_LANES)) - 1);
    for (int l = 0; l < count; l++, e += classes, out += classes) {
        const __m512 share = _mm512_set1_ps(r->share[l]), least = _mm512_set1_ps(r->least[l]);
        int c = 0;
        if (r->odd[l]) {
            memmove(out, e, (size_t)classes * sizeof(float));
            continue;
        }
        for (; c + FL_LANES <= classes; c += FL_LANES)
            _mm512_storeu_ps(out + c, _mm512_mul_ps(middle_kept(_mm512_loadu_ps(e + c), least), share));
        const __m512 rest = _mm512_maskz_loadu_ps(last, e + c);
        _mm512_mask_storeu_ps(out + c, last, _mm512_mul_ps(middle_kept(rest, least), share));
    }
}

/* Sixteen class weights, or fewer. */
FL_INLINE void middle_weights(const double *weights, int count, __m512d of_halves[2])
{
    const uint32_t kept = (1u << count) - 1;
    of_halves[0] = _mm512_maskz_loadu_pd((__mmask8)kept, weights);
    of_halves[1] = _mm512_maskz_loadu_pd((__mmask8)(kept >> 8), weights + 8);
}

/* The gradients of smoothing: the same, less the rate of the row times the weight of the class. */
FL_OUTLINE void middle_scale_even(const struct short_terms *terms, int classes, int count, const struct short_rows *r,
                                  const float *e, float *out)
{
    for (int l = 0; l < count; l++, e += classes, out += classes) {
        const __m512 share = _mm512_set1_ps(r->share[l]), least = _mm512_set1_ps(r->least[l]);
        const __m512 rate = _mm512_set1_ps(-r->rate[l]);
        if (r->odd[l]) memmove(out, e, (size_t)classes * sizeof(float));
        for (int c = 0; c < classes && !r->odd[l]; c += FL_LANES) {
            const int some = classes - c < FL_LANES ? classes - c : (int)FL_LANES;
            const __mmask16 kept = (__mmask16)((1u << some) - 1);
            const __m512 x = middle_kept(_mm512_maskz_loadu_ps(kept, e + c), least);
            __m512 taken = rate;
            if (terms->class_weight) {
                __m512d w[2];
                middle_weights(terms->class_weight + c, some, w);
                taken = _mm512_mul_ps(rate, middle_float(w[0], w[1]));
            }
            _mm512_mask_storeu_ps(out + c, kept, _mm512_fmadd_ps(x, share, taken));
        }
    }
}

/* short_spread of four rows as they lie. */
FL_INLINE void middle_spread_of(int has_weights, const struct short_terms *terms, int classes,
                                const float *const rows[4], double *dot)
{
    __m512d sum[4][2];
    for (int k = 0; k < 4; k++) sum[k][0] = sum[k][1] = _mm512_setzero_pd();
    for (int c = 0; c < classes; c += FL_LANES) {
        const int some = classes - c < FL_LANES ? classes - c : (int)FL_LANES;
        const __mmask16 kept = (__mmask16)((1u << some) - 1);
        __m512d w[2];
        if (has_weights) middle_weights(terms->class_weight + c, some, w);
        for (int k = 0; k < 4; k++) {
            const __m512 v = _mm512_maskz_loadu_ps(kept, rows[k] + c);
            const __m512d x[2] = {_mm512_cvtps_pd(_mm512_castps512_ps256(v)),
                                  _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
            for (int i = 0; i < 2; i++) {
                const __mmask8 counts =
                    has_weights ? _mm512_cmp_pd_mask(w[i], _mm512_setzero_pd(), _CMP_NEQ_UQ) : (__mmask8)-1;
                const __m512d term = has_weights ? _mm512_maskz_mul_pd(counts, w[i], x[i]) : x[i];
                sum[k][i] = _mm512_add_pd(sum[k][i], term);
            }
        }
    }
    for (int k = 0; k < 4; k++) {
        double sums[FL_LANES];
        _mm512_storeu_pd(sums, sum[k][0]);
        _mm512_storeu_pd(sums + 8, sum[k][1]);
        dot[k] = FL_TREE_16(sums);
    }
}

/* Those of `count` rows; the others are copies of the last. */
FL_OUTLINE void middle_spread(const struct short_terms *terms, int classes, int count, const float *x,
                              double dot[FL_LANES])
{
    const ptrdiff_t last = count - 1;
    for (int l = 0; l < FL_LANES; l += 4) {
        const float *rows[4];
        for (int k = 0; k < 4; k++) rows[k] = x + (l + k < last ? l + k : last) * classes;
        if (terms->class_weight)
            middle_spread_of(1, terms, classes, rows, dot + l);
        else
            middle_spread_of(0, terms, classes, rows, dot + l);
    }
}
#endif

#endif
