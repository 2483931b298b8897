/* What vectors of every width share in the C of gcc and clang: `OB_LANES` lanes of 16 bits. */
#ifndef OB_VECTOR_GNU_H
#define OB_VECTOR_GNU_H
typedef uint16_t v16 __attribute__((vector_size(OB_LANES * 2)));
typedef uint32_t v32 __attribute__((vector_size(OB_LANES * 2)));
typedef int16_t v16_signed __attribute__((vector_size(OB_LANES * 2)));
typedef uint16_t v16_anywhere __attribute__((vector_size(OB_LANES * 2), aligned(1), may_alias));
typedef uint16_t v16_aligned __attribute__((vector_size(OB_LANES * 2), may_alias));
typedef uint8_t v8 __attribute__((vector_size(OB_LANES), aligned(1), may_alias));

static inline v16 v_zero(void) { return (v16){0}; }
static inline v16 v_splat(uint16_t x) { return (v16){0} + x; }
static inline v16 v_load(const void *p) { return *(const v16_anywhere *)p; }
static inline v16 v_load_aligned(const void *p) { return *(const v16_aligned *)p; }
static inline void v_store(void *p, v16 x) { *(v16_anywhere *)p = x; }
static inline v16 v_add(v16 a, v16 b) { return a + b; }
#define v_add_any v_add
static inline v16 v_upper_bytes(v16 x) { return x >> 8; }
static inline v16 v_high_bytes(v16 x) { return (v16)((v16_signed)x >> 8); }
typedef uint8_t v8_all __attribute__((vector_size(OB_LANES * 2)));
typedef uint64_t v64 __attribute__((vector_size(OB_LANES * 2)));
static inline v16 v_add8(v16 a, v16 b) { return (v16)((v8_all)a + (v8_all)b); }
/* Lanes of 8 bits, two in each of 16: sums of the even ones and of the odd ones. The even ones are what is left of all
 * when the odd ones are taken away, at the end: one instruction fewer each time. */
static inline void v_gather_pairs(v16 *even, v16 *odd, v16 x) { *even += x, *odd += x >> 8; }
static inline v16 v_even_of_pairs(v16 even, v16 odd) { return even - (odd << 8); }
#define OB_ROWS_OF_4 /* rows of 4 lanes: a 64-bit shift */
static inline v16 v_left_rows4(v16 x) { return (v16)((v64)x << 16); }
static inline v16 v_right_rows4(v16 x) { return (v16)((v64)x >> 16); }
static inline v32 v_even(v16 x) { return (v32)x & 0xffff; }
static inline v32 v_odd(v16 x) { return (v32)x >> 16; }
static inline v32 v_add32(v32 a, v32 b) { return a + b; }
static inline v32 v_less(v32 a, v32 r) { return a - r; }
static inline v32 v_twice_less(v32 a, v32 r) { return a + a - r; }
static inline v32 v_minus32(v32 a, uint32_t b) { return a - b; }
static inline v32 v_times256(v32 a) { return a << 8; }
static inline v16 v_load_bytes(const uint8_t *p) { return __builtin_convertvector(*(const v8 *)p, v16); }
#endif
