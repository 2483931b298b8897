/* What the parts of conv_nibble.c share: how tables lie, how they are built, how sums are made of them. */
#ifndef OBF_NIBBLE_H
#define OBF_NIBBLE_H

#include "firmware_math.h"

/* The tables of a window, of one row, of one group of four channels. With stride 1 four places: entry n of all 16, of each
 * place its two words, so that a table's next entry is ENTRY words further. With stride 2 two such blocks: places 0, 2, 4 in
 * one, then places 1, 3, whose next entry is ENTRY / 2 words further. */
enum {
    TAPS = 3,           /* rows and columns of the kernel */
    ENTRY = 8,
    BLOCK = 16 * ENTRY, /* words */
    GROUP_1 = BLOCK,
    GROUP_2 = BLOCK + BLOCK / 2
};

/* One row of tables of an output's sum: from a place of its first group on, that many pairs of groups. */
typedef struct obf_rows {
    const uint32_t *tables; /* null: there are no more */
    int32_t pairs;
} obf_rows;

/* One place of a window: its pixels' channels are read from a tuple, whose four pixels are moved by `move`: so many times
 * OBF_UP to the next pixel of the four, the first becomes 0, so many times OBF_DOWN the other way. Unless it is 0 masks are
 * applied then. */
enum { OBF_UP = 1, OBF_DOWN = 8, OBF_MASK = 64, OBF_HALF = 128 /* tables lie in a second block */ };
typedef struct obf_spot {
    int32_t source;    /* where its tuple lies, bytes from the row's start */
    uint32_t move;
    uint32_t masks[2]; /* of words: pixels 0 and 2, 1 and 3 */
    int32_t table;     /* where its tables lie, bytes from the row's first */
} obf_spot;

/* Tables of all places of a window, of one row, of some groups. */
typedef struct obf_row {
    const uint8_t *source;      /* the row, from the first channel of these groups on */
    const int16_t *numbers;     /* null: bytes as they are; else 16-bit numbers, through the usual batch-norm of these */
    uint32_t group_bytes, size; /* bytes from a group's tables to the next's, of all groups */
    uint8_t *tables;            /* of the first group */
    int32_t *totals;            /* [place][4]: sums of all channels, of pixels 0, 2, 1, 3 */
    const obf_spot *spots;      /* [places] */
    int32_t places;
    int32_t more;               /* are the sums added to those of other channels? */
} obf_row;

/* All outputs of two tuples where nothing is unusual: lanes of 16 bits suffice, maps in tuples. Both halves of a word are
 * computed at once. With shift 0 it is 2 * S1 - S, else S1 - floor(S / 2), which is that shifted by one and rounded, or
 * S1 - ceil(S / 2), of which what is left to shift rounds as it should. 0x8000 more in each half, they stay unsigned, and no
 * half borrows from the other. */
typedef struct obf_eight {
    obf_rows rows[TAPS + 1]; /* the last is null; before it those in the map, from `list` on */
    uint32_t less[4];        /* what is subtracted from a word of sums */
    void *out[2];            /* where the tuples' numbers lie; without a second tuple both are the first's */
    const void *base[2];     /* null without one */
    const int16_t *numbers;  /* of the batch-norm of what is written; null without one */
    const uint8_t *weights;
    int32_t channels, shift; /* of the output */
    int32_t skip;            /* bytes of an output's weights that belong to rows outside the map */
    void (*sum)(void);       /* as obf_sum wants it */
    const obf_rows *list;
} obf_eight;

#if defined(__thumb2__)
/* nibble_thumb2.c. Sums go by a convention of their own: obf_sum says it. */
void obf_row_thumb2(obf_row *row);
void obf_eight_thumb2(obf_eight *e);
int32_t obf_totals_thumb2(const int32_t *const *rows, int32_t *all, uint32_t *less, int shift);
void obf_sum_thumb2(void);
void obf_sum_thumb2_far(void);
#elif defined(__thumb__)
/* nibble_thumb1.c */
const uint8_t *obf_sum_thumb1(uint32_t s[4], const obf_rows *rows, const uint8_t *weights, int stride);
#endif

/* Puts into s[0..3] what one output's weights choose: two words of a tuple, pixels 0 and 2, 1 and 3; two of the next tuple.
 * Returns the weights behind those: six times four bits for each pair of groups, in three bytes. */
OBF_INLINE const uint8_t *obf_sum(uint32_t s[4], const obf_rows *rows, const uint8_t *weights, int stride) {
#if defined(__thumb2__)
    register uint32_t a __asm__("r0"), b __asm__("r1"), c __asm__("r2"), d __asm__("r3");
    register void (*sum)(void) __asm__("r4") = stride == 1 ? obf_sum_thumb2 : obf_sum_thumb2_far;
    register const uint8_t *p __asm__("r12") = weights;
    register const obf_rows *list __asm__("r11") = rows;
    __asm__("blx r4"
            : "=r"(a), "=r"(b), "=r"(c), "=r"(d), "+r"(p), "+r"(sum), "+r"(list)
            :
            : "r5", "r6", "r8", "r9", "r10", "lr", "cc", "memory");
    s[0] = a, s[1] = b, s[2] = c, s[3] = d;
    return p;
#elif defined(__thumb__)
    return obf_sum_thumb1(s, rows, weights, stride);
#else
    uint32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (; rows->tables; rows++) {
        const uint32_t *t = rows->tables;
        for (int left = rows->pairs; left; left--, weights += 3) {
            uint32_t w = weights[0] | (uint32_t)weights[1] << 8 | (uint32_t)weights[2] << 16;
            for (int half = 0; half < 2; half++, t += stride == 1 ? GROUP_1 : GROUP_2) {
                OBF_UNROLL
                for (int dx = 0; dx < TAPS; dx++, w >>= 4) {
                    const uint32_t *e;
                    if (stride == 1)
                        e = t + 2 * dx + ENTRY * (w & 15);
                    else
                        e = dx == 1 ? t + BLOCK + ENTRY / 2 * (w & 15) : t + dx + ENTRY * (w & 15);
                    s0 += e[0];
                    s1 += e[1];
                    s2 += e[2];
                    s3 += e[3];
                }
            }
        }
    }
    s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3;
    return weights;
#endif
}

#endif
