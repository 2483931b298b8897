/* Numbers read and written one by one, in every way that there is. */
#include "firmware_math.h"

uint8_t obf_normed(const obf_norm *norm, int channel, int32_t x) {
    const int16_t *numbers = norm->numbers + 2 * channel;
    int32_t y = obf_q15mulr(obf_sat16(x - numbers[0]), numbers[1]) + norm->zero;
    if (norm->offsets)
        y += norm->offsets[channel];
    return (uint8_t)(y < 0 ? 0 : y > norm->limit ? norm->limit : y);
}

int32_t obf_pixel(const obf_map *map, int y, int x) {
    const int32_t row = obf_slot(y, map->rows);
    int lane = 0;
    if (!map->quarter)
        return (row * map->width + x) * map->channels;
    for (; x >= map->quarter; x -= map->quarter)
        lane++;
    if (map->type == OBF_I16) /* 0, 2, 1, 3 */
        lane = lane >> 1 | (lane & 1) << 1;
    return (row * map->quarter + x) * map->channels * 4 + lane;
}

int32_t obf_read(const obf_map *map, const obf_table *table, const obf_norm *norm, int32_t place, int channel) {
    int32_t x;
    if (map->type == OBF_I16)
        x = ((const int16_t *)map->data)[place];
    else
        x = ((const uint8_t *)map->data)[place];
    if (table && table->values)
        x = table->values[channel * 256 + x];
    else if (table) {
        const obf_line *line = &table->lines[channel];
        x = (line->slope * x + line->offset) >> OBF_LINE;
        x = x < line->lowest ? line->lowest : x > line->highest ? line->highest : x;
    }
    return norm ? obf_normed(norm, channel, x) : x;
}

void obf_write(const obf_conv *conv, int y, int x, int channel, int32_t sum) {
    const int32_t place = obf_pixel(&conv->out, y, x) + channel * obf_step(&conv->out);
    int32_t a = obf_sat16(obf_rsh(sum, conv->shift));
    if (conv->base.data) {
        const int32_t from = obf_pixel(&conv->base, y, x) + channel * obf_step(&conv->base);
        a = obf_sat16(a + ((const int16_t *)conv->base.data)[from]);
    }
    if (conv->write)
        ((uint8_t *)conv->out.data)[place] = obf_normed(conv->write, channel, a);
    else
        ((int16_t *)conv->out.data)[place] = (int16_t)a;
}
