/* 3 x 3 convolutions of one to three channels, the first of a network: stride 1, numbers of up to 17 bits.
 *
 * Of each place of three rows the sums of all subsets of its channels lie in a table, entry by entry over the row, so that
 * one choice serves neighbouring pixels. Weights: one word for each output, its 9 times 1 to 3 bits from the lowest on. */
#include "firmware_math.h"

enum { TAPS = 3, FOUR = 4 };

/* The table of source row y: [entry][place], place 0 one left of the first pixel needed. Returns nothing outside but zeros. */
static void build_row(const obf_conv *conv, int32_t *table, int places, int y) {
    const obf_map *source = &conv->source;
    const int channels = source->channels, step = obf_step(source);
    for (int p = 0; p < places; p++) {
        const int x = p - conv->left;
        const int inside = y >= 0 && y < source->height && x >= 0 && x < source->width;
        const int32_t place = inside ? obf_pixel(source, y, x) : 0;
        table[p] = 0;
        for (int c = 0, half = 1; c < channels; c++, half *= 2) {
            int32_t value = 0;
            if (inside)
                value = obf_read(source, conv->table, conv->read, place + c * step, c) - conv->zero;
            for (int n = 0; n < half; n++)
                table[(half + n) * places + p] = table[n * places + p] + value;
        }
    }
}

/* All outputs of four neighbouring pixels, of which `count` are in the map; `y`, `x`: the first. */
static void four(const obf_conv *conv, const int32_t *const rows[TAPS], int places, int y, int x, int count) {
    const int bits = conv->source.channels, last = (1 << bits) - 1, step = obf_step(&conv->out);
    const int32_t at = obf_pixel(&conv->out, y, x), apart = count == FOUR ? obf_pixel(&conv->out, y, x + 1) - at : 0;
    /* The first convolution of a network writes the stream: four places equally far apart. */
    const int plain = count == FOUR && !conv->base.data && !conv->write && obf_pixel(&conv->out, y, x + 3) - at == 3 * apart;
    int32_t all[FOUR];
    all[0] = all[1] = all[2] = all[3] = 0;
    for (int dy = 0; dy < TAPS; dy++)
        for (int dx = 0; dx < TAPS; dx++)
            for (int i = 0; i < FOUR; i++)
                all[i] += rows[dy][last * places + dx + i];
    const uint32_t *weights = conv->weights;
    for (int o = 0; o < conv->out.channels; o++) {
        uint32_t w = *weights++;
        int32_t a = 0, b = 0, c = 0, d = 0;
        for (int dy = 0; dy < TAPS; dy++) {
            const int32_t *row = rows[dy];
            OBF_UNROLL
            for (int dx = 0; dx < TAPS; dx++, w >>= bits) {
                const int32_t *t = row + (int32_t)(w & (uint32_t)last) * places;
                a += t[dx];
                b += t[dx + 1];
                c += t[dx + 2];
                d += t[dx + 3];
            }
        }
        const int32_t sums[FOUR] = {2 * a - all[0], 2 * b - all[1], 2 * c - all[2], 2 * d - all[3]};
        if (plain) {
            int16_t *out = (int16_t *)conv->out.data + at + o * step;
            OBF_UNROLL
            for (int i = 0; i < FOUR; i++, out += apart)
                *out = (int16_t)obf_sat16(obf_rsh(sums[i], conv->shift));
            continue;
        }
        for (int i = 0; i < count; i++)
            obf_write(conv, y, x + i, o, sums[i]);
    }
}

void obf_conv_few(const obf_conv *conv, int first, int end) {
    const int places = (conv->out.width + FOUR - 1) / FOUR * FOUR + TAPS - 1;
    const int32_t row_size = ((int32_t)places << conv->source.channels);
    int built = first - conv->top, slot = 0;
    for (int y = first; y < end; y++) {
        const int32_t *rows[TAPS];
        for (; built < y - conv->top + TAPS; built++, slot = slot == TAPS - 1 ? 0 : slot + 1)
            build_row(conv, (int32_t *)conv->scratch + slot * row_size, places, built);
        for (int x = 0; x < conv->out.width; x += FOUR) {
            const int left = conv->out.width - x;
            for (int dy = 0; dy < TAPS; dy++)
                rows[dy] = (const int32_t *)conv->scratch + obf_slot(slot + dy, TAPS) * row_size + x;
            four(conv, rows, places, y, x, left < FOUR ? left : FOUR);
        }
    }
}
