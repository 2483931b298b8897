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
#include "nibble_step.h"

enum {
    TAPS = 3,           /* rows and columns of the kernel */
    TABLE = 32,         /* words of a table: 16 entries of two */
    SAFE_PAIRS = 10,    /* pairs of groups whose sums over one row of taps fit a lane: 10 * 8 * 3 * 255 < 2^16 */
    FAST_OUTPUTS = 8    /* pixels of a pair of tuples */
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
    int fast;           /* is what is read one of the usual cases (fetch_fast)? */
    int32_t base_delta; /* from an output's number to its base's, in this row */
} job;

/* -- tables ---------------------------------------------------------------------------------------------------------- */

/* All 16 sums of the subsets of four words; entries are two words apart. */
static inline void entries(uint32_t *t, const uint32_t x[4]) {
    const uint32_t x01 = x[0] + x[1], x23 = x[2] + x[3];
    t[0] = 0;
    t[2] = x[0];
    t[4] = x[1];
    t[6] = x01;
    t[8] = x[2];
    t[10] = x[2] + x[0];
    t[12] = x[2] + x[1];
    t[14] = x[2] + x01;
    t[16] = x[3];
    t[18] = x[3] + x[0];
    t[20] = x[3] + x[1];
    t[22] = x[3] + x01;
    t[24] = x23;
    t[26] = x23 + x[0];
    t[28] = x23 + x[1];
    t[30] = x23 + x01;
}

/* Four channels of a pixel through everything that a reader applies; pixel < 0: outside the map. */
static void fetch(const job *j, int32_t pixel, int channel, uint32_t x[4]) {
    const obf_conv *conv = j->conv;
    for (int k = 0; k < 4; k++, channel++) {
        x[k] = conv->zero;
        if (channel >= conv->source.channels)
            x[k] = 0;
        else if (pixel >= 0)
            x[k] = (uint32_t)obf_read(&conv->source, conv->table, conv->read, pixel, channel);
    }
}

/* The usual cases, four channels at once: activations; the stream through the usual batch-norm; outside the map. */
static inline void fetch_fast(const job *j, int32_t pixel, int channel, uint32_t x[4]) {
    const obf_conv *conv = j->conv;
    const int32_t at = pixel * conv->source.channels + channel;
    if (pixel < 0)
        x[0] = x[1] = x[2] = x[3] = 0;
    else if (conv->read) {
        const int16_t *numbers = conv->read->numbers + 2 * channel;
        const int16_t *stream = (const int16_t *)conv->source.data + at;
        for (int k = 0; k < 4; k++)
            x[k] = (uint32_t)obf_usual_normed(numbers + 2 * k, stream[k]);
    } else {
        const uint8_t *bytes = (const uint8_t *)conv->source.data + at;
        for (int k = 0; k < 4; k++)
            x[k] = bytes[k];
    }
}

/* The tables of one place: of four pixels, each by its number or -1 outside the map. */
static void build(const job *j, uint32_t *table, int32_t *totals, const int32_t pixels[4]) {
    uint32_t sum_a = 0, sum_b = 0;
    for (int lane = 0; lane < 4; lane++)
        totals[lane] = 0;
    for (int g = 0; g < j->groups; g++, table += j->group_words) {
        uint32_t a[4], b[4], x[4];
        if (j->fast) {
            fetch_fast(j, pixels[0], 4 * g, a);
            fetch_fast(j, pixels[1], 4 * g, x);
            for (int k = 0; k < 4; k++)
                a[k] |= x[k] << 16;
            fetch_fast(j, pixels[2], 4 * g, b);
            fetch_fast(j, pixels[3], 4 * g, x);
        } else {
            fetch(j, pixels[0], 4 * g, a);
            fetch(j, pixels[1], 4 * g, x);
            for (int k = 0; k < 4; k++)
                a[k] |= x[k] << 16;
            fetch(j, pixels[2], 4 * g, b);
            fetch(j, pixels[3], 4 * g, x);
        }
        for (int k = 0; k < 4; k++)
            b[k] |= x[k] << 16;
        entries(table, a);
        entries(table + 1, b);
        sum_a += table[30];
        sum_b += table[31];
        if ((g & 63) == 63 || g == j->groups - 1) { /* 64 * 4 * 255 < 2^16 */
            totals[0] += (int32_t)(sum_a & 0xffff);
            totals[1] += (int32_t)(sum_a >> 16);
            totals[2] += (int32_t)(sum_b & 0xffff);
            totals[3] += (int32_t)(sum_b >> 16);
            sum_a = sum_b = 0;
        }
    }
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

/* A pixel to write: rounding less the sum of all its inputs, and the number of its first channel in the output. */
typedef struct pixel {
    int32_t add, at;
} pixel;

/* What was summed for pixel number `lane`, to a number of the output. */
static void finish(const job *j, const pixel *p, int output, int32_t sum) {
    const obf_conv *conv = j->conv;
    const int32_t at = p->at + output;
    int32_t a = obf_sat16((2 * sum + p->add) >> conv->shift);
    if (conv->base)
        a = obf_sat16(a + conv->base[at + j->base_delta]);
    if (conv->write)
        ((uint8_t *)conv->out.data)[at] = obf_normed(conv->write, output, a);
    else
        ((int16_t *)conv->out.data)[at] = (int16_t)a;
}

/* The same for all eight pixels of a pair in the two usual cases: a batch-norm to bytes, and a sum added to the stream.
 * Their sums are at most 2^16 (sum_fast), so that what is shifted needs no saturation. */
static inline void finish_bytes(const job *j, const pixel *p, int output, const uint32_t s[4]) {
    const int16_t *numbers = j->conv->write->numbers + 2 * output;
    const int32_t mean = numbers[0], multiplier = numbers[1], shift = j->conv->shift;
    uint8_t *out = (uint8_t *)j->conv->out.data + output;
    for (int i = 0; i < 4; i++, p += 2) {
        const int32_t a = obf_sat16(((int32_t)(2 * (s[i] & 0xffff)) + p[0].add) >> shift);
        const int32_t b = obf_sat16(((int32_t)(2 * (s[i] >> 16)) + p[1].add) >> shift);
        out[p[0].at] = (uint8_t)obf_byte15(obf_sat16(a - mean) * multiplier + 0x4000);
        out[p[1].at] = (uint8_t)obf_byte15(obf_sat16(b - mean) * multiplier + 0x4000);
    }
}

static inline void finish_stream(const job *j, const pixel *p, int output, const uint32_t s[4]) {
    const int16_t *base = j->conv->base + j->base_delta + output;
    const int32_t shift = j->conv->shift;
    int16_t *out = (int16_t *)j->conv->out.data + output;
    for (int i = 0; i < 4; i++, p += 2) {
        const int32_t a = obf_sat16(((int32_t)(2 * (s[i] & 0xffff)) + p[0].add) >> shift);
        const int32_t b = obf_sat16(((int32_t)(2 * (s[i] >> 16)) + p[1].add) >> shift);
        out[p[0].at] = (int16_t)obf_sat16(a + base[p[0].at]);
        out[p[1].at] = (int16_t)obf_sat16(b + base[p[1].at]);
    }
}

/* Both tuples' sums of one output, in 32 bits, widened after so many groups that no lane overflows. */
static void sum_wide(const job *j, const uint32_t *const rows[TAPS], const uint8_t *weights, int32_t sums[8]) {
    const int second = j->conv->stride * TABLE;
    for (int i = 0; i < 8; i++)
        sums[i] = 0;
    for (int dy = 0; dy < TAPS; dy++)
        for (int done = 0; done < j->groups / 2; done += SAFE_PAIRS) {
            const int left = j->groups / 2 - done, pairs = left < SAFE_PAIRS ? left : SAFE_PAIRS;
            uint32_t s[4] = {0, 0, 0, 0};
            weights = obf_sum_row(s, rows[dy] + (uint32_t)(2 * done) * j->group_words, j->group_words, second, weights, pairs);
            for (int i = 0; i < 4; i++) {
                sums[2 * i] += (int32_t)(s[i] & 0xffff);
                sums[2 * i + 1] += (int32_t)(s[i] >> 16);
            }
        }
}

/* The same while no lane can overflow. */
static inline void sum_fast(const job *j, const uint32_t *const rows[TAPS], const uint8_t *weights, uint32_t s[4]) {
    const int second = j->conv->stride * TABLE;
    s[0] = s[1] = s[2] = s[3] = 0;
    for (int dy = 0; dy < TAPS; dy++)
        weights = obf_sum_row(s, rows[dy], j->group_words, second, weights, j->groups / 2);
}

/* Where zero is not 0: what each output's sum of +-x is too large by. */
static int32_t correction(const uint8_t *c) {
    return (int32_t)(c[0] | (uint32_t)c[1] << 8 | (uint32_t)c[2] << 16 | (uint32_t)c[3] << 24);
}

/* Two tuples side by side: all outputs of up to eight pixels. `ring`: the slot of the kernel's first row. */
static void pair(const job *j, int y, int tuple, int first_tuple, int ring) {
    const obf_conv *conv = j->conv;
    const int outputs = conv->out.channels, place = (tuple - first_tuple) * conv->stride;
    const int32_t row = (int32_t)obf_slot(y, conv->out.rows) * conv->out.width;
    const uint32_t row_bytes = (uint32_t)(TAPS * TAPS * j->groups / 2);
    const uint8_t *weights = conv->weights, *corrections = weights + (uint32_t)outputs * row_bytes;
    const uint32_t *rows[TAPS];
    int32_t all[FAST_OUTPUTS] = {0}, largest = 0;
    pixel pixels[FAST_OUTPUTS];
    int missing = 0;
    for (int dy = 0; dy < TAPS; dy++) {
        const int slot = obf_slot(ring + dy, TAPS);
        const int32_t *totals = j->totals + (slot * j->places + place) * 4;
        rows[dy] = j->tables + (uint32_t)slot * j->row_words + place * TABLE;
        for (int dx = 0; dx < TAPS; dx++, totals += 4)
            for (int lane = 0; lane < 4; lane++) {
                all[lane] += totals[lane];
                all[4 + lane] += totals[4 * conv->stride + lane];
            }
    }
    for (int lane = 0; lane < FAST_OUTPUTS; lane++) {
        const int x = tuple + (lane >> 2) + (lane & 3) * j->quarter;
        const int there = x < conv->out.width && tuple + (lane >> 2) < j->quarter;
        largest = all[lane] > largest ? all[lane] : largest;
        missing += !there;
        pixels[lane].add = ((1 << conv->shift) >> 1) - all[lane];
        pixels[lane].at = there ? (row + x) * outputs : -1;
    }
    const int narrow = largest < 1 << 16;
    const int usual = narrow && !missing && !conv->zero;
    const int bytes = usual && conv->write && !conv->base && obf_usual(conv->write);
    const int stream = usual && !conv->write && conv->base;
    for (int o = 0; o < outputs; o++, weights += row_bytes) {
        uint32_t s[4];
        int32_t sums[FAST_OUTPUTS];
        if (narrow) {
            sum_fast(j, rows, weights, s);
            if (bytes) {
                finish_bytes(j, pixels, o, s);
                continue;
            }
            if (stream) {
                finish_stream(j, pixels, o, s);
                continue;
            }
            for (int i = 0; i < 4; i++) {
                sums[2 * i] = (int32_t)(s[i] & 0xffff);
                sums[2 * i + 1] = (int32_t)(s[i] >> 16);
            }
        } else
            sum_wide(j, rows, weights, sums);
        const int32_t less = conv->zero ? correction(corrections + 4 * o) : 0;
        for (int i = 0; i < FAST_OUTPUTS; i++)
            if (pixels[i].at >= 0) {
                pixel p = pixels[i];
                p.add -= less;
                finish(j, &p, o, sums[i]);
            }
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
    j.fast = !conv->zero && conv->source.channels % 8 == 0 && !conv->table &&
             (conv->read ? conv->source.type == OBF_I16 && obf_usual(conv->read) : conv->source.type == OBF_U8);
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
