/* 3 x 3 convolutions of activations by tables of partial sums: no multiplication, and weights stay the bits that they are.
 *
 * Four output pixels a quarter of the row apart make a tuple; a tap of the kernel moves all four alike, so one table for
 * each place of the input serves all nine taps. It has, for each group of four input channels, the 16 sums of their subsets,
 * for the four pixels at once: 16-bit lanes of two words. Four weights then are an index, and a load and an add for each word
 * do what 8 multiply-accumulates would. With S1 the sum where the bit is 1 and S that of all, the sum of +-x is 2 * S1 - S.
 *
 * Tables are kept of a window: `columns` tuples and what the kernel needs beside them, three rows, of which the oldest is
 * replaced while the window moves down the map. To save memory a window may hold only a `chunk` of the channels: then its
 * tables are built anew for each row of the output, and sums are kept from chunk to chunk.
 *
 * No lane overflows while S < 2^16, which is looked at once for each pair of tuples; beyond it, hardly ever, sums are made
 * slowly. Weights of an output: for each row of the kernel, for each pair of groups, six times four bits: the first group's
 * three taps, then the second's (layouts.py). */
#include "nibble_build.h"
#include "nibble_step.h"

enum {
    TAPS = 3,           /* rows and columns of the kernel */
    TABLE = 32,         /* words of a table: 16 entries of two */
    SAFE_GROUPS = 64,   /* whose sums at one place fit a lane: 64 * 4 * 255 < 2^16 */
    EIGHT = 8,          /* pixels of a pair of tuples */
    STREAM = 1,         /* usual cases of what is read (nibble_build.h) */
    BYTES = 2
};

/* What is the same for all of a call. */
typedef struct job {
    const obf_conv *conv;
    uint32_t *tables;   /* [kernel row][group][place][16][2] */
    int32_t *totals;    /* [kernel row][place][4]: the sum over all channels of a place, each lane */
    uint32_t *partial;  /* [output][4]: sums of the chunks before */
    int quarter;        /* tuples of a row */
    int places;         /* of a window's row */
    int pairs;          /* of groups of four channels */
    uint32_t group_words, row_words;
    int reads;          /* STREAM, BYTES or 0 */
    int usual;          /* is the batch-norm of what is written, if any, the usual one? */
} job;

/* -- tables ---------------------------------------------------------------------------------------------------------- */

/* Any case: number by number, through everything that a reader applies. Pixels by number, -1 outside the map. */
static void quad_any(const obf_conv *conv, obf_quad *q, const int32_t pixels[4], int channel) {
    for (int k = 0; k < 4; k++, channel++) {
        uint32_t x[4];
        for (int lane = 0; lane < 4; lane++) {
            x[lane] = conv->zero;
            if (channel >= conv->source.channels)
                x[lane] = 0;
            else if (pixels[lane] >= 0)
                x[lane] = (uint32_t)obf_read(&conv->source, conv->table, conv->read, pixels[lane], channel);
        }
        q->a[k] = x[0] | x[1] << 16;
        q->b[k] = x[2] | x[3] << 16;
    }
}

/* The tables of one place: groups `group`..`end` - 1 of four pixels. */
static void build(const job *j, uint32_t *table, int32_t *totals, const int32_t pixels[4], int group, int end) {
    const obf_conv *conv = j->conv;
    const int16_t *numbers = conv->read ? conv->read->numbers : 0;
    uint32_t mask[4];
    obf_lanes lanes;
    for (int lane = 0; lane < 4; lane++) {
        const int32_t at = pixels[lane] < 0 ? 0 : pixels[lane] * conv->source.channels;
        lanes.at[lane] = (const uint8_t *)conv->source.data + (conv->source.type == OBF_I16 ? 2 * at : at);
        mask[lane] = pixels[lane] < 0 ? 0 : 0xffff;
        totals[lane] = group ? totals[lane] : 0;
    }
    lanes.mask_a = mask[0] | mask[1] << 16;
    lanes.mask_b = mask[2] | mask[3] << 16;
    while (group < end) {
        const int stop = end - group > SAFE_GROUPS ? group + SAFE_GROUPS : end;
        uint32_t sum_a = 0, sum_b = 0;
        for (; group < stop; group++, table += j->group_words) {
            obf_quad q;
            if (j->reads == STREAM)
                obf_quad_stream(&q, &lanes, 4 * group, numbers);
            else if (j->reads == BYTES)
                obf_quad_bytes(&q, &lanes, 4 * group);
            else
                quad_any(conv, &q, pixels, 4 * group);
            obf_entries(table, &q);
            sum_a += table[30];
            sum_b += table[31];
        }
        totals[0] += (int32_t)(sum_a & 0xffff);
        totals[1] += (int32_t)(sum_a >> 16);
        totals[2] += (int32_t)(sum_b & 0xffff);
        totals[3] += (int32_t)(sum_b >> 16);
    }
}

/* The tables of row y of the source for the window whose first tuple is `tuple`. */
static void build_row(const job *j, int y, int slot, int tuple, int group, int end) {
    const obf_map *source = &j->conv->source;
    const int stride = j->conv->stride, apart = j->quarter * stride;
    const int inside = y >= 0 && y < source->height;
    const int32_t row = inside ? (int32_t)obf_slot(y, source->rows) * source->width : 0;
    uint32_t *table = j->tables + (uint32_t)slot * j->row_words;
    int32_t *totals = j->totals + slot * j->places * 4;
    for (int p = 0; p < j->places; p++, table += TABLE, totals += 4) {
        int32_t pixels[4];
        int x = tuple * stride - j->conv->left + p;
        for (int lane = 0; lane < 4; lane++, x += apart)
            pixels[lane] = inside && x >= 0 && x < source->width ? row + x : -1;
        build(j, table, totals, pixels, group, end);
    }
}

/* -- sums ------------------------------------------------------------------------------------------------------------ */

/* Eight pixels: the number of each one's first channel in the output, the sum of all its inputs, and these, shifted as
 * the output will be, as halves of words. The first four are a tuple's, the others the next one's. */
typedef struct eight {
    int32_t at[EIGHT], all[EIGHT];
    union {
        uint16_t one[EIGHT];
        uint32_t two[EIGHT / 2];
    } halves;
} eight;

#if defined(__ARM_FEATURE_DSP)

/* Loads of it stay behind this: hoisted out of a branch they would fill registers, then the stack. */
#define OBF_NOT_EARLIER(X) __asm__("" : "+m"(X))

/* Where sums are small, as nearly always, instructions for the two halves of a word do two pixels at once: through a
 * batch-norm to bytes, or added to the stream. Not shifted, 2 * S1 - S = S1 - (S - S1) fits 16 bits with sign while S is below
 * 2^15; `mask` is all ones then. Shifted by 1 and rounded it is S1 - floor(S / 2); then `mask` is 0 and lanes hold the halves. */
static inline uint32_t small(const eight *e, const uint32_t s[4], int i, uint32_t mask) {
    return (uint32_t)__ssub16((int16x2_t)s[i], (int16x2_t)__usub16((uint16x2_t)e->halves.two[i], (uint16x2_t)(s[i] & mask)));
}

OBF_INLINE void small_bytes(eight *e, const uint32_t s[4], uint32_t mask, uint8_t *out, uint32_t numbers) {
    OBF_NOT_EARLIER(*e);
    const uint32_t means = (numbers & 0xffff) | numbers << 16;
    OBF_UNROLL
    for (int i = 0; i < 4; i++) {
        const int16x2_t x = __qsub16((int16x2_t)small(e, s, i, mask), (int16x2_t)means);
        out[e->at[2 * i]] = (uint8_t)obf_byte15(__smlabt((int32_t)x, (int32_t)numbers, 0x4000));
        out[e->at[2 * i + 1]] = (uint8_t)obf_byte15(__smlatt((int32_t)x, (int32_t)numbers, 0x4000));
    }
}

OBF_INLINE void small_stream(eight *e, const uint32_t s[4], uint32_t mask, uint16_t *out, const uint16_t *base) {
    OBF_NOT_EARLIER(*e);
    OBF_UNROLL
    for (int i = 0; i < 4; i++) {
        const uint32_t before = base[e->at[2 * i]] | (uint32_t)base[e->at[2 * i + 1]] << 16;
        const uint32_t x = (uint32_t)__qadd16((int16x2_t)small(e, s, i, mask), (int16x2_t)before);
        out[e->at[2 * i]] = (uint16_t)x;
        out[e->at[2 * i + 1]] = (uint16_t)(x >> 16);
    }
}

#endif

/* What lane i of the sums says of output `output`: S1. */
static int32_t lane(const uint32_t s[4], int i) { return (int32_t)(i & 1 ? s[i / 2] >> 16 : s[i / 2] & 0xffff); }

#if !defined(__ARM_FEATURE_DSP)

/* The usual cases without these instructions: all eight pixels are there. */
static void usual(const obf_conv *conv, const eight *e, const uint32_t s[4], int output, int32_t base_delta) {
    const int16_t *numbers = conv->write ? conv->write->numbers + 2 * output : 0;
    for (int i = 0; i < EIGHT; i++) {
        const int32_t at = e->at[i] + output;
        int32_t a = obf_sat16(obf_rsh(2 * lane(s, i) - e->all[i], conv->shift));
        if (conv->base)
            a = obf_sat16(a + conv->base[at + base_delta]);
        if (numbers)
            ((uint8_t *)conv->out.data)[at] = (uint8_t)obf_usual_normed(numbers, a);
        else
            ((int16_t *)conv->out.data)[at] = (int16_t)a;
    }
}

#endif

/* S1 of one pixel without tables, for where lanes overflow. */
static int32_t slow_sum(const job *j, int y, int x, const uint8_t *weights) {
    const obf_conv *conv = j->conv;
    int32_t sum = 0;
    for (int dy = 0; dy < TAPS; dy++)
        for (int c = 0; c < conv->source.channels; c++)
            for (int dx = 0; dx < TAPS; dx++) {
                const int nibble = (dy * 2 * j->pairs + c / 4) * TAPS + dx, bit = 4 * nibble + c % 4;
                const int row = y * conv->stride - conv->top + dy, column = x * conv->stride - conv->left + dx;
                int32_t value = conv->zero;
                if (row >= 0 && row < conv->source.height && column >= 0 && column < conv->source.width)
                    value = obf_read(
                        &conv->source, conv->table, conv->read,
                        (int32_t)obf_slot(row, conv->source.rows) * conv->source.width + column, c);
                if (weights[bit / 8] >> (bit % 8) & 1)
                    sum += value;
            }
    return sum;
}

/* Where zero is not 0: what an output's sum of +-x is too large by, behind all weights. */
static int32_t correction(const uint8_t *c) {
    return (int32_t)(c[0] | (uint32_t)c[1] << 8 | (uint32_t)c[2] << 16 | (uint32_t)c[3] << 24);
}

static __attribute__((noinline)) const uint8_t *sum_any(
    uint32_t s[4], const uint32_t *const *rows, int pairs, uint32_t group_bytes, int stride, const uint8_t *weights) {
    return obf_sum(s, rows, pairs, group_bytes, stride, weights);
}

/* All outputs of eight pixels where nothing is unusual: all channels at once, no lane can overflow. */
static void outputs_fast(const job *j, const uint32_t *const *rows, eight *e, int32_t base_delta) {
    const obf_conv *conv = j->conv;
    const uint8_t *weights = conv->weights;
    const int channels = conv->out.channels, pairs = j->pairs, near = conv->stride == 1; /* which is written out here */
    const uint32_t group_bytes = 4 * j->group_words;
#if defined(__ARM_FEATURE_DSP)
    const uint32_t *numbers = conv->write ? (const uint32_t *)(const void *)conv->write->numbers : 0;
    const uint16_t *base = (const uint16_t *)(const void *)conv->base + base_delta;
    const uint32_t mask = conv->shift ? 0 : ~(uint32_t)0;
    uint8_t *bytes = conv->out.data;
    uint16_t *stream = conv->out.data;
#endif
    for (int o = 0; o < channels; o++) {
        uint32_t s[4];
        s[0] = s[1] = s[2] = s[3] = 0;
        if (near) {
            weights = obf_sum(s, rows, pairs, group_bytes, 1, weights);
        } else {
            uint32_t there[4]; /* so that s need not be in memory */
            there[0] = there[1] = there[2] = there[3] = 0;
            weights = sum_any(there, rows, pairs, group_bytes, conv->stride, weights);
            s[0] = there[0], s[1] = there[1], s[2] = there[2], s[3] = there[3];
        }
#if defined(__ARM_FEATURE_DSP)
        if (numbers)
            small_bytes(e, s, mask, bytes++, *numbers++);
        else
            small_stream(e, s, mask, stream++, base++);
#else
        usual(conv, e, s, o, base_delta);
#endif
    }
}

/* Two tuples side by side: all outputs of up to eight pixels, over pairs `first`..`first` + `count` - 1 of groups. `ring`: the
 * slot of the kernel's first row; `place`: of the first tuple in the window. */
static void outputs(const job *j, int y, int tuple, int place, int ring, int first, int count) {
    const obf_conv *conv = j->conv;
    const int channels = conv->out.channels, whole = count == j->pairs, last = first + count == j->pairs;
    const int32_t row = (int32_t)obf_slot(y, conv->out.rows) * conv->out.width;
    const int32_t base_row = conv->base ? (int32_t)obf_slot(y, conv->base_rows) * conv->out.width : row;
    const int32_t base_delta = (base_row - row) * channels;
    const uint8_t *weights = conv->weights, *corrections = weights + (int32_t)channels * TAPS * TAPS * j->pairs;
    const uint32_t *rows[2 * TAPS]; /* one list of all rows, or lists of one; behind each a null */
    int32_t largest = 0;
    int missing = 0;
    eight e;
    for (int i = 0; i < EIGHT; i++)
        e.all[i] = 0;
    for (int dy = 0; dy < TAPS; dy++) {
        const int slot = obf_slot(ring + dy, TAPS);
        const int32_t *totals = j->totals + (slot * j->places + place) * 4;
        rows[whole ? dy : 2 * dy] = j->tables + (uint32_t)slot * j->row_words + place * TABLE;
        rows[whole ? TAPS : 2 * dy + 1] = 0;
        for (int i = 0; i < 4; i++, totals++) {
            const int32_t *const second = totals + 4 * conv->stride;
            e.all[i] += totals[0] + totals[4] + totals[8];
            e.all[4 + i] += second[0] + second[4] + second[8];
        }
    }
    for (int i = 0; i < EIGHT; i++) {
        const int x = tuple + (i >> 2) + (i & 3) * j->quarter;
        const int there = x < conv->out.width && tuple + (i >> 2) < j->quarter;
        largest = e.all[i] > largest ? e.all[i] : largest;
        missing += !there;
        e.at[i] = there ? (row + x) * channels : -1;
        e.halves.one[i] = (uint16_t)(e.all[i] >> conv->shift);
    }
    const int narrow = largest < 1 << 16;
#if defined(__ARM_FEATURE_DSP)
    const int fast = conv->shift <= 1 && largest < 1 << (15 + conv->shift) && !conv->write != !conv->base; /* small() */
#else
    const int fast = narrow;
#endif
    if (fast && !missing && j->usual && whole) {
        outputs_fast(j, rows, &e, base_delta);
        return;
    }
    for (int o = 0; o < channels; o++, weights += TAPS * TAPS * j->pairs) {
        uint32_t s[4], *const partial = j->partial + 4 * o;
        for (int i = 0; i < 4; i++)
            s[i] = first ? partial[i] : 0;
        for (int part = 0; part < (whole ? 1 : TAPS); part++)
            sum_any(
                s, rows + 2 * part, count, 4 * j->group_words, conv->stride, weights + TAPS * (part * j->pairs + first));
        if (!last) {
            for (int i = 0; i < 4; i++)
                partial[i] = s[i];
        } else {
            const int32_t less = conv->zero ? correction(corrections + 4 * o) : 0;
            for (int i = 0; i < EIGHT; i++)
                if (e.at[i] >= 0) {
                    const int x = tuple + (i >> 2) + (i & 3) * j->quarter;
                    const int32_t ones = narrow ? lane(s, i) : slow_sum(j, y, x, weights);
                    obf_write(conv, row + x, base_row + x, o, 2 * ones - e.all[i] - less);
                }
        }
    }
}

void obf_conv_nibble(const obf_conv *conv, int first, int end) {
    job j;
    j.conv = conv;
    j.quarter = (conv->out.width + 3) / 4;
    j.places = (conv->columns - 1) * conv->stride + TAPS;
    j.pairs = (conv->source.channels + 7) / 8;
    const int chunk = conv->chunk ? conv->chunk : j.pairs;
    j.group_words = (uint32_t)j.places * TABLE;
    j.row_words = (uint32_t)(2 * chunk) * j.group_words;
    j.tables = conv->scratch;
    j.totals = (int32_t *)(j.tables + TAPS * j.row_words);
    j.partial = (uint32_t *)(j.totals + TAPS * j.places * 4);
    j.usual = !conv->zero && (!conv->write || obf_usual(conv->write));
    j.reads = 0;
    if (!conv->zero && conv->source.channels % 8 == 0 && !conv->table) {
        if (conv->read && conv->source.type == OBF_I16 && obf_usual(conv->read))
            j.reads = STREAM;
        else if (!conv->read && conv->source.type == OBF_U8)
            j.reads = BYTES;
    }
    for (int tuple = 0; tuple < j.quarter; tuple += conv->columns) {
        const int left = j.quarter - tuple < conv->columns ? j.quarter - tuple : conv->columns;
        int built = first * conv->stride - conv->top; /* rows of the source before this one have tables */
        int slot = 0;                                 /* of the next row to be built */
        for (int y = first; y < end; y++) {
            const int top = y * conv->stride - conv->top;
            if (chunk < j.pairs) { /* a window of one pair of tuples */
                for (int done = 0; done < j.pairs; done += chunk) {
                    const int count = j.pairs - done < chunk ? j.pairs - done : chunk;
                    for (int dy = 0; dy < TAPS; dy++)
                        build_row(&j, top + dy, dy, tuple, 2 * done, 2 * (done + count));
                    outputs(&j, y, tuple, 0, 0, done, count);
                }
                continue;
            }
            for (; built < top + TAPS; built++, slot = slot == TAPS - 1 ? 0 : slot + 1)
                build_row(&j, built, slot, tuple, 0, 2 * j.pairs);
            for (int t = 0; t < left; t += 2)
                outputs(&j, y, tuple + t, t * conv->stride, slot, 0, j.pairs);
        }
    }
}
