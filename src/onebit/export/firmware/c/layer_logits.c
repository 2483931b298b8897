/* The classifier. */
#include "layer.h"

/* With a kernel of 1 x 1 the channels are summed over the map first, into the scratch memory. */
void obf_logits(const obf_network *network, const obf_layer *layer, uint8_t *arena, int32_t *logits) {
    const obf_view source = obf_open_source(network, layer, arena);
    const obf_map *map = &source.map;
    const int32_t positions = (int32_t)map->height * map->width;
    const int pooled = layer->kernel_height == 1 && layer->kernel_width == 1;
    const int32_t inputs = pooled ? map->channels : positions * map->channels;
    int32_t *sums = (int32_t *)(void *)(arena + layer->scratch);
    const uint8_t *bits = layer->weights;
    for (int c = 0; pooled && c < map->channels; c++) {
        sums[c] = 0;
        for (int32_t p = 0; p < positions; p++)
            sums[c] += obf_read(map, source.table, source.norm, p, c) - layer->zero;
    }
    for (int k = 0; k < network->classes; k++, bits += (inputs + 7) / 8) {
        int32_t sum = 0, position = 0;
        int channel = 0;
        for (int32_t j = 0; j < inputs; j++) {
            const int32_t x =
                pooled ? sums[channel] : obf_read(map, source.table, source.norm, position, channel) - layer->zero;
            sum += bits[j / 8] >> (j % 8) & 1 ? x : -x;
            if (++channel == map->channels) {
                channel = 0;
                position++;
            }
        }
        logits[k] = obf_rsh(sum, layer->shift) * network->logits[2 * k] + network->logits[2 * k + 1];
    }
}
