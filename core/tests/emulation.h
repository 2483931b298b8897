/* AVX-512 without AVX-512: included before a kernel of that instruction set (gcc -include), it makes its intrinsics calls of
 * functions that compute the same numbers on any machine. Most come from SIMDe (github.com/simd-everywhere/simde, MIT; Debian:
 * libsimde-dev); those that its version 0.7.4 lacks are written out here. What this cannot show: speed, and alignment that the
 * real instructions insist on. */
#ifndef OB_EMULATION_H
#define OB_EMULATION_H

/* All system headers first: names are taken from them below. */
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#define SIMDE_X86_AVX512F_ENABLE_NATIVE_ALIASES
#define SIMDE_X86_AVX512BW_ENABLE_NATIVE_ALIASES
#define SIMDE_X86_AVX512VL_ENABLE_NATIVE_ALIASES
#define SIMDE_X86_AVX512DQ_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

/* -- what SIMDe 0.7.4 lacks ---------------------------------------------------------------------------------------- */

typedef union emulated {
    simde__m512i vector;
    uint8_t u8[64];
    int32_t i32[16];
} emulated;

/* The 16 numbers that begin `by` numbers behind the first of `low`, with `high` behind it. */
static inline simde__m512i emulated_alignr_epi32(simde__m512i high, simde__m512i low, int by) {
    emulated h = {.vector = high}, l = {.vector = low}, y;
    for (int i = 0; i < 16; i++) y.i32[i] = i + by < 16 ? l.i32[i + by] : h.i32[i + by - 16];
    return y.vector;
}

/* Each 16 bytes moved by so many bytes, up or (negative) down; zeros come in. */
static inline simde__m512i emulated_move_bytes(simde__m512i a, int by) {
    emulated x = {.vector = a}, y;
    for (int i = 0; i < 64; i++) {
        const int from = i % 16 - by;
        y.u8[i] = from >= 0 && from < 16 ? x.u8[i / 16 * 16 + from] : 0;
    }
    return y.vector;
}

static inline simde__m512i emulated_sra_epi32(simde__m512i a, simde__m128i count) {
    emulated x = {.vector = a};
    const int by = simde_mm_cvtsi128_si32(count);
    for (int i = 0; i < 16; i++) x.i32[i] >>= by < 31 ? by : 31;
    return x.vector;
}

#undef _mm512_alignr_epi32
#undef _mm512_bslli_epi128
#undef _mm512_bsrli_epi128
#undef _mm512_sra_epi32
#define _mm512_alignr_epi32(high, low, by) emulated_alignr_epi32(high, low, by)
#define _mm512_bslli_epi128(a, by) emulated_move_bytes(a, by)
#define _mm512_bsrli_epi128(a, by) emulated_move_bytes(a, -(by))
#define _mm512_sra_epi32(a, count) emulated_sra_epi32(a, count)

/* -- what kernels ask of a compiler -------------------------------------------------------------------------------- */

#undef __m512i
#define __m512i simde__m512i
#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512VL__ 1
#define __AVX512DQ__ 1
/* Kernels pin vectors to registers that are not here, with instructions that are empty. */
#define __asm__(...) (void)0

#endif
