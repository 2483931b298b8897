/* How a convolution becomes products of tiles; matrix.h says what the words mean. */
#include "matrix.h"

#include <string.h>

#ifndef OB_MATRIX_CACHED /* tests make it small */
#define OB_MATRIX_CACHED (768 << 10)
#endif
enum {
    SLACK = 32,                                /* positions that junk lanes read behind an image, at most */
    CACHED = OB_MATRIX_CACHED, MOST = 8 << 20  /* bytes of all images: wanted, and at most */
};

/* The taps of a kernel that a phase has in one direction. */
static int32_t taps(int32_t kernel, int32_t phase, int32_t stride) { return ob_parts(kernel - phase, stride); }

/* Lanes of a row, if not shifted. A row's border on the right is that of the next one on the left, as far as both have one. */
static int32_t row_of_lanes(const ob_operation *op, const ob_value *source) {
    int32_t most = op->value.width > 8 ? op->value.width : 8;
    for (int32_t px = 0; px < op->stride && px < op->width; px++) {
        const int32_t seen = op->value.width + taps(op->width, px, op->stride) - 1, end = source->width + op->left - px;
        const int32_t before = op->left > px ? ob_parts(op->left - px, op->stride) : 0;
        const int32_t inside = end > 0 ? ob_parts(end, op->stride) : 0;
        const int32_t shared = ob_least(before, seen > inside ? seen - inside : 0);
        if (most < seen - shared) most = seen - shared;
    }
    return most;
}

static int32_t lanes_of(const ob_operation *op, int32_t pitch, int32_t rows) { return (rows - 1) * pitch + op->value.width; }

static int32_t groups_of(const ob_operation *op, int32_t pitch, int32_t rows) {
    return ob_parts(lanes_of(op, pitch, rows), OB_MATRIX_GROUP);
}

/* Cycles of a chunk, roughly, for a whole map: products, and weights made bytes. */
static int64_t cost(const ob_operation *op, int32_t pitch) {
    const int32_t rows = op->value.height;
    return 16 * (int64_t)ob_parts(lanes_of(op, pitch, rows), OB_MATRIX_LANES) + 24 * (int64_t)groups_of(op, pitch, rows);
}

/* Everything but what lies in memory, and the bytes of all images; 0 where they would be mostly border, or too large. */
static int64_t shape(const ob_operation *op, const ob_value *source, ob_matrix *m) {
    const ob_value *v = &op->value;
    if (source->type != OB_U8 || source->channels < 16) return 0;
    *m = (ob_matrix){.bytes = source->channels <= 16 ? 16 : source->channels <= 32 ? 32 : 64};
    m->blocks = ob_parts(source->channels, m->bytes);
    m->down = ob_least(op->stride, op->height), m->across = ob_least(op->stride, op->width);
    m->taps_down = taps(op->height, 0, op->stride);
    m->pitch = row_of_lanes(op, source);
    if (m->pitch > 2 * v->width + 8) return 0;
    const int32_t dense = v->width > 8 ? v->width : 8, map = ob_pitch(v->width);
    const int64_t plain = cost(op, m->pitch);
    if (m->bytes == 64 && op->stride == 1 && op->width <= 3 && cost(op, dense) * 20 < plain * 17)
        m->shifted = 1, m->across = op->width, m->pitch = dense;
    else if (m->pitch < map && cost(op, map) <= plain)
        m->pitch = map; /* the output stage has less to do where lanes lie as in the map */
    int64_t all;
    for (m->band = v->height;; m->band = ob_parts(m->band, 2)) {
        const int64_t image = (((int64_t)m->band + m->taps_down) * m->pitch + SLACK) * m->bytes;
        all = image * m->blocks * m->down * m->across;
        m->image = (int32_t)image;
        if (all <= CACHED || m->band == 1) break;
    }
    m->groups = groups_of(op, m->pitch, m->band);
    return all <= MOST ? all : 0;
}

int ob_matrix_plan(const ob_operation *op, const ob_value *source, ob_table_layer *layer) {
    ob_matrix m;
    const int64_t images = shape(op, source, &m);
    if (!images || !layer) return images > 0;
    *layer = (ob_table_layer){
        .channels = source->channels, .height = source->height, .width = source->width,
        .outputs = op->value.channels, .out_height = op->value.height, .out_width = op->value.width,
        .stride = op->stride, .top = op->top, .zero = source->zero, .shift = op->shift, .has_base = op->base >= 0,
        .columns = 1,
    };
    const int32_t whole = ob_parts(op->value.height, m.band) - 1; /* bands; the last has the rows that are left */
    layer->tile_rows = whole * m.groups + groups_of(op, m.pitch, op->value.height - whole * m.band);
    /* a ring of weights, sums of two groups, 16 outputs of 32 positions of 16 bits */
    const int64_t sums = OB_MATRIX_GROUP * OB_MATRIX_OUTPUTS * sizeof(int32_t);
    layer->matrix_bytes = images + OB_MATRIX_RING * OB_MATRIX_TILE + 2 * sums + OB_MATRIX_TILE;
    return 1;
}

/* The chunks, in the order in which they are added up: all taps of a block before the next. With NULL they are only counted. */
static int32_t make_chunks(const ob_operation *op, const ob_matrix *m, ob_matrix_chunk *to) {
    const int32_t most = m->shifted ? 1 : 64 / m->bytes; /* columns */
    int32_t count = 0;
    for (int32_t b = 0; b < m->blocks; b++)
        for (int32_t r = 0; r < op->height; r++)
            for (int32_t p = 0; p < m->across; p++) {
                const int32_t columns = m->shifted ? 1 : taps(op->width, p, op->stride);
                for (int32_t x = 0; x < columns; x += most, count++) {
                    if (!to) continue;
                    const int32_t image = (b * m->down + r % op->stride) * m->across + p, n = ob_least(most, columns - x);
                    const int32_t offset = image * m->image + (r / op->stride * m->pitch + x) * m->bytes;
                    to[count] = (ob_matrix_chunk){offset, n * m->bytes / 16, b * m->bytes, r, p + x * op->stride, n};
                }
            }
    return count;
}

/* Bit `at` of a row and the three behind it; those from `end` on are 0. */
static uint32_t four_bits(const uint8_t *row, size_t at, size_t end) {
    if (at >= end) return 0;
    uint32_t w = row[at / 8];
    if (at / 8 < (end - 1) / 8) w |= (uint32_t)row[at / 8 + 1] << 8;
    return w >> at % 8 & (end - at < 4 ? (1u << (end - at)) - 1 : 15u);
}

/* A row of weights into tiles, whose words have them from bit `shift` on; how many are +1. */
static int32_t pack_row(const ob_operation *op, int32_t channels, const ob_matrix *m, const uint8_t *row, uint64_t *words,
                        int32_t shift) {
    static const uint8_t ones[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
    int32_t positive = 0;
    for (int32_t k = 0; k < m->chunks; k++, words += OB_MATRIX_WORDS) {
        const ob_matrix_chunk *c = m->chunk + k;
        uint64_t *word = words;
        for (int32_t x = 0; x < c->columns; x++) {
            const size_t tap = (size_t)c->row * (size_t)op->width + (size_t)(c->column + x * op->stride);
            const size_t first = tap * (size_t)channels, end = first + (size_t)channels;
            for (int32_t i = 0; i < m->bytes; i += 4) {
                const uint32_t four = four_bits(row, first + (size_t)(c->channel + i), end);
                *word++ |= (uint64_t)four << shift;
                positive += ones[four];
            }
        }
    }
    return positive;
}

/* Where in a row of images the source's columns go. */
static void make_places(const ob_operation *op, const ob_value *source, const ob_matrix *m, int32_t *place) {
    for (int32_t p = 0; p < (m->shifted ? m->across : 1); p++)
        for (int32_t j = 0; j < ob_pitch(source->width); j++) {
            const int32_t at = j + op->left - (m->shifted ? p : 0), image = m->shifted ? p : at % op->stride;
            const int there = j < source->width && at >= 0 && at / op->stride < m->pitch && image < m->across;
            *place++ = there ? image * m->image + at / op->stride * m->bytes : -1;
        }
}

void ob_matrix_plan_memory(const ob_operation *op, const ob_value *source, ob_table_layer *layer, ob_memory *memory) {
    ob_matrix m;
    shape(op, source, &m);
    m.chunks = make_chunks(op, &m, NULL);
    const int32_t outputs = op->value.channels, tiles = ob_parts(outputs, OB_MATRIX_OUTPUTS);
    const uint64_t words = (uint64_t)m.chunks * OB_MATRIX_WORDS, places = (uint64_t)ob_pitch(source->width);
    ob_matrix *to = ob_take(memory, sizeof *to);
    ob_matrix_chunk *chunk = ob_take(memory, (uint64_t)m.chunks * sizeof *chunk);
    uint64_t *bits = ob_take(memory, (uint64_t)tiles * words * sizeof *bits);
    int32_t *rest = ob_take(memory, (uint64_t)tiles * OB_MATRIX_OUTPUTS * sizeof *rest);
    int32_t *place = ob_take(memory, places * (uint64_t)(m.shifted ? m.across : 1) * sizeof *place);
    m.chunk = chunk, m.bits = bits, m.rest = rest, m.place = place;
    layer->matrix = to;
    if (!to || !chunk || !bits || !rest || !place) return;
    make_chunks(op, &m, chunk);
    make_places(op, source, &m, place);
    memset(bits, 0, (size_t)tiles * (size_t)words * sizeof *bits);
    memset(rest, 0, (size_t)tiles * OB_MATRIX_OUTPUTS * sizeof *rest);
    for (int32_t o = 0; o < outputs; o++) {
        const uint8_t *row = op->rows + (size_t)o * (size_t)op->row_bytes;
        uint64_t *at = bits + (size_t)(o / OB_MATRIX_OUTPUTS) * (size_t)words;
        const int32_t positive = pack_row(op, source->channels, &m, row, at, o % OB_MATRIX_OUTPUTS * 4);
        const int32_t sum = 2 * positive - op->height * op->width * source->channels;
        rest[o] = source->zero * sum - (1 << op->shift >> 1);
    }
    *to = m;
}
