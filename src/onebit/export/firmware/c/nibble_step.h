/* The inner loop of conv_nibble.c, for each instruction set. */
#ifndef OBF_NIBBLE_STEP_H
#define OBF_NIBBLE_STEP_H

#include "firmware_math.h"

#if defined(__thumb2__)

/* Four weights: the entry that they choose, O bytes from the first place's; then that of the second tuple. */
#define OBF_STEP(S, O, SECOND) \
    "ubfx %[e], %[w], #" #S ", #4\n" \
    "add %[e], %[t], %[e], lsl #3\n" \
    "ldrd %[x], %[y], [%[e], #" #O "]\n" \
    "add %[a0], %[a0], %[x]\n" \
    "add %[a1], %[a1], %[y]\n" \
    SECOND(O) \
    "add %[a2], %[a2], %[x]\n" \
    "add %[a3], %[a3], %[y]\n"
#define OBF_NEAR(O) "ldrd %[x], %[y], [%[e], #" #O "+128]\n"
#define OBF_FAR(O) "ldrd %[x], %[y], [%[e], #" #O "+256]\n"

/* The last load reads a byte behind the weights: layouts.py adds it. */
#define OBF_SUM(SECOND) \
    __asm__( \
        "b 3f\n" \
        "1: mov %[n], %[pairs]\n" \
        "2: ldr %[w], [%[p]], #3\n" /* unaligned */ \
        OBF_STEP(0, 0, SECOND) OBF_STEP(4, 128, SECOND) OBF_STEP(8, 256, SECOND) \
        "add %[t], %[t], %[g]\n" \
        OBF_STEP(12, 0, SECOND) OBF_STEP(16, 128, SECOND) OBF_STEP(20, 256, SECOND) \
        "subs %[n], %[n], #1\n" \
        "add %[t], %[t], %[g]\n" \
        "bne 2b\n" \
        "3: ldr %[t], [%[r]], #4\n" \
        "cmp %[t], #0\n" \
        "bne 1b\n" \
        : [a0] "+r"(s[0]), [a1] "+r"(s[1]), [a2] "+r"(s[2]), [a3] "+r"(s[3]), [r] "+r"(rows), [p] "+r"(weights), \
          [t] "=&r"(t), [n] "=&r"(n), [w] "=&r"(w), [e] "=&r"(e), [x] "=&r"(x), [y] "=&r"(y) \
        : [g] "r"(group_bytes), [pairs] "r"(pairs) \
        : "cc", "memory")

#endif

#if defined(__thumb__) && !defined(__thumb2__)
const uint8_t *obf_sum_thumb1(
    uint32_t s[4], const uint32_t *const *rows, int pairs, uint32_t group_bytes, int second_bytes, const uint8_t *weights);
#endif

/* Adds to s[0..3] what one output's weights choose: lanes of four pixels of a tuple (two words), then of the tuple whose
 * places lie `stride` further. Returns the weights behind those.
 *
 * rows: tables of the rows of the kernel that are to be summed, behind them a null. pairs: of groups of four channels, in each
 * row; group_bytes: from a group's tables to the next's. weights: six times four bits for each pair, in three bytes. */
OBF_INLINE const uint8_t *obf_sum(
    uint32_t s[4], const uint32_t *const *rows, int pairs, uint32_t group_bytes, int stride, const uint8_t *weights) {
#if defined(__thumb2__)
    uint32_t t, w, e, x, y, n;
    if (stride == 1)
        OBF_SUM(OBF_NEAR);
    else
        OBF_SUM(OBF_FAR);
    return weights;
#elif defined(__thumb__)
    return obf_sum_thumb1(s, rows, pairs, group_bytes, 128 * stride, weights);
#else
    const int second = 32 * stride;
    for (const uint32_t *t; (t = *rows) != 0; rows++)
        for (int left = pairs; left; left--, weights += 3) {
            uint32_t w = weights[0] | (uint32_t)weights[1] << 8 | (uint32_t)weights[2] << 16;
            for (int half = 0; half < 2; half++, t += group_bytes / 4)
                for (int dx = 0; dx < 3; dx++, w >>= 4) {
                    const uint32_t *e = t + 32 * dx + 2 * (w & 15);
                    s[0] += e[0];
                    s[1] += e[1];
                    s[2] += e[second];
                    s[3] += e[second + 1];
                }
        }
    return weights;
#endif
}

#endif
