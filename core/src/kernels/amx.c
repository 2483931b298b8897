/* Convolution by AMX, the matrix unit of Intel's server processors: one instruction multiplies a tile of 16 positions x 64
 * numbers of 8 bits by one of 64 x 16 weights, and adds the products to 16 x 16 sums of 32 bits. matrix.h says what images,
 * lanes, groups and chunks are.
 *
 * Weights stay bits, 128 bytes a tile, and become bytes +1 and -1 only when needed, in a ring of 8 tiles in the first-level
 * cache. What makes speed: the matrix unit takes 16 cycles a product, so everything else is done in small pieces between
 * products: a quarter of a tile of weights six chunks ahead, a piece of the output stage of the outputs before. */
#include "../matrix.h"
#if defined(__AMX_INT8__) && defined(__AVX512BW__) && defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>
#include <string.h>

#define OB_INLINE static inline __attribute__((always_inline))
#define OB_CALL static __attribute__((noinline))
/* Compilers do not know that tiles are loaded from what vectors stored: nothing may be moved beyond this. */
#define OB_BARRIER() __asm__ volatile("" ::: "memory")
#ifdef __clang__
#define OB_UNROLL _Pragma("clang loop unroll(full)")
#else
#define OB_UNROLL _Pragma("GCC unroll 32")
#endif

enum {
    LANES = OB_MATRIX_LANES, GROUP = OB_MATRIX_GROUP, OUTPUTS = OB_MATRIX_OUTPUTS, WORDS = OB_MATRIX_WORDS,
    TILE = OB_MATRIX_TILE, RING = OB_MATRIX_RING, AHEAD = RING - 2
};

/* -- from maps to images ------------------------------------------------------------------------------------------- */

OB_INLINE __m128i load16(const uint8_t *p, size_t plane, int32_t channel, const int all, int32_t channels) {
    if (!all && channel >= channels) return _mm_setzero_si128();
    return _mm_loadu_si128((const __m128i *)(const void *)(p + (size_t)channel * plane));
}

/* 64 channels of 16 positions: a vector for each position. Four times the same shuffle turns 16 x 16 bytes. */
OB_INLINE void turn_bytes(const uint8_t *p, size_t plane, const int all, int32_t channels, __m512i v[16]) {
    OB_UNROLL for (int i = 0; i < 16; i++) {
        v[i] = _mm512_castsi128_si512(load16(p, plane, i, all, channels));
        v[i] = _mm512_inserti32x4(v[i], load16(p, plane, 16 + i, all, channels), 1);
        v[i] = _mm512_inserti32x4(v[i], load16(p, plane, 32 + i, all, channels), 2);
        v[i] = _mm512_inserti32x4(v[i], load16(p, plane, 48 + i, all, channels), 3);
    }
    OB_UNROLL for (int turn = 0; turn < 4; turn++) {
        __m512i x[16];
        OB_UNROLL for (int i = 0; i < 8; i++) {
            x[2 * i] = _mm512_unpacklo_epi8(v[i], v[i + 8]);
            x[2 * i + 1] = _mm512_unpackhi_epi8(v[i], v[i + 8]);
        }
        OB_UNROLL for (int i = 0; i < 16; i++) v[i] = x[i];
    }
}

OB_INLINE void store_position(uint8_t *to, __m512i v, int32_t bytes) {
    if (bytes == 64) _mm512_storeu_si512(to, v);
    else if (bytes == 32) _mm256_storeu_si256((__m256i *)(void *)to, _mm512_castsi512_si256(v));
    else _mm_storeu_si128((__m128i *)(void *)to, _mm512_castsi512_si128(v));
}

/* What output rows [from, to) of the band that begins at row `first` see, for channels of one block. */
static void copy_block(const ob_table_job *job, int32_t block, uint8_t *images, int32_t first, int32_t from, int32_t to) {
    const ob_table_layer *l = job->layer;
    const ob_matrix *m = l->matrix;
    const ob_map *map = &job->source;
    const int32_t channels = ob_least(l->channels - block * m->bytes, 64), row_bytes = m->pitch * m->bytes;
    const int32_t places = m->shifted ? m->across : 1;
    uint8_t border[64];
    for (int32_t i = 0; i < 64; i++) border[i] = (uint8_t)(i < channels ? l->zero : 0);
    const __m512i edge = _mm512_loadu_si512(border);
    for (int32_t i = 0; i < m->down * m->across; i++) {
        uint8_t *p = images + (size_t)i * (size_t)m->image + (size_t)from * (size_t)row_bytes;
        for (int32_t n = (to - from + m->taps_down) * m->pitch; n > 0; n--, p += m->bytes) store_position(p, edge, m->bytes);
    }
    const int32_t row = (first + from) * l->stride - l->top, end = (first + to + m->taps_down - 1) * l->stride - l->top;
    const int32_t begin = (row > 0 ? row : 0) * map->pitch, behind = ob_least(end, l->height) * map->pitch;
    const uint8_t *source = (const uint8_t *)map->data + (size_t)block * (size_t)m->bytes * map->plane;
    for (int32_t at = begin & ~15; at < behind; at += 16) { /* rows and planes have a multiple of 8 and of 64 elements */
        __m512i v[16];
        if (channels == 64) turn_bytes(source + at, map->plane, 1, 64, v);
        else turn_bytes(source + at, map->plane, 0, channels, v);
        for (int32_t half = 0; half < 16; half += 8) {
            if (at + half < begin || at + half >= behind) continue;
            const int32_t y = (at + half) / map->pitch + l->top - first * l->stride, phase = y % l->stride;
            const int32_t *place = m->place + (at + half) % map->pitch;
            if (phase >= m->down) continue;
            uint8_t *p = images + (size_t)(phase * m->across) * (size_t)m->image + (size_t)(y / l->stride) * (size_t)row_bytes;
            for (int32_t k = 0; k < places; k++, place += map->pitch)
                for (int32_t i = 0; i < 8; i++)
                    if (place[i] >= 0) store_position(p + place[i], v[half + i], m->bytes);
        }
    }
}

/* -- from sums to maps --------------------------------------------------------------------------------------------- */

/* Where a group's lanes belong: positions [at, at + count) of a plane; lane[i]: what position at + i is. Those between
 * rows are any lane: what lies there nobody reads. */
typedef struct group {
    int32_t at, count;
    uint8_t lane[OB_MATRIX_SPAN];
} group;

static void set_group(group *g, const ob_table_layer *l, int32_t first, int32_t lane, int32_t lanes) {
    const int32_t pitch = l->matrix->pitch;
    int32_t y = lane / pitch, x = lane % pitch;
    memset(g, 0, sizeof *g);
    for (int32_t i = 0; i < lanes; i++) {
        if (x < l->out_width) {
            const int32_t at = (first + y) * ob_pitch(l->out_width) + x;
            if (!g->count) g->at = at;
            g->count = at - g->at + 1;
            g->lane[at - g->at] = (uint8_t)i;
        }
        if (++x == pitch) x = 0, y++;
    }
}

/* 16 outputs of a group whose sums are complete. Their output stage has two pieces for each 32 positions. */
typedef struct pending {
    const group *group;
    const int32_t *sums; /* [lane][16 outputs] */
    int32_t output, pieces, done;
} pending;

/* Shift and saturate 32 positions of 16 outputs: a vector of positions for each output. */
OB_CALL void narrow(const ob_table_layer *l, const pending *p, const uint8_t *lane, uint8_t *to) {
    const __m512i rest = _mm512_loadu_si512(l->matrix->rest + p->output);
    const __m128i shift = _mm_cvtsi32_si128(l->shift);
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    __m512i v[16];
    OB_UNROLL for (int i = 0; i < 16; i++) { /* two neighbours make pairs of 16 bits; pairs are then turned like bytes above */
        const int32_t *a = p->sums + lane[2 * i] * OUTPUTS, *b = p->sums + lane[2 * i + 1] * OUTPUTS;
        const __m512i x = _mm512_sra_epi32(_mm512_sub_epi32(_mm512_loadu_si512(a), rest), shift);
        const __m512i y = _mm512_sra_epi32(_mm512_sub_epi32(_mm512_loadu_si512(b), rest), shift);
        v[i] = _mm512_packs_epi32(_mm512_unpacklo_epi32(x, y), _mm512_unpackhi_epi32(x, y));
    }
    OB_UNROLL for (int turn = 0; turn < 4; turn++) {
        __m512i x[16];
        OB_UNROLL for (int i = 0; i < 8; i++) {
            x[2 * i] = _mm512_permutex2var_epi32(v[i], low, v[i + 8]);
            x[2 * i + 1] = _mm512_permutex2var_epi32(v[i], high, v[i + 8]);
        }
        OB_UNROLL for (int i = 0; i < 16; i++) v[i] = x[i];
    }
    OB_UNROLL for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + 64 * i, v[i]);
}

/* Base and norm of 32 positions of 16 outputs, as docs/format.md has them. */
OB_CALL void finish(const ob_table_job *job, const pending *p, int32_t first, const uint8_t *from) {
    const ob_table_layer *l = job->layer;
    const int32_t left = p->group->count - first;
    const __mmask32 those = left >= 32 ? 0xffffffffu : ((__mmask32)1 << left) - 1;
    const __m512i zero = _mm512_set1_epi16((short)l->norm_zero), limit = _mm512_set1_epi16((short)l->norm_limit);
    const size_t at = (size_t)(p->group->at + first);
    for (int32_t o = p->output; o < ob_least(p->output + OUTPUTS, job->output_end); o++, from += 64) {
        const size_t n = (size_t)o;
        __m512i x = _mm512_loadu_si512(from);
        if (l->has_base)
            x = _mm512_adds_epi16(x, _mm512_maskz_loadu_epi16(those, (int16_t *)job->base.data + n * job->base.plane + at));
        if (l->keeps) _mm512_mask_storeu_epi16((int16_t *)job->sum.data + n * job->sum.plane + at, those, x);
        if (!l->has_norm) continue;
        const int16_t *c = l->norm + 3 * n;
        x = _mm512_mulhrs_epi16(_mm512_subs_epi16(x, _mm512_set1_epi16(c[0])), _mm512_set1_epi16(c[1]));
        if (l->norm_offsets) x = _mm512_adds_epi16(_mm512_adds_epi16(x, _mm512_set1_epi16(c[2])), zero);
        x = _mm512_min_epi16(_mm512_max_epi16(x, _mm512_setzero_si512()), limit);
        uint8_t *to = (uint8_t *)job->activation.data + n * job->activation.plane + at;
        _mm256_mask_storeu_epi8(to, those, _mm512_cvtepi16_epi8(x));
    }
}

/* -- products ------------------------------------------------------------------------------------------------------ */

typedef struct work {
    const ob_table_job *job;
    uint8_t *images, *ring, *narrowed;
    int32_t *sums[2];
    uint32_t made, used;                 /* tiles of weights in the ring, counted from the beginning */
    const uint64_t *bits, *first, *last; /* the next one's weights; the share's, over and over */
    int32_t next;                        /* its chunk */
    pending pending;
} work;

static void do_piece(work *w) {
    pending *p = &w->pending;
    const int32_t first = p->done / 2 * 32;
    if (p->done++ % 2 == 0) narrow(w->job->layer, p, p->group->lane + first, w->narrowed);
    else finish(w->job, p, first, w->narrowed);
}

/* Quarter i of a tile: 16 of its 64 numbers. */
OB_INLINE void expand(uint8_t *to, const uint64_t *bits, const int i, int32_t quarters) {
    const __m512i one = _mm512_set1_epi8(1), less = _mm512_set1_epi8(-1);
    OB_UNROLL for (int r = 4 * i; r < 4 * i + 4; r++) {
        const __m512i weights = i < quarters ? _mm512_mask_blend_epi8((__mmask64)bits[r], less, one) : _mm512_setzero_si512();
        _mm512_store_si512(to + 64 * r, weights);
    }
}

OB_INLINE void advance(work *w) {
    w->made++;
    if ((w->bits += WORDS) == w->last) w->bits = w->first;
    if (++w->next == w->job->layer->matrix->chunks) w->next = 0;
}

/* Sums of up to four tiles of lanes from `x` on, for the 16 outputs whose weights are next in the ring. */
OB_INLINE void multiply(const int tiles, work *w, const uint8_t *x, int32_t *sums) {
    const ob_matrix *m = w->job->layer->matrix;
    const long step = m->bytes;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int32_t k = 0; k < m->chunks; k++) {
        const uint8_t *a = x + m->chunk[k].offset, *b = w->ring + w->used++ % RING * TILE;
        uint8_t *to = w->ring + w->made % RING * TILE;
        const uint64_t *bits = w->bits;
        const int32_t quarters = m->chunk[w->next].quarters;
        OB_BARRIER();
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, step);
        expand(to, bits, 0, quarters);
        _tile_dpbusd(0, 4, 6);
        if (tiles > 1) _tile_loadd(5, a + LANES * step, step);
        expand(to, bits, 1, quarters);
        if (tiles > 1) _tile_dpbusd(1, 5, 6);
        if (tiles > 2) _tile_loadd(7, a + 2 * LANES * step, step);
        expand(to, bits, 2, quarters);
        if (tiles > 2) _tile_dpbusd(2, 7, 6);
        if (tiles > 3) _tile_loadd(4, a + 3 * LANES * step, step);
        expand(to, bits, 3, quarters);
        if (tiles > 3) _tile_dpbusd(3, 4, 6);
        advance(w);
        while ((int64_t)w->pending.done * m->chunks < (int64_t)w->pending.pieces * (k + 1)) do_piece(w);
    }
    _tile_stored(0, sums, 64);
    if (tiles > 1) _tile_stored(1, sums + LANES * OUTPUTS, 64);
    if (tiles > 2) _tile_stored(2, sums + 2 * LANES * OUTPUTS, 64);
    if (tiles > 3) _tile_stored(3, sums + 3 * LANES * OUTPUTS, 64);
    OB_BARRIER();
}

OB_CALL void multiply_1(work *w, const uint8_t *x, int32_t *sums) { multiply(1, w, x, sums); }
OB_CALL void multiply_2(work *w, const uint8_t *x, int32_t *sums) { multiply(2, w, x, sums); }
OB_CALL void multiply_3(work *w, const uint8_t *x, int32_t *sums) { multiply(3, w, x, sums); }
OB_CALL void multiply_4(work *w, const uint8_t *x, int32_t *sums) { multiply(4, w, x, sums); }

void ob_conv_amx(const ob_table_job *job) {
    static void (*const products[])(work *, const uint8_t *, int32_t *) = {multiply_1, multiply_2, multiply_3, multiply_4};
    const ob_table_layer *l = job->layer;
    const ob_matrix *m = l->matrix;
    const size_t block_bytes = (size_t)m->image * (size_t)(m->down * m->across), block_words = (size_t)m->chunks * WORDS;
    group groups[2];
    int turn = 0, at = 0; /* of groups, of sums */
    work w = {.job = job, .ring = job->scratch};
    w.sums[0] = (int32_t *)(void *)(w.ring + RING * TILE), w.sums[1] = w.sums[0] + GROUP * OUTPUTS;
    w.narrowed = (uint8_t *)(w.sums[1] + GROUP * OUTPUTS);
    w.images = w.narrowed + TILE;
    w.bits = w.first = m->bits + (size_t)(job->output / OUTPUTS) * block_words;
    w.last = m->bits + (size_t)ob_parts(job->output_end, OUTPUTS) * block_words;
    /* palette 1: eight tiles of 16 rows of 64 bytes; compilers do not see that all of this is read */
    struct { uint8_t palette, row, none[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = LANES;
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
    while (w.made < AHEAD) {
        uint8_t *to = w.ring + w.made % RING * TILE;
        const int32_t quarters = m->chunk[w.next].quarters;
        expand(to, w.bits, 0, quarters), expand(to, w.bits, 1, quarters);
        expand(to, w.bits, 2, quarters), expand(to, w.bits, 3, quarters);
        advance(&w);
    }
    for (int32_t tile = job->tile, end; tile < job->tile_end; tile = end) {
        const int32_t band = tile / m->groups, first = band * m->band, rows = ob_least(m->band, l->out_height - first);
        end = ob_least(job->tile_end, (band + 1) * m->groups);
        const int32_t from = (tile - band * m->groups) * GROUP, all = (rows - 1) * m->pitch + l->out_width;
        const int32_t to = ob_least((end - band * m->groups) * GROUP, all);
        for (int32_t b = 0; b < m->blocks; b++)
            copy_block(job, b, w.images + (size_t)b * block_bytes, first, from / m->pitch, (to - 1) / m->pitch + 1);
        for (int32_t lane = from; lane < to; lane += GROUP) {
            group *g = &groups[turn];
            set_group(g, l, first, lane, ob_least(GROUP, to - lane));
            if (!g->count) continue;
            turn ^= 1;
            for (int32_t o = job->output; o < job->output_end; o += OUTPUTS, at ^= 1) {
                const int32_t tiles = ob_parts(ob_least(GROUP, to - lane), LANES);
                products[tiles - 1](&w, w.images + (size_t)lane * (size_t)m->bytes, w.sums[at]);
                w.pending = (pending){g, w.sums[at], o, 2 * ob_parts(g->count, 32), 0};
            }
        }
    }
    while (w.pending.done < w.pending.pieces) do_piece(&w);
    _tile_release();
}

#else
typedef int ob_no_amx;
#endif
