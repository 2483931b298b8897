#include "values.h"

enum { LEAST16 = -32768, MOST16 = 32767, TABLE_LIMIT = 8159 };

static const int64_t INT32 = (int64_t)1 << 31; /* what sums must stay below */

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t size(int32_t number) { return number < 0 ? -(int64_t)number : number; }

/* The largest |x - zero| of a value. */
static int64_t reach(const ob_value *value) {
    return larger((int64_t)value->high - value->zero, (int64_t)value->zero - value->low);
}

static int in_limits(const ob_value *v) {
    return v->channels >= 1 && v->channels <= OB_MAX_CHANNELS && v->height >= 1 && v->height <= OB_MAX_SIDE &&
           v->width >= 1 && v->width <= OB_MAX_SIDE && (int64_t)v->channels * v->height * v->width <= OB_MAX_MAP;
}

/* -- windows ------------------------------------------------------------------------------------------------------- */

/* Numbers of positions that windows along one side of a map have in it. Strides and paddings are such that there are few
 * different ones: at most 127 at each end that the padding cuts, and the whole. */
typedef struct covered {
    int32_t count, least, most;
    uint16_t numbers[255];
} covered;

static void cover(int32_t length, int32_t window, int32_t stride, int32_t before, int32_t windows, covered *found) {
    uint8_t known[OB_MAX_SIDE + 1] = {0};
    found->count = found->most = 0;
    found->least = length;
    for (int32_t i = 0; i < windows; i++) {
        int32_t start = i * stride - before;
        int32_t n = (int32_t)larger(0, smaller(start + window, length) - larger(start, 0));
        if (known[n])
            continue;
        known[n] = 1;
        found->numbers[found->count++] = (uint16_t)n;
        found->least = (int32_t)smaller(found->least, n);
        found->most = (int32_t)larger(found->most, n);
    }
}

/* The map that windows make, if they fit in at least once. */
static int window_map(const ob_operation *op, const ob_value *source, ob_value *made) {
    int32_t rows = source->height + op->top + op->bottom - op->height;
    int32_t columns = source->width + op->left + op->right - op->width;
    if (rows < 0 || columns < 0)
        return 0;
    made->height = rows / op->stride + 1;
    made->width = columns / op->stride + 1;
    return 1;
}

/* How many rows and columns of the map the windows of a pool cover: each at least one. */
static int pooled(const ob_operation *op, const ob_value *source, covered *down, covered *across) {
    cover(source->height, op->height, op->stride, op->top, op->value.height, down);
    cover(source->width, op->width, op->stride, op->left, op->value.width, across);
    return down->least > 0 && across->least > 0;
}

/* -- operations ---------------------------------------------------------------------------------------------------- */

static int find_table(ob_operation *op) {
    ob_value *v = &op->value;
    v->type = OB_I16;
    v->height = op->height;
    v->width = op->width;
    v->low = MOST16;
    v->high = LEAST16;
    for (int64_t i = 0; i < (int64_t)v->channels * 256; i++) {
        int32_t x = ob_read16(op->rows + 2 * i);
        v->low = x < v->low ? x : v->low;
        v->high = x > v->high ? x : v->high;
    }
    return v->low >= -TABLE_LIMIT && v->high <= TABLE_LIMIT;
}

/* Are the bits behind the last weight of each row 0? */
static int padded(const ob_operation *op, int32_t rows, int64_t weights) {
    int used = (int)(weights % 8);
    for (int64_t i = 1; used && i <= rows; i++)
        if (op->rows[i * op->row_bytes - 1] >> used)
            return 0;
    return 1;
}

static int find_conv(ob_operation *op, const ob_value *source, const ob_value *base) {
    ob_value *v = &op->value;
    int64_t weights = (int64_t)op->height * op->width * source->channels, sum = weights * reach(source);
    v->type = OB_I16;
    v->low = LEAST16;
    v->high = MOST16;
    if (!window_map(op, source, v) || !padded(op, v->channels, weights) || sum + ((int64_t)1 << op->shift) >= INT32)
        return 0;
    if (base)
        return base->type == OB_I16 && base->channels == v->channels && base->height == v->height &&
               base->width == v->width;
    int64_t most = (sum + ((int64_t)1 << op->shift >> 1)) >> op->shift;
    v->low = (int32_t)larger(LEAST16, -most);
    v->high = (int32_t)smaller(MOST16, most);
    return 1;
}

static int find_norm(ob_operation *op, const ob_value *source) {
    ob_value *v = &op->value;
    v->type = OB_U8;
    v->height = source->height;
    v->width = source->width;
    v->high = op->limit;
    v->zero = op->zero;
    for (int64_t i = 0; i < v->channels; i++)
        if (ob_read16(op->rows + i * op->row_bytes + 2) == LEAST16)
            return 0;
    return source->type == OB_I16 && op->limit >= 1 && op->limit <= 255 && op->zero >= 0 && op->zero <= op->limit;
}

/* May the mean of `d` activations be larger than the largest of them? */
static int mean_grows(const ob_operation *op, int64_t d, int32_t high) {
    const uint8_t *row = op->rows + (d - 1) * op->row_bytes;
    int32_t shift = ob_read16(row), multiplier = ob_read16(row + 2);
    int64_t mean = (d * high + (1 << shift >> 1)) >> shift;
    return (mean * multiplier + 0x4000) >> 15 > high;
}

static int find_average(ob_operation *op, const ob_value *source) {
    ob_value *v = &op->value;
    covered down, across;
    *v = (ob_value){OB_I16, v->channels, 0, 0, LEAST16, MOST16, 0};
    if (v->channels < source->channels || !window_map(op, source, v) || !pooled(op, source, &down, &across))
        return 0;
    for (int64_t i = 0; i < (int64_t)op->height * op->width; i++) {
        int32_t shift = ob_read16(op->rows + i * op->row_bytes);
        if (shift < 0 || shift > 15 || ob_read16(op->rows + i * op->row_bytes + 2) < 0)
            return 0;
    }
    int64_t sum = (int64_t)down.most * across.most * larger(source->high, -(int64_t)source->low);
    if (sum + (1 << 15) >= INT32)
        return 0;
    if (source->type == OB_I16)
        return 1;
    v->type = OB_U8;
    v->low = 0;
    v->high = source->high;
    v->zero = source->zero;
    /* Each product is at most the number of rows owned, and no factor occurs twice: this is linear in the file. */
    for (int32_t i = 0; i < down.count; i++)
        for (int32_t j = 0; j < across.count; j++)
            if (mean_grows(op, (int64_t)down.numbers[i] * across.numbers[j], source->high))
                return 0;
    return 1;
}

static int find_max(ob_operation *op, const ob_value *source) {
    covered down, across;
    op->value = *source;
    return window_map(op, source, &op->value) && pooled(op, source, &down, &across);
}

static int find_logits(ob_operation *op, const ob_value *source) {
    ob_value *v = &op->value;
    int64_t weights = (int64_t)op->height * op->width * source->channels, gain = 0, offset = 0;
    int64_t sum = (int64_t)source->channels * source->height * source->width * reach(source);
    int whole = op->height == source->height && op->width == source->width;
    v->type = OB_I32;
    v->height = v->width = 1;
    v->low = INT32_MIN;
    v->high = INT32_MAX;
    for (int64_t i = 0; i < v->channels; i++) {
        gain = larger(gain, size(ob_read32(op->gains + 8 * i)));
        offset = larger(offset, size(ob_read32(op->gains + 8 * i + 4)));
    }
    /* The product fits in 64 bits, since `sum` is known to be small where it is computed. */
    return (whole || (op->height == 1 && op->width == 1)) && padded(op, v->channels, weights) &&
           sum + ((int64_t)1 << op->shift) < INT32 && ((sum >> op->shift) + 1) * gain + offset < INT32 &&
           op->zero >= 0 && op->zero <= 24 && op->limit >= 1;
}

int ob_value_find(ob_operation *operations, int32_t number) {
    ob_operation *op = &operations[number];
    const ob_value *source = op->kind == OB_TABLE ? NULL : &operations[op->source].value;
    int good = 0;
    switch (op->kind) {
    case OB_TABLE: good = find_table(op); break;
    case OB_CONV: good = find_conv(op, source, op->base < 0 ? NULL : &operations[op->base].value); break;
    case OB_NORM: good = find_norm(op, source); break;
    case OB_AVERAGE: good = find_average(op, source); break;
    case OB_MAX: good = find_max(op, source); break;
    case OB_LOGITS: good = find_logits(op, source); break;
    }
    return good && in_limits(&op->value);
}
