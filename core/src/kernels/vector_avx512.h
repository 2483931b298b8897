/* Vectors of AVX-512: 32 lanes of 16 bits. */
#ifndef OB_VECTOR_H
#define OB_VECTOR_H
#include <immintrin.h>
#define OB_LANES 32
#define OB_REGISTER "v"
#include "vector_gnu.h"
#define M512 __m512i
/* The 64 bytes that begin 2 bytes before x, or end 2 bytes behind it: neighbours of 4 bytes, then halves of them. */
static inline v16 v_left(v16 before, v16 x) {
    const M512 words = _mm512_alignr_epi32((M512)x, (M512)before, 15);
    return (v16)_mm512_or_si512(_mm512_slli_epi32((M512)x, 16), _mm512_srli_epi32(words, 16));
}
static inline v16 v_right(v16 x, v16 behind) {
    const M512 words = _mm512_alignr_epi32((M512)behind, (M512)x, 1);
    return (v16)_mm512_or_si512(_mm512_srli_epi32((M512)x, 16), _mm512_slli_epi32(words, 16));
}
#define OB_ROWS_OF_8
static inline v16 v_left_rows8(v16 x) { return (v16)_mm512_bslli_epi128((M512)x, 2); }
static inline v16 v_right_rows8(v16 x) { return (v16)_mm512_bsrli_epi128((M512)x, 2); }
static inline v32 v_shift32(v32 a, int k) { return (v32)_mm512_sra_epi32((M512)a, _mm_cvtsi32_si128(k)); }
static inline v16 v_narrow(v32 even, v32 odd) {
    return (v16)_mm512_packs_epi32(_mm512_unpacklo_epi32((M512)even, (M512)odd),
                                   _mm512_unpackhi_epi32((M512)even, (M512)odd));
}
static inline v16 v_adds(v16 a, v16 b) { return (v16)_mm512_adds_epi16((M512)a, (M512)b); }
static inline v16 v_subs(v16 a, v16 b) { return (v16)_mm512_subs_epi16((M512)a, (M512)b); }
static inline v16 v_mulr(v16 a, v16 m) { return (v16)_mm512_mulhrs_epi16((M512)a, (M512)m); }
static inline void v_store_bytes(uint8_t *p, v16 a, int limit) {
    const M512 none = _mm512_max_epi16((M512)a, _mm512_setzero_si512());
    const M512 some = _mm512_min_epi16(none, _mm512_set1_epi16((short)limit));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi16_epi8(some));
}
/* a0 b0 a1 b1 ...: pieces of 16 bytes that were zipped are put in order */
static inline void v_zip(v16 a, v16 b, v16 *low, v16 *high) {
    const M512 x = _mm512_unpacklo_epi16((M512)a, (M512)b), y = _mm512_unpackhi_epi16((M512)a, (M512)b);
    const M512 first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    *low = (v16)_mm512_permutex2var_epi64(x, first, y);
    *high = (v16)_mm512_permutex2var_epi64(x, second, y);
}
#endif
