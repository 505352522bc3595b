/* Groups of FL_LANES rows of few classes as columns, one row in each vector lane: class c of row l
 * is at columns[c][l]. So sums and maxima over the classes of a row need no shuffles, and what is computed for a
 * row does not depend on the rows in the other lanes.
 *
 * kernels.inc includes this file twice, after rows.h. */

/* Bytes of room for the rows of a group of at most FL_SHORT_ROW classes as REAL. */
enum { FL_(group_bytes) = FL_SHORT_ROW * FL_LANES * (int)sizeof(REAL) };

/* Four classes at a time by shuffles, the last four again if the number of classes is no multiple of four. */
static void FL_(to_columns)(const REAL *const rows[FL_LANES], ptrdiff_t classes, REAL (*columns)[FL_LANES])
{
    if (sizeof(REAL) == sizeof(float) && classes >= 4) {
        for (int l = 0; l < FL_LANES; l += 4) {
            const char *four[4];
            for (int k = 0; k < 4; k++) four[k] = (const char *)rows[l + k];
            for (ptrdiff_t c = 0;; c = c + 8 <= classes ? c + 4 : classes - 4) {
                fl_transpose_in(four, c * 4, (float *)(void *)&columns[c][l], FL_LANES);
                if (c + 4 == classes) break;
            }
        }
        return;
    }
    for (int l = 0; l < FL_LANES; l++)
        for (ptrdiff_t c = 0; c < classes; c++) columns[c][l] = rows[l][c];
}

static void FL_(to_rows)(REAL (*columns)[FL_LANES], ptrdiff_t classes, REAL *const rows[FL_LANES])
{
    if (sizeof(REAL) == sizeof(float) && classes >= 4) {
        for (int l = 0; l < FL_LANES; l += 4) {
            char *four[4];
            for (int k = 0; k < 4; k++) four[k] = (char *)rows[l + k];
            for (ptrdiff_t c = 0;; c = c + 8 <= classes ? c + 4 : classes - 4) {
                fl_transpose_out((const float *)(const void *)&columns[c][l], FL_LANES, four, c * 4);
                if (c + 4 == classes) break;
            }
        }
        return;
    }
    for (int l = 0; l < FL_LANES; l++)
        for (ptrdiff_t c = 0; c < classes; c++) rows[l][c] = columns[c][l];
}

/* Two or three classes of rows that follow each other: loops of constant stride, which compilers vectorise. */
static int FL_(few_to_columns)(const REAL *x, ptrdiff_t classes, REAL (*columns)[FL_LANES])
{
    if (classes == 2)
        for (int l = 0; l < FL_LANES; l++) columns[0][l] = x[2 * l], columns[1][l] = x[2 * l + 1];
    if (classes == 3)
        for (int l = 0; l < FL_LANES; l++)
            columns[0][l] = x[3 * l], columns[1][l] = x[3 * l + 1], columns[2][l] = x[3 * l + 2];
    return classes == 2 || classes == 3;
}

static int FL_(few_to_rows)(REAL (*columns)[FL_LANES], ptrdiff_t classes, REAL *x)
{
    if (classes == 2)
        for (int l = 0; l < FL_LANES; l++) x[2 * l] = columns[0][l], x[2 * l + 1] = columns[1][l];
    if (classes == 3)
        for (int l = 0; l < FL_LANES; l++)
            x[3 * l] = columns[0][l], x[3 * l + 1] = columns[1][l], x[3 * l + 2] = columns[2][l];
    return classes == 2 || classes == 3;
}

/* How a group lies in memory: `p` is its first row. */
struct FL_(group) {
    char *p;
    ptrdiff_t stride;
    int is_even, is_adjacent, is_packed; /* rows equally far apart; an element apart; one after the other */
};

static struct FL_(group)
    FL_(group_of)(const struct fl_array *array, ptrdiff_t first, ptrdiff_t count, ptrdiff_t classes)
{
    struct FL_(group) group;
    group.p = fl_row_address(array, first);
    group.is_even = fl_run_of_rows(array, first, count, &group.stride) == count;
    group.is_adjacent = group.is_even && count == FL_LANES && group.stride == array->itemsize;
    group.is_packed =
        group.is_even && array->class_stride == array->itemsize && group.stride == classes * array->itemsize;
    return group;
}

/* Reads rows first .. first + count - 1, count <= FL_LANES. The other lanes are copies of the first. `room` has room
 * for the rows as REAL. */
static void FL_(load_columns)(const struct fl_array *array, ptrdiff_t first, ptrdiff_t count, ptrdiff_t classes,
                              REAL (*columns)[FL_LANES], REAL *room)
{
    const struct FL_(group) group = FL_(group_of)(array, first, count, classes);
    const int direct = FL_(is_direct)(array);
    const REAL *rows[FL_LANES];
    if (group.is_adjacent && classes > 1) {
        for (ptrdiff_t c = 0; c < classes; c++)
            FL_(fl_load)(group.p + c * array->class_stride, group.stride, array->dtype, columns[c], FL_LANES);
        return;
    }
    if (group.is_packed && !direct) FL_(fl_load)(group.p, array->itemsize, array->dtype, room, count * classes);
    if (group.is_packed && count == FL_LANES &&
        FL_(few_to_columns)(direct ? (const REAL *)(const void *)group.p : room, classes, columns))
        return;
    for (ptrdiff_t l = 0; l < FL_LANES; l++) {
        const char *p =
            group.is_even ? group.p + l * group.stride : fl_row_address(array, l < count ? first + l : first);
        rows[l] = l < count ? (direct ? (const REAL *)(const void *)p : room + l * classes) : rows[0];
        if (l < count && !direct && !group.is_packed)
            FL_(fl_load)(p, array->class_stride, array->dtype, room + l * classes, classes);
    }
    FL_(to_columns)(rows, classes, columns);
}

static void FL_(store_columns)(const struct fl_array *array, ptrdiff_t first, ptrdiff_t count, ptrdiff_t classes,
                               REAL (*columns)[FL_LANES], REAL *room)
{
    const struct FL_(group) group = FL_(group_of)(array, first, count, classes);
    const int direct = FL_(is_direct)(array);
    REAL *rows[FL_LANES];
    if (group.is_adjacent && classes > 1) {
        for (ptrdiff_t c = 0; c < classes; c++)
            FL_(fl_store)(columns[c], group.p + c * array->class_stride, group.stride, array->dtype, FL_LANES);
        return;
    }
    if (!(group.is_packed && count == FL_LANES &&
          FL_(few_to_rows)(columns, classes, direct ? (REAL *)(void *)group.p : room))) {
        for (ptrdiff_t l = 0; l < FL_LANES; l++) {
            char *p =
                group.is_even ? group.p + l * group.stride : fl_row_address(array, l < count ? first + l : first);
            rows[l] = direct && l < count ? (REAL *)(void *)p : room + l * classes;
        }
        FL_(to_rows)(columns, classes, rows);
    }
    if (direct) return;
    if (group.is_packed) {
        FL_(fl_store)(room, group.p, array->itemsize, array->dtype, count * classes);
        return;
    }
    for (ptrdiff_t l = 0; l < count; l++)
        FL_(fl_store)(room + l * classes, fl_row_address(array, first + l), array->class_stride, array->dtype,
                      classes);
}
