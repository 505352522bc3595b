/* Short rows in float: the odd ones, which are computed in double, one by one. See short_rows.h. */
#ifndef FASTLOSS_SHORT_ODD_H
#define FASTLOSS_SHORT_ODD_H

#include "short_sums.h"

/* The job of an odd row, whose results go to arrays of a row. */
static struct fl_softmax_job short_odd_job(const struct fl_softmax_job *job, float *gradient, float *hessian)
{
    const struct fl_array none = {0};
    struct fl_array row = {(char *)gradient, FL_FLOAT32, 0, sizeof(float), sizeof(float), NULL, NULL};
    struct fl_softmax_job one = *job;
    one.rows.accumulate = one.rows.stream = 0;
    one.rows.losses = NULL;
    one.rows.output = job->rows.output.data ? row : none;
    row.data = (char *)hessian;
    one.hessian = job->hessian.data ? row : none;
    return one;
}

/* Bytes of room for an odd row: its gradient and hessian, then the scratch of its kernel. */
static ptrdiff_t short_odd_bytes(const struct fl_softmax_job *job)
{
    float any;
    const struct fl_softmax_job one = short_odd_job(job, &any, &any);
    return 2 * fl_group_of(0, 1, job->rows.classes).step * (ptrdiff_t)sizeof(float) + scratch_bytes_f64(&one);
}

/* The room, at the end of the scratch. */
static char *short_odd_room(const struct fl_softmax_job *job, void *scratch)
{
    return (char *)scratch + short_bytes(job) - short_odd_bytes(job);
}

/* The loss of an odd row. Its gradient and hessian, if the job has them, are at the start of the room. */
static double short_odd_row(const struct fl_softmax_job *job, ptrdiff_t row, int step, char *room)
{
    float *gradient = (float *)(void *)room, *hessian = gradient + step;
    const struct fl_softmax_job one = short_odd_job(job, gradient, hessian);
    return rows_in_turns_f64(&one, row, row + 1, (char *)(hessian + step)).total;
}

/* The results of the odd rows of a part: losses, and gradients and hessians in their columns. */
FL_OUTLINE void short_odd(const struct fl_softmax_job *job, struct fl_group group, int part, float *x, float *h,
                          struct short_rows *r)
{
    char *const room = short_odd_room(job, r - part);
    const float *gradient = (const float *)(const void *)room, *hessian = gradient + group.step;
    for (int l = 0; l < FL_LANES; l++) {
        if (!r->odd[l]) continue;
        r->loss[l] = short_odd_row(job, fl_row_of_lane(group, part * FL_LANES + l), group.step, room);
        for (int c = 0; c < group.classes && job->rows.output.data; c++) x[c * FL_LANES + l] = gradient[c];
        for (int c = 0; c < group.classes && job->hessian.data; c++) h[c * FL_LANES + l] = hessian[c];
    }
}

#endif
