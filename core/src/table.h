/* Convolution by tables of subset sums, for every CPU without a matrix unit.
 *
 * Take g input channels and a strip of S neighbouring output positions. A weight is one bit, so g weights are a number e
 * from 0 to 2^g - 1, and what they contribute at all S positions is the sum of those channels whose bit is 1. There are
 * only 2^g such sums. They are computed once (one vector add each), kept in the first-level cache as 16-bit lanes, and
 * every output channel and every tap of the kernel then looks its e up: one vector add does g multiply-accumulates a lane,
 * nothing but loads and adds. With S1 the sum over the weights that are +1 and S that over all of them, the convolution
 * is S1 - (S - S1) = 2 * S1 - S, and S is just one more output channel whose bits are all 1.
 *
 *     group    g channels and their table of 2^g entries
 *     chunk    the groups whose tables lie in the cache at once; its sums fit 16 bits, then go to 32-bit accumulators
 *     tile     the strip: R rows of `pitch` lanes; an entry holds R + DY rows, so that a tap in row dy is an offset into it
 *     section  the taps of one column: those of the centre add up as they lie; the sums of the column to the left or right
 *              are shifted by one lane in registers, where zero enters at the ends of rows (padding)
 *     flat     kernels wider than three columns have one section of all taps, columns being offsets too; a tile then has as
 *              many lanes fewer that count as the kernel has columns more
 *     ring     tiles of two rows, one below the other, share two of the four rows that an entry has: the next tile's
 *              two new rows replace the first two, and the rows then begin in the entry's second half
 *     phase    at stride s, output positions see only every s-th row and column of the map: s * s smaller maps, each with
 *              its taps
 *     plane    a source of 16 bits is two of 8: x = 256 * high + low
 *
 * Lanes hold x - zero, so that padding is 0 whatever the zero point, and numbers may be negative. Sums must not be: entry 0
 * of a chunk's first group is not 0 but a bias; an output channel of all bits 0 (computed like S) tells what it came to.
 */
#ifndef OB_TABLE_H
#define OB_TABLE_H

#include "maps.h"

enum {
    OB_TABLE_GROUPS = 4,        /* groups of a chunk, at most, */
    OB_NIBBLE_GROUPS = 6,       /* of activations of 4 bits */
    OB_TABLE_BITS = 7,          /* channels of a group, at most */
    OB_TABLE_TAPS = 257,        /* of a phase, at most: so many numbers of 8 bits add up to 16 */
    OB_TABLE_STRIP = 64,        /* lanes of a tile, at most */
    OB_TABLE_BYTES = 32 << 10,  /* tables of a chunk; offsets into them have 16 bits */
    OB_TABLE_LANES = OB_TABLE_BITS * 1024, /* bytes: lanes of the channels of one group, an entry each */
    OB_TABLE_COPY = OB_TABLE_STRIP * 8,   /* bytes: a tile's base, sum and activation, where rows are copied */
    OB_RING = 4,                /* tiles of a ring, whose accumulators stay in the second-level cache */
    OB_RING_PITCH = 32,
    OB_CENTRE = 1, OB_LEFT = 2, OB_RIGHT = 4, OB_FLAT = 8
};

typedef enum ob_plane { OB_PLANE_BYTE, OB_PLANE_HIGH, OB_PLANE_LOW } ob_plane;

typedef struct ob_chunk {
    uint32_t offsets;      /* its first offset: [output][section][tap][group] */
    uint16_t bias;         /* entry 0 of the first group */
    uint8_t groups;
    uint8_t sections;      /* OB_CENTRE + OB_LEFT + OB_RIGHT, or OB_FLAT */
    uint16_t sums;         /* K: entries added up for a section = its taps * groups */
    uint8_t plane;
    uint8_t phase_y;       /* input row of lane row Y: (row + Y) * stride + phase_y - top */
    int32_t column;        /* input column of lane X: (column of the tile + X) * stride + this */
    int32_t channel;       /* first one; group i begins at channel + i * bits */
    int32_t entry;         /* bytes of a table's entry */
    int32_t bank;          /* 4 bits: which accumulators of 16 bits it adds to */
    uint8_t carried;       /* 8 bits: sums of 16 bits, which the chunk before left, are added */
    uint8_t carries;       /* and are left for the next one, since more still fits */
} ob_chunk;

/* A column of tiles: lanes [from, to) of it are outputs, the first of them at column `at`. */
typedef struct ob_column {
    int32_t at, from, to;
} ob_column;

typedef struct ob_table_layer {
    int32_t channels, height, width;             /* of the source */
    int32_t outputs, out_height, out_width;
    int32_t stride, top, zero;
    int32_t pitch, rows, strip;                  /* of a tile: lanes of a row, rows, lanes = pitch * rows */
    int32_t tile_rows, columns;                  /* tiles: in the map's height, and in its width */
    int32_t direct;                              /* are the tile's lanes those of the output map? else rows are copied */
    int32_t ring;                                /* tiles one below the other that share rows of tables; 1: none do */
    int32_t bits;                                /* g */
    int32_t chunks;
    int32_t high_chunks;                         /* so many of them are of the high plane and come first */
    int32_t extra;                               /* outputs before those of the layer: all bits 1, and all 0 if biased */
    int32_t nibble;                              /* activations of 4 bits: lanes of 8 bits, see nibble_kernel.h */
    int32_t banks;                               /* its accumulators of 16 bits, each of as many channels as fit */
    int32_t carries;                             /* 8 bits: does any chunk carry sums of 16 bits over? */
    const ob_chunk *chunk;
    const uint16_t *offsets;
    const ob_column *column;
    /* output stage */
    int32_t shift;
    int32_t halved;                              /* shift is 1 or more, and sums, biases included, stay below 2^31 */
    int32_t has_base, has_norm, keeps;           /* keeps: is the sum itself stored? */
    int32_t norm_zero, norm_limit, norm_offsets; /* norm_offsets: is any offset or the zero not 0? */
    const int16_t *norm;                         /* [output][3]: mean, multiplier, offset */
    /* by a matrix unit, matrix.h: all of this but tables */
    int64_t matrix_bytes;                        /* of a thread's scratch; 0: by tables */
    const struct ob_matrix *matrix;
} ob_table_layer;

/* One thread's share of a layer: tiles [tile, tile_end) and outputs [output, output_end). */
typedef struct ob_table_job {
    const ob_table_layer *layer;
    ob_map source, base, sum, activation;        /* data NULL where there is none */
    int32_t tile, tile_end, output, output_end;
    void *scratch;
} ob_table_job;

/* Of 4 bits: entries of a section and entries that are added in lanes of 8 bits, which have code of their own. */
#define OB_NIBBLE_ENTRIES(X) \
    X(18, 3) X(15, 3) X(12, 3) X(10, 3) X(8, 3) X(6, 3) X(5, 3) X(4, 3) X(12, 2) X(9, 2) X(12, 4)

/* What an instruction set brings: one file of kernels/ each. */
typedef struct ob_table_kernels {
    const char *name;
    int32_t lanes, strip;                        /* of a vector, and of its largest tile */
    void (*conv)(const ob_table_job *job);
    void (*norm)(const ob_operation *op, const int16_t *constants, const ob_map *x, const ob_map *y, int32_t from,
                 int32_t to);
    int (*average)(const ob_operation *op, const ob_value *source, const ob_map *x, const ob_map *y, int32_t from,
                   int32_t to); /* 0 where it leaves the work to plain loops */
    void (*totals)(const ob_value *source, const ob_map *x, int32_t *to);
    void (*probe)(const uint8_t *table, const uint16_t *offsets, int32_t count, int nibbles, uint8_t *to);
} ob_table_kernels; /* probe: the hot loop alone, `count` times 12 entries of `strip` lanes */

extern const ob_table_kernels ob_table_words, ob_table_sse2, ob_table_avx2, ob_table_avx512, ob_table_neon,
    ob_table_wasm;

/* Bytes of a thread's scratch for a layer: tables, accumulators, a row of everything that is copied. */
static inline size_t ob_table_scratch(const ob_table_layer *layer) {
    if (layer->matrix_bytes) return (size_t)layer->matrix_bytes;
    const size_t slots = (size_t)layer->outputs + (size_t)layer->extra;
    const size_t lane = layer->nibble ? (size_t)layer->banks * sizeof(uint16_t)
                                       : layer->carries ? sizeof(uint32_t) + sizeof(uint16_t) : sizeof(uint32_t);
    return OB_TABLE_BYTES + OB_TABLE_LANES + OB_TABLE_COPY + (size_t)layer->strip * (sizeof(uint32_t) + slots * lane * (size_t)layer->ring);
}

#endif
