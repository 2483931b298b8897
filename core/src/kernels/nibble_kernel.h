/* The table kernel for activations of 4 bits, 0..15: lanes of 8 bits, twice as many in a vector. A few entries add up to
 * 255 at most; then their even and their odd lanes go to sums of 16 bits, and these to accumulators of 16 bits, a bank of
 * them for as many channels as fit. Two lanes of 8 bits are one of 16, and sums of even and of odd columns are kept apart:
 * the column to the left of an even one is the odd one before it, that of an odd one is its even one. */

enum { PAIRS = OB_TABLE_STRIP / (2 * OB_LANES) ? OB_TABLE_STRIP / (2 * OB_LANES) : 1 };

/* Entries of g channels that can be added before a lane of 8 bits is full. */
#define OB_MOST_ENTRIES(g) (255 / (15 * (g)))

/* `count` bytes, a multiple of 8, from `p`; zeros if it is NULL. */
static inline void copy_bytes(uint8_t *x, const uint8_t *p, int32_t count) {
    int32_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) v_store(x + i, p ? v_load(p + i) : v_zero());
    for (; i < count; i += 8) {
        uint64_t w = 0;
        if (p) OB_COPY(&w, p + i, 8);
        OB_COPY(x + i, &w, 8);
    }
}

/* Every second byte: four at a time while there are, each from 8. */
static inline void every_second(uint8_t *x, const uint8_t *p, int32_t count) {
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        uint64_t w;
        OB_COPY(&w, p + 2 * i, 8);
        w &= 0x00ff00ff00ff00ffull;
        w = (w | w >> 8) & 0x0000ffff0000ffffull;
        const uint32_t four = (uint32_t)(w | w >> 16);
        OB_COPY(x + i, &four, 4);
    }
    for (; i < count; i++) x[i] = p[2 * i];
}

/* As gather_block, in lanes of 8 bits. */
OB_INLINE void block_of_nibbles(const tile *t, const block *b, int32_t channel, int32_t total, uint8_t *x) {
    const ob_map *map = &t->job->source;
    const uint8_t *p = (const uint8_t *)map->data + (size_t)channel * map->plane + b->at;
    if (b->inside < total)
        for (int32_t k = 0; k < total; k += 2 * LANES) v_store(x + k, v_zero());
    copy_bytes(x + b->before, p, b->inside);
}

/* As gather, in lanes of 8 bits. */
OB_COLD void gather_nibbles(const tile *t, const ob_chunk *c, int32_t channel, int32_t skip, int32_t total, uint8_t *x) {
    const ob_table_layer *l = t->layer;
    const ob_map *map = &t->job->source;
    const int32_t pitch = l->pitch, stride = l->stride, rows = total / pitch;
    const int32_t first_row = (t->row + skip) * stride + c->phase_y - l->top, first_column = t->column->at * stride + c->column;
    const uint8_t *plane = (const uint8_t *)map->data + (size_t)channel * map->plane;
    int32_t from = first_column < 0 ? (-first_column + stride - 1) / stride : 0;
    int32_t to = l->width > first_column ? (l->width - first_column + stride - 1) / stride : 0;
    if (to > pitch) to = pitch;
    if (from > to) from = to;
    copy_bytes(x, NULL, total);
    for (int32_t y = 0; y < rows; y++, x += pitch) {
        const int32_t row = first_row + y * stride, count = to - from;
        if (row < 0 || row >= l->height || !count) continue;
        const uint8_t *p = plane + (size_t)row * (size_t)map->pitch + (size_t)(first_column + from * stride);
        if (stride == 1)
            for (int32_t i = 0; i < count; i++) x[from + i] = p[i];
        else if (stride == 2)
            every_second(x + from, p, count);
        else
            for (int32_t i = 0; i < count; i++) x[from + i] = p[(size_t)i * (size_t)stride];
    }
}

/* All 2^members sums of so many vectors of lanes, of `lanes` a channel; the lanes stay in registers. */
OB_INLINE void fill_nibbles(const int vectors, uint8_t *table, ptrdiff_t entry, int32_t members, const uint8_t *x, int32_t lanes) {
    OB_UNROLL for (int u = 0; u < vectors; u++) v_store(table + u * LANES * 2, v_zero());
    for (int32_t j = 0; j < members; j++, x += lanes) {
        v16 add[128 / (2 * LANES)];
        uint8_t *to = table + (entry << j);
        const uint8_t *from = table;
        OB_UNROLL for (int u = 0; u < vectors; u++) add[u] = v_load(x + u * LANES * 2);
        for (int32_t e = 0; e < 1 << j; e++, to += entry, from += entry)
            OB_UNROLL for (int u = 0; u < vectors; u++)
                v_store(to + u * LANES * 2, v_add8(v_load(from + u * LANES * 2), add[u]));
    }
}

#ifndef OB_SMALL
/* The same for one vector of many. */
static void fill_strided(uint8_t *table, ptrdiff_t entry, int32_t members, const uint8_t *x, int32_t lanes) {
    v_store(table, v_zero());
    for (int32_t j = 0; j < members; j++, x += lanes)
        for (ptrdiff_t e = 0; e < 1 << j; e++)
            v_store(table + ((e + ((ptrdiff_t)1 << j)) * entry), v_add8(v_load(table + e * entry), v_load(x)));
}
#endif

OB_APART void fill_nibble_tables(const tile *t, const ob_chunk *c) {
    const ob_table_layer *l = t->layer;
    const int32_t lanes = t->fresh < 0 ? c->entry : l->strip, skip = t->fresh < 0 ? 0 : l->rows;
    uint8_t *table = t->tables + (t->fresh == 1 ? c->entry / 2 : 0), *x = (uint8_t *)t->lanes;
    block b;
    const int plain = block_of(t, c, skip, lanes, &b);
    for (int32_t i = 0; i < c->groups; i++, table += (ptrdiff_t)c->entry << l->bits) {
        const int32_t channel = c->channel + i * l->bits;
        const int32_t members = l->channels - channel < l->bits ? l->channels - channel : l->bits;
        for (int32_t j = 0; j < members; j++)
            if (plain) block_of_nibbles(t, &b, channel + j, lanes, x + j * lanes);
            else gather_nibbles(t, c, channel + j, skip, lanes, x + j * lanes);
#ifdef OB_SMALL
        int32_t u = 0;
        for (; u + 4 * LANES <= lanes; u += 4 * LANES) fill_nibbles(2, table + u, c->entry, members, x + u, lanes);
        if (u < lanes) fill_nibbles(1, table + u, c->entry, members, x + u, lanes);
#else
        switch (lanes / (2 * LANES)) {
        case 2: fill_nibbles(2, table, c->entry, members, x, 2 * 2 * LANES); break;
#if OB_LANES <= 16
        case 3: fill_nibbles(3, table, c->entry, members, x, 3 * 2 * LANES); break;
        case 4: fill_nibbles(4, table, c->entry, members, x, 4 * 2 * LANES); break;
#endif
#if OB_LANES <= 8
        case 5: fill_nibbles(5, table, c->entry, members, x, 5 * 2 * LANES); break;
        case 6: fill_nibbles(6, table, c->entry, members, x, 6 * 2 * LANES); break;
        case 8: fill_nibbles(8, table, c->entry, members, x, 8 * 2 * LANES); break;
#endif
        default: /* a vector at a time */
            for (int32_t u = 0; u < lanes; u += 2 * LANES)
                fill_strided(table + u, c->entry, members, x + u, lanes);
            break;
        }
#endif
    }
}

/* K entries added up, M of them at a time. V counts vectors of 2 * LANES lanes. */
OB_INLINE void add_up_nibbles(const int V, const int K, const int M, const int turn, const uint8_t *table, const uint16_t *offset,
                              v16 *evens, v16 *odds) {
    v16 a[PAIRS], even[PAIRS], odd[PAIRS];
    uint64_t four = 0;
    OB_UNROLL for (int e = 0; e < V; e++) even[e] = v_zero(), odd[e] = v_zero();
    OB_UNROLL for (int k = 0; k < K; k++) {
        if (k % 4 == 0) OB_COPY(&four, offset + k, 8);
        const uint8_t *q = table + (uint16_t)four;
        four >>= 16;
        OB_UNROLL for (int e = 0; e < V; e++) {
            const v16 x = v_load(q + e * LANES * 2 + (turn ? turned(V, turn, k / (K / 3 ? K / 3 : 1), e) : 0));
            if (k % M == 0) a[e] = x;
            else {
                a[e] = v_add8(a[e], x);
                OB_PIN(a[e]);
            }
            if (k % M == M - 1 || k == K - 1) {
                v_gather_pairs(&even[e], &odd[e], a[e]);
                OB_PIN(even[e]);
                OB_PIN(odd[e]);
            }
        }
    }
    OB_UNROLL for (int e = 0; e < V; e++) evens[e] = v_even_of_pairs(even[e], odd[e]), odds[e] = odd[e];
}

/* The same for any number of entries, two at a time: of up to 8 channels. */
OB_INLINE void add_up_some_nibbles(const int V, int K, const uint8_t *table, const uint16_t *offset, v16 *evens,
                                   v16 *odds) {
    v16 even[PAIRS], odd[PAIRS];
    OB_UNROLL for (int e = 0; e < V; e++) even[e] = v_zero(), odd[e] = v_zero();
    for (int k = 0; k < K; k += 2) {
        const uint8_t *p = table + offset[k], *q = k + 1 < K ? table + offset[k + 1] : table; /* entry 0 is 0 */
        OB_UNROLL for (int e = 0; e < V; e++) {
            v16 a = v_add8(v_load(p + e * LANES * 2), v_load(q + e * LANES * 2));
            OB_PIN(a);
            v_gather_pairs(&even[e], &odd[e], a);
            OB_PIN(even[e]);
            OB_PIN(odd[e]);
        }
    }
    OB_UNROLL for (int e = 0; e < V; e++) evens[e] = v_even_of_pairs(even[e], odd[e]), odds[e] = odd[e];
}

#ifdef OB_SMALL
/* The same as loops for any number of entries, M of them at a time in lanes of 8 bits. `turn`: as for `sum` of table_kernel.h. */
OB_INLINE void add_up_nibbles_loop(const int V, const int P, int K, const int M, const int turn, const uint8_t *table,
                                   const uint16_t *offset, v16 *evens, v16 *odds) {
    v16 even[PAIRS], odd[PAIRS];
    const int rows = turn ? 3 : 1, count = turn ? K / 3 : K;
    const ptrdiff_t half = turn ? V * LANES * 2 : 0;
    const uint8_t *low = table + half, *high = low;
    OB_UNROLL for (int e = 0; e < V; e++) even[e] = v_zero(), odd[e] = v_zero();
    for (int dy = 0;;) {
        for (int k = 0; k < count; k += M) {
            v16 a[PAIRS];
            OB_UNROLL for (int j = 0; j < M; j++) {
                const int at = k + j < count ? *offset++ : dy * P; /* entry 0 is 0 */
                const uint8_t *p = low + at, *q = turn ? high + at : p;
                OB_UNROLL for (int e = 0; e < V; e++) {
                    const v16 x = v_load((e < V / 2 ? p : q) + e * LANES * 2);
                    a[e] = j ? v_add8(a[e], x) : x;
                }
            }
            OB_UNROLL for (int e = 0; e < V; e++) v_gather_pairs(&even[e], &odd[e], a[e]);
        }
        if (++dy >= rows) break;
        high = table - half;
        if (dy == 2) low = high;
    }
    OB_UNROLL for (int e = 0; e < V; e++) evens[e] = v_even_of_pairs(even[e], odd[e]), odds[e] = odd[e];
}

/* Sums of every second column, rows of P / 2 of them, one column on; where that is 8 also rows of 4, whose ends `joined` tells. */
OB_INLINE v16 next_column(const int P, const int left, const int e, const v16 joined, const v16 *x) {
    const int edge = left ? e : e + 1;
    const v16 next = edge * 2 * LANES % P == 0 ? v_zero() : x[left ? e - 1 : e + 1];
    const v16 moved = left ? v_left(next, x[e]) : v_right(x[e], next);
    return P == 16 ? moved & joined : moved;
}
#endif

OB_INLINE void finish_nibbles(const int V, const tile *t, int32_t n, const v16 *s, int32_t banks) {
    const ob_table_layer *l = t->layer;
    const size_t bank = (size_t)(l->outputs + l->extra) * 2 * (size_t)V;
    const v16 *sums = (const v16 *)t->sums + (size_t)(n + l->extra) * 2 * (size_t)V;
    v16 x[VECTORS];
    OB_UNROLL for (int e = 0; e < V; e++) {
        v16 half[2]; /* even columns, odd columns */
        OB_UNROLL for (int h = 0; h < 2; h++) {
            v32 a = v_even(s[2 * e + h]), b = v_odd(s[2 * e + h]);
            for (int32_t k = 0; k < banks; k++) {
                const v16 more = sums[(size_t)k * bank + (size_t)(2 * e + h)];
                a = v_add32(a, v_even(more)), b = v_add32(b, v_odd(more));
            }
            half[h] = v_narrow(complete(t, a, 4 * e + 2 * h), complete(t, b, 4 * e + 2 * h + 1));
        }
        v_zip(half[0], half[1], &x[2 * e], &x[2 * e + 1]);
    }
    finish_lanes(2 * V, t, n, x);
}

/* Outputs [from, to) of a chunk, counted with the extra one. `begin`: the first chunk of its bank; `finish`: the last. */
OB_INLINE void nibble_outputs(const int V, const int P, const int K, const int M, const int turn, const tile *t, const ob_chunk *c,
                              int32_t from, int32_t to, int begin, int finish) {
    (void)K; /* loops need not */
    const ob_table_layer *l = t->layer;
    const int32_t columns = 1 + (c->sections >> 1 & 1) + (c->sections >> 2 & 1), sums = c->sums;
    const uint16_t *offset = l->offsets + c->offsets + (size_t)from * (size_t)(columns * sums);
    const size_t slots = (size_t)(l->outputs + l->extra);
    v16 *a = (v16 *)t->sums + ((size_t)c->bank * slots + (size_t)from) * (2 * (size_t)V);
#ifdef OB_SMALL
    const uint16_t joined = l->pitch == 8 ? 0 : 0xffff; /* columns 3 and 4 of a vector */
    const v16 to_4 = {0xffff, 0xffff, 0xffff, 0xffff, joined, 0xffff, 0xffff, 0xffff};
    const v16 to_3 = {0xffff, 0xffff, 0xffff, joined, 0xffff, 0xffff, 0xffff, 0xffff};
#endif
    for (int32_t n = from; n < to; n++, a += 2 * V) {
        v16 s[2 * PAIRS]; /* even columns, odd columns of each vector */
        for (int section = 0; section < 3; section++) {
            v16 even[PAIRS], odd[PAIRS];
            if (!(c->sections >> section & 1)) continue;
#ifdef OB_SMALL
            add_up_nibbles_loop(V, P, sums, M, turn, t->tables, offset, even, odd);
#else
            if (K) add_up_nibbles(V, K, M, turn, t->tables, offset, even, odd);
            else add_up_some_nibbles(V, sums, t->tables, offset, even, odd);
#endif
            offset += sums;
            if (section == 0) {
                OB_UNROLL for (int e = 0; e < V; e++) s[2 * e] = even[e], s[2 * e + 1] = odd[e];
            } else if (section == 1) {
#ifdef OB_SMALL
                OB_UNROLL for (int e = 0; e < V; e++) {
                    s[2 * e] = v_add(s[2 * e], next_column(P, 1, e, to_4, odd));
                    s[2 * e + 1] = v_add(s[2 * e + 1], even[e]);
                }
#else
                OB_UNROLL for (int e = 0; e < V; e++) {
                    const v16 next = e * LANES % (P / 2) == 0 ? v_zero() : odd[e ? e - 1 : 0];
                    s[2 * e] = v_add(s[2 * e], from_left(P / 2, next, odd[e]));
                    s[2 * e + 1] = v_add(s[2 * e + 1], even[e]);
                }
#endif
            } else {
#ifdef OB_SMALL
                OB_UNROLL for (int e = 0; e < V; e++) {
                    s[2 * e] = v_add(s[2 * e], odd[e]);
                    s[2 * e + 1] = v_add(s[2 * e + 1], next_column(P, 0, e, to_3, even));
                }
#else
                OB_UNROLL for (int e = 0; e < V; e++) {
                    const v16 next = (e + 1) * LANES % (P / 2) == 0 ? v_zero() : even[e + 1 < V ? e + 1 : e];
                    s[2 * e] = v_add(s[2 * e], odd[e]);
                    s[2 * e + 1] = v_add(s[2 * e + 1], from_right(P / 2, even[e], next));
                }
#endif
            }
        }
        if (!begin) OB_UNROLL for (int e = 0; e < 2 * V; e++) s[e] = v_add(s[e], a[e]);
        if (!finish) {
            OB_UNROLL for (int e = 0; e < 2 * V; e++) a[e] = s[e];
            continue;
        }
        const int32_t o = n - l->extra;
        v16 all[2 * PAIRS];
        OB_UNROLL for (int e = 0; e < 2 * V; e++) all[e] = s[e];
        if (!l->direct && l->has_base) copy_tile(t, o, 0);
        t->finish_nibbles(t, o, all, c->bank);
        if (!l->direct) copy_tile(t, o, 1);
    }
}

OB_INLINE void nibble_chunk(const int V, const int P, const tile *t, const ob_chunk *c, int32_t from, int32_t to,
                            int begin, int finish) {
#ifdef OB_SMALL
    if (P == OB_RING_PITCH && t->turn) nibble_outputs(V, P, 0, 3, 1, t, c, from, to, begin, finish);
    else nibble_outputs(V, P, 0, 3, 0, t, c, from, to, begin, finish);
#else
    const int most = OB_MOST_ENTRIES(t->layer->bits), turn = P == OB_RING_PITCH && V * OB_LANES == P ? P / (2 * OB_LANES) : 0;
#define OB_ENTRIES(K, M) \
    if (c->sums == K && most == M) { \
        if (turn && t->turn) \
            nibble_outputs(V, P, K, M, turn, t, c, from, to, begin, finish); \
        else \
            nibble_outputs(V, P, K, M, 0, t, c, from, to, begin, finish); \
        return; \
    }
    OB_NIBBLE_ENTRIES(OB_ENTRIES)
    nibble_outputs(V, P, 0, 0, 0, t, c, from, to, begin, finish);
#endif
}

/* S of all banks. */
OB_ONCE void set_nibble_rests(const int V, const tile *t, int32_t banks) {
    const ob_table_layer *l = t->layer;
    const size_t bank = (size_t)(l->outputs + l->extra) * 2 * (size_t)V;
    const v16 *a = (const v16 *)t->sums;
    for (int e = 0; e < 2 * V; e++) {
        v32 even = v_even(a[e]), odd = v_odd(a[e]);
        for (int32_t b = 1; b <= banks; b++) {
            even = v_add32(even, v_even(a[(size_t)b * bank + (size_t)e]));
            odd = v_add32(odd, v_odd(a[(size_t)b * bank + (size_t)e]));
        }
        set_rest(t, 2 * e, even);
        set_rest(t, 2 * e + 1, odd);
    }
}

typedef void do_nibbles(const tile *t, const ob_chunk *c, int32_t from, int32_t to, int begin, int finish);

static void nibble_tiles(const int V, const ob_table_job *job, do_nibbles *some, do_finish_nibbles *finish) {
    const ob_table_layer *l = job->layer;
    tile t = tile_of(job);
    t.finish_nibbles = finish;
    const int32_t from = l->extra + job->output, to = l->extra + job->output_end;
    const size_t bank = (size_t)(l->outputs + l->extra) * 2 * (size_t)V;
    v32 *const sums = t.sums;
    const size_t slots = bank * (size_t)l->banks; /* of 16 bits, in vectors */
    for (int32_t i = job->tile, n; i < job->tile_end; i += n) {
        n = ring_from(l, i, job->tile_end);
        for (int32_t k = 0; k < l->chunks; k++) {
            const ob_chunk *c = l->chunk + k;
            const int last = k == l->chunks - 1, begin = !k || c->bank != c[-1].bank;
            t.sums = sums;
            for (int32_t r = 0; r < n; r++, t.sums += slots) {
                set_tile(&t, i + r, r);
                fill_nibble_tables(&t, c);
                some(&t, c, 0, l->extra, begin, 0);
                if (last) set_nibble_rests(V, &t, c->bank);
                some(&t, c, from, to, begin, last);
            }
        }
    }
}

#define OB_NIBBLES(S, P) \
    OB_CALL void nibbles_##S##_##P(const tile *t, const ob_chunk *c, int32_t from, int32_t to, int begin, int finish) { \
        nibble_chunk(S / (2 * OB_LANES), P, t, c, from, to, begin, finish); \
    }
#define OB_FINISH_NIBBLES(S) \
    OB_CALL void finish_nibbles_##S(const tile *t, int32_t n, const v16 *s, int32_t banks) { \
        finish_nibbles(S / (2 * OB_LANES), t, n, s, banks); \
    }
#if OB_LANES == 4
OB_FINISH_NIBBLES(32)
OB_NIBBLES(32, 8)
OB_NIBBLES(32, 16)
OB_NIBBLES(32, 32)
#else
OB_FINISH_NIBBLES(64)
#ifndef OB_SMALL
OB_NIBBLES(64, 8)
#endif
OB_NIBBLES(64, 16)
OB_NIBBLES(64, 32)
#ifndef OB_SMALL
OB_NIBBLES(64, 64)
#endif
#endif

static void conv_nibbles(const ob_table_job *job) {
    const int32_t pitch = job->layer->pitch;
#if OB_LANES == 4
    nibble_tiles(32 / (2 * LANES), job, pitch == 8 ? nibbles_32_8 : pitch == 16 ? nibbles_32_16 : nibbles_32_32,
                 finish_nibbles_32);
#elif defined(OB_SMALL)
    nibble_tiles(64 / (2 * LANES), job, pitch == 32 ? nibbles_64_32 : nibbles_64_16, finish_nibbles_64);
#else
    nibble_tiles(64 / (2 * LANES), job,
                 pitch == 8    ? nibbles_64_8
                 : pitch == 16 ? nibbles_64_16
                 : pitch == 32 ? nibbles_64_32
                               : nibbles_64_64,
                 finish_nibbles_64);
#endif
}
