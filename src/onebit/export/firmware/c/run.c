/* Runs a network: layer after layer, or some of them together, row by row. */
#include "firmware_math.h"

/* Rows that a layer needs of its source to have made those before `end`: the ones before this. */
static int rows_needed(const obf_network *network, const obf_layer *layer, int end) {
    const int height = network->maps[layer->source].height;
    const int need = (end - 1) * layer->stride - layer->top + layer->kernel_height;
    return need < 0 ? 0 : need > height ? height : need;
}

/* The layer of first..last that makes a map, if it is one and has not made `need` rows; else -1. */
static int lacking(const obf_network *network, int first, int last, int map, int need, const uint16_t *done) {
    for (int k = first; k <= last; k++)
        if (network->layers[k].out == map)
            return done[k - first] < need ? k : -1;
    return -1;
}

/* The last layer makes its next `rows` rows, and before them the others make what it lacks, no more: so only some rows of the
 * maps between them are ever needed, for which alone there is memory. schedule.py goes by the same rule. */
static void run_together(const obf_network *network, uint8_t *arena, int first, int last, int rows) {
    uint16_t done[OBF_TOGETHER] = {0};
    int k = last, goal = network->maps[network->layers[last].out].height; /* of layer k rows before `goal` are wanted now */
    while (k >= first) {
        const obf_layer *layer = &network->layers[k];
        const int height = network->maps[layer->out].height, y = done[k - first];
        int end, other, wanted;
        if (y == height) { /* then what nobody wants of those before, if anything */
            if (--k >= first)
                goal = network->maps[network->layers[k].out].height;
            continue;
        }
        end = y + rows < goal ? y + rows : goal;
        wanted = rows_needed(network, layer, end);
        other = lacking(network, first, last, layer->source, wanted, done);
        if (other < 0 && layer->base != OBF_NONE) {
            wanted = end;
            other = lacking(network, first, last, layer->base, wanted, done);
        }
        if (other >= 0) {
            k = other;
            goal = wanted;
            continue;
        }
        layer->run(network, layer, arena, y, end);
        done[k - first] = (uint16_t)end;
        k = last;
        goal = network->maps[network->layers[last].out].height;
    }
}

void obf_run(const obf_network *network, void *arena, int32_t *logits) {
    const obf_layer *layer = network->layers;
    for (int k = 0, first = 0; layer->out != OBF_NONE; k++, layer++)
        if (layer->rows) {
            run_together(network, arena, first, k, layer->rows == OBF_WHOLE ? 1 << 15 : layer->rows);
            first = k + 1;
        }
    obf_logits(network, layer, arena, logits);
}
