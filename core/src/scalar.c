#include "scalar.h"

/* -- numbers (docs/format.md, "Numbers") --------------------------------------------------------------------------- */

/* x / 2^k, rounded down. C leaves >> of a negative number to the compiler; every compiler that we know of shifts in copies
 * of the sign, and tests would tell. */
static inline int32_t floor_shift(int32_t x, int32_t k) { return x >> k; }

static inline int32_t sat16(int32_t x) { return x < -32768 ? -32768 : x > 32767 ? 32767 : x; }

static inline int32_t rsh(int32_t x, int32_t k) { return floor_shift(x + ((1 << k) >> 1), k); }

static inline int32_t q15mulr(int32_t x, int32_t m) { return floor_shift(x * m + 0x4000, 15); }

/* -- maps ---------------------------------------------------------------------------------------------------------- */

static inline size_t place(const ob_map *map, int32_t channel, int32_t row, int32_t column) {
    return (size_t)channel * map->plane + (size_t)row * (size_t)map->pitch + (size_t)column;
}

static inline int32_t get(const ob_map *map, size_t at) {
    return map->type == OB_U8 ? ((const uint8_t *)map->data)[at] : ((const int16_t *)map->data)[at];
}

static inline void put(const ob_map *map, size_t at, int32_t x) {
    if (map->type == OB_U8)
        ((uint8_t *)map->data)[at] = (uint8_t)x;
    else
        ((int16_t *)map->data)[at] = (int16_t)x;
}

/* -- windows ------------------------------------------------------------------------------------------------------- */

/* Rows are computed in pieces of so many columns, for which the stack has room. */
enum { PIECE = 256 };

typedef struct range {
    int32_t first, end;
} range;

/* Numbers j with first <= j < end. */
static inline range within(range r, int32_t first, int32_t end) {
    if (r.first < first)
        r.first = first;
    if (r.end > end)
        r.end = end;
    if (r.end < r.first)
        r.end = r.first;
    return r;
}

/* The taps of a window that lie in a map, on one axis: `at` is where tap 0 lies, before the map if negative. */
static inline range taps_inside(int32_t at, int32_t taps, int32_t size) {
    return within((range){0, taps}, -at, size - at);
}

/* The other way round: the windows j for which a tap lies in the map; that of window 0 lies at `at`. */
static inline range windows_inside(int32_t at, int32_t stride, int32_t size) {
    range r;
    r.first = at < 0 ? (-at + stride - 1) / stride : 0;
    r.end = at < size ? (size - 1 - at) / stride + 1 : 0;
    return r;
}

/* sum[j] += sign * (x[j * stride] - zero). Here the time of a convolution goes: the loops with a stride of 1 are written
 * so that compilers turn them into vectors. */
static inline void add_u8(int32_t *sum, int32_t count, const uint8_t *x, int32_t stride, int32_t zero, int32_t sign) {
    for (int32_t j = 0; j < count; j++)
        sum[j] += sign * (x[j * stride] - zero);
}

static inline void add_i16(int32_t *sum, int32_t count, const int16_t *x, int32_t stride, int32_t zero, int32_t sign) {
    for (int32_t j = 0; j < count; j++)
        sum[j] += sign * (x[j * stride] - zero);
}

static void add(int32_t *sum, int32_t count, const ob_map *x, size_t at, int32_t stride, int32_t zero, int32_t sign) {
    if (x->type == OB_U8) {
        const uint8_t *numbers = (const uint8_t *)x->data + at;
        if (stride == 1)
            add_u8(sum, count, numbers, 1, zero, sign);
        else
            add_u8(sum, count, numbers, stride, zero, sign);
    } else {
        const int16_t *numbers = (const int16_t *)x->data + at;
        if (stride == 1)
            add_i16(sum, count, numbers, 1, zero, sign);
        else
            add_i16(sum, count, numbers, stride, zero, sign);
    }
}

/* Weight i of a row of bits: +1 or -1. */
static inline int32_t weight(const uint8_t *bits, size_t i) { return (bits[i / 8] >> (i % 8) & 1) * 2 - 1; }

/* -- operations ---------------------------------------------------------------------------------------------------- */

void ob_scalar_table(const ob_operation *op, const uint8_t *picture, const ob_map *y, int32_t from, int32_t to) {
    for (int32_t c = from; c < to; c++) {
        const uint8_t *table = op->rows + (size_t)c * (size_t)op->row_bytes;
        const uint8_t *pixel = picture + c; /* its channels lie side by side */
        for (int32_t i = 0; i < y->height; i++)
            for (int32_t j = 0; j < y->width; j++, pixel += y->channels)
                put(y, place(y, c, i, j), ob_read16(table + 2 * *pixel));
    }
}

/* What one row of weights makes of row i: columns [piece.first, piece.end) of the sums, in sum[0] and behind. */
static void convolve(const ob_operation *op, const ob_value *source, const ob_map *x, const uint8_t *bits, int32_t i,
                     range piece, int32_t *sum) {
    const int32_t top = i * op->stride - op->top;
    const range rows = taps_inside(top, op->height, x->height);
    for (int32_t j = piece.first; j < piece.end; j++)
        sum[j - piece.first] = 0;
    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t q = 0; q < op->width; q++) {
            const range there = within(windows_inside(q - op->left, op->stride, x->width), piece.first, piece.end);
            if (there.first == there.end)
                continue;
            /* a row of bits may be longer than 32 bits can count, where all numbers are 0 */
            const size_t bit = ((size_t)r * (size_t)op->width + (size_t)q) * (size_t)x->channels;
            for (int32_t c = 0; c < x->channels; c++)
                add(sum + (there.first - piece.first), there.end - there.first, x,
                    place(x, c, top + r, there.first * op->stride + q - op->left), op->stride, source->zero,
                    weight(bits, bit + (size_t)c));
        }
}

void ob_scalar_conv(const ob_operation *op, const ob_value *source, const ob_map *x, const ob_map *base,
                    const ob_map *y, int32_t from, int32_t to) {
    int32_t sum[PIECE];
    for (int32_t o = from; o < to; o++)
        for (int32_t i = 0; i < y->height; i++)
            for (int32_t first = 0; first < y->width; first += PIECE) {
                const range piece = within((range){first, first + PIECE}, 0, y->width);
                convolve(op, source, x, op->rows + (size_t)o * (size_t)op->row_bytes, i, piece, sum);
                int16_t *made = (int16_t *)y->data + place(y, o, i, first);
                const int16_t *stream = base ? (const int16_t *)base->data + place(base, o, i, first) : NULL;
                for (int32_t j = 0; j < piece.end - first; j++) {
                    const int32_t a = sat16(rsh(sum[j], op->shift));
                    made[j] = (int16_t)(stream ? sat16(stream[j] + a) : a); /* y may be the base itself */
                }
            }
}

void ob_scalar_norm(const ob_operation *op, const ob_map *x, const ob_map *y, int32_t from, int32_t to) {
    for (int32_t c = from; c < to; c++) {
        const uint8_t *row = op->rows + (size_t)c * (size_t)op->row_bytes;
        const int32_t mean = ob_read16(row), multiplier = ob_read16(row + 2);
        const int32_t raise = op->zero + (op->row_bytes > 4 ? ob_read16(row + 4) : 0);
        for (int32_t i = 0; i < y->height; i++) {
            const int16_t *s = (const int16_t *)x->data + place(x, c, i, 0);
            uint8_t *made = (uint8_t *)y->data + place(y, c, i, 0);
            for (int32_t j = 0; j < y->width; j++) {
                int32_t q = raise + q15mulr(sat16(s[j] - mean), multiplier);
                q = q < 0 ? 0 : q;
                made[j] = (uint8_t)(q > op->limit ? op->limit : q);
            }
        }
    }
}

void ob_scalar_average(const ob_operation *op, const ob_value *source, const ob_map *x, const ob_map *y, int32_t from,
                       int32_t to) {
    int32_t sum[PIECE];
    for (int32_t c = from; c < to; c++)
        for (int32_t i = 0; i < y->height; i++)
            for (int32_t first = 0; first < y->width; first += PIECE) {
                const range piece = within((range){first, first + PIECE}, 0, y->width);
                const int32_t top = i * op->stride - op->top;
                const range rows = taps_inside(top, op->height, x->height);
                if (c >= x->channels) { /* a channel more than the source has */
                    for (int32_t j = piece.first; j < piece.end; j++)
                        put(y, place(y, c, i, j), source->zero);
                    continue;
                }
                for (int32_t j = piece.first; j < piece.end; j++)
                    sum[j - first] = 0;
                for (int32_t r = rows.first; r < rows.end; r++)
                    for (int32_t q = 0; q < op->width; q++) {
                        const range there = within(windows_inside(q - op->left, op->stride, x->width), first, piece.end);
                        if (there.first < there.end)
                            add(sum + (there.first - first), there.end - there.first, x,
                                place(x, c, top + r, there.first * op->stride + q - op->left), op->stride, 0, 1);
                    }
                for (int32_t j = piece.first; j < piece.end; j++) {
                    const range columns = taps_inside(j * op->stride - op->left, op->width, x->width);
                    const int32_t d = (rows.end - rows.first) * (columns.end - columns.first);
                    const uint8_t *row = op->rows + (size_t)(d - 1) * (size_t)op->row_bytes;
                    const int32_t mean = sat16(rsh(sum[j - first], ob_read16(row)));
                    put(y, place(y, c, i, j), q15mulr(mean, ob_read16(row + 2)));
                }
            }
}

/* The largest number of some rows and columns. */
static int32_t largest(const ob_map *x, int32_t c, int32_t top, range rows, int32_t left, range columns) {
    int32_t most = -32768;
    for (int32_t r = rows.first; r < rows.end; r++)
        for (int32_t q = columns.first; q < columns.end; q++) {
            const int32_t number = get(x, place(x, c, top + r, left + q));
            most = number > most ? number : most;
        }
    return most;
}

void ob_scalar_max(const ob_operation *op, const ob_map *x, const ob_map *y, int32_t from, int32_t to) {
    for (int32_t c = from; c < to; c++)
        for (int32_t i = 0; i < y->height; i++) {
            const int32_t top = i * op->stride - op->top;
            const range rows = taps_inside(top, op->height, x->height);
            for (int32_t j = 0; j < y->width; j++) {
                const int32_t left = j * op->stride - op->left;
                const range columns = taps_inside(left, op->width, x->width);
                put(y, place(y, c, i, j), largest(x, c, top, rows, left, columns));
            }
        }
}

void ob_scalar_logits(const ob_operation *op, const ob_value *source, const ob_map *x, int32_t *logits, int32_t from,
                      int32_t to) {
    /* a kernel of 1 x 1 has one weight a channel: every position reads the bits of position 0 */
    const size_t step = op->height == 1 && op->width == 1 ? 0 : (size_t)x->channels;
    for (int32_t k = from; k < to; k++) {
        const uint8_t *bits = op->rows + (size_t)k * (size_t)op->row_bytes;
        const uint8_t *gain = op->gains + (size_t)k * 8;
        int32_t sum = 0;
        for (int32_t c = 0; c < x->channels; c++) {
            size_t bit = (size_t)c;
            for (int32_t i = 0; i < x->height; i++)
                for (int32_t j = 0; j < x->width; j++, bit += step)
                    sum += weight(bits, bit) * (get(x, place(x, c, i, j)) - source->zero);
        }
        logits[k] = rsh(sum, op->shift) * ob_read32(gain) + ob_read32(gain + 4);
    }
}
