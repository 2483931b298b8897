/* A tile of the table kernels, in terms of the vectors of a vector_*.h: from maps to lanes before the tables, from sums to maps
 * behind them. */
#include <stddef.h>

#if defined(__clang__)
#define OB_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define OB_UNROLL _Pragma("GCC unroll 32")
#else
#define OB_UNROLL
#endif
#if defined(__GNUC__)
#define OB_INLINE static inline __attribute__((always_inline))
#define OB_CALL static __attribute__((noinline))
#else
#define OB_INLINE static inline
#define OB_CALL static
#endif
/* OB_SMALL asks for little code (WebAssembly is a download): loops instead of code for each number of entries, and what is
 * not in a hot loop is there once, or made for size. Otherwise the compiler decides, or all is inlined. */
#ifdef OB_SMALL
#define OB_APART OB_CALL
#define OB_ONCE OB_CALL
#define OB_COLD OB_CALL __attribute__((minsize))
#define OB_COLD_ONCE OB_COLD
#else
#define OB_APART static
#define OB_ONCE OB_INLINE
#define OB_COLD static
#define OB_COLD_ONCE OB_INLINE
#endif
/* No library call: sizes are small or known. */
#if defined(__GNUC__)
#define OB_COPY(to, from, n) __builtin_memcpy(to, from, n)
#else
#include <string.h>
#define OB_COPY(to, from, n) memcpy(to, from, n)
#endif
/* gcc reorders long chains of additions and then runs out of registers; an empty instruction behind each keeps the order. */
#if defined(OB_REGISTER) && defined(__GNUC__) && !defined(__clang__)
#define OB_PIN(x) __asm__("" : "+" OB_REGISTER(x))
#else
#define OB_PIN(x) (void)0
#endif

enum { LANES = OB_LANES, VECTORS = OB_TABLE_STRIP / OB_LANES };

/* What a thread works with while it does a tile. */
typedef struct tile tile;
typedef void do_finish(const tile *t, int32_t n, const v16 *s, const v32 *a);
typedef void do_finish_nibbles(const tile *t, int32_t n, const v16 *s, int32_t banks);
struct tile {
    const ob_table_job *job;
    const ob_table_layer *layer;
    const ob_column *column;
    int32_t row;         /* the tile's first output row */
    uint8_t *tables;
    int16_t *lanes;      /* [member of the group][lane of an entry] */
    int16_t *copied_base, *copied_sum; /* the tile's lanes, where they are not those of the maps */
    uint8_t *copied_activation;
    v32 *rest;           /* [2 * vectors]: what 2 * S1 is to be less by */
    v32 *sums;           /* [slot][2 * vectors]: even lanes, odd lanes */
    v16 *carry;          /* [slot][vectors]: sums of 16 bits that chunks leave to the next */
    int32_t turn;        /* ring: does the entry's second half hold its first rows? */
    int32_t fresh;       /* ring: the half of each entry that is to be made; -1: all of it */
    do_finish *finish;
    do_finish_nibbles *finish_nibbles;
};

static tile tile_of(const ob_table_job *job) {
    uint8_t *scratch = job->scratch;
    tile t = {.job = job, .layer = job->layer, .tables = scratch};
    t.lanes = (int16_t *)(void *)(scratch += OB_TABLE_BYTES);
    t.copied_base = (int16_t *)(void *)(scratch += OB_TABLE_LANES);
    t.copied_sum = t.copied_base + OB_TABLE_STRIP;
    t.copied_activation = (uint8_t *)(t.copied_sum + OB_TABLE_STRIP);
    t.rest = (v32 *)(void *)(scratch += OB_TABLE_COPY);
    t.sums = t.rest + job->layer->strip * 2 / OB_LANES;
    t.carry = (v16 *)(t.sums + (size_t)(job->layer->extra + job->layer->outputs) * (size_t)(job->layer->strip * 2 / OB_LANES));
    return t;
}

/* Tile i, the one of number r in a ring. */
static void set_tile(tile *t, int32_t i, int32_t r) {
    t->row = i % t->layer->tile_rows * t->layer->rows;
    t->column = t->layer->column + i / t->layer->tile_rows;
    t->turn = r & 1;
    t->fresh = r ? !t->turn : -1;
}

/* How many tiles from i on, the last before `end`, one ring does. */
static int32_t ring_from(const ob_table_layer *l, int32_t i, int32_t end) {
    const int32_t column = l->tile_rows - i % l->tile_rows, left = end - i < column ? end - i : column;
    return left < l->ring ? left : l->ring;
}

/* -- from the map to lanes ----------------------------------------------------------------------------------------- */

/* `count` elements of a row of the source, every stride-th one, as lanes. */
OB_ONCE void lanes_of_row(int16_t *x, const ob_map *map, size_t at, int32_t count, int32_t stride, ob_plane plane,
                            int32_t zero) {
    int32_t i = 0;
    if (map->type == OB_U8) {
        const uint8_t *p = (const uint8_t *)map->data + at;
        const v16 less = v_splat((uint16_t)-zero);
        if (stride == 1)
            for (; i + LANES <= count; i += LANES) v_store(x + i, v_add_any(v_load_bytes(p + i), less));
        if (stride == 2) /* the lower bytes of 16-bit words; the last upper one may lie behind the row, but not the arena */
            for (; i + LANES <= count; i += LANES) v_store(x + i, v_add_any(v_load(p + 2 * i) & v_splat(255), less));
        if (stride == 2 && zero == 0) /* rows shorter than a vector */
            for (; i + 4 <= count; i += 4) {
                uint64_t w;
                OB_COPY(&w, p + 2 * i, 8);
                w &= 0x00ff00ff00ff00ffull;
                OB_COPY(x + i, &w, 8);
            }
        for (; i < count; i++) x[i] = (int16_t)(p[(size_t)i * (size_t)stride] - zero);
    } else {
        const int16_t *p = (const int16_t *)map->data + at;
        if (stride == 1)
            for (; i + LANES <= count; i += LANES)
                v_store(x + i, plane == OB_PLANE_HIGH ? v_high_bytes(v_load(p + i)) : v_load(p + i) & v_splat(255));
        if (plane == OB_PLANE_HIGH)
            for (; i < count; i++) x[i] = (int16_t)((p[(size_t)i * (size_t)stride] & ~255) / 256);
        else
            for (; i < count; i++) x[i] = (int16_t)(p[(size_t)i * (size_t)stride] & 255);
    }
}

/* Every second byte of p as lanes, a multiple of 8. */
OB_INLINE void lower_bytes(int16_t *x, const uint8_t *p, int32_t count) {
    int32_t i = 0;
    for (; i + LANES <= count; i += LANES) v_store(x + i, v_load(p + 2 * i) & v_splat(255));
    for (; i < count; i += 4) {
        uint64_t w;
        OB_COPY(&w, p + 2 * i, 8);
        w &= 0x00ff00ff00ff00ffull;
        OB_COPY(x + i, &w, 8);
    }
}
OB_INLINE void upper_bytes(int16_t *x, const uint8_t *p, int32_t count) {
    int32_t i = 0;
    for (; i + LANES <= count; i += LANES) v_store(x + i, v_upper_bytes(v_load(p + 2 * i)));
    for (; i < count; i += 4) {
        uint64_t w;
        OB_COPY(&w, p + 2 * i, 8);
        w = w >> 8 & 0x00ff00ff00ff00ffull;
        OB_COPY(x + i, &w, 8);
    }
}

/* The commonest source: rows lie one behind the other, as in the tile, in bytes, and zero is 0. What holds for all channels
 * is worked out once. */
typedef struct block {
    int32_t before, inside; /* lanes of padding before the map's, and lanes of the map */
    size_t at;              /* where they begin in a plane */
} block;

OB_COLD int block_of(const tile *t, const ob_chunk *c, int32_t skip, int32_t total, block *b) {
    const ob_table_layer *l = t->layer;
    const ob_map *map = &t->job->source;
    const int32_t pitch = l->pitch, first = t->row + skip + c->phase_y - l->top, rows = total / pitch;
    if (map->type != OB_U8 || l->zero || l->stride != 1 || t->column->at + c->column || l->width != pitch ||
        map->pitch != pitch)
        return 0;
    const int32_t from = first < 0 ? -first : 0, left = l->height - first, to = left < rows ? left : rows;
    b->before = (from < rows ? from : rows) * pitch;
    b->inside = to > from ? (to - from) * pitch : 0;
    b->at = (size_t)(first + from) * (size_t)pitch;
    return 1;
}

OB_INLINE void gather_block(const tile *t, const block *b, int32_t channel, int32_t total, int16_t *x) {
    const ob_map *map = &t->job->source;
    const uint8_t *p = (const uint8_t *)map->data + (size_t)channel * map->plane + b->at;
    int32_t i = 0;
    if (b->inside < total)
        for (int32_t k = 0; k < total; k += LANES) v_store(x + k, v_zero());
    x += b->before;
    for (; i + LANES <= b->inside; i += LANES) v_store(x + i, v_load_bytes(p + i));
    for (; i < b->inside; i++) x[i] = p[i];
}

/* `total` lanes of an entry for one channel, from row `skip` of it on: what the taps of the tile see. */
OB_COLD void gather(const tile *t, const ob_chunk *c, int32_t channel, int32_t skip, int32_t total, int16_t *x) {
    const ob_table_layer *l = t->layer;
    const ob_map *map = &t->job->source;
    const int32_t pitch = l->pitch, stride = l->stride, rows = total / pitch;
    const int32_t first_row = (t->row + skip) * stride + c->phase_y - l->top, first_column = t->column->at * stride + c->column;
    const size_t plane = (size_t)channel * map->plane;
    if (stride == 1 && first_column == 0 && l->width == pitch && map->pitch == pitch) { /* rows lie one behind the other */
        const int32_t from = first_row < 0 ? -first_row : 0;
        const int32_t left = l->height - first_row, to = left < rows ? (left > from ? left : from) : rows;
        if (from || to * pitch < total)
            for (int32_t i = 0; i < total; i += LANES) v_store(x + i, v_zero());
        lanes_of_row(x + from * pitch, map, plane + (size_t)(first_row + from) * (size_t)pitch, (to - from) * pitch, 1,
                     (ob_plane)c->plane, l->zero);
        return;
    }
    /* lanes [from, to) lie in the map */
    int32_t from = first_column < 0 ? (-first_column + stride - 1) / stride : 0;
    int32_t to = l->width > first_column ? (l->width - first_column + stride - 1) / stride : 0;
    if (to > pitch) to = pitch;
    if (from > to) from = to;
    if (stride == 2 && from == 0 && to == pitch && map->type == OB_U8 && l->zero == 0 && rows * pitch == total) {
        const uint8_t *p = (const uint8_t *)map->data + plane + (first_column & ~1);
        for (int32_t y = 0; y < rows; y++, x += pitch) { /* lower or upper bytes of 16-bit words, whole rows */
            const int32_t row = first_row + y * 2;
            if (row < 0 || row >= l->height)
                for (int32_t i = 0; i < pitch; i++) x[i] = 0;
            else if (first_column & 1)
                upper_bytes(x, p + (size_t)row * (size_t)map->pitch, pitch);
            else
                lower_bytes(x, p + (size_t)row * (size_t)map->pitch, pitch);
        }
        return;
    }
    for (int32_t y = 0; y < rows; y++, x += pitch) {
        const int32_t row = first_row + y * stride;
        const int32_t inside = row >= 0 && row < l->height, a = inside ? from : 0, b = inside ? to : 0;
        for (int32_t i = 0; i < a; i++) x[i] = 0;
        if (a < b)
            lanes_of_row(x + a, map, plane + (size_t)row * (size_t)map->pitch + (size_t)(first_column + a * stride), b - a,
                         stride, (ob_plane)c->plane, l->zero);
        for (int32_t i = b; i < pitch; i++) x[i] = 0;
    }
    for (int32_t i = rows * pitch; i < total; i++) *x++ = 0;
}

/* In a ring the rows of an entry begin in its second half every other time: how far from where its offset points vector e
 * lies, of V a tile and `row` a row of the map, for the tap in row `dy`. */
OB_INLINE ptrdiff_t turned(const int V, const int row, const int dy, const int e) {
    return (ptrdiff_t)(dy * row + e < V ? V : -V) * OB_LANES * 2;
}

/* -- columns ------------------------------------------------------------------------------------------------------- */

/* A vector of sums one lane on: what the column to the left (right) adds. `next` holds the lanes before it (behind it). */
OB_INLINE v16 from_left(const int P, v16 next, v16 x) {
#ifdef OB_ROWS_OF_4
    if (P == 4) return v_left_rows4(x);
#endif
#ifdef OB_ROWS_OF_8
    if (P == 8) return v_left_rows8(x);
#endif
    x = v_left(next, x);
#if OB_LANES == 32
    if (P == 16) x = (v16)_mm512_mask_mov_epi16(_mm512_setzero_si512(), 0xfffefffe, (__m512i)x);
#endif
    return x;
}
OB_INLINE v16 from_right(const int P, v16 x, v16 next) {
#ifdef OB_ROWS_OF_4
    if (P == 4) return v_right_rows4(x);
#endif
#ifdef OB_ROWS_OF_8
    if (P == 8) return v_right_rows8(x);
#endif
    x = v_right(x, next);
#if OB_LANES == 32
    if (P == 16) x = (v16)_mm512_mask_mov_epi16(_mm512_setzero_si512(), 0x7fff7fff, (__m512i)x);
#endif
    return x;
}

/* -- from sums to maps ---------------------------------------------------------------------------------------------- */

/* (2 * S1 - S + half) >> shift, with half = 2^shift / 2 for rounding. What does not depend on the output is `rest`, worked out
 * once a tile. Where S is known to fit 31 bits, (2 * a - r) >> shift is (a - (r + 1) / 2) >> (shift - 1): an addition fewer. */
OB_INLINE void set_rest(const tile *t, const int i, v32 s) {
    const v32 r = v_minus32(s, (uint32_t)1 << t->layer->shift >> 1);
    t->rest[i] = t->layer->halved ? v_shift32(v_minus32(r, (uint32_t)-1), 1) : r;
}
OB_INLINE v32 complete(const tile *t, v32 a, const int i) {
    const int shift = t->layer->shift;
#ifdef OB_SMALL /* one form for both */
    const int halved = t->layer->halved != 0;
    return v_shift32(v_less(a << (uint32_t)!halved, t->rest[i]), shift - halved);
#endif
    return t->layer->halved ? v_shift32(v_less(a, t->rest[i]), shift - 1) : v_shift32(v_twice_less(a, t->rest[i]), shift);
}

/* One output channel of a tile is complete, as 16-bit lanes: base, norm; stored as the layer says. */
OB_INLINE void finish_lanes(const int V, const tile *t, int32_t n, v16 *x) {
    const ob_table_layer *l = t->layer;
    const ob_table_job *j = t->job;
    const int16_t *base = t->copied_base;
    int16_t *to = t->copied_sum;
    uint8_t *activation = t->copied_activation;
    if (l->direct) {
        const size_t lane = (size_t)t->row * (size_t)l->pitch;
        if (l->has_base) base = (const int16_t *)j->base.data + (size_t)n * j->base.plane + lane;
        if (l->keeps) to = (int16_t *)j->sum.data + (size_t)n * j->sum.plane + lane;
        if (l->has_norm) activation = (uint8_t *)j->activation.data + (size_t)n * j->activation.plane + lane;
    }
    if (l->has_base)
        OB_UNROLL for (int e = 0; e < V; e++) x[e] = v_adds(x[e], v_load(base + e * LANES));
    if (l->keeps)
        OB_UNROLL for (int e = 0; e < V; e++) v_store(to + e * LANES, x[e]);
    if (!l->has_norm) return;
    const int16_t *c = l->norm + 3 * (size_t)n;
    const v16 mean = v_splat((uint16_t)c[0]), multiplier = v_splat((uint16_t)c[1]);
    OB_UNROLL for (int e = 0; e < V; e++) x[e] = v_mulr(v_subs(x[e], mean), multiplier);
    if (l->norm_offsets) {
        const v16 offset = v_splat((uint16_t)c[2]), zero = v_splat((uint16_t)l->norm_zero);
        OB_UNROLL for (int e = 0; e < V; e++) x[e] = v_adds(v_adds(x[e], offset), zero);
    }
#ifdef OB_STORE_TWO
    if (V % 2 == 0) {
        OB_UNROLL for (int e = 0; e < V; e += 2) v_store_bytes2(activation + e * LANES, x[e], x[e + 1 < V ? e + 1 : e], l->norm_limit);
        return;
    }
#endif
    OB_UNROLL for (int e = 0; e < V; e++) v_store_bytes(activation + e * LANES, x[e], l->norm_limit);
}

/* The rows of a tile that count, where its lanes are not those of the maps. */
OB_COLD void copy_tile(const tile *t, int32_t n, int to_maps) {
    const ob_table_layer *l = t->layer;
    const ob_table_job *j = t->job;
    const size_t count = (size_t)(t->column->to - t->column->from);
    for (int32_t y = 0; y < l->rows && t->row + y < l->out_height; y++) {
        const size_t lane = (size_t)y * (size_t)l->pitch + (size_t)t->column->from;
        const size_t x = (size_t)(t->column->at + t->column->from), row = (size_t)(t->row + y), c = (size_t)n;
        if (!to_maps) {
            if (l->has_base)
                OB_COPY(t->copied_base + lane,
                       (const int16_t *)j->base.data + c * j->base.plane + row * (size_t)j->base.pitch + x, count * 2);
            continue;
        }
        if (l->keeps)
            OB_COPY((int16_t *)j->sum.data + c * j->sum.plane + row * (size_t)j->sum.pitch + x, t->copied_sum + lane,
                   count * 2);
        if (l->has_norm)
            OB_COPY((uint8_t *)j->activation.data + c * j->activation.plane + row * (size_t)j->activation.pitch + x,
                   t->copied_activation + lane, count);
    }
}
