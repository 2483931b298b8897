/* The inner loop of conv_nibble.c, for each instruction set. */
#ifndef OBF_NIBBLE_STEP_H
#define OBF_NIBBLE_STEP_H

#include <stdint.h>

/* Adds to sum[0..3] what one output's weights choose from one row of taps: `pairs` pairs of groups of four channels.
 *
 * t: tables [group][place][16][2] of the first place; group_words from one group to the next; `second` words from a place
 * of the first tuple to that of the second. Six times four bits for each pair of groups, in three bytes. Returns the weights
 * behind these. */
#if defined(__thumb2__)

/* Four weights: the entry that they choose, in bytes O from its table's place for the first tuple, and C further on for
 * the second. */
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
#define OBF_PAIRS(C) \
    __asm__( \
        "1:\n" \
        "ldr %[w], [%[p]], #3\n" /* unaligned */ \
        OBF_STEP(0, 0, C) OBF_STEP(4, 128, C) OBF_STEP(8, 256, C) \
        "add %[t], %[t], %[g]\n" \
        OBF_STEP(12, 0, C) OBF_STEP(16, 128, C) OBF_STEP(20, 256, C) \
        "add %[t], %[t], %[g]\n" \
        "subs %[n], %[n], #1\n" \
        "bne 1b\n" \
        : [a0] "+r"(a0), [a1] "+r"(a1), [a2] "+r"(a2), [a3] "+r"(a3), [t] "+r"(t), [p] "+r"(weights), [n] "+r"(pairs), \
          [w] "=&r"(w), [e] "=&r"(e), [x] "=&r"(x), [y] "=&r"(y) \
        : [g] "r"(group_words * 4), "m"(*(const uint32_t(*)[])t), "m"(*(const uint8_t(*)[])weights) \
        : "cc")

static inline const uint8_t *obf_sum_row(
    uint32_t sum[4], const uint32_t *t, uint32_t group_words, int second, const uint8_t *weights, int pairs) {
    uint32_t a0 = sum[0], a1 = sum[1], a2 = sum[2], a3 = sum[3], w, e, x, y;
    if (second == 32)
        OBF_PAIRS(128);
    else
        OBF_PAIRS(256);
    sum[0] = a0;
    sum[1] = a1;
    sum[2] = a2;
    sum[3] = a3;
    return weights;
}

#else

static inline const uint8_t *obf_sum_row(
    uint32_t sum[4], const uint32_t *t, uint32_t group_words, int second, const uint8_t *weights, int pairs) {
    uint32_t a0 = sum[0], a1 = sum[1], a2 = sum[2], a3 = sum[3];
    for (; pairs; pairs--, weights += 3) {
        uint32_t w = weights[0] | (uint32_t)weights[1] << 8 | (uint32_t)weights[2] << 16;
        for (int half = 0; half < 2; half++, t += group_words)
            for (int dx = 0; dx < 3; dx++, w >>= 4) {
                const uint32_t *e = t + 32 * dx + 2 * (w & 15);
                a0 += e[0];
                a1 += e[1];
                a2 += e[second];
                a3 += e[second + 1];
            }
    }
    sum[0] = a0;
    sum[1] = a1;
    sum[2] = a2;
    sum[3] = a3;
    return weights;
}

#endif

#endif
