/* A convolution: resolves what its kernel needs. */
#include "layer.h"

void obf_layer_conv(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end) {
    obf_conv conv;
    conv.source = obf_open(network, layer->source, arena);
    conv.out = obf_open(network, layer->out, arena);
    conv.base.data = 0;
    if (layer->base != OBF_NONE)
        conv.base = obf_open(network, layer->base, arena);
    conv.table = conv.source.type == OBF_PIXELS ? network->table : 0;
    conv.read = layer->read;
    conv.write = layer->write;
    conv.weights = layer->weights;
    conv.kernel_height = layer->kernel_height;
    conv.kernel_width = layer->kernel_width;
    conv.stride = layer->stride;
    conv.top = layer->top;
    conv.left = layer->left;
    conv.shift = layer->shift;
    conv.zero = layer->zero;
    conv.chunk = layer->chunk;
    conv.scratch = arena + layer->scratch;
    layer->kernel(&conv, first, end);
}
