/* Average pooling, which leaves what lies outside the map out of the divisor, and appended channels. */
#include "layer.h"

enum { NEAR = 9 }; /* pixels of a window, up to which they are all found beforehand: pooling in a residual network */

/* The sum of a channel over a window. */
static int32_t sum(const obf_view *v, const obf_window *w, int channel) {
    int32_t found = 0;
    for (int row = w->top; row < w->bottom; row++)
        for (int x = w->left; x < w->right; x++) {
            const int32_t place = obf_pixel(&v->map, row, x) + channel * obf_step(&v->map);
            found += obf_read(&v->map, v->table, v->norm, place, channel);
        }
    return found;
}

void obf_layer_average(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end) {
    const obf_view source = obf_open_source(network, layer, arena);
    const obf_map out = obf_open(network, layer->out, arena);
    const int16_t *constants = layer->weights;
    const int from_step = obf_step(&source.map), step = obf_step(&out), channels = source.map.channels;
    for (int y = first; y < end; y++)
        for (int x = 0; x < out.width; x++) {
            const obf_window w = obf_window_at(layer, &source.map, y, x);
            const int count = (w.bottom - w.top) * (w.right - w.left);
            const int near = count <= NEAR && source.map.type == OBF_I16 && !source.norm;
            const int16_t *d = constants + 2 * (count - 1), *pixels[NEAR];
            int32_t place = obf_pixel(&out, y, x);
            int n = 0;
            for (int row = w.top; near && row < w.bottom; row++)
                for (int column = w.left; column < w.right; column++)
                    pixels[n++] = (const int16_t *)source.map.data + obf_pixel(&source.map, row, column);
            for (int c = 0; c < channels; c++, place += step) {
                int32_t total = 0;
                for (int i = n; i--;)
                    total += pixels[i][c * from_step];
                if (!near)
                    total = sum(&source, &w, c);
                obf_put(&out, place, obf_q15mulr(obf_sat16(obf_rsh(total, d[0])), d[1]));
            }
            for (int c = channels; c < out.channels; c++, place += step)
                obf_put(&out, place, layer->zero);
        }
}
