/* Runs the baseline kernels on cases from a file, without Python: for processors that are only emulated.
 *
 * tests/driver_cases.py writes the file: the jobs of calls of public functions, and some of its own, each output
 * with the least and the largest value that is allowed. (NaN twice: NaN must come out.) Every job runs in pieces of
 * rows as the binding makes them; the softmax family runs without output, too, which must give the same losses, and
 * long rows in steps, as several threads share them. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "samples.h"
#include "storage.h"

enum {
    ARRAYS = 7,
    OUTPUTS = 4,
    INTEGERS = 12,
    REALS = 8,
    TITLE = 120,
    ROWS_OF_PIECE = FL_LANES,
    ELEMENTS_OF_PIECE = 65536
};
enum { ROWS_OF_TIMES = 256, ORDERED = 8 /* the dtype of rows in the order of their times */ };
enum {
    FUNCTION,
    SOFTMAX,
    NLL,
    MARGIN,
    SPARSEMAX,
    ELEMENTS,
    DIVERGENCE,
    PAIRS,
    LABELS,
    DISTRIBUTION,
    CTC,
    LIST_NET,
    LAMBDA_RANK,
    ORDER,
    COX,
    STATISTICS,
    COLUMNS,
    BOTH,
    NEGATIVE_PAIRS,
    OBJECTIVE
};

struct array {
    int64_t dtype, count, itemsize; /* dtype -1: absent */
    char *data;
};

struct output {
    struct array array;
    double *low, *high; /* NULL: not compared */
};

struct record {
    int64_t kind, integers[INTEGERS];
    double reals[REALS];
    char title[TITLE];
    struct array in[ARRAYS];
    struct output out[OUTPUTS];
};

static const struct fl_kernels *const kernels = &fl_kernels_baseline;
static const struct fl_samples *const samples = &fl_samples_baseline;
static FILE *file;
static long compared, wrong;

static void fail(const char *what, const char *title)
{
    fprintf(stderr, "%s: %s\n", title, what);
    exit(2);
}

static void *room(size_t size)
{
    void *found = aligned_alloc(64, (size + 127) / 64 * 64);
    if (!found) fail("no memory", "driver");
    return memset(found, 0x5a, size);
}

static void take(void *to, size_t size)
{
    if (fread(to, 1, size, file) != size) fail("the file ends early", "driver");
}

static void *take_new(size_t size)
{
    void *found = room(size);
    take(found, size);
    return found;
}

static void take_header(struct array *array)
{
    array->data = NULL;
    take(&array->dtype, 8);
    if (array->dtype < 0) return;
    take(&array->count, 8);
    take(&array->itemsize, 8);
}

static int take_record(struct record *r)
{
    if (fread(&r->kind, 1, 8, file) != 8) return 0;
    take(r->integers, sizeof r->integers);
    take(r->reals, sizeof r->reals);
    take(r->title, sizeof r->title);
    for (int k = 0; k < ARRAYS; k++) {
        take_header(&r->in[k]);
        if (r->in[k].dtype >= 0) r->in[k].data = take_new((size_t)(r->in[k].count * r->in[k].itemsize));
    }
    for (int k = 0; k < OUTPUTS; k++) {
        int64_t is_compared;
        struct output *out = &r->out[k];
        out->low = out->high = NULL;
        take_header(&out->array);
        if (out->array.dtype < 0) continue;
        out->array.data = room((size_t)(out->array.count * out->array.itemsize));
        take(&is_compared, 8);
        if (!is_compared) continue;
        out->low = take_new((size_t)out->array.count * sizeof(double));
        out->high = take_new((size_t)out->array.count * sizeof(double));
    }
    return 1;
}

static void release(struct record *r)
{
    for (int k = 0; k < ARRAYS; k++) free(r->in[k].data);
    for (int k = 0; k < OUTPUTS; k++) {
        if (r->out[k].array.dtype < 0) continue;
        free(r->out[k].array.data);
        free(r->out[k].low);
        free(r->out[k].high);
    }
}

static double value_of(const struct array *array, int64_t i)
{
    uint16_t h;
    uint32_t bits;
    float single;
    double value;
    memcpy(&h, array->data + 2 * i, 2); /* within the element, whatever its type */
    switch (array->dtype) {
    case FL_FLOAT64:
        memcpy(&value, array->data + 8 * i, 8);
        return value;
    case FL_FLOAT32:
        memcpy(&single, array->data + 4 * i, 4);
        return (double)single;
    case ORDERED:
        memcpy(&bits, array->data + 4 * i, 4);
        return (double)bits;
    case FL_BFLOAT16:
        bits = (uint32_t)h << 16;
        memcpy(&single, &bits, 4);
        return (double)single;
    default:
        value = (h & 0x7c00) == 0x7c00 ? ((h & 0x3ff) ? (double)NAN : (double)INFINITY)
                : (h & 0x7c00)         ? ldexp((h & 0x3ff) | 0x400, (h >> 10 & 31) - 25)
                                       : ldexp(h & 0x3ff, -24);
        return h & 0x8000 ? -value : value;
    }
}

static void check(const struct record *r, const char *how)
{
    for (int k = 0; k < OUTPUTS; k++) {
        const struct output *out = &r->out[k];
        long bad = 0;
        if (!out->low) continue;
        for (int64_t i = 0; i < out->array.count; i++) {
            const double value = value_of(&out->array, i), low = out->low[i], high = out->high[i];
            compared++;
            if ((value >= low && value <= high) || (isnan(value) && isnan(low))) continue;
            if (!bad++)
                fprintf(stderr, "%s %s, output %d at %ld: %.17g is not in [%.17g, %.17g]\n", r->title, how, k,
                        (long)i, value, low, high);
        }
        wrong += bad;
    }
}

/* The array as rows of so many classes. */
static struct fl_array rows_of(const struct array *array, ptrdiff_t classes, ptrdiff_t dimension[2])
{
    struct fl_array out = {0};
    if (!array->data) return out;
    dimension[0] = classes ? (ptrdiff_t)array->count / classes : 0;
    dimension[1] = classes * (ptrdiff_t)array->itemsize;
    out.data = array->data;
    out.dtype = (int)array->dtype;
    out.ndim = 1;
    out.itemsize = out.class_stride = (ptrdiff_t)array->itemsize;
    out.shape = &dimension[0];
    out.stride = &dimension[1];
    return out;
}

static struct fl_array straight(const struct array *array)
{
    struct fl_array out = {0};
    if (!array->data) return out;
    out.data = array->data;
    out.dtype = (int)array->dtype;
    out.itemsize = out.class_stride = (ptrdiff_t)array->itemsize;
    return out;
}

static void run_pieces(fl_work work, fl_drain drain, const void *job, ptrdiff_t count, ptrdiff_t step, ptrdiff_t size)
{
    char *scratch = room((size_t)(size > FL_PIPELINE ? size : FL_PIPELINE));
    memset(scratch, 0, FL_PIPELINE);
    for (ptrdiff_t begin = 0; begin < count; begin += step)
        if (work(job, begin, begin + step < count ? begin + step : count, scratch).fault >= 0)
            fail("a fault was found", "driver");
    if (drain) drain(job, scratch);
    free(scratch);
}

static void describe_rows(const struct record *r, struct fl_rows *rows, ptrdiff_t room[4])
{
    rows->count = (ptrdiff_t)r->integers[1];
    rows->classes = (ptrdiff_t)r->integers[2];
    rows->input = rows_of(&r->in[0], rows->classes, room);
    rows->output = rows_of(&r->out[1].array, rows->classes, room + 2);
    rows->grad_output = (const double *)(const void *)r->in[5].data;
    rows->grad_scale = r->reals[0];
    rows->losses = (double *)(void *)r->out[0].array.data;
}

static void describe_targets(const struct record *r, struct fl_targets *targets, ptrdiff_t room[2])
{
    static float narrow[1 << 20];
    targets->index = (const int64_t *)(const void *)r->in[1].data;
    targets->classes = (ptrdiff_t)r->integers[2];
    targets->has_ignored = (int)r->integers[3];
    targets->ignored = r->integers[4];
    targets->class_weight = (const double *)(const void *)r->in[3].data;
    targets->sample_weight = (const double *)(const void *)r->in[4].data;
    targets->probabilities = rows_of(&r->in[2], targets->classes, room);
    targets->smoothing = r->reals[1];
    if (!targets->class_weight || targets->smoothing == 0.0) return;
    for (ptrdiff_t c = 0; c < targets->classes; c++) {
        narrow[c] = (float)targets->class_weight[c];
        targets->all_weights += targets->class_weight[c];
    }
    targets->narrow_weight = narrow;
}

static const struct fl_softmax_kernels *softmax_kernels(const struct fl_softmax_job *job)
{
    return kernels->softmax_f32.suits(job) ? &kernels->softmax_f32 : &kernels->softmax_f64;
}

static void run_softmax_in_steps(const struct fl_softmax_job *job)
{
    const struct fl_softmax_kernels *table = softmax_kernels(job);
    const ptrdiff_t blocks = (job->rows.classes + FL_BLOCK - 1) / FL_BLOCK, size = table->scratch_bytes(job);
    char *scratch = room((size_t)size);
    for (ptrdiff_t index = 0; index < job->rows.count; index++) {
        struct fl_softmax_row row;
        memset(&row, 0, sizeof row);
        if (!table->row_start(job, &row, index, scratch)) continue;
        row.buffers = scratch + size - table->buffer_bytes(job);
        for (ptrdiff_t block = 0; block < blocks; block++) table->row_max(job, &row, block);
        table->row_choose(job, &row);
        for (ptrdiff_t block = 0; block < blocks; block++) table->row_sum(job, &row, block);
        table->row_settle(job, &row);
        if (job->rows.output.data)
            for (ptrdiff_t block = 0; block < blocks; block++) table->row_finish(job, &row, block);
        if (job->rows.losses) job->rows.losses[index] = row.loss;
    }
    free(scratch);
}

static void run_softmax(const struct record *r)
{
    ptrdiff_t dimensions[8];
    struct fl_softmax_job job = {0};
    const struct fl_softmax_kernels *table;
    const size_t bytes = r->out[0].array.data ? (size_t)r->out[0].array.count * sizeof(double) : 0;
    job.operation = (int)r->integers[0];
    describe_rows(r, &job.rows, dimensions);
    describe_targets(r, &job.targets, dimensions + 4);
    job.hessian = rows_of(&r->out[2].array, job.rows.classes, dimensions + 6);
    job.z_loss = r->reals[2];
    job.map.softcap = r->reals[3];
    job.map.temperature = r->reals[4];
    job.focusing.kind = (int)r->integers[5];
    job.focusing.by = r->reals[5];
    job.band.all_classes = job.rows.classes;
    for (int stream = 0; stream <= (job.rows.classes > FL_SHORT_ROW && job.rows.output.data); stream++) {
        job.rows.stream = stream;
        table = softmax_kernels(&job);
        run_pieces(table->rows, table->is_fused(&job) ? table->drain : NULL, &job, job.rows.count, ROWS_OF_PIECE,
                   table->scratch_bytes(&job));
        check(r, stream ? "streamed" : "by rows");
    }
    job.rows.stream = 0;
    if (job.rows.output.data && job.rows.losses) {
        struct fl_softmax_job value = job;
        double *losses = room(bytes);
        memset(&value.rows.output, 0, sizeof value.rows.output);
        memset(&value.hessian, 0, sizeof value.hessian);
        value.rows.losses = losses;
        table = softmax_kernels(&value);
        run_pieces(table->rows, table->is_fused(&value) ? table->drain : NULL, &value, job.rows.count, ROWS_OF_PIECE,
                   table->scratch_bytes(&value));
        if (memcmp(losses, job.rows.losses, bytes) != 0) fail("other losses without the gradient", r->title);
        free(losses);
    }
    if (job.rows.classes > FL_BLOCK) {
        run_softmax_in_steps(&job);
        check(r, "in steps");
    }
}

static void run_targets(const struct record *r, fl_work work)
{
    ptrdiff_t dimensions[6];
    struct fl_target_job job = {0};
    describe_rows(r, &job.rows, dimensions);
    describe_targets(r, &job.targets, dimensions + 4);
    job.margin = r->reals[2];
    job.power = r->reals[3];
    run_pieces(work, NULL, &job, job.rows.count, ROWS_OF_PIECE, FL_TARGET_SCRATCH);
    check(r, "by rows");
}

static void describe_elements(const struct record *r, struct fl_element_job *job)
{
    job->size = job->inner = (ptrdiff_t)r->in[0].count;
    job->input = straight(&r->in[0]);
    job->target = straight(&r->in[1]);
    job->third = straight(&r->in[2]);
    job->weight = straight(&r->in[3]);
    job->upstream = straight(&r->in[4]);
    job->losses = straight(&r->out[0].array);
    job->first = straight(&r->out[1].array);
    job->second = straight(&r->out[2].array);
}

static void run_elements(const struct record *r)
{
    struct fl_element_job job = {0};
    const struct fl_element_kernels *table = r->integers[1] ? &kernels->elements_f64 : &kernels->elements_f32;
    job.loss = (int)r->integers[0];
    describe_elements(r, &job);
    job.target_value = r->reals[0];
    job.third_value = r->reals[1];
    job.parameter[0] = r->reals[2];
    job.parameter[1] = r->reals[3];
    job.scale = r->reals[4];
    for (job.stream = 0; job.stream < 2; job.stream++) {
        run_pieces(table->elements, NULL, &job, job.size, ELEMENTS_OF_PIECE, table->buffer_bytes(&job));
        check(r, job.stream ? "streamed" : "elements");
    }
}

static void run_divergence(const struct record *r)
{
    ptrdiff_t dimensions[8];
    struct fl_divergence_job job = {0};
    const struct fl_divergence_kernels *table;
    job.operation = (int)r->integers[0];
    describe_rows(r, &job.rows, dimensions);
    job.t = rows_of(&r->in[1], job.rows.classes, dimensions + 4);
    job.t_gradient = rows_of(&r->out[2].array, job.rows.classes, dimensions + 6);
    job.counted = (const unsigned char *)r->in[2].data;
    job.beta = r->reals[1];
    job.x_map.softcap = r->reals[2];
    job.t_map.softcap = r->reals[3];
    job.x_map.temperature = r->reals[4];
    job.t_map.temperature = r->reals[5];
    table = job.rows.input.dtype == FL_FLOAT64 ? &kernels->divergence_f64 : &kernels->divergence_f32;
    run_pieces(table->rows, NULL, &job, job.rows.count, ROWS_OF_PIECE, table->scratch_bytes(&job));
    check(r, "by rows");
}

static const double *doubles(const struct array *array) { return (const double *)(const void *)array->data; }

/* The first output. */
static double *losses_of(const struct record *r) { return (double *)(void *)r->out[0].array.data; }

static void run_pairs(const struct record *r)
{
    ptrdiff_t dimensions[4 * FL_VECTORS];
    struct fl_pair_job job = {0};
    const struct fl_pair_kernels *table = r->in[0].dtype == FL_FLOAT64 ? &samples->pairs_f64 : &samples->pairs_f32;
    job.count = (ptrdiff_t)r->integers[1];
    job.width = (ptrdiff_t)r->integers[2];
    job.swap = (int)r->integers[3];
    for (int k = 0; k < FL_VECTORS; k++) {
        job.vectors[k] = rows_of(&r->in[k], job.width, dimensions + 4 * k);
        job.gradients[k] = rows_of(&r->out[1 + k].array, job.width, dimensions + 4 * k + 2);
        job.has_gradients |= job.gradients[k].data != NULL;
    }
    job.target = doubles(&r->in[3]);
    job.grad_output = doubles(&r->in[4]);
    job.losses = losses_of(r);
    job.grad_scale = r->reals[0];
    job.margin = r->reals[1];
    job.eps = r->reals[2];
    job.p = r->reals[3];
    for (job.stream = 0; job.stream <= job.has_gradients; job.stream++) {
        run_pieces(r->integers[0] == 2 ? table->cosine : table->triplet, NULL, &job, job.count, ROWS_OF_PIECE,
                   FL_PAIR_SCRATCH);
        check(r, job.stream ? "streamed" : "by rows");
    }
}

static void run_labels(const struct record *r)
{
    ptrdiff_t dimensions[4];
    struct fl_label_job job = {0};
    describe_rows(r, &job.rows, dimensions);
    job.target = (const int64_t *)(const void *)r->in[1].data;
    run_pieces(samples->label_survey, NULL, &job, job.rows.count, ROWS_OF_PIECE, 0);
    run_pieces(job.rows.input.dtype == FL_FLOAT64 ? samples->labels_f64 : samples->labels_f32, NULL, &job,
               job.rows.count, ROWS_OF_PIECE, 3 * (job.rows.classes + 16) * (ptrdiff_t)sizeof(double));
    check(r, "by rows");
}

static void run_distribution(const struct record *r)
{
    struct fl_distribution_job job = {0};
    struct fl_element_job *elements = &job.elements;
    job.distribution = (int)r->integers[0];
    job.is_full = (int)r->integers[1];
    describe_elements(r, elements);
    job.fourth = straight(&r->in[5]);
    job.last = straight(&r->out[3].array);
    elements->target_value = r->reals[0];
    elements->third_value = r->reals[1];
    job.fourth_value = r->reals[2];
    elements->scale = r->reals[3];
    elements->piece = ELEMENTS_OF_PIECE;
    run_pieces(samples->distribution.elements, NULL, &job, elements->size, ELEMENTS_OF_PIECE,
               samples->distribution.buffer_bytes);
    check(r, "elements");
}

static const int64_t *integers(const struct array *array) { return (const int64_t *)(const void *)array->data; }

static void run_ctc(const struct record *r)
{
    ptrdiff_t dimensions[4];
    struct fl_ctc_job job = {0};
    job.steps = (ptrdiff_t)r->integers[0];
    job.batch = (ptrdiff_t)r->integers[1];
    job.classes = (ptrdiff_t)r->integers[2];
    job.blank = (ptrdiff_t)r->integers[3];
    job.has_logits = (int)r->integers[4];
    job.zero_infinity = (int)r->integers[5];
    job.most_labels = (ptrdiff_t)r->integers[6];
    job.most_steps = (ptrdiff_t)r->integers[7];
    job.input = rows_of(&r->in[0], job.classes, dimensions);
    job.output = rows_of(&r->out[1].array, job.classes, dimensions + 2);
    job.labels = integers(&r->in[1]);
    job.starts = integers(&r->in[2]);
    job.labels_of = integers(&r->in[3]);
    job.steps_of = integers(&r->in[4]);
    job.factor = doubles(&r->in[5]);
    job.losses = losses_of(r);
    for (job.stream = 0; job.stream < 2; job.stream++) {
        run_pieces(samples->ctc, NULL, &job, job.batch, 1, samples->ctc_scratch_bytes(&job));
        check(r, job.stream ? "streamed" : "by samples");
    }
}

static void run_lists(const struct record *r)
{
    struct fl_list_job job = {0};
    const fl_work work = r->kind == LIST_NET ? samples->lists.list_net : samples->lists.lambda_rank;
    job.queries = (ptrdiff_t)r->integers[0];
    job.longest = (ptrdiff_t)r->integers[1];
    job.normalize = (int)r->integers[2];
    job.truncation_level = (ptrdiff_t)r->integers[3];
    job.levels = (ptrdiff_t)r->integers[4];
    job.scale = r->reals[0];
    job.sigmoid = r->reals[1];
    job.scores = straight(&r->in[0]);
    job.relevance = straight(&r->in[1]);
    job.labels = (const int32_t *)(const void *)r->in[1].data;
    job.bounds = integers(&r->in[2]);
    job.upstream = doubles(&r->in[3]);
    job.label_gain = doubles(&r->in[4]);
    job.discounts = doubles(&r->in[5]);
    job.gradient = straight(&r->out[1].array);
    job.hessian = straight(&r->out[2].array);
    job.losses = losses_of(r);
    for (job.has_value = 1; job.has_value >= !job.hessian.data; job.has_value--) {
        run_pieces(work, NULL, &job, job.queries, 2, samples->lists.scratch_bytes(&job));
        check(r, job.has_value ? "by queries" : "without the value");
        job.losses = NULL;
    }
}

static void run_order(const struct record *r)
{
    struct fl_order_job job = {0};
    const ptrdiff_t rows = (ptrdiff_t)r->integers[0], pieces = (rows + ROWS_OF_TIMES - 1) / ROWS_OF_TIMES;
    double high = 0.0;
    job.rows = rows;
    job.piece = ROWS_OF_TIMES;
    job.buckets = (uint32_t)(rows / 8 + 1);
    job.time = doubles(&r->in[0]);
    job.sorted = losses_of(r);
    job.order = (uint32_t *)(void *)r->out[1].array.data;
    job.bounds = room((size_t)(2 * pieces) * sizeof(double));
    job.counts = room((size_t)pieces * job.buckets * sizeof(uint32_t));
    job.starts = room((job.buckets + 1) * sizeof(uint32_t));
    job.items = room((size_t)rows * sizeof(struct fl_timed));
    job.spare = room((size_t)rows * sizeof(struct fl_timed));
    run_pieces(samples->survival.survey, NULL, &job, rows, job.piece, 0);
    job.low = INFINITY;
    for (ptrdiff_t piece = 0; piece < pieces; piece++) {
        job.low = fmin(job.low, job.bounds[2 * piece]);
        high = fmax(high, job.bounds[2 * piece + 1]);
    }
    job.rate = high > job.low ? fmin(job.buckets / (high - job.low), DBL_MAX) : DBL_MAX;
    run_pieces(samples->survival.count, NULL, &job, rows, job.piece, 0);
    run_pieces(samples->survival.starts, NULL, &job, 1, 1, 0);
    run_pieces(samples->survival.spread, NULL, &job, rows, job.piece, 0);
    run_pieces(samples->survival.arrange, NULL, &job, job.buckets, 32, FL_TIME_SCRATCH);
    check(r, "order");
    free(job.bounds);
    free(job.counts);
    free(job.starts);
    free(job.items);
    free(job.spare);
}

static void run_cox(const struct record *r)
{
    struct fl_cox_job job = {0};
    const ptrdiff_t rows = (ptrdiff_t)r->integers[0], segments = (rows + ROWS_OF_TIMES - 1) / ROWS_OF_TIMES;
    double *scratch = room(5 * (size_t)rows * sizeof(double));
    job.rows = rows;
    job.is_efron = (int)r->integers[1];
    job.scale = r->reals[0];
    job.log_hazard = straight(&r->in[0]);
    job.gradient = straight(&r->out[1].array);
    job.hessian = straight(&r->out[2].array);
    job.order = (const uint32_t *)(const void *)r->in[1].data;
    job.time = doubles(&r->in[2]);
    job.stratum = integers(&r->in[3]);
    job.event = (const unsigned char *)r->in[4].data;
    job.weight = doubles(&r->in[5]);
    job.upstream = doubles(&r->in[6]);
    job.losses = losses_of(r);
    memset(job.losses, 0, (size_t)rows * sizeof(double));
    job.x = scratch;
    job.hazard = scratch + rows;
    job.sum = scratch + 2 * rows;
    job.levels = (double *)(void *)r->in[2].data;
    job.mass = job.weight ? scratch + 3 * rows : NULL;
    job.pull = job.upstream ? scratch + 4 * rows : NULL;
    job.flags = room((size_t)rows);
    job.piece = ROWS_OF_TIMES;
    job.segments = room((size_t)segments * sizeof(struct fl_cox_segment));
    run_pieces(samples->survival.gather, NULL, &job, rows, ROWS_OF_TIMES, 0);
    if (samples->survival.divide(&job)) {
        run_pieces(samples->survival.weigh, NULL, &job, segments, 1, 0);
        run_pieces(samples->survival.segments, NULL, &job, segments, 1, 0);
    } else {
        run_pieces(samples->survival.scan, NULL, &job, 1, 1, 0);
    }
    run_pieces(samples->survival.finish, NULL, &job, segments, 1, 0);
    check(r, "by times");
    free(job.segments);
    free(job.flags);
    free(scratch);
}

static void run_statistics_in_steps(const struct fl_statistics_job *job, const struct fl_statistics_kernels *table)
{
    const ptrdiff_t blocks = (job->rows.classes + FL_BLOCK - 1) / FL_BLOCK, size = table->scratch_bytes(job);
    char *scratch = room((size_t)size), *buffers = scratch + size - table->buffer_bytes;
    for (ptrdiff_t index = 0; index < job->rows.count; index++) {
        struct fl_statistics_row row;
        if (!table->start(job, &row, index, scratch)) continue;
        for (ptrdiff_t block = 0; block < blocks; block++) table->sum(job, &row, block, buffers);
        table->settle(job, &row, buffers);
        for (ptrdiff_t block = 0; block < blocks; block++) table->finish(job, &row, block, buffers);
    }
    free(scratch);
}

static void run_statistics(const struct record *r)
{
    ptrdiff_t dimensions[6];
    struct fl_statistics_job job = {0};
    const struct fl_statistics_kernels *table =
        r->in[0].dtype == FL_FLOAT64 ? &kernels->statistics_f64 : &kernels->statistics_f32;
    describe_rows(r, &job.rows, dimensions);
    describe_targets(r, &job.targets, dimensions + 4);
    job.targets.smoothing = 0.0; /* reals[1] is the scale of the entropy */
    job.rows.losses = NULL;
    job.statistics = losses_of(r);
    job.has_all = (int)r->integers[5];
    job.entropy_scale = r->reals[1];
    job.entropy_upstream = doubles(&r->in[6]);
    job.map.softcap = r->reals[2];
    job.map.temperature = r->reals[3];
    for (job.rows.stream = 0; job.rows.stream <= (job.rows.classes > FL_SHORT_ROW); job.rows.stream++) {
        run_pieces(table->rows, NULL, &job, job.rows.count, ROWS_OF_PIECE, table->scratch_bytes(&job));
        check(r, job.rows.stream ? "streamed" : "by rows");
    }
    job.rows.stream = 0;
    if (job.rows.classes > FL_BLOCK) {
        run_statistics_in_steps(&job, table);
        check(r, "in steps");
    }
}

static void copy(const struct array *from, const struct array *to)
{
    memcpy(to->data, from->data, (size_t)(from->count * from->itemsize));
}

static void run_contrast(const struct record *r)
{
    struct fl_contrast_job job = {0};
    const struct fl_contrast_kernels *table =
        r->in[0].dtype == FL_FLOAT64 ? &kernels->contrast_f64 : &kernels->contrast_f32;
    job.rows = (ptrdiff_t)r->integers[0];
    job.columns = job.row_stride = (ptrdiff_t)r->integers[1];
    if (r->kind == COLUMNS) {
        job.z = r->in[0].data;
        job.rate = r->reals[0];
        job.top = losses_of(r);
        job.sum = (double *)(void *)r->out[1].array.data;
        for (int k = 0; k < 2; k++) copy(&r->in[1 + k], &r->out[k].array);
        run_pieces(table->columns, NULL, &job, job.columns, FL_CONTRAST_COLUMNS, FL_CONTRAST_SCRATCH);
    } else {
        copy(&r->in[0], &r->out[0].array);
        job.z = r->out[0].array.data;
        job.factor = doubles(&r->in[1]);
        job.rate = job.scale = r->reals[0];
        job.bias = r->reals[1];
        job.row_lse = doubles(&r->in[2]);
        job.column_factor = r->in[3].data;
        job.column_high = r->in[4].data;
        job.column_low = r->in[5].data;
        job.row_sums = (double *)(void *)r->out[1].array.data;
        run_pieces(r->kind == BOTH ? table->both : table->pairs, NULL, &job, job.rows, 4, FL_CONTRAST_SCRATCH);
    }
    check(r, "similarities");
}

/* A column of rows of so many numbers. */
static struct fl_array column_of(const struct array *array, ptrdiff_t columns, ptrdiff_t column)
{
    struct fl_array out = straight(array);
    out.data += column * out.itemsize;
    out.class_stride *= columns;
    return out;
}

static void run_objective(const struct record *r)
{
    struct fl_objective_job job = {0};
    const ptrdiff_t rows = (ptrdiff_t)r->integers[1], columns = (ptrdiff_t)r->integers[2];
    job.distribution = (int)r->integers[0];
    job.label = straight(&r->in[1]);
    job.weight = straight(&r->in[2]);
    for (ptrdiff_t k = 0; k < columns; k++) {
        job.scores[k] = column_of(&r->in[0], columns, k);
        job.gradients[k] = column_of(&r->out[0].array, columns, k);
        job.hessians[k] = column_of(&r->out[1].array, columns, k);
    }
    run_pieces(samples->distribution.objective, NULL, &job, rows, 256, samples->distribution.objective_bytes);
    check(r, "by rows");
}

static const struct fl_function *function_of(const struct fl_function *function, const char *title)
{
    const size_t length = strcspn(title, " ");
    while (function->name && (strlen(function->name) != length || strncmp(function->name, title, length) != 0))
        function++;
    return function;
}

static void run_function(const struct record *r)
{
    const struct fl_function *function = function_of(kernels->functions, r->title);
    if (!function->name) function = function_of(samples->functions, r->title);
    if (!function->name) fail("no such function", r->title);
    function->apply(r->in[0].data, r->out[0].array.data, (ptrdiff_t)r->in[0].count);
    check(r, "function");
}

/* Every half, and the floats around it and around the middle between it and the next: by instructions (of which
 * there are none for single numbers) as in plain C. */
static void check_halves(void)
{
    static float wide[65536], x[8 * 65536];
    static uint16_t half[65536], narrow[8 * 65536];
    const volatile ptrdiff_t all = 65536; /* unknown to the compiler, which warns of the loop over a rest of none */
    (void)fl_clear_rows;
    for (int k = 0; k < 65536; k++) half[k] = (uint16_t)k;
    fl_halves_to_floats(half, wide, all);
    for (int k = 0; k < 65536; k++) {
        const float plain = fl_float_from_half(half[k]), next = fl_float_from_half((uint16_t)(k + 1));
        compared++;
        wrong +=
            !(fl_bits_from_float(wide[k]) == fl_bits_from_float(plain) || (plain != plain && wide[k] != wide[k]));
        for (int j = 0; j < 2; j++) {
            float *near = x + 8 * k + 4 * j;
            near[0] = j ? plain + (next - plain) / 2 : plain;
            near[1] = nextafterf(near[0], -INFINITY);
            near[2] = nextafterf(near[0], INFINITY);
            near[3] = -near[0] * 1024;
        }
    }
    fl_floats_to_halves(x, narrow, 8 * all);
    for (int k = 0; k < 8 * 65536; k++) {
        compared++;
        wrong += x[k] == x[k] ? narrow[k] != fl_half_from_float(x[k]) : (narrow[k] & 0x7fff) <= 0x7c00;
    }
    if (wrong) fprintf(stderr, "conversions of halves: %ld are wrong\n", wrong);
}

int main(int argc, char **argv)
{
    struct record r;
    long records = 0;
    file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file) fail("usage: driver FILE", "driver");
    check_halves();
    while (take_record(&r)) {
        switch (r.kind) {
        case FUNCTION:
            run_function(&r);
            break;
        case SOFTMAX:
            run_softmax(&r);
            break;
        case NLL:
            run_targets(&r, kernels->nll_rows);
            break;
        case MARGIN:
            run_targets(&r, kernels->margin_rows);
            break;
        case SPARSEMAX:
            run_targets(&r, kernels->sparsemax_rows);
            break;
        case ELEMENTS:
            run_elements(&r);
            break;
        case DIVERGENCE:
            run_divergence(&r);
            break;
        case PAIRS:
            run_pairs(&r);
            break;
        case LABELS:
            run_labels(&r);
            break;
        case DISTRIBUTION:
            run_distribution(&r);
            break;
        case CTC:
            run_ctc(&r);
            break;
        case LIST_NET:
        case LAMBDA_RANK:
            run_lists(&r);
            break;
        case ORDER:
            run_order(&r);
            break;
        case COX:
            run_cox(&r);
            break;
        case STATISTICS:
            run_statistics(&r);
            break;
        case COLUMNS:
        case BOTH:
        case NEGATIVE_PAIRS:
            run_contrast(&r);
            break;
        case OBJECTIVE:
            run_objective(&r);
            break;
        default:
            fail("unknown kind of record", "driver");
        }
        release(&r);
        records++;
    }
    fclose(file);
    printf("%ld jobs, %ld values compared, %ld out of bounds\n", records, compared, wrong);
    return wrong || !compared;
}
