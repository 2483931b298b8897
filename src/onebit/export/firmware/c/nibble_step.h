/* The inner loop of conv_nibble.c, for each instruction set. */
#ifndef OBF_NIBBLE_STEP_H
#define OBF_NIBBLE_STEP_H

#include <stdint.h>

/* Adds to sum[0..3] what one output's weights choose from one row of taps: `pairs` pairs of groups of four channels.
 *
 * t: tables [group][place][16][2] of the first place; group_words from one group to the next; `second` words from a place
 * of the first tuple to that of the second. Six times four bits for each pair of groups, in three bytes. Returns the weights
 * behind these. */
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
