/* 3 x 3 convolutions of activations by tables of partial sums: no multiplication, and weights stay the bits that they are.
 *
 * Four output pixels a quarter of the row apart make a tuple; a tap of the kernel moves all four alike, so one table for
 * each place of the input serves all nine taps. It has, for each four input channels, the 16 sums of their subsets, for the
 * four pixels at once: 16-bit lanes of two words. Four weights then are an index, and a load and an add for each word do what
 * 8 multiply-accumulates would. With S1 the sum where the bit is 1 and S that of all, the sum of +-x is 2 * S1 - S.
 *
 * Tables are kept of a window: `columns` tuples and what the kernel needs beside them, three rows, of which the oldest is
 * replaced while the window moves down the map. Lanes cannot overflow while S < 2^16, which is looked at once for each pair
 * of tuples, all outputs; if one could, sums are widened often enough.
 *
 * Weights of an output: for each row of the kernel, for each pair of groups of four channels, six times four bits: the first
 * group's three taps, then the second's (layouts.py). */
#include "firmware_math.h"
#include "nibble_build.h"
#include "nibble_step.h"

enum {
    TAPS = 3,           /* rows and columns of the kernel */
    TABLE = 32,         /* words of a table: 16 entries of two */
    SAFE_PAIRS = 10,    /* pairs of groups whose sums over one row of taps fit a lane: 10 * 8 * 3 * 255 < 2^16 */
    SAFE_GROUPS = 64,   /* whose sums at one place fit a lane: 64 * 4 * 255 < 2^16 */
    EIGHT = 8,          /* pixels of a pair of tuples */
    FAST_STREAM = 1,    /* usual cases of what is read (nibble_build.h) */
    FAST_BYTES = 2
};

/* What is the same for all of a call. */
typedef struct job {
    const obf_conv *conv;
    uint32_t *tables;   /* [kernel row][group][place][16][2] */
    int32_t *totals;    /* [kernel row][place][4]: the sum over all channels of a place, each lane */
    int quarter;        /* tuples of a row */
    int places;         /* of a window's row */
    int groups;         /* of four channels, an even number */
    uint32_t group_words, row_words;
    int fast;           /* FAST_STREAM, FAST_BYTES or 0 */
    int usual;          /* is the batch-norm of what is written, if any, the usual one? */
    int32_t base_delta; /* from an output's number to its base's, in this row */
} job;

/* -- tables ---------------------------------------------------------------------------------------------------------- */

/* Any case: number by number, through everything that a reader applies. Pixels by number, -1 outside the map. */
static void quad_any(const job *j, obf_quad *q, const int32_t pixels[4], int channel) {
    const obf_conv *conv = j->conv;
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

/* The tables of one place. */
static void build(const job *j, uint32_t *table, int32_t *totals, const int32_t pixels[4]) {
    const obf_conv *conv = j->conv;
    const int16_t *numbers = conv->read ? conv->read->numbers : 0;
    uint32_t sum_a = 0, sum_b = 0, mask[4];
    int left = SAFE_GROUPS;
    obf_lanes lanes;
    for (int lane = 0; lane < 4; lane++) {
        const int32_t at = pixels[lane] < 0 ? 0 : pixels[lane] * conv->source.channels;
        lanes.at[lane] = (const uint8_t *)conv->source.data + (conv->source.type == OBF_I16 ? 2 * at : at);
        mask[lane] = pixels[lane] < 0 ? 0 : 0xffff;
        totals[lane] = 0;
    }
    lanes.mask_a = mask[0] | mask[1] << 16;
    lanes.mask_b = mask[2] | mask[3] << 16;
    for (int g = 0; g < j->groups; g++, table += j->group_words) {
        obf_quad q;
        if (j->fast == FAST_STREAM)
            obf_quad_stream(&q, &lanes, 4 * g, numbers);
        else if (j->fast == FAST_BYTES)
            obf_quad_bytes(&q, &lanes, 4 * g);
        else
            quad_any(j, &q, pixels, 4 * g);
        obf_entries(table, &q);
        sum_a += table[30];
        sum_b += table[31];
        if (--left == 0) {
            totals[0] += (int32_t)(sum_a & 0xffff);
            totals[1] += (int32_t)(sum_a >> 16);
            totals[2] += (int32_t)(sum_b & 0xffff);
            totals[3] += (int32_t)(sum_b >> 16);
            sum_a = sum_b = 0;
            left = SAFE_GROUPS;
        }
    }
    totals[0] += (int32_t)(sum_a & 0xffff);
    totals[1] += (int32_t)(sum_a >> 16);
    totals[2] += (int32_t)(sum_b & 0xffff);
    totals[3] += (int32_t)(sum_b >> 16);
}

/* The tables of row y of the source for the window whose first tuple is `tuple`. */
static void build_row(const job *j, int y, int slot, int tuple) {
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
        build(j, table, totals, pixels);
    }
}

/* -- sums ------------------------------------------------------------------------------------------------------------ */

/* A sum, rounding added, to output `output` of the pixel whose first channel is number `at`. */
static void finish(const job *j, int32_t at, int output, int32_t sum) {
    const obf_conv *conv = j->conv;
    int32_t a = obf_sat16(sum >> conv->shift);
    at += output;
    if (conv->base)
        a = obf_sat16(a + conv->base[at + j->base_delta]);
    if (conv->write)
        ((uint8_t *)conv->out.data)[at] = obf_normed(conv->write, output, a);
    else
        ((int16_t *)conv->out.data)[at] = (int16_t)a;
}

/* The sums of one output in 32 bits, widened after so many groups that no lane overflows. */
static void sum_wide(const job *j, const obf_rows *all, const uint8_t *weights, int32_t sums[EIGHT]) {
    for (int i = 0; i < EIGHT; i++)
        sums[i] = 0;
    for (int dy = 0; dy < TAPS; dy++)
        for (int done = 0; done < all->pairs; done += SAFE_PAIRS) {
            const int left = all->pairs - done;
            obf_rows part = {{all->row[dy] + (uint32_t)(2 * done) * j->group_words}, 0, all->group_bytes};
            uint32_t s[4];
            part.pairs = left < SAFE_PAIRS ? left : SAFE_PAIRS;
            weights = obf_sum_portable(s, &part, j->conv->stride, weights);
            for (int i = 0; i < 4; i++) {
                sums[2 * i] += (int32_t)(s[i] & 0xffff);
                sums[2 * i + 1] += (int32_t)(s[i] >> 16);
            }
        }
}

/* Where zero is not 0: what each output's sum of +-x is too large by. */
static int32_t correction(const uint8_t *c) {
    return (int32_t)(c[0] | (uint32_t)c[1] << 8 | (uint32_t)c[2] << 16 | (uint32_t)c[3] << 24);
}

/* Eight pixels: the number of each one's first channel in the output (-1: it is not there), rounding less the sum of all
 * its inputs, and these sums themselves as halves of words. */
typedef struct eight {
    int32_t at[EIGHT], add[EIGHT];
    uint32_t all[4];
} eight;

/* Where no sum of all inputs is beyond 2^15 and nothing is shifted, as nearly always, 2 * S1 - S fits 16 bits with sign, and
 * instructions for the two halves of a word do two pixels at once: through a batch-norm to bytes, or added to the stream. */
#if defined(__ARM_FEATURE_DSP)

static inline void small_bytes(const eight *e, const uint32_t s[4], uint8_t *out, uint32_t numbers) {
    const uint32_t means = (numbers & 0xffff) | numbers << 16;
    OBF_UNROLL
    for (int i = 0; i < 4; i++) {
        const uint32_t zeros = (uint32_t)__usub16((uint16x2_t)e->all[i], (uint16x2_t)s[i]);
        const int16x2_t x = __qsub16(__ssub16((int16x2_t)s[i], (int16x2_t)zeros), (int16x2_t)means);
        out[e->at[2 * i]] = (uint8_t)obf_byte15(__smlabt((int32_t)x, (int32_t)numbers, 0x4000));
        out[e->at[2 * i + 1]] = (uint8_t)obf_byte15(__smlatt((int32_t)x, (int32_t)numbers, 0x4000));
    }
}

static inline void small_stream(const eight *e, const uint32_t s[4], uint16_t *out, const uint16_t *base) {
    OBF_UNROLL
    for (int i = 0; i < 4; i++) {
        const uint32_t zeros = (uint32_t)__usub16((uint16x2_t)e->all[i], (uint16x2_t)s[i]);
        const uint32_t before = base[e->at[2 * i]] | (uint32_t)base[e->at[2 * i + 1]] << 16;
        const uint32_t x = (uint32_t)__qadd16(__ssub16((int16x2_t)s[i], (int16x2_t)zeros), (int16x2_t)before);
        out[e->at[2 * i]] = (uint16_t)x;
        out[e->at[2 * i + 1]] = (uint16_t)(x >> 16);
    }
}

#endif

/* The usual cases without these bounds or instructions. */
static inline void usual(const job *j, const eight *e, const uint32_t s[4], int output) {
    const obf_conv *conv = j->conv;
    const int16_t *numbers = conv->write ? conv->write->numbers + 2 * output : 0;
    const int32_t shift = conv->shift;
    for (int i = 0; i < EIGHT; i++) {
        const uint32_t ones = i & 1 ? s[i / 2] >> 16 : s[i / 2] & 0xffff;
        const int32_t at = e->at[i] + output;
        int32_t a = obf_sat16(((int32_t)(2 * ones) + e->add[i]) >> shift);
        if (conv->base)
            a = obf_sat16(a + conv->base[at + j->base_delta]);
        if (numbers)
            ((uint8_t *)conv->out.data)[at] = (uint8_t)obf_usual_normed(numbers, a);
        else
            ((int16_t *)conv->out.data)[at] = (int16_t)a;
    }
}

/* All outputs of eight pixels while no lane can overflow. */
static void outputs_fast(const job *j, const obf_rows *rows, const eight *e, int small) {
    const obf_conv *conv = j->conv;
    const int outputs = conv->out.channels;
    const uint8_t *weights = conv->weights;
#if defined(__ARM_FEATURE_DSP)
    const uint32_t *numbers = conv->write ? (const uint32_t *)(const void *)conv->write->numbers : 0;
    const uint16_t *base = (const uint16_t *)(const void *)conv->base + j->base_delta;
#endif
    for (int o = 0; o < outputs; o++) {
        uint32_t s[4];
        weights = obf_sum(s, rows, conv->stride, weights);
#if defined(__ARM_FEATURE_DSP)
        if (small) {
            if (numbers)
                small_bytes(e, s, (uint8_t *)conv->out.data + o, numbers[o]);
            else
                small_stream(e, s, (uint16_t *)conv->out.data + o, base + o);
            continue;
        }
#else
        (void)small;
#endif
        usual(j, e, s, o);
    }
}

/* Two tuples side by side: all outputs of up to eight pixels. `ring`: the slot of the kernel's first row. */
static void pair(const job *j, int y, int tuple, int first_tuple, int ring) {
    const obf_conv *conv = j->conv;
    const int outputs = conv->out.channels, place = (tuple - first_tuple) * conv->stride;
    const int32_t row = (int32_t)obf_slot(y, conv->out.rows) * conv->out.width;
    const uint32_t row_bytes = (uint32_t)(TAPS * TAPS * j->groups / 2);
    const uint8_t *weights = conv->weights, *corrections = weights + (uint32_t)outputs * row_bytes;
    obf_rows rows = {{0}, j->groups / 2, 4 * j->group_words};
    int32_t all[EIGHT] = {0}, largest = 0;
    eight e;
    int missing = 0;
    for (int dy = 0; dy < TAPS; dy++) {
        const int slot = obf_slot(ring + dy, TAPS);
        const int32_t *totals = j->totals + (slot * j->places + place) * 4;
        rows.row[dy] = j->tables + (uint32_t)slot * j->row_words + place * TABLE;
        for (int dx = 0; dx < TAPS; dx++, totals += 4)
            for (int lane = 0; lane < 4; lane++) {
                all[lane] += totals[lane];
                all[4 + lane] += totals[4 * conv->stride + lane];
            }
    }
    for (int lane = 0; lane < EIGHT; lane++) {
        const int x = tuple + (lane >> 2) + (lane & 3) * j->quarter;
        const int there = x < conv->out.width && tuple + (lane >> 2) < j->quarter;
        largest = all[lane] > largest ? all[lane] : largest;
        missing += !there;
        e.add[lane] = ((1 << conv->shift) >> 1) - all[lane];
        e.at[lane] = there ? (row + x) * outputs : -1;
    }
    const int narrow = largest < 1 << 16;
    if (narrow && !missing && j->usual) {
        for (int i = 0; i < 4; i++)
            e.all[i] = (uint32_t)all[2 * i] | (uint32_t)all[2 * i + 1] << 16;
        outputs_fast(j, &rows, &e, largest < 1 << 15 && !conv->shift && !conv->write != !conv->base);
        return;
    }
    for (int o = 0; o < outputs; o++, weights += row_bytes) {
        int32_t sums[EIGHT];
        const int32_t less = conv->zero ? correction(corrections + 4 * o) : 0;
        sum_wide(j, &rows, weights, sums);
        for (int i = 0; i < EIGHT; i++)
            if (e.at[i] >= 0)
                finish(j, e.at[i], o, 2 * sums[i] + e.add[i] - less);
    }
}

void obf_conv_nibble(const obf_conv *conv, int first, int end) {
    job j;
    j.conv = conv;
    j.quarter = (conv->out.width + 3) / 4;
    j.places = (conv->columns - 1) * conv->stride + TAPS;
    j.groups = (conv->source.channels + 7) / 8 * 2;
    j.group_words = (uint32_t)j.places * TABLE;
    j.row_words = (uint32_t)j.groups * j.group_words;
    j.tables = conv->scratch;
    j.totals = (int32_t *)(j.tables + TAPS * j.row_words);
    j.fast = 0;
    if (!conv->zero && conv->source.channels % 8 == 0 && !conv->table) {
        if (conv->read && conv->source.type == OBF_I16 && obf_usual(conv->read))
            j.fast = FAST_STREAM;
        else if (!conv->read && conv->source.type == OBF_U8)
            j.fast = FAST_BYTES;
    }
    j.usual = !conv->zero && (!conv->write || obf_usual(conv->write));
    for (int tuple = 0; tuple < j.quarter; tuple += conv->columns) {
        int built = first * conv->stride - conv->top; /* rows of the source before this one have tables */
        int slot = 0;                                 /* of the next row to be built */
        for (int y = first; y < end; y++) {
            const int top = y * conv->stride - conv->top;
            for (; built < top + TAPS; built++, slot = slot == TAPS - 1 ? 0 : slot + 1)
                build_row(&j, built, slot, tuple);
            j.base_delta = conv->base ? ((int32_t)obf_slot(y, conv->base_rows) - obf_slot(y, conv->out.rows)) * conv->out.width * conv->out.channels : 0;
            const int left = j.quarter - tuple < conv->columns ? j.quarter - tuple : conv->columns;
            for (int t = 0; t < left; t += 2)
                pair(&j, y, tuple + t, tuple, slot);
        }
    }
}
