/* The tables of conv_nibble.c, where nothing is made by hand: from four pixels' channels to the sums of all subsets of each
 * four of them. Two pixels at a time: the halves of a word. */
#ifndef OBF_NIBBLE_BUILD_H
#define OBF_NIBBLE_BUILD_H

#include "nibble.h"

/* Of pixels 0 and 2, or of 1 and 3, four channels: all 16 sums of subsets, entries `words` apart. Returns that of all. */
OBF_INLINE uint32_t obf_entries(uint32_t *t, const int words, uint32_t x0, uint32_t x1, uint32_t x2, uint32_t x3) {
    const uint32_t x01 = x0 + x1, with[4] = {0, x2, x3, x2 + x3};
    OBF_UNROLL
    for (int n = 0; n < 4; n++, t += 4 * words) {
#if defined(__thumb__) && !defined(__thumb2__) /* whose stores do not reach far: one pointer instead of four */
        __asm__("" : "+r"(t));
#endif
        t[0] = with[n];
        t[words] = with[n] + x0;
        t[2 * words] = with[n] + x1;
        t[3 * words] = with[n] + x01;
    }
    return with[3] + x01;
}

/* Two halves of a word through the usual batch-norm. */
static inline uint32_t obf_halves_normed(uint32_t x, const int16_t *numbers) {
    const int32_t mean = numbers[0], multiplier = numbers[1], half = obf_half();
    const uint32_t low = (uint32_t)obf_byte15(((int32_t)(int16_t)(x & 0xffff) - mean) * multiplier + half);
    return low | (uint32_t)obf_byte15(((int32_t)(int16_t)(x >> 16) - mean) * multiplier + half) << 16;
}

/* Half of each number of a tuple, for some groups up to the table `end`: bytes as they are, from bit `bit` of each word on.
 * A function of its own, for processors with few registers. Returns the sums of all. */
static OBF_ALONE uint32_t obf_half_bytes(
    uint32_t *table, const uint32_t *end, uint32_t group, const uint32_t *x, uint32_t bit) {
    uint32_t sum = 0;
    for (; table < end; table += group, x += 4) {
        const uint32_t even = 0x00ff00ffu;
        sum += obf_entries(table, ENTRY, x[0] >> bit & even, x[1] >> bit & even, x[2] >> bit & even, x[3] >> bit & even);
    }
    return sum;
}

/* The same in any case: numbers through the batch-norm of `numbers`, if there is one, moved as `spot` says. */
static OBF_ALONE uint32_t obf_half_any(
    uint32_t *table, const uint32_t *end, uint32_t group, const uint32_t *x, uint32_t half, const int16_t *numbers, const obf_spot *spot) {
    /* Moved once, words change sides, and one of them moves within its own. Beyond 16 bits the mask leaves nothing. */
    const uint32_t up = spot->move & 7, down = spot->move >> 3 & 7, side = half ^ ((up + down) & 1);
    const uint32_t left = up + 1 - half > 1 ? 16 : 0, right = down + half > 1 ? 16 : 0, mask = spot->masks[half];
    uint32_t sum = 0;
    x += numbers ? side : 0;
    for (; table < end; table += group) {
        uint32_t v[4];
        for (int k = 0; k < 4; k++) {
            if (numbers) {
                v[k] = obf_halves_normed(*x, numbers);
                x += 2;
                numbers += 2;
            } else
                v[k] = *x++ >> 8 * side & 0x00ff00ffu;
            if (spot->move)
                v[k] = (v[k] << left) >> right & mask;
        }
        if (spot->move & OBF_HALF)
            sum += obf_entries(table, ENTRY / 2, v[0], v[1], v[2], v[3]);
        else
            sum += obf_entries(table, ENTRY, v[0], v[1], v[2], v[3]);
    }
    return sum;
}

/* Tables of all places of a window, as obf_row says. */
static inline void obf_row_any(const obf_row *row) {
    int32_t *totals = row->totals;
    for (int p = 0; p < row->places; p++) {
        const obf_spot *spot = &row->spots[p];
        const uint32_t *x = (const uint32_t *)(const void *)(row->source + spot->source), group = row->group_bytes / 4;
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t *table = (uint32_t *)(void *)(row->tables + spot->table) + half, *const end = table + row->size / 4, sum;
            if (row->numbers || spot->move)
                sum = obf_half_any(table, end, group, x, half, row->numbers, spot);
            else
                sum = obf_half_bytes(table, end, group, x, 8 * half);
            totals[0] = (row->more ? totals[0] : 0) + (int32_t)(sum & 0xffff);
            totals[1] = (row->more ? totals[1] : 0) + (int32_t)(sum >> 16);
            totals += 2;
        }
    }
}

#endif
