/* A checked program, as program.c leaves it for everything behind: numbers decoded, ranges proven, pointers into the file.
 * docs/format.md says what they mean. */
#ifndef OB_PROGRAM_H
#define OB_PROGRAM_H

#include "../include/onebit.h"

enum { OB_MAX_OPERATIONS = 4096, OB_MAX_SIDE = 4096, OB_MAX_CHANNELS = 65536, OB_MAX_MAP = 1 << 26 };

typedef enum ob_kind { OB_TABLE, OB_CONV, OB_NORM, OB_AVERAGE, OB_MAX, OB_LOGITS } ob_kind;
typedef enum ob_type { OB_U8, OB_I16, OB_I32 } ob_type;

/* What an operation makes: low <= x <= high for every number x, whatever the picture. */
typedef struct ob_value {
    ob_type type;
    int32_t channels, height, width;
    int32_t low, high;
    int32_t zero; /* the x that stands for the real number 0 */
} ob_value;

typedef struct ob_operation {
    ob_kind kind;
    int32_t source, base;                    /* numbers of earlier operations; base -1: none */
    int32_t height, width;                   /* of the kernel or window; of the picture for a table */
    int32_t stride, top, left, bottom, right;
    int32_t shift;
    int32_t zero, limit;                     /* norm; fraction and sharpness of logits */
    const uint8_t *rows;                     /* what it owns of table, bits, norms or averages: little-endian, unaligned */
    int32_t row_bytes;                       /* bytes of a row of it */
    const uint8_t *gains;                    /* logits: gain and offset of each class, 8 bytes a row */
    ob_value value;
} ob_operation;

struct ob_program {
    int32_t count;
    const ob_operation *operations;
};

static inline int32_t ob_read16(const uint8_t *p) { return (int16_t)(uint16_t)(p[0] | p[1] << 8); }
static inline int32_t ob_read32(const uint8_t *p) {
    return (int32_t)((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
}

#endif
