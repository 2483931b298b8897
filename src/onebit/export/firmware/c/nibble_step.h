/* The inner loop of conv_nibble.c, for each instruction set. */
#ifndef OBF_NIBBLE_STEP_H
#define OBF_NIBBLE_STEP_H

#include <stdint.h>

/* Tables of the rows of the kernel that are to be summed, behind them a null; pairs of groups of four channels of each. */
typedef struct obf_rows {
    const uint32_t *row[4];
    int pairs;
    uint32_t group_bytes; /* from a group's tables to the next's */
} obf_rows;

#if defined(__thumb2__)

/* Four weights: the entry that they choose, O bytes from the first place's, and C bytes further that of the second tuple. */
#define OBF_STEP(S, O, C) \
    "ubfx %[e], %[w], #" #S ", #4\n" \
    "add %[e], %[t], %[e], lsl #3\n" \
    "ldrd %[x], %[y], [%[e], #" #O "]\n" \
    "add %[a0], %[a0], %[x]\n" \
    "add %[a1], %[a1], %[y]\n" \
    "ldrd %[x], %[y], [%[e], #" #O "+" #C "]\n" \
    "add %[a2], %[a2], %[x]\n" \
    "add %[a3], %[a3], %[y]\n"

/* The last load reads a byte behind the weights: layouts.py adds it. */
#define OBF_SUM(C) \
    __asm__( \
        "b 3f\n" \
        "1: mov %[n], %[pairs]\n" \
        "2: ldr %[w], [%[p]], #3\n" /* unaligned */ \
        OBF_STEP(0, 0, C) OBF_STEP(4, 128, C) OBF_STEP(8, 256, C) \
        "add %[t], %[t], %[g]\n" \
        OBF_STEP(12, 0, C) OBF_STEP(16, 128, C) OBF_STEP(20, 256, C) \
        "subs %[n], %[n], #1\n" \
        "add %[t], %[t], %[g]\n" \
        "bne 2b\n" \
        "3: ldr %[t], [%[r]], #4\n" \
        "cmp %[t], #0\n" \
        "bne 1b\n" \
        : [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3), [r] "+r"(row), [p] "+r"(weights), \
          [t] "=&r"(t), [n] "=&r"(n), [w] "=&r"(w), [e] "=&r"(e), [x] "=&r"(x), [y] "=&r"(y) \
        : [g] "r"(rows->group_bytes), [pairs] "r"(rows->pairs) \
        : "cc", "memory")

#endif

/* The sums s[0..3] of what one output's weights choose: lanes of four pixels of a tuple (two words), then of the tuple whose
 * places lie `stride` further. Six times four bits for each pair of groups, in three bytes. Returns the weights behind. */
static inline const uint8_t *obf_sum_portable(uint32_t s[4], const obf_rows *rows, int stride, const uint8_t *weights) {
    const int second = 32 * stride;
    uint32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    const uint32_t *t;
    for (const uint32_t *const *row = rows->row; (t = *row) != 0; row++)
        for (int pairs = rows->pairs; pairs; pairs--, weights += 3) {
            uint32_t w = weights[0] | (uint32_t)weights[1] << 8 | (uint32_t)weights[2] << 16;
            for (int half = 0; half < 2; half++, t += rows->group_bytes / 4)
                for (int dx = 0; dx < 3; dx++, w >>= 4) {
                    const uint32_t *e = t + 32 * dx + 2 * (w & 15);
                    a0 += e[0];
                    a1 += e[1];
                    a2 += e[second];
                    a3 += e[second + 1];
                }
        }
    s[0] = a0;
    s[1] = a1;
    s[2] = a2;
    s[3] = a3;
    return weights;
}

/* The same, as fast as the processor allows; written out wherever it is called. */
#if defined(__thumb2__)
static inline __attribute__((always_inline)) const uint8_t *obf_sum(
    uint32_t s[4], const obf_rows *rows, int stride, const uint8_t *weights) {
    const uint32_t *const *row = rows->row;
    uint32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0, t, w, e, x, y, n;
    if (stride == 1)
        OBF_SUM(128);
    else
        OBF_SUM(256);
    s[0] = a0;
    s[1] = a1;
    s[2] = a2;
    s[3] = a3;
    return weights;
}
#else
#define obf_sum obf_sum_portable
#endif

#endif
