/* Convolution by a matrix unit, where a CPU has one and the source is of 8 bits and has channels enough; tables do the rest.
 *
 *     image     a copy of the source in which all channels of a position lie side by side, 16, 32 or 64 bytes; more
 *               channels: several blocks of images. Border positions hold `zero`, bytes of no channel hold 0
 *     lane      an output position: lane i of an image is its position i, row behind row, so that a tap of the kernel is
 *               an offset into the image, the same for all lanes. Lanes at the ends of rows may be no output: junk
 *     phase     at stride s there are s * s images, each of every s-th row and column: their lanes lie side by side again
 *     shifted   small maps get an image for each column of the kernel, so that no lane is junk (8 x 8: 4 tiles, not 5)
 *     band      so many rows of outputs as have images that stay in the second-level cache
 *     tile      16 lanes, or the weights of 16 outputs: what the unit multiplies
 *     group     4 tiles of lanes that share each tile of weights
 *     chunk     the 64 numbers of a lane that one product takes: of one tap, or of 2 or 4 neighbouring taps where a position
 *               has 32 or 16 bytes; weights behind the kernel's last column are 0
 *
 * The sum over w * (x - zero) is that over w * x, less zero * the sum over w, which is known when the model is built. Sums of
 * 32 bits may wrap on the way; the result does not (docs/format.md bounds it). */
#ifndef OB_MATRIX_H
#define OB_MATRIX_H

#include "plan.h"

enum {
    OB_MATRIX_OUTPUTS = 16,    /* of a tile; threads share whole tiles */
    OB_MATRIX_LANES = 16, OB_MATRIX_GROUP = 64,
    OB_MATRIX_TILE = 1024,     /* bytes */
    OB_MATRIX_WORDS = 16,      /* of 64 bits: the weights of a tile */
    OB_MATRIX_RING = 8,        /* tiles of weights as bytes */
    OB_MATRIX_SPAN = 128       /* map positions from a group's first to its last, at most, as rows have 8 lanes or more */
};

typedef struct ob_matrix_chunk {
    int32_t offset;              /* bytes from a lane's position to the first number */
    int32_t quarters;            /* of the tile of weights that are not 0 */
    int32_t channel;             /* the first */
    int32_t row, column, columns; /* of the kernel */
} ob_matrix_chunk;

typedef struct ob_matrix {
    int32_t bytes, blocks;       /* of a position; of images */
    int32_t down, across;        /* images of a block: phases of rows; phases of columns, or columns of the kernel */
    int32_t taps_down;           /* rows of an image that a lane sees, at most */
    int32_t shifted, pitch;      /* lanes of a row */
    int32_t band, groups;        /* rows of outputs; groups of a whole band */
    int32_t image;               /* bytes */
    int32_t chunks;
    const ob_matrix_chunk *chunk;
    const uint64_t *bits;        /* [16 outputs][chunk][word r]: bit 4 * output + i is the weight of number 4 * r + i */
    const int32_t *rest;         /* [output]: what sums are to be less by, the rounding of the shift included */
    const int32_t *place;        /* [image if shifted][column of the source]: bytes into a row of images, -1: nowhere */
} ob_matrix;

static inline int32_t ob_least(int32_t a, int32_t b) { return a < b ? a : b; }
static inline int32_t ob_parts(int32_t a, int32_t of) { return (a + of - 1) / of; }

/* As ob_plan and ob_plan_memory of plan.h; a layer's tiles, which threads share, are groups here. */
int ob_matrix_plan(const ob_operation *op, const ob_value *source, ob_table_layer *layer);
void ob_matrix_plan_memory(const ob_operation *op, const ob_value *source, ob_table_layer *layer, ob_memory *memory);

typedef void ob_matrix_conv(const ob_table_job *job);
ob_matrix_conv ob_conv_amx;

#endif
