/* Maximum pooling. */
#include "layer.h"

void obf_layer_max(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end) {
    const obf_view source = obf_open_source(network, layer, arena);
    const obf_map out = obf_open(network, layer->out, arena);
    for (int y = first; y < end; y++)
        for (int x = 0; x < out.width; x++) {
            const obf_window w = obf_window_at(layer, &source.map, y, x);
            int32_t place = obf_pixel(&out, y, x);
            for (int c = 0; c < out.channels; c++, place += obf_step(&out)) {
                int32_t largest = INT32_MIN;
                for (int row = w.top; row < w.bottom; row++)
                    for (int column = w.left; column < w.right; column++) {
                        const int32_t from = obf_pixel(&source.map, row, column) + c * obf_step(&source.map);
                        const int32_t value = obf_read(&source.map, source.table, source.norm, from, c);
                        largest = value > largest ? value : largest;
                    }
                obf_put(&out, place, largest);
            }
        }
}
