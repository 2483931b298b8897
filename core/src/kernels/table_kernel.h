/* The table kernel (table.h says how it works), for the vector that the file including this defined: a vector_*.h, a name
 * for people (OB_NAME) and one for the linker (OB_KERNELS). */
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
    do_finish *finish;
};

/* -- from the map to lanes ----------------------------------------------------------------------------------------- */

/* `count` elements of a row of the source, every stride-th one, as lanes. */
OB_INLINE void lanes_of_row(int16_t *x, const ob_map *map, size_t at, int32_t count, int32_t stride, ob_plane plane,
                            int32_t zero) {
    int32_t i = 0;
    if (map->type == OB_U8) {
        const uint8_t *p = (const uint8_t *)map->data + at;
        const v16 less = v_splat((uint16_t)-zero);
        if (stride == 1)
            for (; i + LANES <= count; i += LANES) v_store(x + i, v_add_any(v_load_bytes(p + i), less));
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

/* All lanes of an entry for one channel: what the taps of the tile see. */
static void gather(const tile *t, const ob_chunk *c, int32_t channel, int16_t *x) {
    const ob_table_layer *l = t->layer;
    const ob_map *map = &t->job->source;
    const int32_t pitch = l->pitch, stride = l->stride, total = c->entry / 2, rows = total / pitch;
    const int32_t first_row = t->row * stride + c->phase_y - l->top, first_column = t->column->at * stride + c->column;
    const size_t plane = (size_t)channel * map->plane;
    if (stride == 1 && first_column == 0 && l->width == pitch && map->pitch == pitch) { /* rows lie one behind the other */
        const int32_t from = first_row < 0 ? -first_row : 0;
        const int32_t left = l->height - first_row, to = left < rows ? (left > from ? left : from) : rows;
        for (int32_t i = 0; i < from * pitch; i++) x[i] = 0;
        lanes_of_row(x + from * pitch, map, plane + (size_t)(first_row + from) * (size_t)pitch, (to - from) * pitch, 1,
                     (ob_plane)c->plane, l->zero);
        for (int32_t i = to * pitch; i < total; i++) x[i] = 0;
        return;
    }
    /* lanes [from, to) lie in the map */
    int32_t from = first_column < 0 ? (-first_column + stride - 1) / stride : 0;
    int32_t to = l->width > first_column ? (l->width - first_column + stride - 1) / stride : 0;
    if (to > pitch) to = pitch;
    if (from > to) from = to;
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

/* All 2^members sums of the lanes of `members` channels; the sum of none is `bias`. */
OB_INLINE void fill_table(const int any, uint8_t *table, int32_t entry, int32_t members, const int16_t *x, uint16_t bias) {
    const ptrdiff_t vectors = entry / (LANES * 2);
    for (ptrdiff_t u = 0; u < vectors; u++) v_store(table + u * LANES * 2, v_splat(bias));
    for (int32_t j = 0; j < members; j++, x += entry / 2) {
        uint8_t *to = table + ((ptrdiff_t)entry << j);
        const uint8_t *from = table;
        for (int32_t e = 0; e < 1 << j; e++)
            for (ptrdiff_t u = 0; u < vectors; u++, to += LANES * 2, from += LANES * 2) {
                const v16 a = v_load(from), b = v_load(x + u * LANES);
                v_store(to, any ? v_add_any(a, b) : v_add(a, b));
            }
    }
}

static void fill_tables(const tile *t, const ob_chunk *c) {
    const ob_table_layer *l = t->layer;
    uint8_t *table = t->tables;
    for (int32_t i = 0; i < c->groups; i++, table += (ptrdiff_t)c->entry << l->bits) {
        const int32_t channel = c->channel + i * l->bits;
        const int32_t members = l->channels - channel < l->bits ? l->channels - channel : l->bits;
        for (int32_t j = 0; j < members; j++) gather(t, c, channel + j, t->lanes + j * (c->entry / 2));
        if (c->bias)
            fill_table(1, table, c->entry, members, t->lanes, i ? 0 : c->bias);
        else
            fill_table(0, table, c->entry, members, t->lanes, 0);
    }
}

/* -- from the tables to sums ---------------------------------------------------------------------------------------- */

/* K entries added up: the hot loop. */
OB_INLINE void add_up(const int V, const int any, const int K, const int known, const uint8_t *table,
                      const uint16_t *offset, v16 *sums) {
    v16 a[VECTORS];
    if (known) {
        uint64_t four = 0; /* offsets with one load: loads are what limits */
        OB_UNROLL for (int k = 0; k < K; k++) {
            if (k % 4 == 0) OB_COPY(&four, offset + k, 8);
            const uint8_t *q = table + (uint16_t)four;
            four >>= 16;
            OB_UNROLL for (int e = 0; e < V; e++) {
                if (k == 0) a[e] = v_load(q + e * LANES * 2);
                else {
                    a[e] = any ? v_add_any(a[e], v_load(q + e * LANES * 2)) : v_add(a[e], v_load(q + e * LANES * 2));
                    OB_PIN(a[e]);
                }
            }
        }
    } else {
        OB_UNROLL for (int e = 0; e < V; e++) a[e] = v_load(table + offset[0] + e * LANES * 2);
        for (int k = 1; k < K; k++) {
            const uint8_t *q = table + offset[k];
            OB_UNROLL for (int e = 0; e < V; e++) {
                a[e] = any ? v_add_any(a[e], v_load(q + e * LANES * 2)) : v_add(a[e], v_load(q + e * LANES * 2));
                OB_PIN(a[e]);
            }
        }
    }
    OB_UNROLL for (int e = 0; e < V; e++) sums[e] = a[e];
}

/* A vector of sums one lane on: what the column to the left (right) adds. `next` holds the lanes before it (behind it). */
OB_INLINE v16 from_left(const int P, v16 next, v16 x) {
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
#ifdef OB_ROWS_OF_8
    if (P == 8) return v_right_rows8(x);
#endif
    x = v_right(x, next);
#if OB_LANES == 32
    if (P == 16) x = (v16)_mm512_mask_mov_epi16(_mm512_setzero_si512(), 0x7fff7fff, (__m512i)x);
#endif
    return x;
}

/* The sum of one output channel over a chunk. Zero enters at the ends of rows of P lanes. */
OB_INLINE void sum(const int V, const int P, const int any, const int sections, const int K, const int known,
                   const uint8_t *table, const uint16_t *offset, v16 *s) {
    add_up(V, any, K, known, table, offset, s);
    if (sections & OB_LEFT) {
        v16 a[VECTORS];
        add_up(V, any, K, known, table, offset += K, a);
        OB_UNROLL for (int e = 0; e < V; e++) {
            const v16 x = from_left(P, e * LANES % P == 0 ? v_zero() : a[e ? e - 1 : 0], a[e]);
            s[e] = any ? v_add_any(s[e], x) : v_add(s[e], x);
            OB_PIN(s[e]);
        }
    }
    if (sections & OB_RIGHT) {
        v16 a[VECTORS];
        add_up(V, any, K, known, table, offset += K, a);
        OB_UNROLL for (int e = 0; e < V; e++) {
            const v16 x = from_right(P, a[e], (e + 1) * LANES % P == 0 ? v_zero() : a[e + 1 < V ? e + 1 : e]);
            s[e] = any ? v_add_any(s[e], x) : v_add(s[e], x);
            OB_PIN(s[e]);
        }
    }
}

/* -- from sums to maps ---------------------------------------------------------------------------------------------- */

/* One output channel of a tile is complete: 2 * S1 - S, shift, base, norm; stored as the layer says. */
OB_INLINE void finish_tile(const int V, const tile *t, int32_t n, const v16 *s, const v32 *a) {
    const ob_table_layer *l = t->layer;
    const ob_table_job *j = t->job;
    const v32 *rest = t->rest;
    const int16_t *base = t->copied_base;
    int16_t *to = t->copied_sum;
    uint8_t *activation = t->copied_activation;
    if (l->direct) {
        const size_t lane = (size_t)t->row * (size_t)l->pitch;
        if (l->has_base) base = (const int16_t *)j->base.data + (size_t)n * j->base.plane + lane;
        if (l->keeps) to = (int16_t *)j->sum.data + (size_t)n * j->sum.plane + lane;
        if (l->has_norm) activation = (uint8_t *)j->activation.data + (size_t)n * j->activation.plane + lane;
    }
    v16 x[VECTORS];
    OB_UNROLL for (int e = 0; e < V; e++) {
        v32 even = v_even(s[e]), odd = v_odd(s[e]);
        if (a) even = v_add32(even, a[2 * e]), odd = v_add32(odd, a[2 * e + 1]);
        even = v_shift32(v_twice_less(even, rest[2 * e]), l->shift);
        odd = v_shift32(v_twice_less(odd, rest[2 * e + 1]), l->shift);
        x[e] = v_narrow(even, odd);
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
    OB_UNROLL for (int e = 0; e < V; e++) v_store_bytes(activation + e * LANES, x[e], l->norm_limit);
}

/* The rows of a tile that count, where its lanes are not those of the maps. */
static void copy_tile(const tile *t, int32_t n, int to_maps) {
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

/* -- a tile --------------------------------------------------------------------------------------------------------- */

typedef enum mode { BEGIN, ADD, FINISH, FINISH_AT_ONCE } mode;

/* Outputs [from, to) of a chunk, counted with the extra ones before. */
OB_INLINE void outputs(const int V, const int P, const int any, const int sections, const int K, const int known,
                       const tile *t, const ob_chunk *c, int32_t from, int32_t to, mode m) {
    const ob_table_layer *l = t->layer;
    const int32_t step = K * (sections == 7 ? 3 : sections == OB_CENTRE ? 1 : 2);
    const uint16_t *offset = l->offsets + c->offsets + (size_t)from * (size_t)step;
    v32 *a = t->sums + (size_t)from * (2 * (size_t)V);
    for (int32_t n = from; n < to; n++, offset += step, a += 2 * V) {
        v16 s[VECTORS];
        sum(V, P, any, sections, K, known, t->tables, offset, s);
        if (m == ADD) {
            OB_UNROLL for (int e = 0; e < V; e++) {
                a[2 * e] = v_add32(a[2 * e], v_even(s[e]));
                a[2 * e + 1] = v_add32(a[2 * e + 1], v_odd(s[e]));
            }
        } else if (m == BEGIN) {
            OB_UNROLL for (int e = 0; e < V; e++) a[2 * e] = v_even(s[e]), a[2 * e + 1] = v_odd(s[e]);
        } else {
            const int32_t o = n - l->extra;
            v16 complete[VECTORS]; /* `s` itself stays in registers: its address goes nowhere */
            OB_UNROLL for (int e = 0; e < V; e++) complete[e] = s[e];
            if (!l->direct && l->has_base) copy_tile(t, o, 0);
            t->finish(t, o, complete, m == FINISH ? a : NULL);
            if (!l->direct) copy_tile(t, o, 1);
        }
    }
}

OB_INLINE void outputs_of_chunk(const int V, const int P, const tile *t, const ob_chunk *c, int32_t from, int32_t to,
                                mode m) {
    const int K = c->sums, any = OB_LANES == 4 && c->bias;
    if (any) { /* words only */
        outputs(V, P, OB_LANES == 4, c->sections == OB_FLAT ? OB_CENTRE : c->sections, K, 0, t, c, from, to, m);
        return;
    }
    switch (c->sections) {
    case OB_CENTRE: case OB_FLAT: outputs(V, P, 0, OB_CENTRE, K, 0, t, c, from, to, m); return;
    case OB_CENTRE | OB_LEFT: outputs(V, P, 0, 3, K, 0, t, c, from, to, m); return;
    case OB_CENTRE | OB_RIGHT: outputs(V, P, 0, 5, K, 0, t, c, from, to, m); return;
    default: break;
    }
    switch (K) { /* 3 x 3: so many entries a section, known to the compiler */
    case 3: outputs(V, P, 0, 7, 3, 1, t, c, from, to, m); return;
    case 6: outputs(V, P, 0, 7, 6, 1, t, c, from, to, m); return;
    case 9: outputs(V, P, 0, 7, 9, 1, t, c, from, to, m); return;
    case 12: outputs(V, P, 0, 7, 12, 1, t, c, from, to, m); return;
    default: outputs(V, P, 0, 7, K, 0, t, c, from, to, m); return;
    }
}

/* What 2 * S1 is to be less by, and the rounding of the shift, which costs nothing here. */
OB_INLINE void set_rest(const int V, const tile *t) {
    const ob_table_layer *l = t->layer;
    const uint32_t half = (uint32_t)1 << l->shift >> 1;
    for (int e = 0; e < 2 * V; e++) {
        v32 r = t->sums[e];
        if (l->extra == 2) r = v_add32(r, t->sums[2 * V + e]);
        t->rest[e] = v_minus32(r, half);
    }
}

typedef void do_outputs(const tile *t, const ob_chunk *c, int32_t from, int32_t to, mode m);

static void do_tiles(const int V, const ob_table_job *job, do_outputs *some, do_finish *finish) {
    const ob_table_layer *l = job->layer;
    tile t = {.job = job, .layer = l, .finish = finish};
    uint8_t *scratch = job->scratch;
    t.tables = scratch;
    t.lanes = (int16_t *)(void *)(scratch += OB_TABLE_BYTES);
    t.copied_base = (int16_t *)(void *)(scratch += OB_TABLE_LANES);
    t.copied_sum = t.copied_base + OB_TABLE_STRIP;
    t.copied_activation = (uint8_t *)(t.copied_sum + OB_TABLE_STRIP);
    t.rest = (v32 *)(void *)(scratch += OB_TABLE_COPY);
    t.sums = t.rest + 2 * V;
    const int32_t from = l->extra + job->output, to = l->extra + job->output_end;
    for (int32_t i = job->tile; i < job->tile_end; i++) {
        t.row = i % l->tile_rows * l->rows;
        t.column = l->column + i / l->tile_rows;
        for (int32_t k = 0; k < l->chunks; k++) {
            const ob_chunk *c = l->chunk + k;
            const int last = k == l->chunks - 1;
            fill_tables(&t, c);
            if (k && k == l->high_chunks) { /* the high plane is done: x = 256 * high + low */
                for (int32_t e = 0; e < l->extra * 2 * V; e++) t.sums[e] = v_times256(t.sums[e]);
                for (int32_t e = from * 2 * V; e < to * 2 * V; e++) t.sums[e] = v_times256(t.sums[e]);
            }
            some(&t, c, 0, l->extra, k ? ADD : BEGIN);
            if (last) set_rest(V, &t);
            some(&t, c, from, to, last ? k ? FINISH : FINISH_AT_ONCE : k ? ADD : BEGIN);
        }
    }
}

/* Tiles that have code of their own: lanes, lanes of a row. */
#define OB_FINISH(S) \
    OB_CALL void finish_##S(const tile *t, int32_t n, const v16 *s, const v32 *a) { \
        finish_tile(S / OB_LANES, t, n, s, a); \
    }
#define OB_TILE(S, P) \
    OB_CALL void outputs_##S##_##P(const tile *t, const ob_chunk *c, int32_t from, int32_t to, mode m) { \
        outputs_of_chunk(S / OB_LANES, P, t, c, from, to, m); \
    }
OB_FINISH(32)
OB_TILE(32, 8)
#if OB_LANES <= 16
OB_FINISH(16)
OB_TILE(16, 8)
#endif
#if OB_LANES == 4
OB_TILE(32, 16)
OB_TILE(32, 32)
#else
OB_FINISH(64)
OB_TILE(64, 8)
OB_TILE(64, 16)
OB_TILE(64, 32)
OB_TILE(64, 64)
#endif

static void conv(const ob_table_job *job) {
    const int32_t strip = job->layer->strip, pitch = job->layer->pitch;
#if OB_LANES <= 16
    if (strip == 16) do_tiles(16 / LANES, job, outputs_16_8, finish_16);
#endif
#if OB_LANES == 4
    if (strip == 32)
        do_tiles(32 / LANES, job, pitch == 8 ? outputs_32_8 : pitch == 16 ? outputs_32_16 : outputs_32_32, finish_32);
#else
    if (strip == 32) do_tiles(32 / LANES, job, outputs_32_8, finish_32);
    if (strip == 64)
        do_tiles(64 / LANES, job,
                 pitch == 8    ? outputs_64_8
                 : pitch == 16 ? outputs_64_16
                 : pitch == 32 ? outputs_64_32
                               : outputs_64_64,
                 finish_64);
#endif
}

#include "map_kernel.h"

const ob_table_kernels OB_KERNELS = {
    .name = OB_NAME,
    .lanes = OB_LANES,
    .strip = OB_LANES == 4 ? 32 : 64,
    .nibbles = 0,
    .conv = conv,
    .norm = norm,
    .average = average,
    .totals = totals,
};
