/* Vectors of SSE2, which every 64-bit x86 has: 8 lanes of 16 bits. */
#ifndef OB_VECTOR_H
#define OB_VECTOR_H
#include <emmintrin.h>
#define OB_LANES 8
#define OB_REGISTER "x"
#include "vector_gnu.h"
#define M128 __m128i
static inline v16 v_left(v16 before, v16 x) {
    return (v16)_mm_or_si128(_mm_slli_si128((M128)x, 2), _mm_srli_si128((M128)before, 14));
}
static inline v16 v_right(v16 x, v16 behind) {
    return (v16)_mm_or_si128(_mm_srli_si128((M128)x, 2), _mm_slli_si128((M128)behind, 14));
}
static inline v32 v_shift32(v32 a, int k) { return (v32)_mm_sra_epi32((M128)a, _mm_cvtsi32_si128(k)); }
static inline v16 v_narrow(v32 even, v32 odd) {
    return (v16)_mm_packs_epi32(_mm_unpacklo_epi32((M128)even, (M128)odd), _mm_unpackhi_epi32((M128)even, (M128)odd));
}
static inline v16 v_adds(v16 a, v16 b) { return (v16)_mm_adds_epi16((M128)a, (M128)b); }
static inline v16 v_subs(v16 a, v16 b) { return (v16)_mm_subs_epi16((M128)a, (M128)b); }
/* (a * m + 0x4000) >> 15 without SSSE3: with a * m = 65536 * high + low it is 2 * high + (low / 2^14 + 1) / 2. */
static inline v16 v_mulr(v16 a, v16 m) {
    const M128 high = _mm_mulhi_epi16((M128)a, (M128)m), low = _mm_mullo_epi16((M128)a, (M128)m);
    const M128 rounded = _mm_avg_epu16(_mm_srli_epi16(low, 14), _mm_setzero_si128());
    return (v16)_mm_add_epi16(_mm_add_epi16(high, high), rounded);
}
static inline void v_store_bytes(uint8_t *p, v16 a, int limit) {
    const M128 b = _mm_packus_epi16((M128)a, (M128)a);
    _mm_storel_epi64((M128 *)p, _mm_min_epu8(b, _mm_set1_epi8((char)limit)));
}
#define OB_STORE_TWO
static inline void v_store_bytes2(uint8_t *p, v16 a, v16 b, int limit) {
    const M128 c = _mm_packus_epi16((M128)a, (M128)b);
    _mm_storeu_si128((M128 *)p, _mm_min_epu8(c, _mm_set1_epi8((char)limit)));
}
/* a0 b0 a1 b1 ... */
static inline void v_zip(v16 a, v16 b, v16 *low, v16 *high) {
    *low = (v16)_mm_unpacklo_epi16((M128)a, (M128)b);
    *high = (v16)_mm_unpackhi_epi16((M128)a, (M128)b);
}
#endif
