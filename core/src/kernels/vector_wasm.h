/* Vectors of WebAssembly (simd128): 8 lanes of 16 bits. */
#ifndef OB_VECTOR_H
#define OB_VECTOR_H
#include <wasm_simd128.h>
#define OB_LANES 8
#include "vector_gnu.h"
static inline v16 v_left(v16 before, v16 x) {
    return (v16)wasm_i16x8_shuffle((v128_t)before, (v128_t)x, 7, 8, 9, 10, 11, 12, 13, 14);
}
static inline v16 v_right(v16 x, v16 behind) {
    return (v16)wasm_i16x8_shuffle((v128_t)x, (v128_t)behind, 1, 2, 3, 4, 5, 6, 7, 8);
}
static inline v32 v_shift32(v32 a, int k) { return (v32)wasm_i32x4_shr((v128_t)a, (uint32_t)k); }
static inline v16 v_shift16(v16 a, int k) { return (v16)wasm_i16x8_shr((v128_t)a, (uint32_t)k); }
static inline v16 v_narrow(v32 even, v32 odd) {
    const v128_t x = wasm_i16x8_narrow_i32x4((v128_t)even, (v128_t)odd);
    return (v16)wasm_i16x8_shuffle(x, x, 0, 4, 1, 5, 2, 6, 3, 7);
}
static inline v16 v_adds(v16 a, v16 b) { return (v16)wasm_i16x8_add_sat((v128_t)a, (v128_t)b); }
static inline v16 v_subs(v16 a, v16 b) { return (v16)wasm_i16x8_sub_sat((v128_t)a, (v128_t)b); }
static inline v16 v_mulr(v16 a, v16 m) { return (v16)wasm_i16x8_q15mulr_sat((v128_t)a, (v128_t)m); }
static inline void v_store_bytes(uint8_t *p, v16 a, int limit) {
    const v128_t b = wasm_u8x16_min(wasm_u8x16_narrow_i16x8((v128_t)a, (v128_t)a), wasm_i8x16_splat((int8_t)limit));
    wasm_v128_store64_lane(p, b, 0);
}
#define OB_STORE_TWO
static inline void v_store_bytes2(uint8_t *p, v16 a, v16 b, int limit) {
    const v128_t c = wasm_u8x16_narrow_i16x8((v128_t)a, (v128_t)b);
    wasm_v128_store(p, wasm_u8x16_min(c, wasm_i8x16_splat((int8_t)limit)));
}
/* a0 b0 a1 b1 ... */
static inline void v_zip(v16 a, v16 b, v16 *low, v16 *high) {
    *low = (v16)wasm_i16x8_shuffle((v128_t)a, (v128_t)b, 0, 8, 1, 9, 2, 10, 3, 11);
    *high = (v16)wasm_i16x8_shuffle((v128_t)a, (v128_t)b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#endif
