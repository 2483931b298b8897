/* Numbers read and written one by one, in every way that there is. */
#include "firmware_math.h"

uint8_t obf_normed(const obf_norm *norm, int channel, int32_t x) {
    const int16_t *numbers = norm->numbers + 2 * channel;
    int32_t y = obf_q15mulr(obf_sat16(x - numbers[0]), numbers[1]) + norm->zero;
    if (norm->offsets)
        y += norm->offsets[channel];
    return (uint8_t)(y < 0 ? 0 : y > norm->limit ? norm->limit : y);
}

int32_t obf_read(const obf_map *map, const int16_t *table, const obf_norm *norm, int32_t at, int channel) {
    const int32_t place = at * map->channels + channel;
    int32_t x;
    if (map->type == OBF_I16)
        x = ((const int16_t *)map->data)[place];
    else
        x = ((const uint8_t *)map->data)[place];
    if (table)
        x = table[channel * 256 + x];
    return norm ? obf_normed(norm, channel, x) : x;
}

void obf_write(const obf_conv *conv, int32_t at, int32_t base_at, int channel, int32_t sum) {
    int32_t a = obf_sat16(obf_rsh(sum, conv->shift));
    if (conv->base)
        a = obf_sat16(a + conv->base[base_at * conv->out.channels + channel]);
    const int32_t place = at * conv->out.channels + channel;
    if (conv->write)
        ((uint8_t *)conv->out.data)[place] = obf_normed(conv->write, channel, a);
    else
        ((int16_t *)conv->out.data)[place] = (int16_t)a;
}

