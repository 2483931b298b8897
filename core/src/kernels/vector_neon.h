/* Vectors of NEON: 8 lanes of 16 bits. */
#ifndef OB_VECTOR_H
#define OB_VECTOR_H
#include <arm_neon.h>
#define OB_LANES 8
#define OB_REGISTER "w"
#include "vector_gnu.h"
static inline v16 v_left(v16 before, v16 x) { return (v16)vextq_u16((uint16x8_t)before, (uint16x8_t)x, 7); }
static inline v16 v_right(v16 x, v16 behind) { return (v16)vextq_u16((uint16x8_t)x, (uint16x8_t)behind, 1); }
static inline v32 v_shift32(v32 a, int k) { return (v32)vshlq_s32((int32x4_t)a, vdupq_n_s32(-k)); }
static inline v16 v_narrow(v32 even, v32 odd) {
    const int16x4x2_t pairs = vzip_s16(vqmovn_s32((int32x4_t)even), vqmovn_s32((int32x4_t)odd));
    return (v16)vcombine_s16(pairs.val[0], pairs.val[1]);
}
static inline v16 v_adds(v16 a, v16 b) { return (v16)vqaddq_s16((int16x8_t)a, (int16x8_t)b); }
static inline v16 v_subs(v16 a, v16 b) { return (v16)vqsubq_s16((int16x8_t)a, (int16x8_t)b); }
static inline v16 v_mulr(v16 a, v16 m) { return (v16)vqrdmulhq_s16((int16x8_t)a, (int16x8_t)m); }
static inline void v_store_bytes(uint8_t *p, v16 a, int limit) {
    vst1_u8(p, vmin_u8(vqmovun_s16((int16x8_t)a), vdup_n_u8((uint8_t)limit)));
}
#define OB_STORE_TWO
static inline void v_store_bytes2(uint8_t *p, v16 a, v16 b, int limit) {
    const uint8x16_t c = vcombine_u8(vqmovun_s16((int16x8_t)a), vqmovun_s16((int16x8_t)b));
    vst1q_u8(p, vminq_u8(c, vdupq_n_u8((uint8_t)limit)));
}
/* a0 b0 a1 b1 ... */
static inline void v_zip(v16 a, v16 b, v16 *low, v16 *high) {
    *low = (v16)vzip1q_u16((uint16x8_t)a, (uint16x8_t)b);
    *high = (v16)vzip2q_u16((uint16x8_t)a, (uint16x8_t)b);
}
#endif
