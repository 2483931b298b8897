/* AVX-512 and AMX without them: included before a kernel of these instruction sets, it makes its intrinsics calls of
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

/* `size` bytes each of a vector of `count` whose bit is set. */
static inline void emulated_store(void *to, uint32_t mask, const void *from, size_t size, int count) {
    for (int i = 0; i < count; i++)
        if (mask >> i & 1) memcpy((char *)to + (size_t)i * size, (const char *)from + (size_t)i * size, size);
}

static inline simde__m512i emulated_load16(uint32_t mask, const void *from) {
    emulated y = {.u8 = {0}};
    emulated_store(&y, mask, from, 2, 32);
    return y.vector;
}

#undef _mm512_maskz_loadu_epi16
#undef _mm512_mask_storeu_epi16
#undef _mm256_mask_storeu_epi8
#define _mm512_maskz_loadu_epi16(mask, from) emulated_load16(mask, from)
#define _mm512_mask_storeu_epi16(to, mask, a) emulated_store(to, mask, (simde__m512i[]){a}, 2, 32)
#define _mm256_mask_storeu_epi8(to, mask, a) emulated_store(to, mask, (simde__m256i[]){a}, 1, 32)
#undef _mm512_alignr_epi32
#undef _mm512_bslli_epi128
#undef _mm512_bsrli_epi128
#undef _mm512_sra_epi32
#define _mm512_alignr_epi32(high, low, by) emulated_alignr_epi32(high, low, by)
#define _mm512_bslli_epi128(a, by) emulated_move_bytes(a, by)
#define _mm512_bsrli_epi128(a, by) emulated_move_bytes(a, -(by))
#define _mm512_sra_epi32(a, count) emulated_sra_epi32(a, count)

/* -- AMX ----------------------------------------------------------------------------------------------------------- */

/* Tiles as the processor's manual has them. Whoever uses one that is not configured, or has more rows or bytes than it is
 * configured for, is ended, as by the processor. */
typedef struct emulated_tile {
    uint8_t bytes[16][64];
    int rows, width; /* bytes of a row */
} emulated_tile;

static _Thread_local emulated_tile emulated_tiles[8];

static inline void emulated_tile_config(const void *config) {
    const uint8_t *c = config;
    memset(emulated_tiles, 0, sizeof emulated_tiles);
    if (!c) return;
    if (c[0] != 1 || c[1] != 0) abort();
    for (int i = 2; i < 16; i++)
        if (c[i]) abort();
    for (int i = 0; i < 8; i++) {
        emulated_tile *t = &emulated_tiles[i];
        t->width = c[16 + 2 * i] | c[17 + 2 * i] << 8, t->rows = c[48 + i];
        if (t->width > 64 || t->rows > 16 || !t->width != !t->rows) abort();
    }
}

static inline emulated_tile *emulated_tile_of(int i) {
    if (!emulated_tiles[i].rows) abort();
    return &emulated_tiles[i];
}

static inline void emulated_tile_zero(int i) {
    emulated_tile *t = emulated_tile_of(i);
    memset(t->bytes, 0, sizeof t->bytes);
}

static inline void emulated_tile_load(int i, const void *from, ptrdiff_t stride) {
    emulated_tile_zero(i);
    for (int r = 0; r < emulated_tiles[i].rows; r++)
        memcpy(emulated_tiles[i].bytes[r], (const char *)from + r * stride, (size_t)emulated_tiles[i].width);
}

static inline void emulated_tile_store(int i, void *to, ptrdiff_t stride) {
    const emulated_tile *t = emulated_tile_of(i);
    for (int r = 0; r < t->rows; r++) memcpy((char *)to + r * stride, t->bytes[r], (size_t)t->width);
}

/* sums[m][n] += a[m][4 k + i] * b[k][4 n + i], bytes without sign by bytes with sign; sums wrap. With OB_EMULATION_WRONG the
 * last product of the last sum is missing: tests have to see it. */
static inline void emulated_tile_dpbusd(int sums, int a, int b) {
    emulated_tile *s = emulated_tile_of(sums);
    const emulated_tile *x = emulated_tile_of(a), *w = emulated_tile_of(b);
    if (sums == a || sums == b || a == b || s->rows != x->rows || s->width != w->width || x->width != 4 * w->rows) abort();
    for (int m = 0; m < s->rows; m++)
        for (int n = 0; n < s->width / 4; n++) {
            uint32_t sum;
            memcpy(&sum, s->bytes[m] + 4 * n, 4);
            for (int k = 0; k < w->rows; k++)
                for (int i = 0; i < 4; i++) {
#ifdef OB_EMULATION_WRONG
                    if (m == 15 && n == 15 && k == 15 && i == 3) continue;
#endif
                    sum += (uint32_t)(x->bytes[m][4 * k + i] * (int8_t)w->bytes[k][4 * n + i]);
                }
            memcpy(s->bytes[m] + 4 * n, &sum, 4);
        }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbusd
#define _tile_loadconfig(config) emulated_tile_config(config)
#define _tile_release() emulated_tile_config(NULL)
#define _tile_zero(i) emulated_tile_zero(i)
#define _tile_loadd(i, from, stride) emulated_tile_load(i, from, stride)
#define _tile_stored(i, to, stride) emulated_tile_store(i, to, stride)
#define _tile_dpbusd(sums, a, b) emulated_tile_dpbusd(sums, a, b)

/* -- what kernels ask of a compiler -------------------------------------------------------------------------------- */

#undef __m512i
#define __m512i simde__m512i
#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512VL__ 1
#define __AVX512DQ__ 1
#define __AMX_INT8__ 1
/* Kernels pin vectors to registers that are not here, with instructions that are empty. */
#define __asm__(...) (void)0

#endif
