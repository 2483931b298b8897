/* What vectors of every width share in the C of gcc and clang: `OB_LANES` lanes of 16 bits. */
#ifndef OB_VECTOR_GNU_H
#define OB_VECTOR_GNU_H
typedef uint16_t v16 __attribute__((vector_size(OB_LANES * 2)));
typedef uint32_t v32 __attribute__((vector_size(OB_LANES * 2)));
typedef int16_t v16_signed __attribute__((vector_size(OB_LANES * 2)));
typedef uint16_t v16_anywhere __attribute__((vector_size(OB_LANES * 2), aligned(2), may_alias));
typedef uint16_t v16_aligned __attribute__((vector_size(OB_LANES * 2), may_alias));
typedef uint8_t v8 __attribute__((vector_size(OB_LANES), aligned(1), may_alias));

static inline v16 v_zero(void) { return (v16){0}; }
static inline v16 v_splat(uint16_t x) { return (v16){0} + x; }
static inline v16 v_load(const void *p) { return *(const v16_anywhere *)p; }
static inline v16 v_load_aligned(const void *p) { return *(const v16_aligned *)p; }
static inline void v_store(void *p, v16 x) { *(v16_anywhere *)p = x; }
static inline v16 v_add(v16 a, v16 b) { return a + b; }
#define v_add_any v_add
static inline v16 v_high_bytes(v16 x) { return (v16)((v16_signed)x >> 8); }
static inline v32 v_even(v16 x) { return (v32)x & 0xffff; }
static inline v32 v_odd(v16 x) { return (v32)x >> 16; }
static inline v32 v_add32(v32 a, v32 b) { return a + b; }
static inline v32 v_twice_less(v32 a, v32 r) { return a + a - r; }
static inline v32 v_minus32(v32 a, uint32_t b) { return a - b; }
static inline v32 v_times256(v32 a) { return a << 8; }
static inline v16 v_load_bytes(const uint8_t *p) { return __builtin_convertvector(*(const v8 *)p, v16); }
#endif
