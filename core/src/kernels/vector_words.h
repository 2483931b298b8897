/* Vectors of a plain 64-bit word: four lanes of 16 bits. For machines, and compilers, without any. Little-endian. */
#ifndef OB_VECTOR_H
#define OB_VECTOR_H
#include <string.h>
#define OB_LANES 4
typedef uint64_t v16; /* 4 lanes of 16 bits */
typedef uint64_t v32; /* 2 lanes of 32 bits */

#define EACH_HALF 0x0000ffff0000ffffull
#define EACH_SIGN 0x8000800080008000ull

static inline v16 v_zero(void) { return 0; }
static inline v16 v_splat(uint16_t x) { return x * 0x0001000100010001ull; }
static inline v16 v_load(const void *p) { v16 x; memcpy(&x, p, sizeof x); return x; }
static inline void v_store(void *p, v16 x) { memcpy(p, &x, sizeof x); }
#define v_load_aligned v_load
/* Of lanes that are never negative and whose sums fit: no carry leaves a lane. */
static inline v16 v_add(v16 a, v16 b) { return a + b; }
/* Of any lanes: the top bits are added without carry. */
static inline v16 v_add_any(v16 a, v16 b) { return ((a & ~EACH_SIGN) + (b & ~EACH_SIGN)) ^ ((a ^ b) & EACH_SIGN); }
static inline v16 v_upper_bytes(v16 x) { return x >> 8 & v_splat(255); }
/* x / 256, rounded down, of lanes with sign. */
static inline v16 v_high_bytes(v16 x) {
    return v_add_any((x >> 8 & v_splat(255)) ^ v_splat(128), v_splat(0x10000 - 128));
}
static inline v16 v_left(v16 before, v16 x) { return x << 16 | before >> 48; }  /* lane i becomes lane i - 1 */
static inline v16 v_right(v16 x, v16 behind) { return x >> 16 | behind << 48; } /* lane i becomes lane i + 1 */
#define v_add8 v_add
/* Lanes of 8 bits, two in each of 16: sums of the even ones and of the odd ones. */
static inline void v_gather_pairs(v16 *even, v16 *odd, v16 x) {
    *even += x & 0x00ff00ff00ff00ffull, *odd += x >> 8 & 0x00ff00ff00ff00ffull;
}
#define v_even_of_pairs(even, odd) (even)
/* a0 b0 a1 b1 ... */
static inline void v_zip(v16 a, v16 b, v16 *low, v16 *high) {
    const uint64_t m = 0xffff;
    *low = (a & m) | (b & m) << 16 | (a >> 16 & m) << 32 | (b >> 16 & m) << 48;
    *high = (a >> 32 & m) | (b >> 32 & m) << 16 | (a >> 48) << 32 | (b >> 48) << 48;
}
static inline v32 v_even(v16 x) { return x & EACH_HALF; }
static inline v32 v_odd(v16 x) { return x >> 16 & EACH_HALF; }
static inline v32 v_add32(v32 a, v32 b) { return a + b; } /* sums stay below 2^32 */
static inline v32 v_less(v32 a, v32 r) {
    return (uint32_t)((uint32_t)a - (uint32_t)r) | (uint64_t)((uint32_t)(a >> 32) - (uint32_t)(r >> 32)) << 32;
}
static inline v32 v_twice_less(v32 a, v32 r) {            /* 2 * a - r */
    const uint32_t low = 2 * (uint32_t)a - (uint32_t)r, high = 2 * (uint32_t)(a >> 32) - (uint32_t)(r >> 32);
    return low | (uint64_t)high << 32;
}
static inline v32 v_minus32(v32 a, uint32_t b) {
    return (uint32_t)((uint32_t)a - b) | (uint64_t)(uint32_t)((uint32_t)(a >> 32) - b) << 32;
}
static inline v32 v_shift32(v32 a, int k) {               /* arithmetic */
    const int32_t low = (int32_t)(uint32_t)a >> k, high = (int32_t)(uint32_t)(a >> 32) >> k;
    return (uint32_t)low | (uint64_t)(uint32_t)high << 32;
}
static inline v32 v_times256(v32 a) { return a << 8; }    /* lanes stay below 2^24 before */
static inline int v_sat16_(int32_t x) { return x < -32768 ? -32768 : x > 32767 ? 32767 : x; }
#define LANE(x, i) ((int16_t)(uint16_t)((x) >> 16 * (i)))
#define OF_LANES(expression) \
    v16 y = 0; \
    for (int i = 0; i < 4; i++) y |= (v16)(uint16_t)(expression) << 16 * i; \
    return y
/* Saturated to 16 bits; `even` holds the lanes 0, 2, `odd` the lanes 1, 3. */
static inline v16 v_narrow(v32 even, v32 odd) {
    OF_LANES(v_sat16_((int32_t)(uint32_t)((i & 1 ? odd : even) >> (i & 2) * 16)));
}
static inline v16 v_adds(v16 a, v16 b) { OF_LANES(v_sat16_(LANE(a, i) + LANE(b, i))); }
static inline v16 v_subs(v16 a, v16 b) { OF_LANES(v_sat16_(LANE(a, i) - LANE(b, i))); }
static inline v16 v_mulr(v16 a, v16 m) { OF_LANES((LANE(a, i) * LANE(m, i) + 0x4000) >> 15); }
/* 0..limit, as bytes. */
static inline void v_store_bytes(uint8_t *p, v16 a, int limit) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(LANE(a, i) < 0 ? 0 : LANE(a, i) > limit ? limit : LANE(a, i));
}
static inline v16 v_load_bytes(const uint8_t *p) {
    return p[0] | (v16)p[1] << 16 | (v16)p[2] << 32 | (v16)p[3] << 48;
}
#endif
