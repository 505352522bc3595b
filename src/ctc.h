/* Connectionist temporal classification: the probability of a sequence of labels, summed over all its alignments to
 * the steps of the input.
 *
 * The states of S labels are blank_0, label_0, blank_1, label_1, ..., blank_S. An alignment begins in blank_0 or
 * label_0, stays in its state or goes to the next one at each step, may go from label_j-1 straight to label_j if the
 * two differ, and ends in label_S-1 or blank_S. With p_t(s) the probability of the class of state s at step t,
 *     a_t(label_j) = p_t(label_j) (a_t-1(label_j) + a_t-1(blank_j) + [differ] a_t-1(label_j-1))
 *     a_t(blank_j) = p_t(blank)   (a_t-1(blank_j) + a_t-1(label_j-1))
 *     b_t-1(label_j) = w(label_j) + w(blank_j+1) + [differ] w(label_j+1),  b_t-1(blank_j) = w(blank_j) + w(label_j)
 * where w(s) = p_t(s) b_t(s), and b is 1 in both last states at the last step. P = a(label_S-1) + a(blank_S) at the
 * last step, the loss is -log P, and a_t(s) b_t(s) / P is the posterior of a state.
 *
 * Gradients: d P / d p_t(s) = a_t(s) b_t(s) / p_t(s), so that the derivative of -log P by the log-probability of
 * class c at step t is minus the posterior of its states, q_t(c). Through a log-softmax it is softmax - q, as sum_c q
 * = 1.
 *
 * A probability is m 2^e, m and e in doubles: m from 1 to 2 and an integer e, so nothing underflows, however unlikely
 * an alignment is at some step. 0 has e = FL_NEVER and any m > 0. All terms are positive: each step adds at most 4
 * roundings to the relative error of a and of b, and the exponentials 2, so that the absolute error of the loss after
 * T steps is at most 6 T 2^-53 and the relative error of a posterior twice that, beside the rounding of the loss
 * itself; logarithms of a and b would lose as much for each unit of the loss.
 * (A log-probability below -2^40 has m = 1, and one below -1.2e308 is 0.)
 *
 * Rows are written in the first pass over the steps, while they are in the cache: zeros, or the softmax. The few
 * classes of the labels follow on the way back. */

#define FL_NEVER (-DBL_MAX)
/* Room between arrays of states, for one before and one behind each, and what their number is a multiple of. */
enum { FL_CTC_PAD = 8 };
/* The softmax is made of so many steps at once, if they have at most so many classes in all: the logarithms of their
 * sums, each a long chain of operations, are then one vector. */
enum { FL_CTC_STEPS = 8, FL_CTC_CLASSES = 4096 };

struct fl_scaled {
    double m, e;
};

FL_INLINE double fl_higher(double a, double b) { return a > b ? a : b; }

/* 2^d for an integer d of at most 1023, and 2^-1000 for smaller ones than that: a product with it is not subnormal,
 * which would take a hundred times as long. */
FL_INLINE double fl_two_to(double d)
{
    const double rounder = 6755399441055744.0;
    return fl_double_from_bits((fl_bits_from_double(fl_higher(d, -1000.0) + rounder) << 52) + 0x3ff0000000000000u);
}

/* m 2^e with m from 1 to 2; m > 0 may be any normal number. */
FL_INLINE struct fl_scaled fl_settled(double m, double e)
{
    const uint64_t bits = fl_bits_from_double(m);
    const double k = fl_double_from_bits((bits >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1023.0);
    struct fl_scaled out;
    out.m = fl_double_from_bits((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
    out.e = fl_higher(e + k, FL_NEVER);
    return out;
}

/* p (a + b), p (a + b + c). */
FL_INLINE struct fl_scaled fl_sum_of_two(struct fl_scaled p, struct fl_scaled a, struct fl_scaled b)
{
    const double e = fl_higher(a.e, b.e);
    return fl_settled(p.m * (a.m * fl_two_to(a.e - e) + b.m * fl_two_to(b.e - e)), p.e + e);
}

FL_INLINE struct fl_scaled fl_sum_of_three(struct fl_scaled p, struct fl_scaled a, struct fl_scaled b,
                                           struct fl_scaled c)
{
    const double e = fl_higher(fl_higher(a.e, b.e), c.e);
    const double sum = a.m * fl_two_to(a.e - e) + b.m * fl_two_to(b.e - e) + c.m * fl_two_to(c.e - e);
    return fl_settled(p.m * sum, p.e + e);
}

/* exp(x) for x < inf, -inf too; m from 0.7 to 1.42. */
FL_INLINE struct fl_scaled fl_scaled_exp(double x)
{
    const double rounder = 6755399441055744.0, most = 0x1p40;
    const double low = x > -most ? x : -most, held = low < most ? low : most;
    const struct fl_reduced y = fl_reduce_f64(held);
    const double n = FL_FMA_F64(held, FL_LOG2_E_F64, rounder) - rounder;
    const double power = FL_FMA_F64(FL_FMA_F64(y.q, y.r, 1.0), y.r, 1.0);
    const struct fl_scaled out = {x > -most ? power : 1.0, x > -most ? n : fl_higher(x * FL_LOG2_E_F64, FL_NEVER)};
    return out;
}

FL_INLINE double fl_value_of(struct fl_scaled p)
{
    const double power = fl_two_to(p.e);
    return p.e < -1000.0 ? 0.0 : p.m * power;
}

/* One value for each state, in four arrays with FL_CTC_PAD before each and after the last. */
struct fl_states {
    double *label_m, *label_e, *blank_m, *blank_e;
};

FL_INLINE struct fl_states fl_states_at(double *memory, ptrdiff_t width)
{
    const ptrdiff_t room = width + FL_CTC_PAD;
    const struct fl_states states = {memory + FL_CTC_PAD, memory + FL_CTC_PAD + room, memory + FL_CTC_PAD + 2 * room,
                                     memory + FL_CTC_PAD + 3 * room};
    return states;
}

static inline ptrdiff_t fl_states_size(ptrdiff_t width) { return 4 * (width + FL_CTC_PAD) + FL_CTC_PAD; }

static void fl_no_state(double *memory, ptrdiff_t width)
{
    const struct fl_states states = fl_states_at(memory, width);
    for (ptrdiff_t j = -1; j <= width; j++) {
        states.label_m[j] = states.blank_m[j] = 1.0;
        states.label_e[j] = states.blank_e[j] = FL_NEVER;
    }
}

/* The work on one sample; its memory is the scratch. */
struct fl_ctc_sample {
    ptrdiff_t index, steps, labels, width;
    double factor;
    const double *bar; /* what the exponent of label_j-1 is added to on the way to label_j: 0 or FL_NEVER */
    int64_t *label;    /* its class */
    int64_t *first;    /* the first label of the same class; `labels` for the blank */
    double *label_m, *label_e, *blank_m, *blank_e; /* probabilities: width, or 1, for each step */
    double *posterior;                             /* of the labels, and of the blank at `labels` */
    double *old;                                   /* what the gradient is added to, in the same order */
    double *forward, *backward, *weighed;
    void *row;
};

static inline ptrdiff_t fl_ctc_padded(ptrdiff_t n) { return (n + FL_CTC_PAD - 1) / FL_CTC_PAD * FL_CTC_PAD; }
static inline ptrdiff_t fl_ctc_width(ptrdiff_t labels) { return fl_ctc_padded(labels + 1); }

/* Whether rows of the gradient, zeros but for the labels, are made in the scratch, and written once. */
static inline int fl_ctc_is_sparse(const struct fl_ctc_job *job)
{
    return job->output.data && !job->has_logits && !job->accumulate &&
           job->output.class_stride == job->output.itemsize;
}

static inline ptrdiff_t fl_ctc_steps_at_once(const struct fl_ctc_job *job)
{
    return FL_CTC_STEPS * job->classes <= FL_CTC_CLASSES ? FL_CTC_STEPS : 1;
}

static inline ptrdiff_t fl_ctc_rows_bytes(const struct fl_ctc_job *job)
{
    const ptrdiff_t real = job->input.dtype == FL_FLOAT64 ? 8 : 4;
    const ptrdiff_t of_logits = job->has_logits ? (1 + fl_ctc_steps_at_once(job)) * real : 0;
    const ptrdiff_t size = fl_ctc_is_sparse(job) ? job->output.itemsize : of_logits;
    return (job->classes * size + 63) / 64 * 64;
}

/* Without a gradient only two steps of the forward states are kept. */
static inline ptrdiff_t fl_ctc_slots(const struct fl_ctc_job *job, ptrdiff_t steps)
{
    return job->output.data ? steps + 1 : 2;
}

static ptrdiff_t ctc_scratch_bytes(const struct fl_ctc_job *job)
{
    const ptrdiff_t width = fl_ctc_width(job->most_labels), steps = job->most_steps, states = fl_states_size(width);
    const ptrdiff_t slots = fl_ctc_slots(job, steps) + 2;
    return fl_ctc_rows_bytes(job) + (ptrdiff_t)sizeof(double) * (5 * (width + FL_CTC_PAD) + 2 * steps * width +
                                                                 2 * fl_ctc_padded(steps) + slots * states);
}

static void ctc_place(const struct fl_ctc_job *job, struct fl_ctc_sample *sample, void *scratch)
{
    const ptrdiff_t width = sample->width, steps = sample->steps, states = fl_states_size(width);
    double *memory = (double *)(void *)((char *)scratch + fl_ctc_rows_bytes(job));
    sample->row = scratch;
    sample->posterior = memory;
    sample->old = memory += width + FL_CTC_PAD;
    sample->bar = memory += width + FL_CTC_PAD;
    sample->label = (int64_t *)(void *)(memory += width + FL_CTC_PAD);
    sample->first = (int64_t *)(void *)(memory += width + FL_CTC_PAD);
    sample->label_m = memory += width + FL_CTC_PAD;
    sample->label_e = memory += steps * width;
    sample->blank_m = memory += steps * width;
    sample->blank_e = memory += fl_ctc_padded(steps);
    sample->backward = memory += fl_ctc_padded(steps);
    sample->weighed = memory += states;
    sample->forward = memory + states;
}

/* Copies the labels of a sample, and returns the number of steps that an alignment of them takes at least. Another
 * thread may have changed a label since they were checked: class 0 then takes its place. */
static ptrdiff_t ctc_labels(const struct fl_ctc_job *job, struct fl_ctc_sample *sample)
{
    const int64_t *given = job->labels + job->starts[sample->index];
    double *bar = (double *)(uintptr_t)sample->bar;
    ptrdiff_t least = sample->labels;
    for (ptrdiff_t j = 0; j <= sample->width; j++) bar[j] = FL_NEVER;
    for (ptrdiff_t j = 0; j < sample->labels; j++) {
        sample->label[j] = given[j] >= 0 && given[j] < (int64_t)job->classes ? given[j] : 0;
        if (j == 0) continue;
        if (sample->label[j] == sample->label[j - 1])
            least++;
        else
            bar[j] = 0.0;
    }
    return least;
}

/* A search for each label takes less time than the steps, of which there are as many as labels or more. */
static void ctc_find_repeated(const struct fl_ctc_job *job, struct fl_ctc_sample *sample)
{
    for (ptrdiff_t j = 0; j < sample->labels; j++) {
        ptrdiff_t first = 0;
        while (sample->label[first] != sample->label[j]) first++;
        sample->first[j] = sample->label[j] == (int64_t)job->blank ? sample->labels : first;
    }
}

static inline ptrdiff_t ctc_row(const struct fl_ctc_job *job, const struct fl_ctc_sample *sample, ptrdiff_t step)
{
    return step * job->batch + sample->index;
}

static double ctc_softmax(const struct fl_ctc_job *job, ptrdiff_t row, void *scratch, ptrdiff_t slot, double *max)
{
    return (job->input.dtype == FL_FLOAT64 ? ctc_softmax_f64 : ctc_softmax_f32)(job, row, scratch, slot, max);
}

static void ctc_write(const struct fl_ctc_job *job, ptrdiff_t row, void *scratch, ptrdiff_t slot, double factor)
{
    (job->input.dtype == FL_FLOAT64 ? ctc_write_f64 : ctc_write_f32)(job, row, scratch, slot, factor);
}

/* Writes zeros to a row. */
static void ctc_clear(const struct fl_ctc_job *job, ptrdiff_t row)
{
    static const char zeros[4096];
    const ptrdiff_t n = job->classes * job->output.itemsize, most = (ptrdiff_t)sizeof zeros;
    char *p;
    if (!job->stream || job->output.class_stride != job->output.itemsize) {
        fl_clear_rows(&job->output, row, 1, job->classes);
        return;
    }
    p = fl_row_address(&job->output, row);
    for (ptrdiff_t i = 0, step; i < n; i += step) {
        step = most - (ptrdiff_t)((uintptr_t)(p + i) & 63u);
        step = n - i < step ? n - i : step;
        fl_stream(p + i, zeros, step);
    }
}

static void ctc_fill(const struct fl_ctc_job *job, ptrdiff_t row, double value)
{
    char *p = fl_row_address(&job->output, row);
    for (ptrdiff_t c = 0; c < job->classes; c++)
        fl_store_scalar_f64(p + c * job->output.class_stride, job->output.dtype, value);
}

/* Reads the probabilities of the labels and of the blank at a step; returns whether one is NaN or infinite. */
static int ctc_read(const struct fl_ctc_job *job, struct fl_ctc_sample *sample, ptrdiff_t step, double lse)
{
    const char *p = fl_row_address(&job->input, ctc_row(job, sample, step));
    const ptrdiff_t stride = job->input.class_stride, width = sample->width, n = sample->labels;
    const int dtype = job->input.dtype;
    double *m = sample->label_m + step * width, *e = sample->label_e + step * width, bad = 0.0;
    for (ptrdiff_t j = 0; j < sample->labels; j++)
        m[j] = fl_load_scalar_f64(p + sample->label[j] * stride, dtype) - lse;
    /* The blank takes the place behind the labels, until its exponential is known. */
    m[n] = fl_load_scalar_f64(p + job->blank * stride, dtype) - lse;
    for (ptrdiff_t j = n + 1; j < width; j++) m[j] = -(double)INFINITY;
#pragma omp simd reduction(+ : bad)
    for (ptrdiff_t j = 0; j < width; j++) {
        const struct fl_scaled p_of_j = fl_scaled_exp(m[j]);
        bad += m[j] < (double)INFINITY ? 0.0 : 1.0;
        m[j] = p_of_j.m;
        e[j] = p_of_j.e;
    }
    sample->blank_m[step] = m[n];
    sample->blank_e[step] = e[n];
    m[n] = 1.0;
    e[n] = FL_NEVER;
    return bad > 0.0;
}

/* Prefetches a step that comes soon: the rows of a sample are far from each other, which hardware does not follow.
 * (Measured for 32 samples of 100 classes, from logits: 1 step ahead 0.95 of the time without, 4 0.92, 8 0.94.) */
static void ctc_ahead(const struct fl_ctc_job *job, const struct fl_ctc_sample *sample, ptrdiff_t step, int writes)
{
    const struct fl_array *in = &job->input, *out = &job->output;
    if (step >= sample->steps) return;
    const ptrdiff_t row = ctc_row(job, sample, step), most = 4096;
    const ptrdiff_t read = job->classes * in->itemsize, written = job->classes * out->itemsize;
    if (job->has_logits && in->class_stride == in->itemsize)
        fl_prefetch_to_read(fl_row_address(in, row), read < most ? read : most);
    if (writes && !job->stream && out->class_stride == out->itemsize)
        fl_prefetch_to_write(fl_row_address(out, row), written < most ? written : most);
}

/* Takes the softmax of steps first .. last - 1, to `over` the reciprocals of the sums of the exponentials. */
static void ctc_softmax_of_steps(const struct fl_ctc_job *job, struct fl_ctc_sample *sample, ptrdiff_t first,
                                 ptrdiff_t last, int writes, double *lse, double *over)
{
    double max[FL_CTC_STEPS], sum[FL_CTC_STEPS];
    for (int i = 0; i < FL_CTC_STEPS; i++) max[i] = 0.0, sum[i] = 1.0;
    for (ptrdiff_t t = first; t < last; t++) {
        ctc_ahead(job, sample, t + 4, writes);
        sum[t - first] = ctc_softmax(job, ctc_row(job, sample, t), sample->row, t - first, max + (t - first));
    }
#pragma omp simd
    for (int i = 0; i < FL_CTC_STEPS; i++) {
        lse[i] = max[i] + fl_log_f64(sum[i]);
        over[i] = 1.0 / sum[i];
    }
}

/* Reads all steps. Also writes what the gradient is without the labels, unless it is added to what is there or
 * written later. */
static int ctc_read_all(const struct fl_ctc_job *job, struct fl_ctc_sample *sample)
{
    const int writes = job->output.data && !job->accumulate && !fl_ctc_is_sparse(job);
    const ptrdiff_t at_once = fl_ctc_steps_at_once(job);
    double lse[FL_CTC_STEPS] = {0.0}, over[FL_CTC_STEPS];
    ptrdiff_t since = 0;
    int is_bad = 0;
    for (ptrdiff_t first = 0, last; first < sample->steps; first = last) {
        last = first + at_once < sample->steps ? first + at_once : sample->steps;
        if (fl_stops_after((last - first) * (sample->width + job->classes), &since)) break;
        if (job->has_logits) ctc_softmax_of_steps(job, sample, first, last, writes, lse, over);
        for (ptrdiff_t t = first; t < last; t++) {
            const ptrdiff_t row = ctc_row(job, sample, t);
            is_bad |= ctc_read(job, sample, t, lse[t - first]);
            if (!writes) continue;
            if (job->has_logits)
                ctc_write(job, row, sample->row, t - first, sample->factor * over[t - first]);
            else
                ctc_clear(job, row);
        }
    }
    return is_bad;
}

static void ctc_step_forward(const struct fl_ctc_sample *sample, ptrdiff_t t, struct fl_states from,
                             struct fl_states to)
{
    const double *m = sample->label_m + t * sample->width, *e = sample->label_e + t * sample->width;
    const double *bar = sample->bar;
    const struct fl_scaled of_blank = {sample->blank_m[t], sample->blank_e[t]};
#pragma omp simd
    for (ptrdiff_t j = 0; j < sample->width; j++) {
        const struct fl_scaled p = {m[j], e[j]}, blank = {from.blank_m[j], from.blank_e[j]};
        const struct fl_scaled label = {from.label_m[j], from.label_e[j]};
        const struct fl_scaled before = {from.label_m[j - 1], from.label_e[j - 1]};
        const struct fl_scaled skipped = {before.m, before.e + bar[j]};
        const struct fl_scaled next_label = fl_sum_of_three(p, label, blank, skipped);
        const struct fl_scaled next_blank = fl_sum_of_two(of_blank, blank, before);
        to.label_m[j] = next_label.m;
        to.label_e[j] = next_label.e;
        to.blank_m[j] = next_blank.m;
        to.blank_e[j] = next_blank.e;
    }
    to.label_m[-1] = 1.0;
    to.label_e[-1] = FL_NEVER;
}

/* The probability of the labels. The states before the first step are blank_0 alone. */
static struct fl_scaled ctc_forward(const struct fl_ctc_job *job, const struct fl_ctc_sample *sample)
{
    const ptrdiff_t size = fl_states_size(sample->width), slots = fl_ctc_slots(job, sample->steps);
    const struct fl_scaled one = {1.0, 0.0};
    struct fl_states last = fl_states_at(sample->forward, sample->width);
    ptrdiff_t since = 0;
    fl_no_state(sample->forward, sample->width);
    last.blank_e[0] = 0.0;
    for (ptrdiff_t t = 0; t < sample->steps && !fl_stops_after(sample->width, &since); t++) {
        const struct fl_states next = fl_states_at(sample->forward + (t + 1) % slots * size, sample->width);
        ctc_step_forward(sample, t, last, next);
        last = next;
    }
    const ptrdiff_t n = sample->labels;
    const struct fl_scaled label = {last.label_m[n - 1], last.label_e[n - 1]},
                           blank = {last.blank_m[n], last.blank_e[n]};
    return fl_sum_of_two(one, label, blank);
}

static void ctc_step_backward(const struct fl_ctc_sample *sample, ptrdiff_t t)
{
    const double *m = sample->label_m + t * sample->width, *e = sample->label_e + t * sample->width;
    const double blank_m = sample->blank_m[t], blank_e = sample->blank_e[t], *bar = sample->bar;
    const struct fl_states b = fl_states_at(sample->backward, sample->width);
    const struct fl_states w = fl_states_at(sample->weighed, sample->width);
    const struct fl_scaled one = {1.0, 0.0};
#pragma omp simd
    for (ptrdiff_t j = 0; j < sample->width; j++) {
        w.label_m[j] = m[j] * b.label_m[j];
        w.label_e[j] = fl_higher(e[j] + b.label_e[j], FL_NEVER);
        w.blank_m[j] = blank_m * b.blank_m[j];
        w.blank_e[j] = fl_higher(blank_e + b.blank_e[j], FL_NEVER);
    }
#pragma omp simd
    for (ptrdiff_t j = 0; j < sample->width; j++) {
        const struct fl_scaled label = {w.label_m[j], w.label_e[j]}, blank = {w.blank_m[j], w.blank_e[j]};
        const struct fl_scaled after = {w.blank_m[j + 1], w.blank_e[j + 1]};
        const struct fl_scaled skipped = {w.label_m[j + 1], w.label_e[j + 1] + bar[j + 1]};
        const struct fl_scaled of_label = fl_sum_of_three(one, label, after, skipped);
        const struct fl_scaled of_blank = fl_sum_of_two(one, blank, label);
        b.label_m[j] = of_label.m;
        b.label_e[j] = of_label.e;
        b.blank_m[j] = of_blank.m;
        b.blank_e[j] = of_blank.e;
    }
}

/* The posteriors of the classes of the labels at a step. */
static void ctc_posteriors(const struct fl_ctc_sample *sample, ptrdiff_t t, struct fl_scaled all)
{
    const ptrdiff_t width = sample->width, n = sample->labels;
    const struct fl_states a = fl_states_at(sample->forward + (t + 1) * fl_states_size(width), width);
    const struct fl_states b = fl_states_at(sample->backward, width);
    const double over = 1.0 / all.m;
    double *q = sample->posterior, blank = 0.0;
#pragma omp simd reduction(+ : blank)
    for (ptrdiff_t j = 0; j < width; j++) {
        const struct fl_scaled label = {a.label_m[j] * b.label_m[j] * over, a.label_e[j] + b.label_e[j] - all.e};
        const struct fl_scaled of_blank = {a.blank_m[j] * b.blank_m[j] * over, a.blank_e[j] + b.blank_e[j] - all.e};
        q[j] = fl_value_of(label);
        blank += fl_value_of(of_blank);
    }
    q[n] = blank;
    for (ptrdiff_t j = 0; j < n; j++)
        if (sample->first[j] != j) q[sample->first[j]] += q[j];
}

/* Makes the derivatives of the classes of the labels and of the blank at a step from their posteriors. */
static void ctc_derive(const struct fl_ctc_job *job, const struct fl_ctc_sample *sample, ptrdiff_t t)
{
    const double *m = sample->label_m + t * sample->width, *e = sample->label_e + t * sample->width;
    const double factor = sample->factor, of_blank = sample->posterior[sample->labels];
    const struct fl_scaled blank = {sample->blank_m[t], sample->blank_e[t]};
    double *q = sample->posterior;
    if (job->has_logits) {
#pragma omp simd
        for (ptrdiff_t j = 0; j < sample->width; j++) {
            const struct fl_scaled label = {m[j], e[j]};
            q[j] = factor * (fl_value_of(label) - q[j]);
        }
        q[sample->labels] = factor * (fl_value_of(blank) - of_blank);
    } else {
#pragma omp simd
        for (ptrdiff_t j = 0; j < sample->width; j++) q[j] = factor * (0.0 - q[j]);
    }
}

/* Writes them to a row. A class of several labels is written several times, the first of them last, as it has the sum
 * of all, and the blank after all: without branches this takes half as long. */
FL_INLINE void ctc_put(const struct fl_ctc_job *job, const struct fl_ctc_sample *sample, char *p, int dtype)
{
    const ptrdiff_t n = sample->labels, stride = job->output.class_stride;
    const int64_t *label = sample->label;
    const double *derivative = sample->posterior;
    for (ptrdiff_t j = n - 1; j >= 0; j--) fl_store_scalar_f64(p + label[j] * stride, dtype, derivative[j]);
    fl_store_scalar_f64(p + job->blank * stride, dtype, derivative[n]);
}

/* Adds them to a row. */
static void ctc_add(const struct fl_ctc_job *job, const struct fl_ctc_sample *sample, char *p)
{
    const ptrdiff_t n = sample->labels;
    const int dtype = job->output.dtype;
    for (ptrdiff_t j = 0; j <= n; j++) {
        if (j < n && sample->first[j] != j) continue;
        char *at = p + (j < n ? (ptrdiff_t)sample->label[j] : job->blank) * job->output.class_stride;
        const double old = job->has_logits ? sample->old[j] : fl_load_scalar_f64(at, dtype);
        fl_store_scalar_f64(at, dtype, old + sample->posterior[j]);
    }
}

static void ctc_settle(const struct fl_ctc_job *job, const struct fl_ctc_sample *sample, char *p)
{
    if (job->accumulate)
        ctc_add(job, sample, p);
    else if (job->output.dtype == FL_FLOAT32)
        ctc_put(job, sample, p, FL_FLOAT32);
    else
        ctc_put(job, sample, p, job->output.dtype);
}

/* Copies a row of the scratch to the gradient. */
static void ctc_copy(const struct fl_ctc_job *job, ptrdiff_t row, const char *from)
{
    char *to = fl_row_address(&job->output, row);
    const ptrdiff_t n = job->classes * job->output.itemsize;
    if (job->stream)
        fl_stream(to, from, n);
    else
        memcpy(to, from, (size_t)n);
}

/* Adds the softmax of a row to what is there, and keeps what was there for the labels. */
static void ctc_add_softmax(const struct fl_ctc_job *job, struct fl_ctc_sample *sample, ptrdiff_t t)
{
    const ptrdiff_t row = ctc_row(job, sample, t), stride = job->output.class_stride, n = sample->labels;
    const char *p = fl_row_address(&job->output, row);
    double max, sum = ctc_softmax(job, row, sample->row, 0, &max);
    for (ptrdiff_t j = 0; j <= n; j++) {
        const ptrdiff_t c = j == n ? (ptrdiff_t)job->blank : (ptrdiff_t)sample->label[j];
        sample->old[j] = fl_load_scalar_f64(p + c * stride, job->output.dtype);
    }
    ctc_write(job, row, sample->row, 0, sample->factor / sum);
}

static void ctc_backward(const struct fl_ctc_job *job, struct fl_ctc_sample *sample, struct fl_scaled all)
{
    const struct fl_states b = fl_states_at(sample->backward, sample->width);
    const ptrdiff_t n = sample->labels;
    const int is_sparse = fl_ctc_is_sparse(job);
    ptrdiff_t since = 0;
    if (is_sparse) memset(sample->row, 0, (size_t)(job->classes * job->output.itemsize));
    ctc_find_repeated(job, sample);
    fl_no_state(sample->backward, sample->width);
    fl_no_state(sample->weighed, sample->width);
    b.blank_e[n] = 0.0;
    if (n) b.label_e[n - 1] = 0.0;
    for (ptrdiff_t t = sample->steps - 1; t >= 0; t--) {
        if (fl_stops_after(2 * sample->width + job->classes, &since)) break;
        ctc_posteriors(sample, t, all);
        ctc_derive(job, sample, t);
        if (job->accumulate && job->has_logits) ctc_add_softmax(job, sample, t);
        if (is_sparse) {
            /* Every step writes all of the labels. */
            ctc_settle(job, sample, (char *)sample->row);
            ctc_copy(job, ctc_row(job, sample, t), (const char *)sample->row);
        } else {
            ctc_settle(job, sample, fl_row_address(&job->output, ctc_row(job, sample, t)));
        }
        if (t > 0) ctc_step_backward(sample, t);
    }
}

/* The gradient of a sample whose loss is infinite or NaN. */
static void ctc_without_alignment(const struct fl_ctc_job *job, const struct fl_ctc_sample *sample, double loss)
{
    const int is_zero = job->zero_infinity && loss == (double)INFINITY;
    for (ptrdiff_t t = 0; t < sample->steps; t++) {
        if (!is_zero)
            ctc_fill(job, ctc_row(job, sample, t), (double)NAN);
        else if (!job->accumulate)
            ctc_clear(job, ctc_row(job, sample, t));
    }
}

static double ctc_sample(const struct fl_ctc_job *job, ptrdiff_t index, void *scratch)
{
    const double ln2_high = 0.6931471803691238, ln2_low = 1.9082149292705877e-10;
    struct fl_ctc_sample sample = {.index = index, .steps = job->steps_of[index], .labels = job->labels_of[index]};
    struct fl_scaled all = {1.0, FL_NEVER};
    double loss = (double)INFINITY;
    sample.width = fl_ctc_width(sample.labels);
    sample.factor = job->factor ? job->factor[index] : 0.0;
    ctc_place(job, &sample, scratch);
    if (job->output.data && !job->accumulate)
        for (ptrdiff_t t = sample.steps; t < job->steps; t++) ctc_clear(job, ctc_row(job, &sample, t));
    if (ctc_labels(job, &sample) <= sample.steps) {
        if (ctc_read_all(job, &sample))
            loss = (double)NAN;
        else
            all = ctc_forward(job, &sample);
        if (all.e > 0.5 * FL_NEVER)
            loss = 0.0 - FL_FMA_F64(all.e, ln2_high, FL_FMA_F64(all.e, ln2_low, fl_log_f64(all.m)));
    }
    if (job->output.data) {
        fl_stream_end();
        if (all.e > 0.5 * FL_NEVER)
            ctc_backward(job, &sample, all);
        else
            ctc_without_alignment(job, &sample, loss);
        fl_stream_end();
    }
    return job->zero_infinity && loss == (double)INFINITY ? 0.0 : loss;
}

/* Samples begin .. end - 1. */
static struct fl_piece ctc_samples(const void *any, ptrdiff_t begin, ptrdiff_t end, void *scratch)
{
    const struct fl_ctc_job *job = (const struct fl_ctc_job *)any;
    for (ptrdiff_t index = begin; index < end; index++) job->losses[index] = ctc_sample(job, index, scratch);
    return fl_faultless(0.0);
}
