/* 3 x 3 convolutions of activations by tables of partial sums: no multiplication, and weights stay the bits that they are.
 *
 * Four output pixels a quarter of the row apart make a tuple, as maps keep them (firmware.h); a tap of the kernel moves all four
 * alike, so one table for each place of the input serves all nine taps. It has, for each group of four input channels, the 16
 * sums of their subsets, for the four pixels at once: 16-bit lanes of two words. Four weights then are an index, and a load and
 * an add for each word do what 8 multiply-accumulates would. With S1 the sum where the bit is 1 and S that of all, the sum of
 * +-x is 2 * S1 - S.
 *
 * Tables are kept of a window: two tuples side by side and what the kernel needs beside them, three rows, of which the oldest is
 * replaced while the window moves down the map. To save memory a window may hold only a `chunk` of the channels: then its
 * tables are built anew for each row of the output, and sums are kept from chunk to chunk.
 *
 * No lane overflows while S < 2^16, which is looked at once for each pair of tuples; beyond it, hardly ever, they are emptied
 * into wider ones in time. Weights of an output: for each row of the kernel, for each pair of groups, six times four bits: the
 * first group's three taps, then the second's (layouts.py). */
#include "nibble_build.h"

enum {
    SAFE_GROUPS = 64, /* whose sums at one place fit a lane: 64 * 4 * 255 < 2^16 */
    SAFE_PAIRS = 10,  /* whose sums at three do: 10 * 8 * 3 * 255 < 2^16 */
    PLACES = 5,       /* of a window, at most */
    EIGHT = 8         /* pixels of a pair of tuples */
};

/* What is the same for all of a call. */
typedef struct job {
    const obf_conv *conv;
    uint8_t *tables;    /* [kernel row][group] */
    int32_t *totals;    /* [kernel row][place][4]: the sum over all channels of pixels 0, 2, 1, 3 */
    int32_t *partial;   /* [output][8]: sums of the chunks before */
    uint16_t quarter;   /* tuples of a row of the output */
    uint16_t pairs;     /* of groups of four channels */
    uint32_t group_bytes, row_bytes;
    uint8_t direct;     /* is what is read one of the usual cases, maps in tuples that fit? */
    uint8_t usual;      /* and what is written? */
    uint8_t places;     /* of the window */
    obf_spot window[PLACES];
    obf_eight eight;    /* what of it is the same for all */
    int32_t all[EIGHT]; /* of all inputs: pixels 0, 2, 1, 3 of a tuple, then of the next */
} job;

/* -- tables ---------------------------------------------------------------------------------------------------------- */

/* The window whose first tuple is `tuple`. */
static void move_window(job *j, int tuple) {
    const obf_conv *conv = j->conv;
    const int quarter = conv->source.quarter;
    for (int p = 0; p < j->places; p++) {
        obf_spot *spot = &j->window[p];
        const int half = conv->stride == 2 && p & 1;
        int at = tuple * conv->stride - conv->left + p, inside = 0;
        spot->masks[0] = spot->masks[1] = 0;
        for (int lane = 0, x = at; lane < 4; lane++, x += j->quarter * conv->stride)
            if (x >= 0 && x < conv->source.width) {
                spot->masks[lane & 1] |= lane < 2 ? 0xffffu : 0xffff0000u;
                inside++;
            }
        spot->move = (inside == 4 ? 0 : OBF_MASK) | (half ? OBF_MASK | OBF_HALF : 0);
        for (; quarter && at < 0; at += quarter)
            spot->move += inside ? OBF_UP : 0;
        for (; quarter && at >= quarter; at -= quarter)
            spot->move += inside ? OBF_DOWN : 0;
        spot->source = at * 4 * conv->source.channels * (conv->source.type == OBF_I16 ? 2 : 1);
        spot->table = 4 * (conv->stride == 1 ? 2 * p : half ? BLOCK + p - 1 : p);
    }
}

/* Any case: number by number, through everything that a reader applies; y is -1 outside the map. The tables of all places. */
static OBF_ALONE void build_any(const job *j, const obf_row *row, int y, int tuple, int group) {
    const obf_conv *conv = j->conv;
    const obf_map *source = &conv->source;
    for (int i = 0; i < 2 * j->places; i++) { /* places, pixels 0 and 2, 1 and 3 of each */
        const obf_spot *spot = &row->spots[i >> 1];
        int x[2], channel = 4 * group;
        x[0] = (tuple + (i & 1) * j->quarter) * conv->stride - conv->left + (i >> 1);
        x[1] = x[0] + 2 * j->quarter * conv->stride;
        if (!row->more)
            row->totals[2 * i] = row->totals[2 * i + 1] = 0;
        for (uint32_t done = 0; done < row->size; done += row->group_bytes) {
            uint32_t *table = (uint32_t *)(void *)(row->tables + spot->table + done) + (i & 1), v[4];
            for (int k = 0; k < 4; k++, channel++) {
                v[k] = 0;
                for (int half = 0; half < 2 && channel < source->channels; half++) {
                    uint32_t value = conv->zero;
                    if (y >= 0 && x[half] >= 0 && x[half] < source->width)
                        value = (uint32_t)obf_read(
                            source, conv->table, conv->read, obf_pixel(source, y, x[half]) + channel * obf_step(source), channel);
                    row->totals[2 * i + half] += (int32_t)value;
                    v[k] |= value << 16 * half;
                }
            }
            (void)obf_entries(table, spot->move & OBF_HALF ? ENTRY / 2 : ENTRY, v[0], v[1], v[2], v[3]);
        }
    }
}

/* The tables of row y of the source for the window, of groups first..end - 1. */
static OBF_ALONE void build_row(const job *j, int y, int slot, int tuple, int first, int end) {
    const obf_conv *conv = j->conv;
    const obf_map *source = &conv->source;
    const int inside = y >= 0 && y < source->height;
    if (!inside && !conv->zero) /* adds nothing to any sum */
        return;
    const int32_t start = (int32_t)obf_slot(inside ? y : 0, source->rows) * source->quarter * source->channels;
    for (int group = first; group < end; group += SAFE_GROUPS) {
        const int count = end - group > SAFE_GROUPS ? SAFE_GROUPS : end - group;
        obf_row row;
        row.source = (const uint8_t *)source->data + (start + 4 * group) * (source->type == OBF_I16 ? 8 : 4);
        row.numbers = conv->read ? conv->read->numbers + 8 * group : 0;
        row.group_bytes = j->group_bytes;
        row.size = (uint32_t)count * j->group_bytes;
        row.tables = j->tables + (uint32_t)slot * j->row_bytes + (uint32_t)(group - first) * j->group_bytes;
        row.totals = j->totals + slot * j->places * 4;
        row.more = group > 0;
        row.spots = j->window;
        row.places = j->places;
        if (!j->direct)
            build_any(j, &row, inside ? y : -1, tuple, group);
        else
#if defined(__thumb2__)
            obf_row_thumb2(&row);
#else
            obf_row_any(&row);
#endif
    }
}

/* -- sums ------------------------------------------------------------------------------------------------------------ */

/* Where zero is not 0: what an output's sum of +-x is too large by, behind all weights. */
static int32_t correction(const uint8_t *c) {
    return (int32_t)(c[0] | (uint32_t)c[1] << 8 | (uint32_t)c[2] << 16 | (uint32_t)c[3] << 24);
}

#if !defined(__thumb2__)

/* A number through the usual batch-norm: with its multipliers nothing is changed where the difference is not saturated. */
OBF_INLINE uint8_t normed(int32_t x, int32_t mean, int32_t multiplier) {
    return (uint8_t)obf_byte15((x - mean) * multiplier + obf_half());
}

/* One word, two pixels of tuple i / 2, in any case. */
static inline void word(const obf_eight *e, uint32_t s, int i, const int16_t *numbers) {
    const int shift = e->shift;
    const uint32_t both = (shift ? s : s << 1) - e->less[i];
    int32_t low = (int32_t)(both & 0xffff) - 0x8000, high = (int32_t)(both >> 16) - 0x8000;
    if (shift > 1) {
        low = obf_rsh(low, shift - 1);
        high = obf_rsh(high, shift - 1);
    }
    if (e->base[0]) {
        const int16_t *base = (const int16_t *)e->base[i >> 1] + 2 * (i & 1);
        low = obf_sat16(low + base[0]);
        high = obf_sat16(high + base[1]);
    }
    if (numbers) {
        uint8_t *out = (uint8_t *)e->out[i >> 1] + (i & 1);
        out[0] = normed(low, numbers[0], numbers[1]);
        out[2] = normed(high, numbers[0], numbers[1]);
    } else {
        int16_t *out = (int16_t *)e->out[i >> 1] + 2 * (i & 1);
        out[0] = (int16_t)low;
        out[1] = (int16_t)high;
    }
}

/* Two tuples, as bytes, with neither base nor shift. */
static OBF_ALONE void fast_bytes(const obf_eight *e, int stride) {
    const uint8_t *weights = e->weights;
    const int16_t *numbers = e->numbers;
    const uint32_t less0 = e->less[0], less1 = e->less[1], less2 = e->less[2], less3 = e->less[3];
    const int32_t half = obf_half();
    uint8_t *one = e->out[0], *two = e->out[1], *const end = one + 4 * e->channels;
    for (; one < end; one += 4, two += 4, numbers += 2) {
        const int32_t mean = numbers[0] + 0x8000, multiplier = numbers[1];
        uint32_t s[4];
        weights = obf_sum(s, e->list, weights, stride) + e->skip;
#define OBF_TWO(OUT, I, LESS) \
    do { \
        const uint32_t both = (s[I] << 1) - LESS; \
        (OUT)[0] = (uint8_t)obf_byte15(((int32_t)(both & 0xffff) - mean) * multiplier + half); \
        (OUT)[2] = (uint8_t)obf_byte15(((int32_t)(both >> 16) - mean) * multiplier + half); \
    } while (0)
        OBF_TWO(one, 0, less0);
        OBF_TWO(one + 1, 1, less1);
        OBF_TWO(two, 2, less2);
        OBF_TWO(two + 1, 3, less3);
#undef OBF_TWO
    }
}

static void fast(obf_eight *e, int stride) {
    const uint8_t *weights = e->weights;
    const int16_t *numbers = e->numbers;
    const int words = e->out[1] != e->out[0] ? 4 : 2;
    if (!e->shift && !e->base[0] && numbers && words == 4) {
        fast_bytes(e, stride);
        return;
    }
    for (int o = e->channels; o; o--) {
        uint32_t s[4];
        weights = obf_sum(s, e->list, weights, stride) + e->skip;
        for (int i = 0; i < words; i++)
            word(e, s[i], i, numbers);
        for (int i = 0; i < 2; i++) {
            e->out[i] = (uint8_t *)e->out[i] + (numbers ? 4 : 8);
            if (e->base[0])
                e->base[i] = (const int16_t *)e->base[i] + 4;
        }
        numbers = numbers ? numbers + 2 : 0;
    }
}

#endif

/* Adds to s what one output's weights, from `weights` on, choose of the tables that e has: in lanes of 32 bits, out of sums of so
 * few channels that they fit into 16. */
static OBF_ALONE void sum_wide(const job *j, const obf_eight *e, const uint8_t *weights, int32_t s[EIGHT]) {
    for (const obf_rows *row = e->list; row->tables; row++, weights += TAPS * j->pairs) {
        obf_rows some[2] = {*row, {0, 0}};
        const uint8_t *w = weights;
        for (int left = row->pairs; left > 0; left -= SAFE_PAIRS) {
            uint32_t part[4];
            some[0].pairs = left < SAFE_PAIRS ? left : SAFE_PAIRS;
            w = obf_sum(part, some, w, j->conv->stride);
            for (int i = 0; i < EIGHT; i++)
                s[i] += (int32_t)(part[i >> 1] >> 16 * (i & 1) & 0xffff);
            some[0].tables += SAFE_PAIRS * (int)j->group_bytes / 2; /* words of two groups */
        }
    }
}

/* All outputs of two tuples in any case, over the pairs of groups from `first` on that e has. */
static OBF_ALONE void slow(const job *j, int y, int tuple, int first) {
    const obf_conv *conv = j->conv;
    const obf_eight *e = &j->eight;
    const int channels = conv->out.channels, each = TAPS * TAPS * j->pairs, last = first + e->list->pairs == j->pairs;
    int32_t *partial = j->partial;
    for (int o = 0; o < channels; o++) {
        int32_t s[EIGHT], less = 0;
        for (int i = 0; i < EIGHT; i++)
            s[i] = first ? partial[i] : 0;
        sum_wide(j, e, e->weights + o * each + TAPS * first, s);
        if (conv->zero)
            less = correction((const uint8_t *)conv->weights + channels * each + 4 * o);
        for (int i = 0; i < EIGHT; i++) { /* in the order of halves */
            const int t = tuple + (i >> 2), x = t + ((i >> 1 & 1) | (i & 1) << 1) * j->quarter;
            if (!last)
                partial[i] = s[i];
            else if (x < conv->out.width && t < j->quarter)
                obf_write(conv, y, x, o, 2 * s[i] - j->all[i] - less);
        }
        if (!last || first) /* only chunks have them */
            partial += EIGHT;
    }
}

/* From the totals of some rows, a null behind the last, the sums of all inputs of eight pixels, and what `less` is of obf_eight.
 * Returns all of the former, one ored to the other. */
static OBF_ALONE int32_t add_totals(const int32_t *const *rows, int32_t all[EIGHT], uint32_t less[4], int shift, int stride) {
    int32_t any = 0;
    for (int i = 0; i < EIGHT; i++)
        all[i] = 0;
    for (; *rows; rows++)
        for (int i = 0; i < 4; i++) {
            const int32_t *t = *rows + i, middle = t[4] + t[8];
            all[i] += t[0] + middle;
            all[4 + i] += t[12] + (stride == 1 ? middle : t[8] + t[16]);
        }
    for (int i = 0; i < EIGHT; i++) {
        const int32_t s = (all[i] + (shift > 1)) >> (shift > 0);
        any |= all[i];
        less[i >> 1] = i & 1 ? less[i >> 1] + ((uint32_t)s << 16) : (uint32_t)s - 0x80008000u;
    }
    return any;
}

/* All outputs of the window's tuples, of which the first is `tuple`, if nothing is unusual; else returns 0, and what `slow` needs
 * is there. `ring`: the slot of the kernel's first row. */
static OBF_ALONE int outputs(job *j, int y, int tuple, int ring, int count) {
    const obf_conv *conv = j->conv;
    const int stride = conv->stride, shift = conv->shift, bottom = y * stride - conv->top + TAPS - 1;
    const int32_t *totals[TAPS + 1], **last = &totals[TAPS];
    int32_t any;
    obf_eight *e = &j->eight;
    obf_rows *rows = &e->rows[TAPS];
    e->weights = conv->weights;
    e->skip = 0;
    *last = 0;
    for (int row = bottom, slot = ring; row > bottom - TAPS; row--) { /* those outside the map have no tables */
        slot = slot ? slot - 1 : TAPS - 1;
        if (conv->zero || (row >= 0 && row < conv->source.height)) {
            *--last = j->totals + slot * j->places * 4;
            rows--;
            rows->tables = (const uint32_t *)(const void *)(j->tables + (uint32_t)slot * j->row_bytes);
            rows->pairs = count;
        } else {
            e->skip += TAPS * j->pairs;
            if (row < 0)
                e->weights += TAPS * j->pairs;
        }
    }
    e->list = rows;
    e->rows[TAPS].pairs = count;
    if (!*last) { /* only padding, beyond the map */
        for (int i = 0; i < EIGHT; i++)
            j->all[i] = 0;
        return 0;
    }
#if defined(__thumb2__)
    if (stride == 1)
        any = obf_totals_thumb2(last, j->all, e->less, shift);
    else
#endif
        any = add_totals(last, j->all, e->less, shift, stride);
    if (any >= 0xffff) /* the largest itself */
        for (int i = any = 0; i < EIGHT; i++)
            any = j->all[i] > any ? j->all[i] : any;
    if (!j->usual || count < j->pairs || any >= (shift ? 0xffff : 0x8000))
        return 0;
    const int bytes = conv->write ? 4 : 8; /* of a channel of a tuple */
    const int32_t place = tuple * e->channels, row = j->quarter * e->channels;
    const int32_t second = tuple + 1 < j->quarter ? e->channels : 0;
    uint8_t *out = (uint8_t *)conv->out.data + (obf_slot(y, conv->out.rows) * row + place) * bytes;
    e->out[0] = out;
    e->out[1] = out + second * bytes;
    e->numbers = conv->write ? conv->write->numbers : 0;
    if (conv->base.data) {
        const int16_t *base = (const int16_t *)conv->base.data + (obf_slot(y, conv->base.rows) * row + place) * 4;
        e->base[0] = base;
        e->base[1] = base + 4 * second;
    }
#if defined(__thumb2__)
    obf_eight_thumb2(e);
#else
    fast(e, stride);
#endif
    return 1;
}

void obf_conv_nibble(const obf_conv *conv, int first, int end) {
    const obf_map *source = &conv->source, *out = &conv->out;
    const int tuples = out->quarter != 0;
    job j;
    j.conv = conv;
    j.quarter = (uint16_t)(tuples ? out->quarter : (out->width + 3) / 4);
    j.places = (uint8_t)(TAPS + conv->stride);
    j.pairs = (uint16_t)((source->channels + 7) / 8);
    const int chunk = conv->chunk ? conv->chunk : j.pairs;
    j.group_bytes = 4 * (conv->stride == 1 ? GROUP_1 : GROUP_2);
    j.row_bytes = (uint32_t)(2 * chunk) * j.group_bytes;
    j.tables = conv->scratch;
    j.totals = (int32_t *)(void *)(j.tables + TAPS * j.row_bytes);
    j.partial = j.totals + TAPS * j.places * 4;
    j.usual = tuples && !conv->zero && (!conv->write || conv->write->usual) && (!conv->base.data || conv->base.quarter == out->quarter);
    j.direct = tuples && !conv->zero && source->channels % 8 == 0 && !conv->table && source->quarter == out->quarter * conv->stride &&
               (conv->read ? source->type == OBF_I16 && conv->read->usual : source->type == OBF_U8);
    j.eight.rows[TAPS].tables = 0;
    j.eight.base[0] = 0;
    j.eight.channels = out->channels;
    j.eight.shift = conv->shift;
#if defined(__thumb2__)
    j.eight.sum = conv->stride == 1 ? obf_sum_thumb2 : obf_sum_thumb2_far;
#endif
    for (int tuple = 0; tuple < j.quarter; tuple += 2) {
        int built = first * conv->stride - conv->top; /* rows of the source before this one have tables */
        int slot = 0;                                 /* of the next row to be built */
        move_window(&j, tuple);
        for (int y = first; y < end; y++) {
            const int top = y * conv->stride - conv->top;
            if (chunk < j.pairs) {
                for (int done = 0; done < j.pairs; done += chunk) {
                    const int count = j.pairs - done < chunk ? j.pairs - done : chunk;
                    for (int dy = 0; dy < TAPS; dy++)
                        build_row(&j, top + dy, dy, tuple, 2 * done, 2 * (done + count));
                    if (!outputs(&j, y, tuple, 0, count))
                        slow(&j, y, tuple, done);
                }
                continue;
            }
            for (; built < top + TAPS; built++, slot = slot == TAPS - 1 ? 0 : slot + 1)
                build_row(&j, built, slot, tuple, 0, 2 * j.pairs);
            if (!outputs(&j, y, tuple, slot, j.pairs))
                slow(&j, y, tuple, 0);
        }
    }
}
