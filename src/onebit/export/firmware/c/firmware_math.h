/* The arithmetic of docs/format.md ("Numbers"), once for the runtime and all kernels. */
#ifndef OBF_FIRMWARE_MATH_H
#define OBF_FIRMWARE_MATH_H

#include "firmware.h"

#if defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#endif

/* Inlined also where small code is asked for: innermost loops. */
#if defined(__GNUC__)
#define OBF_INLINE static inline __attribute__((always_inline))
#else
#define OBF_INLINE static inline
#endif

/* Never inlined: what it needs of the stack is then needed only while it runs. */
#if defined(__GNUC__)
#define OBF_ALONE __attribute__((noinline))
#else
#define OBF_ALONE
#endif

/* The loop that follows, of up to eight rounds, is written out: its arrays then live in registers. */
#if defined(__clang__)
#define OBF_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define OBF_UNROLL _Pragma("GCC unroll 8")
#else
#define OBF_UNROLL
#endif

/* >> of a negative number copies its sign on every compiler that we know of; the self-test would tell. */
static inline int32_t obf_sat16(int32_t x) {
#if defined(__thumb2__)
    __asm__("ssat %0, #16, %0" : "+r"(x));
    return x;
#else
    return x < -32768 ? -32768 : x > 32767 ? 32767 : x;
#endif
}

static inline int32_t obf_rsh(int32_t x, int shift) {
    return (x + ((1 << shift) >> 1)) >> shift;
}

static inline int32_t obf_q15mulr(int32_t x, int32_t m) {
    return (x * m + 0x4000) >> 15;
}

/* One number through a batch-norm: the activation, 0..limit. */
uint8_t obf_normed(const obf_norm *norm, int channel, int32_t x);

/* (x >> 15), as an unsigned byte. */
OBF_INLINE int32_t obf_byte15(int32_t x) {
#if defined(__thumb2__)
    int32_t y;
    __asm__("usat %0, #8, %1, asr #15" : "=r"(y) : "r"(x));
    return y;
#else
    x >>= 15;
    if ((uint32_t)x > 255)
        x = ~(x >> 31) & 255;
    return x;
#endif
}

/* 0x4000 in a register, so that a multiplication may add it at once. */
static inline int32_t obf_half(void) {
    int32_t half = 0x4000;
#if defined(__thumb__)
    __asm__("" : "+r"(half));
#endif
    return half;
}

/* Where row y of a map is kept, as a number of rows. */
static inline int obf_slot(int y, int rows) {
    while (y >= rows)
        y -= rows;
    return y;
}

/* Where channel 0 of a pixel lies, in numbers from the map's start; channel c lies c * obf_step further. */
int32_t obf_pixel(const obf_map *map, int y, int x);

static inline int32_t obf_step(const obf_map *map) { return map->quarter ? 4 : 1; }

/* The number at a place, of a channel, through all that a reader applies to it. */
int32_t obf_read(const obf_map *map, const obf_table *table, const obf_norm *norm, int32_t place, int channel);

/* What a convolution does with a sum of an output's channel: shift, base, norm, store. */
void obf_write(const obf_conv *conv, int y, int x, int channel, int32_t sum);

#endif
