/* What happens between convolutions, in the vectors of a vector_*.h or in loops written for a compiler to make vectors of. */

/* Batch-norm, ReLU and requantisation, where no convolution does it on its way. */
OB_COLD void norm(const ob_operation *op, const int16_t *constants, const ob_map *x, const ob_map *y, int32_t from,
                 int32_t to) {
    const v16 zero = v_splat((uint16_t)op->zero);
    for (int32_t n = from; n < to; n++) {
        const int16_t *c = constants + 3 * (size_t)n, *p = (const int16_t *)x->data + (size_t)n * x->plane;
        uint8_t *q = (uint8_t *)y->data + (size_t)n * y->plane;
        const v16 mean = v_splat((uint16_t)c[0]), multiplier = v_splat((uint16_t)c[1]), offset = v_splat((uint16_t)c[2]);
        for (size_t i = 0; i < x->plane; i += OB_LANES) {
            const v16 scaled = v_mulr(v_subs(v_load(p + i), mean), multiplier);
            v_store_bytes(q + i, v_adds(v_adds(scaled, offset), zero), op->limit);
        }
    }
}

/* Average pooling. A row of sums of the rows of the window is made first, with room for padding, then summed in columns. */
enum { MOST_COLUMNS = 512 };

typedef struct average_row {
    int32_t half[MOST_COLUMNS], shift[MOST_COLUMNS], multiplier[MOST_COLUMNS]; /* for the divisor of each column */
    int32_t sums[MOST_COLUMNS + 256];
} average_row;

OB_INLINE int32_t average_of(const average_row *a, int32_t j, const int kernel, const int stride) {
    int32_t s = 0;
    for (int q = 0; q < kernel; q++) s += a->sums[j * stride + q];
    s = (s + a->half[j]) >> a->shift[j];
    s = s < -32768 ? -32768 : s > 32767 ? 32767 : s;
    return (s * a->multiplier[j] + 0x4000) >> 15;
}

OB_COLD_ONCE void average_columns(const average_row *a, const ob_map *y, size_t at, const int kernel, const int stride) {
    if (y->type == OB_U8) {
        uint8_t *to = (uint8_t *)y->data + at;
        for (int32_t j = 0; j < y->width; j++) to[j] = (uint8_t)average_of(a, j, kernel, stride);
    } else {
        int16_t *to = (int16_t *)y->data + at;
        for (int32_t j = 0; j < y->width; j++) to[j] = (int16_t)average_of(a, j, kernel, stride);
    }
}

/* What a window is divided by in each column, where it covers so many rows of the map. */
OB_COLD void divisors(const ob_operation *op, const ob_map *x, const ob_map *y, int32_t rows, average_row *a) {
    for (int32_t j = 0; j < y->width; j++) {
        const int32_t first = j * op->stride - op->left, end = first + op->width;
        const int32_t columns = (end < x->width ? end : x->width) - (first > 0 ? first : 0);
        const uint8_t *row = op->rows + 4 * (size_t)(rows * columns - 1);
        a->shift[j] = ob_read16(row);
        a->half[j] = 1 << a->shift[j] >> 1;
        a->multiplier[j] = ob_read16(row + 2);
    }
}

OB_COLD_ONCE void add_rows(int32_t *sums, const ob_map *x, size_t at, int32_t rows) {
    for (int32_t r = 0; r < rows; r++, at += (size_t)x->pitch) {
        const uint8_t *bytes = (const uint8_t *)x->data + at;
        const int16_t *words = (const int16_t *)x->data + at;
        if (x->type == OB_U8 && r == 0) for (int32_t j = 0; j < x->width; j++) sums[j] = bytes[j];
        else if (x->type == OB_U8) for (int32_t j = 0; j < x->width; j++) sums[j] += bytes[j];
        else if (r == 0) for (int32_t j = 0; j < x->width; j++) sums[j] = words[j];
        else for (int32_t j = 0; j < x->width; j++) sums[j] += words[j];
    }
}

/* The commonest: a stream of 16 bits, every second column. Two numbers are one of 32 bits; even and odd columns are summed apart,
 * and column 2 * j + q of the window is number j + q / 2 of one of them. */
typedef struct halves {
    int32_t even[MOST_COLUMNS / 2 + 256], odd[MOST_COLUMNS / 2 + 256]; /* from column -256 on */
} halves;

#ifdef OB_SMALL
OB_INLINE int16_t average_half(int32_t s, int32_t half, int32_t shift, int32_t multiplier) {
    s = (s + half) >> shift;
    s = s < -32768 ? -32768 : s > 32767 ? 32767 : s;
    return (int16_t)((s * multiplier + 0x4000) >> 15);
}

/* WebAssembly has no shift by another number each lane. But a window of 3 that moves by 2 and covers some of the map has
 * another divisor in the first and the last column only: these are done again. */
OB_INLINE void average_halves(const average_row *restrict a, const int32_t *restrict first, const int32_t *restrict second,
                              const int32_t *restrict third, int16_t *restrict to, int32_t count, const int kernel) {
    const int32_t middle = count / 2, half = a->half[middle], shift = a->shift[middle], multiplier = a->multiplier[middle];
    (void)kernel; /* 3 */
#pragma clang loop vectorize(enable) interleave(disable)
    for (int32_t j = 0; j < count; j++) to[j] = average_half(first[j] + second[j] + third[j], half, shift, multiplier);
    for (int32_t j = 0; j < count; j += count > 1 ? count - 1 : 1)
        to[j] = average_half(first[j] + second[j] + third[j], a->half[j], a->shift[j], a->multiplier[j]);
}
#else
OB_INLINE void average_halves(const average_row *restrict a, const int32_t *restrict first, const int32_t *restrict second,
                              const int32_t *restrict third, int16_t *restrict to, int32_t count, const int kernel) {
    for (int32_t j = 0; j < count; j++) {
        int32_t s = first[j] + (kernel > 1 ? second[j] : 0) + (kernel > 2 ? third[j] : 0);
        s = (s + a->half[j]) >> a->shift[j];
        s = s < -32768 ? -32768 : s > 32767 ? 32767 : s;
        to[j] = (int16_t)((s * a->multiplier[j] + 0x4000) >> 15);
    }
}
#endif

OB_INLINE void add_halves(const int16_t *restrict x, int32_t words, int more, int32_t *restrict even,
                          int32_t *restrict odd) {
    if (more)
#ifdef OB_SMALL
#pragma clang loop vectorize(enable) interleave(disable)
#endif
        for (int32_t j = 0; j < words; j++) even[j] += x[2 * j], odd[j] += x[2 * j + 1];
    else
#ifdef OB_SMALL
#pragma clang loop vectorize(enable) interleave(disable)
#endif
        for (int32_t j = 0; j < words; j++) even[j] = x[2 * j], odd[j] = x[2 * j + 1];
}

OB_INLINE void average_second(const ob_operation *op, const average_row *a, const ob_map *x, size_t at, int32_t rows,
                              halves *h, int16_t *to, const int32_t words, const int32_t count, const int kernel) {
    for (int32_t r = 0; r < rows; r++, at += (size_t)x->pitch)
        add_halves((const int16_t *)x->data + at, words, r, h->even + 128, h->odd + 128);
    if (x->width & 1) h->odd[128 + words - 1] = 0; /* what follows an odd row */
    const int32_t *column[3];
    for (int32_t q = 0; q < 3; q++) {
        const int32_t c = q - op->left + 256;
        column[q] = (c & 1 ? h->odd : h->even) + c / 2;
    }
    average_halves(a, column[0], column[1], column[2], to, count, kernel);
}

/* Some sizes as constants: rows are short, and a loop of unknown length takes longer to begin than to run. */
static void average_second_row(const ob_operation *op, const average_row *a, const ob_map *x, size_t at, int32_t rows,
                               halves *h, int16_t *to, int32_t count) {
    const int32_t words = (x->width + 1) / 2;
#ifdef OB_SMALL
    average_second(op, a, x, at, rows, h, to, words, count, 3);
#else
    if (op->width == 3 && words == 16 && count == 16) average_second(op, a, x, at, rows, h, to, 16, 16, 3);
    else if (op->width == 3 && words == 8 && count == 8) average_second(op, a, x, at, rows, h, to, 8, 8, 3);
    else if (op->width == 3) average_second(op, a, x, at, rows, h, to, words, count, 3);
    else if (op->width == 2) average_second(op, a, x, at, rows, h, to, words, count, 2);
    else average_second(op, a, x, at, rows, h, to, words, count, 1);
#endif
}

/* A channel that is appended: it holds the zero. */
OB_COLD void append(const ob_map *y, int32_t c, int32_t zero) {
    const size_t at = (size_t)c * y->plane;
    if (y->type == OB_U8)
        for (size_t j = 0; j < y->plane; j++) ((uint8_t *)y->data)[at + j] = (uint8_t)zero;
    else
        for (size_t j = 0; j < y->plane; j++) ((int16_t *)y->data)[at + j] = (int16_t)zero;
}

/* Returns 0, with nothing done, where the map is wider than this was made for. */
static int average(const ob_operation *op, const ob_value *source, const ob_map *x, const ob_map *y, int32_t from,
                   int32_t to) {
    average_row a;
    halves h;
#ifdef OB_SMALL
    const int second = x->type == OB_I16 && op->stride == 2 && op->width == 3;
#else
    const int second = x->type == OB_I16 && op->stride == 2 && op->width <= 3;
#endif
    const int32_t behind = (y->width - 1) * op->stride + op->width - op->left - x->width; /* columns of padding */
    if (y->width > MOST_COLUMNS || op->left + x->width + (behind > 0 ? behind : 0) > MOST_COLUMNS + 256) return 0;
    for (int32_t j = 0; j < op->left; j++) a.sums[j] = 0;
    for (int32_t j = 0; j < behind; j++) a.sums[op->left + x->width + j] = 0;
    for (int32_t j = 0; second && j < MOST_COLUMNS / 2 + 256; j++) h.even[j] = h.odd[j] = 0;
    for (int32_t c = from > x->channels ? from : x->channels; c < to; c++) append(y, c, source->zero);
    for (int32_t i = 0, before = 0; i < y->height; i++) {
        const int32_t top = i * op->stride - op->top, first = top > 0 ? top : 0;
        const int32_t end = top + op->height < x->height ? top + op->height : x->height;
        if (end - first != before) divisors(op, x, y, before = end - first, &a);
        for (int32_t c = from; c < to && c < x->channels; c++) {
            const size_t at = (size_t)c * y->plane + (size_t)i * (size_t)y->pitch;
            if (second) {
                average_second_row(op, &a, x, (size_t)c * x->plane + (size_t)first * (size_t)x->pitch, end - first, &h,
                               (int16_t *)y->data + at, y->width);
                continue;
            }
            add_rows(a.sums + op->left, x, (size_t)c * x->plane + (size_t)first * (size_t)x->pitch, end - first);
#ifndef OB_SMALL
            if (op->width == 3 && op->stride == 2) average_columns(&a, y, at, 3, 2);
            else if (op->width == 2 && op->stride == 2) average_columns(&a, y, at, 2, 2);
            else
#endif
            average_columns(&a, y, at, op->width, op->stride);
        }
    }
    return 1;
}

/* Sums of x - zero over the map, for each channel. */
OB_COLD void totals(const ob_value *source, const ob_map *x, int32_t *to) {
    const int whole = x->pitch == x->width; /* then a plane is one long row */
    const int32_t rows = whole ? 1 : x->height, columns = whole ? x->height * x->width : x->width;
    for (int32_t c = 0; c < x->channels; c++) {
        int32_t s = 0;
        for (int32_t i = 0; i < rows; i++) {
            const size_t at = (size_t)c * x->plane + (size_t)i * (size_t)x->pitch;
            if (x->type == OB_U8) for (int32_t j = 0; j < columns; j++) s += ((const uint8_t *)x->data)[at + (size_t)j];
            else for (int32_t j = 0; j < columns; j++) s += ((const int16_t *)x->data)[at + (size_t)j];
        }
        to[c] = s - source->zero * x->height * x->width;
    }
}
