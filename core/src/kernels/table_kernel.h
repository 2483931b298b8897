/* The table kernel (table.h says how it works) for activations of 8 bits, and for the planes of 16. */

/* All 2^members sums of the lanes of `members` channels, so many vectors of each entry; the sum of none is `bias`. */
OB_INLINE void fill_table(const int any, uint8_t *table, ptrdiff_t entry, ptrdiff_t vectors, int32_t members,
                          const int16_t *x, uint16_t bias) {
    for (ptrdiff_t u = 0; u < vectors; u++) v_store(table + u * LANES * 2, v_splat(bias));
    for (int32_t j = 0; j < members; j++, x += vectors * LANES) {
        uint8_t *to = table + (entry << j);
        const uint8_t *from = table;
        for (int32_t e = 0; e < 1 << j; e++, to += entry, from += entry)
            for (ptrdiff_t u = 0; u < vectors; u++) {
                const v16 a = v_load(from + u * LANES * 2), b = v_load(x + u * LANES);
                v_store(to + u * LANES * 2, any ? v_add_any(a, b) : v_add(a, b));
            }
    }
}

/* The same for so many vectors of lanes of the commonest tiles, which then stay in registers. */
OB_INLINE void fill_known(const int vectors, uint8_t *table, ptrdiff_t entry, int32_t members, const int16_t *x) {
    OB_UNROLL for (int u = 0; u < vectors; u++) v_store(table + u * LANES * 2, v_zero());
    for (int32_t j = 0; j < members; j++, x += vectors * LANES) {
        v16 add[128 / LANES];
        uint8_t *to = table + (entry << j);
        const uint8_t *from = table;
        OB_UNROLL for (int u = 0; u < vectors; u++) add[u] = v_load(x + u * LANES);
        for (int32_t e = 0; e < 1 << j; e++, to += entry, from += entry)
            OB_UNROLL for (int u = 0; u < vectors; u++) v_store(to + u * LANES * 2, v_add(v_load(from + u * LANES * 2), add[u]));
    }
}

#ifdef OB_SMALL
/* The same in columns of so many vectors, for any number of them: entries are `entry` bytes apart. */
OB_INLINE void fill_column(const int vectors, uint8_t *table, ptrdiff_t entry, int32_t members, const int16_t *x, int32_t lanes,
                           uint16_t bias) {
    OB_UNROLL for (int u = 0; u < vectors; u++) v_store(table + u * LANES * 2, v_splat(bias));
    for (int32_t j = 0; j < members; j++, x += lanes) {
        v16 add[VECTORS];
        uint8_t *to = table + (entry << j), *const end = to + (entry << j);
        const uint8_t *from = table;
        OB_UNROLL for (int u = 0; u < vectors; u++) add[u] = v_load(x + u * LANES);
#pragma clang loop unroll_count(2)
        for (; to < end; to += entry, from += entry)
            OB_UNROLL for (int u = 0; u < vectors; u++) v_store(to + u * LANES * 2, v_add(v_load(from + u * LANES * 2), add[u]));
    }
}

OB_INLINE void fill_any(uint8_t *table, ptrdiff_t entry, int32_t lanes, int32_t members, const int16_t *x, uint16_t bias) {
    int32_t i = 0;
    for (; i + 8 * LANES <= lanes; i += 8 * LANES) fill_column(8, table + i * 2, entry, members, x + i, lanes, bias);
    for (; i < lanes; i += LANES) fill_column(1, table + i * 2, entry, members, x + i, lanes, bias);
}
#else
OB_INLINE void fill_plain(uint8_t *table, ptrdiff_t entry, int32_t lanes, int32_t members, const int16_t *x) {
    switch (lanes) { /* 3 x 3: rows of 32 lanes in a ring and not, of 16, of 8 */
    case 64: fill_known(64 / LANES, table, entry, members, x); return;
    case 128: fill_known(128 / LANES, table, entry, members, x); return;
    case 96: fill_known(96 / LANES, table, entry, members, x); return;
#if OB_LANES <= 16
    case 80: fill_known(80 / LANES, table, entry, members, x); return;
#endif
    default: fill_table(0, table, entry, lanes / LANES, members, x, 0); return;
    }
}
#endif

OB_APART void fill_tables(const tile *t, const ob_chunk *c) {
    const ob_table_layer *l = t->layer;
    const int all = t->fresh < 0;
    const int32_t lanes = all ? c->entry / 2 : l->strip, skip = all ? 0 : l->rows;
    uint8_t *table = t->tables + (t->fresh == 1 ? c->entry / 2 : 0);
    block b;
    const int plain = block_of(t, c, skip, lanes, &b);
    for (int32_t i = 0; i < c->groups; i++, table += (ptrdiff_t)c->entry << l->bits) {
        const int32_t channel = c->channel + i * l->bits;
        const int32_t members = l->channels - channel < l->bits ? l->channels - channel : l->bits;
        if (plain)
            for (int32_t j = 0; j < members; j++) gather_block(t, &b, channel + j, lanes, t->lanes + j * lanes);
        else
            for (int32_t j = 0; j < members; j++) gather(t, c, channel + j, skip, lanes, t->lanes + j * lanes);
#ifdef OB_SMALL
        fill_any(table, c->entry, lanes, members, t->lanes, i ? 0 : c->bias);
#else
        if (c->bias)
            fill_table(1, table, c->entry, lanes / LANES, members, t->lanes, i ? 0 : c->bias);
        else
            fill_plain(table, c->entry, lanes, members, t->lanes);
#endif
    }
}

/* -- from the tables to sums ---------------------------------------------------------------------------------------- */

/* K entries added up: the hot loop. `turn`: the vectors of a row of a ring that is turned, else 0. */
OB_INLINE void add_up(const int V, const int any, const int K, const int known, const int turn, const uint8_t *table,
                      const uint16_t *offset, v16 *sums) {
    v16 a[VECTORS];
    if (known) {
        uint64_t four = 0; /* offsets with one load: loads are what limits */
        OB_UNROLL for (int k = 0; k < K; k++) {
            if (k % 4 == 0) OB_COPY(&four, offset + k, 8);
            const uint8_t *q = table + (uint16_t)four;
            four >>= 16;
            OB_UNROLL for (int e = 0; e < V; e++) {
                const v16 x = v_load(q + e * LANES * 2 + (turn ? turned(V, turn, k / (K / 3 ? K / 3 : 1), e) : 0));
                if (k == 0) a[e] = x;
                else {
                    a[e] = any ? v_add_any(a[e], x) : v_add(a[e], x);
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
#ifdef OB_SMALL
/* The sum of one output channel over a chunk, as loops for any K and sections: less code by far, and what compiles it again (a
 * browser) keeps the sums in registers. Rows have P lanes, or where that is 16 also 8: `joined` then has no bits, else all.
 * `turn`: is the tile one of a ring that is turned? Then the rows of an entry begin in its second half, and the upper half of
 * a tile lies elsewhere than the lower one. */
OB_INLINE void sum(const int V, const int P, const int sections, const int K, const int turn, const v16 joined,
                   const uint8_t *table, const uint16_t *offset, v16 *s) {
    const int ring = P == OB_RING_PITCH, rows = ring && turn ? 3 : 1, count = rows == 3 ? K / 3 : K;
    const ptrdiff_t half = ring && turn ? V * LANES * 2 : 0;
    OB_UNROLL for (int section = 0; section < 3; section++) {
        v16 a[VECTORS];
        if (!(sections >> section & 1)) continue;
        const uint8_t *low = table + half, *high = low;
        {
            const uint8_t *p = low + *offset;
            OB_UNROLL for (int e = 0; e < V; e++) a[e] = v_load(p + e * LANES * 2);
        }
        const uint16_t *end = offset++ + count;
        for (int dy = 0;;) {
            for (; offset < end; offset++) {
                const uint8_t *p = low + *offset, *q = ring ? high + *offset : p;
                OB_UNROLL for (int e = 0; e < V; e++) a[e] = v_add(a[e], v_load((e < V / 2 ? p : q) + e * LANES * 2));
            }
            if (++dy >= rows) break;
            high = table - half;
            if (dy == 2) low = high;
            end += count;
        }
        if (section == 0) {
            OB_UNROLL for (int e = 0; e < V; e++) s[e] = a[e];
            continue;
        }
        OB_UNROLL for (int e = 0; e < V; e++) {
            const int edge = section == 1 ? e : e + 1; /* of a row, where it divides by that row's vectors */
            v16 next = edge * LANES % P == 0 ? v_zero() : a[section == 1 ? e - 1 : e + 1];
            if (P == 16) next &= joined;
            s[e] = v_add(s[e], section == 1 ? v_left(next, a[e]) : v_right(a[e], next));
        }
    }
}
#else
/* The sum of one output channel over a chunk. Zero enters at the ends of rows of P lanes. */
OB_INLINE void sum(const int V, const int P, const int any, const int sections, const int K, const int known,
                   const int turn, const uint8_t *table, const uint16_t *offset, v16 *s) {
    (void)known; /* loops need not */
    add_up(V, any, K, known, turn, table, offset, s);
    if (sections & OB_LEFT) {
        v16 a[VECTORS];
        add_up(V, any, K, known, turn, table, offset += K, a);
        OB_UNROLL for (int e = 0; e < V; e++) {
            const v16 x = from_left(P, e * LANES % P == 0 ? v_zero() : a[e ? e - 1 : 0], a[e]);
            s[e] = any ? v_add_any(s[e], x) : v_add(s[e], x);
            OB_PIN(s[e]);
        }
    }
    if (sections & OB_RIGHT) {
        v16 a[VECTORS];
        add_up(V, any, K, known, turn, table, offset += K, a);
        OB_UNROLL for (int e = 0; e < V; e++) {
            const v16 x = from_right(P, a[e], (e + 1) * LANES % P == 0 ? v_zero() : a[e + 1 < V ? e + 1 : e]);
            s[e] = any ? v_add_any(s[e], x) : v_add(s[e], x);
            OB_PIN(s[e]);
        }
    }
}
#endif

/* -- a tile --------------------------------------------------------------------------------------------------------- */

/* 2 * S1 - S and the shift, with what earlier chunks added up in `a` (NULL if there was none). */
OB_INLINE void finish_tile(const int V, const tile *t, int32_t n, const v16 *s, const v32 *a) {
    v16 x[VECTORS];
#ifdef OB_SMALL
    if (!a && t->layer->halved == 2) { /* `rest` is in 16 bits too */
        OB_UNROLL for (int e = 0; e < V; e++) x[e] = v_shift16(s[e] - ((const v16 *)t->rest)[e], t->layer->shift - 1);
    } else
#endif
    OB_UNROLL for (int e = 0; e < V; e++) {
        v32 even = v_even(s[e]), odd = v_odd(s[e]);
        if (a) even = v_add32(even, a[2 * e]), odd = v_add32(odd, a[2 * e + 1]);
        x[e] = v_narrow(complete(t, even, 2 * e), complete(t, odd, 2 * e + 1));
    }
    finish_lanes(V, t, n, x);
}

typedef enum mode { BEGIN, ADD, FINISH, FINISH_AT_ONCE } mode;

/* Outputs [from, to) of a chunk, counted with the extra ones before. */
OB_INLINE void outputs(const int V, const int P, const int any, const int sections, const int K, const int known,
                       const int turn, const tile *t, const ob_chunk *c, int32_t from, int32_t to, mode m) {
    (void)any, (void)turn;
    const ob_table_layer *l = t->layer;
    const int32_t step = K * (sections == 7 ? 3 : sections == OB_CENTRE ? 1 : 2);
    const uint16_t *offset = l->offsets + c->offsets + (size_t)from * (size_t)step;
    v32 *a = t->sums + (size_t)from * (2 * (size_t)V);
#ifdef OB_SMALL
    const v16 joined = v_splat(l->pitch > LANES ? 0xffff : 0);
#endif
    for (int32_t n = from; n < to; n++, offset += step, a += 2 * V) {
        v16 s[VECTORS];
#ifdef OB_SMALL
        sum(V, P, sections, K, t->turn, joined, t->tables, offset, s);
#else
        sum(V, P, any, sections, K, known, turn, t->tables, offset, s);
#endif
        if (!known) { /* such chunks have few taps */
            v16 *carry = t->carry + (size_t)n * (size_t)V;
            if (c->carried) OB_UNROLL for (int e = 0; e < V; e++) s[e] = v_add(s[e], carry[e]);
            if (c->carries) {
                OB_UNROLL for (int e = 0; e < V; e++) carry[e] = s[e];
                continue;
            }
        }
        if (m == ADD) {
            OB_UNROLL for (int e = 0; e < V; e++) {
                a[2 * e] = v_add32(a[2 * e], v_even(s[e]));
                a[2 * e + 1] = v_add32(a[2 * e + 1], v_odd(s[e]));
            }
        } else if (m == BEGIN) {
            OB_UNROLL for (int e = 0; e < V; e++) a[2 * e] = v_even(s[e]), a[2 * e + 1] = v_odd(s[e]);
        } else {
            const int32_t o = n - l->extra;
            v16 all[VECTORS]; /* `s` itself stays in registers: its address goes nowhere */
            OB_UNROLL for (int e = 0; e < V; e++) all[e] = s[e];
            if (!l->direct && l->has_base) copy_tile(t, o, 0);
            t->finish(t, o, all, m == FINISH ? a : NULL);
            if (!l->direct) copy_tile(t, o, 1);
        }
    }
}

OB_INLINE void outputs_of_chunk(const int V, const int P, const tile *t, const ob_chunk *c, int32_t from, int32_t to,
                                mode m) {
    const int K = c->sums, any = OB_LANES == 4 && c->bias;
#ifdef OB_SMALL /* one loop for all forms, which looks at the sections as it runs */
    (void)any;
    outputs(V, P, 0, c->sections == OB_FLAT ? OB_CENTRE : c->sections, K, 0, 0, t, c, from, to, m);
#else
    if (any) { /* words only */
        outputs(V, P, OB_LANES == 4, c->sections == OB_FLAT ? OB_CENTRE : c->sections, K, 0, 0, t, c, from, to, m);
        return;
    }
    switch (c->sections) {
    case OB_CENTRE: case OB_FLAT: outputs(V, P, 0, OB_CENTRE, K, 0, 0, t, c, from, to, m); return;
    case OB_CENTRE | OB_LEFT: outputs(V, P, 0, 3, K, 0, 0, t, c, from, to, m); return;
    case OB_CENTRE | OB_RIGHT: outputs(V, P, 0, 5, K, 0, 0, t, c, from, to, m); return;
    default: break;
    }
    if (P == OB_RING_PITCH && V * OB_LANES == 2 * P && t->turn) {
        switch (K) {
        case 3: outputs(V, P, 0, 7, 3, 1, P / OB_LANES, t, c, from, to, m); return;
        case 6: outputs(V, P, 0, 7, 6, 1, P / OB_LANES, t, c, from, to, m); return;
        case 9: outputs(V, P, 0, 7, 9, 1, P / OB_LANES, t, c, from, to, m); return;
        default: outputs(V, P, 0, 7, 12, 1, P / OB_LANES, t, c, from, to, m); return;
        }
    }
    switch (K) { /* 3 x 3: so many entries a section, known to the compiler */
    case 3: outputs(V, P, 0, 7, 3, 1, 0, t, c, from, to, m); return;
    case 6: outputs(V, P, 0, 7, 6, 1, 0, t, c, from, to, m); return;
    case 9: outputs(V, P, 0, 7, 9, 1, 0, t, c, from, to, m); return;
    case 12: outputs(V, P, 0, 7, 12, 1, 0, t, c, from, to, m); return;
    default: outputs(V, P, 0, 7, K, 0, 0, t, c, from, to, m); return;
    }
#endif
}

/* S, and what the biases came to. `at_once`: nothing is added to what comes of the last chunk. */
OB_ONCE void set_rests(const int V, const tile *t, int at_once) {
    (void)at_once;
    for (int e = 0; e < 2 * V; e++)
        set_rest(t, e, t->layer->extra == 2 ? v_add32(t->sums[e], t->sums[2 * V + e]) : t->sums[e]);
#ifdef OB_SMALL
    if (at_once && t->layer->halved == 2)
        for (int e = 0; e < V; e++) ((v16 *)t->rest)[e] = (v16)((t->rest[2 * e] & 0xffff) | t->rest[2 * e + 1] << 16);
#endif
}

typedef void do_outputs(const tile *t, const ob_chunk *c, int32_t from, int32_t to, mode m);

static void do_tiles(const int V, const ob_table_job *job, do_outputs *some, do_finish *finish) {
    const ob_table_layer *l = job->layer;
    tile t = tile_of(job);
    t.finish = finish;
    const int32_t from = l->extra + job->output, to = l->extra + job->output_end;
    const size_t slots = (size_t)(l->extra + l->outputs) * 2 * (size_t)V;
    v32 *const sums = t.sums;
    for (int32_t i = job->tile, n; i < job->tile_end; i += n) {
        int flushed = 0; /* do the accumulators of 32 bits hold anything? */
        n = ring_from(l, i, job->tile_end);
        for (int32_t k = 0; k < l->chunks; k++) {
            const ob_chunk *c = l->chunk + k;
            const int last = k == l->chunks - 1;
            const mode m = flushed ? ADD : BEGIN;
            t.sums = sums;
            for (int32_t r = 0; r < n; r++, t.sums += slots) {
                set_tile(&t, i + r, r);
                fill_tables(&t, c);
                if (k && k == l->high_chunks) { /* the high plane is done: x = 256 * high + low */
                    for (int32_t e = 0; e < l->extra * 2 * V; e++) t.sums[e] = v_times256(t.sums[e]);
                    for (int32_t e = from * 2 * V; e < to * 2 * V; e++) t.sums[e] = v_times256(t.sums[e]);
                }
                some(&t, c, 0, l->extra, m);
                if (last) set_rests(V, &t, !flushed);
                some(&t, c, from, to, last ? flushed ? FINISH : FINISH_AT_ONCE : m);
            }
            flushed |= !c->carries;
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
#ifndef OB_SMALL
OB_FINISH(32)
OB_TILE(32, 8)
#endif
#if OB_LANES <= 16 && !defined(OB_SMALL)
OB_FINISH(16)
OB_TILE(16, 8)
#endif
#if OB_LANES == 4
OB_TILE(32, 16)
OB_TILE(32, 32)
#else
OB_FINISH(64)
#ifndef OB_SMALL
OB_TILE(64, 8)
#endif
OB_TILE(64, 16)
OB_TILE(64, 32)
#ifndef OB_SMALL
OB_TILE(64, 64)
#endif
#endif

static void conv_bytes(const ob_table_job *job) {
    const int32_t strip = job->layer->strip, pitch = job->layer->pitch;
#if OB_LANES <= 16 && !defined(OB_SMALL)
    if (strip == 16) do_tiles(16 / LANES, job, outputs_16_8, finish_16);
#endif
#if OB_LANES == 4
    if (strip == 32)
        do_tiles(32 / LANES, job, pitch == 8 ? outputs_32_8 : pitch == 16 ? outputs_32_16 : outputs_32_32, finish_32);
#else
#ifndef OB_SMALL
    if (strip == 32) do_tiles(32 / LANES, job, outputs_32_8, finish_32);
#endif
#ifdef OB_SMALL
    (void)strip;
    do_tiles(64 / LANES, job, pitch == 32 ? outputs_64_32 : outputs_64_16, finish_64);
#else
    if (strip == 64)
        do_tiles(64 / LANES, job,
                 pitch == 8    ? outputs_64_8
                 : pitch == 16 ? outputs_64_16
                 : pitch == 32 ? outputs_64_32
                               : outputs_64_64,
                 finish_64);
#endif
#endif
}
