/* What no other layer could take in: a batch-norm that stands alone, the table of the pixels. */
#include "layer.h"

void obf_layer_copy(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end) {
    const obf_view source = obf_open_source(network, layer, arena);
    const obf_map out = obf_open(network, layer->out, arena);
    for (int y = first; y < end; y++)
        for (int x = 0; x < out.width; x++) {
            int32_t from = obf_pixel(&source.map, y, x), to = obf_pixel(&out, y, x);
            for (int c = 0; c < out.channels; c++, from += obf_step(&source.map), to += obf_step(&out))
                obf_put(&out, to, obf_read(&source.map, source.table, source.norm, from, c));
        }
}
