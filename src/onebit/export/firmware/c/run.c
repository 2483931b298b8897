/* Runs a network: layer after layer, or some of them together, row by row. */
#include "firmware_math.h"

/* Rows that the next row of a layer needs of its source: those before this one. */
static int rows_needed(const obf_network *network, const obf_layer *layer, int y) {
    const int height = network->maps[layer->source].height;
    const int end = y * layer->stride - layer->top + layer->kernel_height;
    return end < 0 ? 0 : end > height ? height : end;
}

/* The layer of first..last that makes a map, if it is one and has not made `need` rows; else -1. */
static int lacking(const obf_network *network, int first, int last, int map, int need, const uint16_t *done) {
    for (int k = first; k <= last; k++)
        if (network->layers[k].out == map)
            return done[k - first] < need ? k : -1;
    return -1;
}

/* The last layer makes row after row, and before each the others make what it lacks, no more: so only some rows of the
 * maps between them are ever needed, for which alone there is memory. */
static void run_together(const obf_network *network, uint8_t *arena, int first, int last) {
    uint16_t done[OBF_TOGETHER] = {0};
    int k = last;
    while (k >= first) {
        const obf_layer *layer = &network->layers[k];
        const int y = done[k - first];
        int other = -1;
        if (y == network->maps[layer->out].height) {
            k--;
            continue;
        }
        other = lacking(network, first, last, layer->source, rows_needed(network, layer, y), done);
        if (other < 0 && layer->base != OBF_NONE)
            other = lacking(network, first, last, layer->base, y + 1, done);
        if (other >= 0) {
            k = other;
            continue;
        }
        layer->run(network, layer, arena, y, y + 1);
        done[k - first]++;
        k = last;
    }
}

void obf_run(const obf_network *network, void *arena, int32_t *logits) {
    int first = 0;
    for (int s = 0; s < network->segment_count; s++) {
        const int end = network->segments[s];
        const obf_layer *layer = &network->layers[first];
        if (end - first > 1)
            run_together(network, arena, first, end - 1);
        else if (layer->out == OBF_NONE)
            obf_logits(network, layer, arena, logits);
        else
            layer->run(network, layer, arena, 0, network->maps[layer->out].height);
        first = end;
    }
}
