/* Average pooling, which leaves what lies outside the map out of the divisor, and appended channels. */
#include "layer.h"

/* The sum of a channel over some pixels of a row of the stream. */
static int32_t sum_row(const obf_map *map, int row, int left, int right, int channel) {
    const int step = map->channels;
    const int16_t *x = (const int16_t *)map->data + ((int32_t)obf_slot(row, map->rows) * map->width + left) * step + channel;
    int32_t sum = 0;
    if (right - left == 3)
        return x[0] + x[step] + x[2 * step];
    for (int n = right - left; n; n--, x += step)
        sum += *x;
    return sum;
}

static int32_t sum_view(const obf_view *v, int row, int left, int right, int channel) {
    int32_t sum = 0;
    for (int x = left; x < right; x++)
        sum += obf_get(v, row, x, channel);
    return sum;
}

void obf_layer_average(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end) {
    const obf_view source = obf_open_source(network, layer, arena);
    const obf_map out = obf_open(network, layer->out, arena);
    const int16_t *constants = layer->weights;
    const int direct = source.map.type == OBF_I16 && !source.norm; /* pooling in a residual network */
    for (int y = first; y < end; y++)
        for (int x = 0; x < out.width; x++) {
            const obf_window w = obf_window_at(layer, &source.map, y, x);
            const int16_t *d = constants + 2 * ((w.bottom - w.top) * (w.right - w.left) - 1);
            for (int c = 0; c < source.map.channels; c++) {
                int32_t sum = 0;
                for (int row = w.top; row < w.bottom; row++)
                    sum += direct ? sum_row(&source.map, row, w.left, w.right, c) : sum_view(&source, row, w.left, w.right, c);
                obf_put(&out, y, x, c, obf_q15mulr(obf_sat16(obf_rsh(sum, d[0])), d[1]));
            }
            for (int c = source.map.channels; c < out.channels; c++)
                obf_put(&out, y, x, c, layer->zero);
        }
}
