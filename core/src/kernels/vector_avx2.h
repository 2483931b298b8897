/* Vectors of AVX2: 16 lanes of 16 bits. */
#ifndef OB_VECTOR_H
#define OB_VECTOR_H
#include <immintrin.h>
#define OB_LANES 16
#define OB_REGISTER "x"
#include "vector_gnu.h"
#define M256 __m256i
static inline v16 v_left(v16 before, v16 x) {
    return (v16)_mm256_alignr_epi8((M256)x, _mm256_permute2x128_si256((M256)before, (M256)x, 0x21), 14);
}
static inline v16 v_right(v16 x, v16 behind) {
    return (v16)_mm256_alignr_epi8(_mm256_permute2x128_si256((M256)x, (M256)behind, 0x21), (M256)x, 2);
}
#define OB_ROWS_OF_8 /* two rows of 8 lanes in a vector: their shifts are one instruction */
static inline v16 v_left_rows8(v16 x) { return (v16)_mm256_slli_si256((M256)x, 2); }
static inline v16 v_right_rows8(v16 x) { return (v16)_mm256_srli_si256((M256)x, 2); }
static inline v32 v_shift32(v32 a, int k) { return (v32)_mm256_sra_epi32((M256)a, _mm_cvtsi32_si128(k)); }
static inline v16 v_narrow(v32 even, v32 odd) {
    return (v16)_mm256_packs_epi32(_mm256_unpacklo_epi32((M256)even, (M256)odd),
                                   _mm256_unpackhi_epi32((M256)even, (M256)odd));
}
static inline v16 v_adds(v16 a, v16 b) { return (v16)_mm256_adds_epi16((M256)a, (M256)b); }
static inline v16 v_subs(v16 a, v16 b) { return (v16)_mm256_subs_epi16((M256)a, (M256)b); }
static inline v16 v_mulr(v16 a, v16 m) { return (v16)_mm256_mulhrs_epi16((M256)a, (M256)m); }
static inline void v_store_bytes(uint8_t *p, v16 a, int limit) {
    const __m128i b = _mm_packus_epi16(_mm256_castsi256_si128((M256)a), _mm256_extracti128_si256((M256)a, 1));
    _mm_storeu_si128((__m128i *)p, _mm_min_epu8(b, _mm_set1_epi8((char)limit)));
}
#define OB_STORE_TWO
static inline void v_store_bytes2(uint8_t *p, v16 a, v16 b, int limit) {
    const M256 c = _mm256_permute4x64_epi64(_mm256_packus_epi16((M256)a, (M256)b), 0xd8);
    _mm256_storeu_si256((M256 *)p, _mm256_min_epu8(c, _mm256_set1_epi8((char)limit)));
}
/* a0 b0 a1 b1 ... */
static inline void v_zip(v16 a, v16 b, v16 *low, v16 *high) {
    const M256 x = _mm256_unpacklo_epi16((M256)a, (M256)b), y = _mm256_unpackhi_epi16((M256)a, (M256)b);
    *low = (v16)_mm256_permute2x128_si256(x, y, 0x20);
    *high = (v16)_mm256_permute2x128_si256(x, y, 0x31);
}
#endif
