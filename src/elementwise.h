/* The common loop of all lines of losses.def, with reading, weighting, summing and writing.
 *
 * kernels.inc includes this file twice, like softmax.h. Elements are processed in strips, in the order of the
 * indices, for any strides. A strip that is not contiguous or of another type is gathered into a buffer, also if it
 * has an incomplete group of lanes: then its last element is repeated, so that each element meets the same
 * instructions wherever it stands. Strips are short, so that reading and writing alternate, and that all buffers stay
 * in the first-level cache. Values are REAL; their sums are double, element by element.
 */

/* Elements that are checked or summed at a time. */
enum { FL_(element_block) = 512 };

#define FMA(a, b, c) FL_(fl_fma)((a), (b), (c))
#define ABSOLUTE(x) FL_(fl_absolute)(x)
#define SIGN(x) FL_(fl_sign)(x)
#define POSITIVE(x) FL_(fl_positive)(x)
#define AT_LEAST(x, bound) FL_(fl_at_least)((x), (bound))
#define TIMES(factor, term) FL_(fl_times)((factor), (term))
#define QUOTIENT(a, b) FL_(fl_quotient)((a), (b))
#define LESS(e, product) FL_(fl_less)((e), (product))
#define STIRLING_REST(t) FL_(fl_stirling_rest)(t)
#define LOG_OF_POISSON(t, log_mean) FL_(fl_log_of_poisson)((t), (log_mean))
#define EXP(x) FL_(fl_exp)(x)
#define EXP_RATE(x, rate) FL_(fl_exp_rate)((x), (rate))
#define TIMES_EXP_RATE(t, x, rate) FL_(fl_times_exp_rate)((t), (x), (rate))
#define FOCAL(x, t) FL_(fl_focal)((x), (t), k.b, k.share, k.other_share)
#define FOCAL_SQUARE(x, t) FL_(fl_focal_square)((x), (t), k.share, k.other_share)
#define AFT(name) FL_(fl_aft_##name)(x, t, u, a, (REAL)k.b)
#define TIMES_EXP(t, x) FL_(fl_times_exp)((t), (x))
#define EXP_DOWN(x) FL_(fl_exp_down)(x)
#define EXPM1(x) FL_(fl_expm1_nonpositive)(x)
#define LOG(x) FL_(fl_log)(x)
#define LOG1P(x) FL_(fl_log1p)(x)
#define LOG1P_UNIT(x) FL_(fl_log1p_unit)(x)
#define LOG_OF_SHARE(w, x) FL_(fl_log_of_share)((w), (x))
#define BY_SIGN(x, a, b) FL_(fl_by_sign)((x), (a), (b))
#define TURNED(x, y) FL_(fl_turned)((x), (y))
#define CHOOSE(condition, a, b) FL_(fl_choose)((condition), (a), (b))
#define HALF ((REAL)0.5)
#define LN2 ((REAL)0.69314718055994530942)

FL_INLINE REAL FL_(fl_absolute)(REAL x)
{
    return sizeof(REAL) == sizeof(float) ? (REAL)fabsf((float)x) : (REAL)fabs((double)x);
}
FL_INLINE REAL FL_(fl_sign)(REAL x) { return (REAL)(x > 0) - (REAL)(x < 0); }
/* max(x, 0) and max(x, bound), NaN where x is. */
FL_INLINE REAL FL_(fl_positive)(REAL x) { return x < 0 ? (REAL)0 : x; }
FL_INLINE REAL FL_(fl_at_least)(REAL x, REAL bound) { return x < bound ? bound : x; }

/* a / b with 0 / 0 = 0. */
FL_INLINE REAL FL_(fl_quotient)(REAL a, REAL b)
{
    const REAL quotient = a / b;
    return FL_(fl_choose)(a == 0, FL_(fl_choose)(b == 0, 0, quotient), quotient);
}

/* e - product, where an overflowed exponential outweighs an overflowed product. */
FL_INLINE REAL FL_(fl_less)(REAL e, REAL product)
{
    const REAL difference = e - product;
    return FL_(fl_choose)(e == (REAL)INFINITY, FL_(fl_choose)(product == (REAL)INFINITY, e, difference), difference);
}

/* t log(mean) - log t! with Stirling's formula for the factorial, which is 0 up to t = 1, as in torch; without its
 * last terms, log(2 pi t) / 2. The two large products are combined, so that neither overflows alone. */
FL_INLINE REAL FL_(fl_log_of_poisson)(REAL t, REAL log_mean)
{
    const REAL whole = TIMES(t, log_mean - FL_(fl_log)(t) + 1), product = TIMES(t, log_mean);
    return FL_(fl_choose)(t > 1, whole, product);
}

/* log(2 pi t) / 2 from t = 1 on, else 0. */
FL_INLINE REAL FL_(fl_stirling_rest)(REAL t)
{
    const REAL value = HALF * (FL_(fl_log)(t) + (REAL)1.8378770664093454836);
    return FL_(fl_choose)(t > 1, value, (REAL)0);
}

/* (e^y - 1 - y) / y^2 for |y| < 1. Written out, as a loop inside the loop over elements would not be vectorised. */
FL_INLINE REAL FL_(fl_k3_series)(REAL y)
{
#define FL_TERM(k, sum) (1 + (sum) * y * (1 / (REAL)k))
    const REAL far = FL_TERM(14, FL_TERM(15, FL_TERM(16, FL_TERM(17, FL_TERM(18, FL_TERM(19, (REAL)1))))));
    const REAL middle = FL_TERM(8, FL_TERM(9, FL_TERM(10, FL_TERM(11, FL_TERM(12, FL_TERM(13, far))))));
    return HALF * FL_TERM(3, FL_TERM(4, FL_TERM(5, FL_TERM(6, FL_TERM(7, middle)))));
#undef FL_TERM
}

/* Whether a value is outside a domain. NaN is not. */
FL_INLINE int FL_(is_outside)(int domain, REAL x)
{
#define FL_DOMAIN(name, expected, outside)                                                                           \
    if (domain == FL_##name) return (outside);
#include "domains.def"
#undef FL_DOMAIN
    return 0;
}

/* Constants of a call: the parameters before rounding, and for Tweedie's loss the factors of both exponents and their
 * reciprocals. */
struct FL_(constants) {
    double b, share, other_share; /* of focal: its factors of both classes */
    struct FL_(fl_rate) up, down;
    REAL factor_up, factor_down, over_up, over_down;
};

static struct FL_(constants) FL_(constants_of)(double a, double b)
{
    struct FL_(constants) constants;
    constants.b = b;
    constants.share = a < 0.0 ? 1.0 : a;
    constants.other_share = a < 0.0 ? 1.0 : 1.0 - a;
    constants.up = FL_(fl_rate_of)(2.0 - a);
    constants.down = FL_(fl_rate_of)(1.0 - a);
    constants.factor_up = (REAL)(2.0 - a);
    constants.factor_down = (REAL)(1.0 - a);
    constants.over_up = (REAL)(1.0 / (2.0 - a));
    constants.over_down = (REAL)(1.0 / (1.0 - a));
    return constants;
}

/* A strip: contiguous inputs and results; first and second may be NULL. */
struct FL_(element_strip) {
    const REAL *x, *t, *u;
    REAL *value, *first, *second;
    REAL a, b, scale;
    struct FL_(constants) constants;
    ptrdiff_t groups;
};

/* The loop of a loss in three functions, which the compiler vectorises one by one: the value; with the derivative;
 * with the second derivative. tests/vectorised.py looks for each of them by its name. */
#define FL_LOOP(function, terms, result, derivative, derivative_of_that, writes)                                     \
    static void FL_(function)(const struct FL_(element_strip) * in)                                                  \
    {                                                                                                                \
        const REAL *xs = in->x, *ts = in->t, *us = in->u, a = in->a, b = in->b, scale = in->scale;                   \
        REAL *values = in->value, *firsts = in->first, *seconds = in->second;                                        \
        const struct FL_(constants) k = in->constants;                                                               \
        const ptrdiff_t n = FL_(group) * in->groups;                                                                 \
        (void)a, (void)b, (void)k, (void)scale, (void)firsts, (void)seconds;                                         \
        _Pragma("omp simd") for (ptrdiff_t i = 0; i < n; i++)                                                        \
        {                                                                                                            \
            const REAL x = xs[i], t = ts[i], u = us[i];                                                              \
            terms;                                                                                                   \
            const REAL value = (result), first = (derivative), second = (derivative_of_that);                        \
            (void)t, (void)u, (void)first, (void)second;                                                             \
            values[i] = value;                                                                                       \
            writes;                                                                                                  \
        }                                                                                                            \
    }
#define FL_SCALED(derivative) (value == value ? scale * (derivative) : value)
#define FL_LOSS(name, domain, terms, result, derivative, derivative_of_that)                                         \
    FL_LOOP(name##_value, terms, result, derivative, derivative_of_that, (void)0)                                    \
    FL_LOOP(name##_first, terms, result, derivative, derivative_of_that, firsts[i] = FL_SCALED(first))               \
    FL_LOOP(name##_second, terms, result, derivative, derivative_of_that, firsts[i] = FL_SCALED(first);              \
            seconds[i] = FL_SCALED(second))
#include "losses.def"
#undef FL_LOSS

#define FL_LOSS(name, domain, terms, result, derivative, derivative_of_that)                                         \
    {FL_(name##_value), FL_(name##_first), FL_(name##_second)},
static void (*const FL_(loops_of_loss)[][3])(const struct FL_(element_strip) *) = {
#include "losses.def"
};
#undef FL_LOSS

static inline double FL_(sum_of_values)(const REAL *x, ptrdiff_t n)
{
    double sums[FL_(sums)] = {0};
    FL_(add_to_sums)(sums, x, n);
    return FL_(total_of_sums)(sums);
}

static inline int FL_(any_outside)(int domain, const REAL *x, ptrdiff_t n)
{
    int bad = 0;
#pragma omp simd reduction(| : bad)
    for (ptrdiff_t i = 0; i < n; i++) bad |= FL_(is_outside)(domain, x[i]);
    return bad;
}

/* The first of n values outside a domain, or n. */
static ptrdiff_t FL_(first_outside)(int domain, const REAL *x, ptrdiff_t n)
{
    ptrdiff_t first = 0;
    int bad = 0;
    /* A separate loop for each domain, in which the domain is a constant. */
#define FL_DOMAIN(name, expected, outside)                                                                           \
    if (domain == FL_##name && FL_##name != FL_ANY) bad = FL_(any_outside)(FL_##name, x, n);
#include "domains.def"
#undef FL_DOMAIN
    if (!bad) return n;
    while (first < n - 1 && !FL_(is_outside)(domain, x[first])) first++;
    return first;
}

/* Checks n values of an operand, from element `i` on, and moves the fault to an earlier element if there is one. */
static void FL_(look_at)(const struct fl_element_job *job, int operand, const REAL *x, ptrdiff_t i, ptrdiff_t n,
                         ptrdiff_t *fault)
{
    const ptrdiff_t first = FL_(first_outside)(job->domains[operand], x, n);
    if (first < n && (*fault < 0 || fl_fault_of(i + first, operand) < *fault))
        *fault = fl_fault_of(i + first, operand);
}

/* Buffers, in memory of the caller: seven inputs and results of a strip, its value, the present values of the
 * output, and the lines of streamed outputs. The blocks of the other functions are shorter. */
enum { FL_(strip_buffers) = 9 };

static ptrdiff_t FL_(element_buffer_bytes)(const struct fl_element_job *job)
{
    (void)job;
    return FL_(strip_buffers) * FL_ELEMENT_STRIP * (ptrdiff_t)sizeof(REAL) + 2 * (ptrdiff_t)sizeof(struct fl_lines);
}

/* Whether an output is written past the caches. */
static inline int FL_(streams)(const struct fl_element_job *job, const struct fl_array *output)
{
    return job->stream && output->data && output->ndim == 0 && output->class_stride == output->itemsize;
}

static struct fl_piece FL_(elements)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *buffers)
{
    const struct fl_element_job *job = (const struct fl_element_job *)any;
    const struct fl_array *output = &job->first;
    const int streams = FL_(streams)(job, output), streams_second = FL_(streams)(job, &job->second);
    const int is_ready = FL_(lies_ready)(output), is_placed = is_ready && !streams && !(job->accumulate & 1);
    const int second_is_placed = FL_(lies_ready)(&job->second) && !streams_second && !(job->accumulate & 2);
    const int part = job->second.data ? 2 : output->data != NULL;
    REAL *x = (REAL *)buffers, *t = x + FL_ELEMENT_STRIP, *u = t + FL_ELEMENT_STRIP, *w = u + FL_ELEMENT_STRIP,
         *g = w + FL_ELEMENT_STRIP;
    REAL *value = g + FL_ELEMENT_STRIP, *first = value + FL_ELEMENT_STRIP, *second = first + FL_ELEMENT_STRIP;
    REAL *before = second + FL_ELEMENT_STRIP;
    struct fl_lines *lines = (struct fl_lines *)(void *)(before + FL_ELEMENT_STRIP), *second_lines = lines + 1;
    struct FL_(element_strip)
        strip = {x, t, u, value, NULL, NULL, 0, 0, 0, FL_(constants_of)(job->parameter[0], job->parameter[1]), 0};
    struct fl_piece piece = {0.0, -1};
    double sums[FL_(sums)] = {0}, weights[FL_(sums)] = {0};
    strip.a = (REAL)job->parameter[0];
    strip.b = (REAL)job->parameter[1];
    strip.scale = (REAL)job->scale;
    strip.second = part == 2 ? second : NULL;
    if (!job->target.data) FL_(fill)(t, (REAL)job->target_value, FL_ELEMENT_STRIP);
    if (!job->third.data) FL_(fill)(u, (REAL)job->third_value, FL_ELEMENT_STRIP);
    if (streams) fl_lines_begin(lines, output->data + begin * output->itemsize);
    if (streams_second) fl_lines_begin(second_lines, job->second.data + begin * job->second.itemsize);
    for (ptrdiff_t i = begin; i < end; i += FL_ELEMENT_STRIP) {
        const ptrdiff_t n = end - i < FL_ELEMENT_STRIP ? end - i : FL_ELEMENT_STRIP;
        const ptrdiff_t padded = (n + FL_(group) - 1) / FL_(group) * FL_(group);
        const REAL *weight = NULL, *upstream = NULL;
        strip.groups = padded / FL_(group);
        strip.x = FL_(strip_in)(job, &job->input, i, n, padded, x);
        if (job->target.data) strip.t = FL_(strip_in)(job, &job->target, i, n, padded, t);
        if (job->third.data) strip.u = FL_(strip_in)(job, &job->third, i, n, padded, u);
        strip.first = first;
        if (is_placed && n == padded) strip.first = (REAL *)(void *)output->data + i;
        if (streams && is_ready) strip.first = (REAL *)(void *)(lines->line + lines->phase);
        if (part == 2 && second_is_placed) strip.second = n == padded ? (REAL *)(void *)job->second.data + i : second;
        if (streams_second && FL_(lies_ready)(&job->second))
            strip.second = (REAL *)(void *)(second_lines->line + second_lines->phase);
        FL_(loops_of_loss)[job->loss][part](&strip);
        if (part && strip.scale == 0) {
            FL_(leave_out)(value, strip.first, n);
            if (part == 2) FL_(leave_out)(value, strip.second, n);
        }
        /* While they are in the cache. */
        if (job->is_checked) {
            if (job->domains[0] != FL_ANY) FL_(look_at)(job, 0, strip.x, i, n, &piece.fault);
            if (job->domains[1] != FL_ANY && job->target.data) FL_(look_at)(job, 1, strip.t, i, n, &piece.fault);
            if (job->domains[2] != FL_ANY && job->third.data) FL_(look_at)(job, 2, strip.u, i, n, &piece.fault);
        }
        if (job->weight.data) weight = FL_(elements_in)(job, &job->weight, i, n, w);
        if (job->upstream.data) upstream = FL_(elements_in)(job, &job->upstream, i, n, g);
        if (weight) FL_(weigh)(weight, value, n);
        if (job->weight_sums) FL_(add_to_sums)(weights, weight, n);
        if (output->data) {
            FL_(finish_derivative)(job, output, i, n, weight, upstream, value, strip.first, job->accumulate & 1,
                                   before);
            if (streams) {
                if (!is_ready) FL_(fl_store)(first, lines->line + lines->phase, output->itemsize, output->dtype, n);
                fl_lines_out(lines, n * output->itemsize, i + n == end);
            } else if (strip.first == first) {
                FL_(elements_out)(job, output, i, n, first);
            }
        }
        if (part == 2) {
            FL_(finish_derivative)(job, &job->second, i, n, weight, upstream, value, strip.second,
                                   job->accumulate & 2, before);
            if (streams_second) {
                if (strip.second == second)
                    FL_(fl_store)(second, second_lines->line + second_lines->phase, job->second.itemsize,
                                  job->second.dtype, n);
                fl_lines_out(second_lines, n * job->second.itemsize, i + n == end);
            } else if (strip.second == second) {
                FL_(elements_out)(job, &job->second, i, n, second);
            }
        }
        if (job->losses.data) FL_(elements_out)(job, &job->losses, i, n, value);
        FL_(add_to_sums)(sums, value, n);
    }
    if (streams || streams_second) fl_stream_end();
    piece.total = FL_(total_of_sums)(sums);
    if (job->weight_sums) job->weight_sums[begin / job->piece] = FL_(total_of_sums)(weights);
    return piece;
}

/* Checks domains only. The caller checks a scalar in place of an array. */
static struct fl_piece FL_(check)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *buffers)
{
    const struct fl_element_job *job = (const struct fl_element_job *)any;
    const struct fl_array *arrays[FL_OPERANDS] = {&job->input, &job->target, &job->third};
    struct fl_piece piece = {0.0, -1};
    for (ptrdiff_t i = begin; i < end && piece.fault < 0; i += FL_(element_block)) {
        const ptrdiff_t n = end - i < FL_(element_block) ? end - i : FL_(element_block);
        for (int k = 0; k < FL_OPERANDS; k++)
            if (job->domains[k] != FL_ANY && arrays[k]->data)
                FL_(look_at)(job, k, FL_(elements_in)(job, arrays[k], i, n, (REAL *)buffers), i, n, &piece.fault);
    }
    return piece;
}

static struct fl_piece FL_(sum_of_weights)(const void *any, ptrdiff_t begin, ptrdiff_t end, void *buffers)
{
    const struct fl_element_job *job = (const struct fl_element_job *)any;
    double sums[FL_(sums)] = {0};
    for (ptrdiff_t i = begin; i < end; i += FL_(element_block)) {
        const ptrdiff_t n = end - i < FL_(element_block) ? end - i : FL_(element_block);
        FL_(add_to_sums)(sums, FL_(elements_in)(job, &job->weight, i, n, (REAL *)buffers), n);
    }
    return fl_faultless(FL_(total_of_sums)(sums));
}

/* z = scale ((pc - fc) - (pr - fr)) - offset, in double; fc and fr may be NULL. */
static void FL_(pair_differences)(const void *const *arrays, double scale, double offset, double *z, ptrdiff_t n)
{
    const REAL *pc = (const REAL *)arrays[0], *pr = (const REAL *)arrays[1];
    const REAL *fc = (const REAL *)arrays[2], *fr = (const REAL *)arrays[3];
    if (fc == NULL || fr == NULL)
        for (ptrdiff_t i = 0; i < n; i++) z[i] = scale * ((double)pc[i] - (double)pr[i]) - offset;
    else
        for (ptrdiff_t i = 0; i < n; i++)
            z[i] = scale * (((double)pc[i] - (double)fc[i]) - ((double)pr[i] - (double)fr[i])) - offset;
}

/* The derivatives with respect to both sides of such a difference, from those with respect to z. */
static void FL_(pair_gradients)(const double *slope, double scale, double factor, void *chosen, void *rejected,
                                ptrdiff_t n)
{
    REAL *c = (REAL *)chosen, *r = (REAL *)rejected;
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL gradient = (REAL)(scale * slope[i] * factor);
        c[i] = gradient;
        r[i] = -gradient;
    }
}

#undef FL_LOOP
#undef FL_SCALED
#undef FMA
#undef ABSOLUTE
#undef SIGN
#undef POSITIVE
#undef AT_LEAST
#undef TIMES
#undef QUOTIENT
#undef LESS
#undef LOG_OF_POISSON
#undef STIRLING_REST
#undef EXP
#undef TIMES_EXP
#undef EXP_RATE
#undef TIMES_EXP_RATE
#undef FOCAL
#undef AFT
#undef EXP_DOWN
#undef EXPM1
#undef LOG
#undef LOG1P
#undef LOG1P_UNIT
#undef LOG_OF_SHARE
#undef CHOOSE
#undef BY_SIGN
#undef TURNED
#undef HALF
#undef LN2
