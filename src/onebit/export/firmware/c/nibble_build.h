/* The tables of conv_nibble.c: from four pixels' channels to the sums of all subsets of each four of them. */
#ifndef OBF_NIBBLE_BUILD_H
#define OBF_NIBBLE_BUILD_H

#include "firmware_math.h"

/* Four channels of four pixels: pixels 0 and 1 in the halves of a[channel], 2 and 3 in those of b. */
typedef struct obf_quad {
    uint32_t a[4], b[4];
} obf_quad;

/* Four pixels, each where its channels lie, and a mask of its lane that is 0 where the pixel lies outside the map. */
typedef struct obf_lanes {
    const void *at[4];
    uint32_t mask_a, mask_b;
} obf_lanes;

/* All 16 sums of the subsets of four, in an order in which each differs from the one before by one term. */
OBF_INLINE void obf_entries(uint32_t *t, const obf_quad *q) {
    const uint32_t a0 = q->a[0], a1 = q->a[1], a2 = q->a[2], a3 = q->a[3];
    const uint32_t b0 = q->b[0], b1 = q->b[1], b2 = q->b[2], b3 = q->b[3];
    uint32_t a = 0, b = 0;
#if defined(__thumb2__)
#define OBF_STORE(N) \
    __asm__("strd %1, %2, [%3, %4]" \
            : "=m"(*(uint64_t *)(void *)(t + 2 * (N))) \
            : "r"(a), "r"(b), "r"(t), "I"(8 * (N)))
#else
#define OBF_STORE(N) \
    do { \
        t[2 * (N)] = a; \
        t[2 * (N) + 1] = b; \
    } while (0)
#endif
#define OBF_TERM(SIGN, K, N) \
    a = a SIGN a##K; \
    b = b SIGN b##K; \
    OBF_STORE(N)
    OBF_STORE(0);
    OBF_TERM(+, 0, 1);
    OBF_TERM(+, 1, 3);
    OBF_TERM(-, 0, 2);
    OBF_TERM(+, 2, 6);
    OBF_TERM(+, 0, 7);
    OBF_TERM(-, 1, 5);
    OBF_TERM(-, 0, 4);
    OBF_TERM(+, 3, 12);
    OBF_TERM(+, 0, 13);
    OBF_TERM(+, 1, 15);
    OBF_TERM(-, 0, 14);
    OBF_TERM(-, 2, 10);
    OBF_TERM(+, 0, 11);
    OBF_TERM(-, 1, 9);
    OBF_TERM(-, 0, 8);
#undef OBF_STORE
#undef OBF_TERM
}

/* Four bytes each of two pixels, to the halves of four words. */
OBF_INLINE void obf_spread(uint32_t out[4], uint32_t x, uint32_t y, uint32_t mask) {
#if defined(__ARM_FEATURE_DSP)
    uint32_t x02, x13, y02, y13;
    __asm__("uxtb16 %0, %1" : "=r"(x02) : "r"(x));
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(x13) : "r"(x));
    __asm__("uxtb16 %0, %1" : "=r"(y02) : "r"(y));
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(y13) : "r"(y));
#else
    const uint32_t even = 0x00ff00ffu;
    const uint32_t x02 = x & even, x13 = x >> 8 & even, y02 = y & even, y13 = y >> 8 & even;
#endif
    out[0] = ((x02 & 0xffff) | y02 << 16) & mask;
    out[1] = ((x13 & 0xffff) | y13 << 16) & mask;
    out[2] = (x02 >> 16 | (y02 & 0xffff0000u)) & mask;
    out[3] = (x13 >> 16 | (y13 & 0xffff0000u)) & mask;
}

/* Activations as they lie in memory: a word holds four channels. */
static inline void obf_quad_bytes(obf_quad *q, const obf_lanes *lanes, int channel) {
#define OBF_WORD(LANE) (*(const uint32_t *)(const void *)((const uint8_t *)lanes->at[LANE] + channel))
    obf_spread(q->a, OBF_WORD(0), OBF_WORD(1), lanes->mask_a);
    obf_spread(q->b, OBF_WORD(2), OBF_WORD(3), lanes->mask_b);
#undef OBF_WORD
}

/* The stream through the usual batch-norm. */
#if defined(__ARM_FEATURE_DSP)
/* Two pixels; two channels at once: subtract with saturation, multiply the halves, clamp. */
OBF_INLINE void obf_half_stream(
    uint32_t out[4], const void *first, const void *second, int channel, const int16_t *numbers, uint32_t mask) {
    const uint32_t *const n = (const uint32_t *)(const void *)(numbers + 2 * channel);
    const uint32_t *const x = (const uint32_t *)(const void *)((const int16_t *)first + channel);
    const uint32_t *const y = (const uint32_t *)(const void *)((const int16_t *)second + channel);
    OBF_UNROLL
    for (int k = 0; k < 2; k++) {
        const int32_t n0 = (int32_t)n[2 * k], n1 = (int32_t)n[2 * k + 1];
        const int16x2_t means = (int16x2_t)(((uint32_t)n0 & 0xffff) | (uint32_t)n1 << 16);
        const int32_t dx = (int32_t)__qsub16((int16x2_t)x[k], means), dy = (int32_t)__qsub16((int16x2_t)y[k], means);
        const uint32_t low = (uint32_t)obf_byte15(__smlabt(dx, n0, 0x4000));
        const uint32_t high = (uint32_t)obf_byte15(__smlatt(dx, n1, 0x4000));
        out[2 * k] = (low | (uint32_t)obf_byte15(__smlabt(dy, n0, 0x4000)) << 16) & mask;
        out[2 * k + 1] = (high | (uint32_t)obf_byte15(__smlatt(dy, n1, 0x4000)) << 16) & mask;
    }
}

static inline void obf_quad_stream(obf_quad *q, const obf_lanes *lanes, int channel, const int16_t *numbers) {
    obf_half_stream(q->a, lanes->at[0], lanes->at[1], channel, numbers, lanes->mask_a);
    obf_half_stream(q->b, lanes->at[2], lanes->at[3], channel, numbers, lanes->mask_b);
}
#else
static inline void obf_quad_stream(obf_quad *q, const obf_lanes *lanes, int channel, const int16_t *numbers) {
    OBF_UNROLL
    for (int k = 0; k < 4; k++) {
        uint32_t x[4];
        OBF_UNROLL
        for (int lane = 0; lane < 4; lane++)
            x[lane] = (uint32_t)obf_usual_normed(
                numbers + 2 * (channel + k), ((const int16_t *)lanes->at[lane])[channel + k]);
        q->a[k] = (x[0] | x[1] << 16) & lanes->mask_a;
        q->b[k] = (x[2] | x[3] << 16) & lanes->mask_b;
    }
}
#endif

#endif
