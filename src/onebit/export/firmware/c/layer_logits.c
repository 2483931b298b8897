/* The classifier. */
#include "layer.h"

/* With a kernel of 1 x 1 the channels are summed over the map first, into the scratch memory. */
void obf_logits(const obf_network *network, const obf_layer *layer, uint8_t *arena, int32_t *logits) {
    const obf_view source = obf_open_source(network, layer, arena);
    const obf_map *map = &source.map;
    const int pooled = layer->kernel_height == 1 && layer->kernel_width == 1, step = obf_step(map);
    int32_t *sums = (int32_t *)(void *)(arena + layer->scratch);
    const uint8_t *bits = layer->weights;
    for (int c = 0; pooled && c < map->channels; c++)
        sums[c] = 0;
    for (int k = pooled ? -1 : 0; k < network->classes; k++) { /* -1: the sums; with them there is but one pixel */
        const int height = pooled && k >= 0 ? 1 : map->height, width = pooled && k >= 0 ? 1 : map->width;
        int32_t sum = 0;
        int bit = 0;
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                int32_t place = obf_pixel(map, y, x);
                for (int c = 0; c < map->channels; c++, place += step) {
                    int32_t value;
                    if (pooled && k >= 0)
                        value = sums[c];
                    else
                        value = obf_read(map, source.table, source.norm, place, c) - layer->zero;
                    if (k < 0)
                        sums[c] += value;
                    else {
                        sum += *bits >> bit & 1 ? value : -value;
                        bits += ++bit >> 3; /* the next byte after eight */
                        bit &= 7;
                    }
                }
            }
        if (k < 0)
            continue;
        bits += bit != 0; /* each output begins with a byte of its own */
        logits[k] = obf_rsh(sum, layer->shift) * network->logits[2 * k] + network->logits[2 * k + 1];
    }
}
