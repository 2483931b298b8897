/* The layers: convolutions with their kernels, pooling, batch-norms that stand alone, the classifier. */
#include "firmware_math.h"

static obf_map open_map(const obf_network *network, int number, uint8_t *arena) {
    const obf_place *place = &network->maps[number];
    obf_map map = {arena + place->at, place->height, place->width, place->channels, place->rows, place->type, place->zero};
    return map;
}

void obf_layer_conv(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end) {
    obf_conv conv;
    conv.source = open_map(network, layer->source, arena);
    conv.out = open_map(network, layer->out, arena);
    conv.base = 0;
    conv.base_rows = 0;
    if (layer->base != OBF_NONE) {
        conv.base = (const int16_t *)(const void *)(arena + network->maps[layer->base].at);
        conv.base_rows = network->maps[layer->base].rows;
    }
    conv.table = layer->table ? network->table : 0;
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
    conv.columns = layer->columns;
    conv.scratch = arena + layer->scratch;
    layer->kernel(&conv, first, end);
}

/* A map of a layer, and a number of it through all that the layer applies to what it reads. */
typedef struct view {
    obf_map map;
    const int16_t *table;
    const obf_norm *norm;
} view;

static view open_source(const obf_network *network, const obf_layer *layer, uint8_t *arena) {
    view v;
    v.map = open_map(network, layer->source, arena);
    v.table = layer->table ? network->table : 0;
    v.norm = layer->read;
    return v;
}

static int32_t get(const view *v, int y, int x, int channel) {
    return obf_read(&v->map, v->table, v->norm, (int32_t)obf_slot(y, v->map.rows) * v->map.width + x, channel);
}

static void put(const obf_map *map, int y, int x, int channel, int32_t value) {
    const int32_t place = ((int32_t)obf_slot(y, map->rows) * map->width + x) * map->channels + channel;
    if (map->type == OBF_I16)
        ((int16_t *)map->data)[place] = (int16_t)value;
    else
        ((uint8_t *)map->data)[place] = (uint8_t)value;
}

void obf_layer_copy(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end) {
    const view source = open_source(network, layer, arena);
    const obf_map out = open_map(network, layer->out, arena);
    for (int y = first; y < end; y++)
        for (int x = 0; x < out.width; x++)
            for (int c = 0; c < out.channels; c++)
                put(&out, y, x, c, get(&source, y, x, c));
}

/* The part of a window that lies in the map. */
typedef struct window {
    int top, bottom, left, right; /* first and behind the last */
} window;

static window window_at(const obf_layer *layer, const obf_map *map, int y, int x) {
    window w;
    w.top = y * layer->stride - layer->top;
    w.left = x * layer->stride - layer->left;
    w.bottom = w.top + layer->kernel_height;
    w.right = w.left + layer->kernel_width;
    w.top = w.top < 0 ? 0 : w.top;
    w.left = w.left < 0 ? 0 : w.left;
    w.bottom = w.bottom > map->height ? map->height : w.bottom;
    w.right = w.right > map->width ? map->width : w.right;
    return w;
}

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

static int32_t sum_view(const view *v, int row, int left, int right, int channel) {
    int32_t sum = 0;
    for (int x = left; x < right; x++)
        sum += get(v, row, x, channel);
    return sum;
}

void obf_layer_average(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end) {
    const view source = open_source(network, layer, arena);
    const obf_map out = open_map(network, layer->out, arena);
    const int16_t *constants = layer->weights;
    const int direct = source.map.type == OBF_I16 && !source.norm; /* pooling in a residual network */
    for (int y = first; y < end; y++)
        for (int x = 0; x < out.width; x++) {
            const window w = window_at(layer, &source.map, y, x);
            const int16_t *d = constants + 2 * ((w.bottom - w.top) * (w.right - w.left) - 1);
            for (int c = 0; c < source.map.channels; c++) {
                int32_t sum = 0;
                for (int row = w.top; row < w.bottom; row++)
                    sum += direct ? sum_row(&source.map, row, w.left, w.right, c) : sum_view(&source, row, w.left, w.right, c);
                put(&out, y, x, c, obf_q15mulr(obf_sat16(obf_rsh(sum, d[0])), d[1]));
            }
            for (int c = source.map.channels; c < out.channels; c++)
                put(&out, y, x, c, layer->zero);
        }
}

void obf_layer_max(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end) {
    const view source = open_source(network, layer, arena);
    const obf_map out = open_map(network, layer->out, arena);
    for (int y = first; y < end; y++)
        for (int x = 0; x < out.width; x++) {
            const window w = window_at(layer, &source.map, y, x);
            for (int c = 0; c < out.channels; c++) {
                int32_t largest = INT32_MIN;
                for (int row = w.top; row < w.bottom; row++)
                    for (int column = w.left; column < w.right; column++) {
                        const int32_t value = get(&source, row, column, c);
                        largest = value > largest ? value : largest;
                    }
                put(&out, y, x, c, largest);
            }
        }
}

/* With a kernel of 1 x 1 the channels are summed over the map first, into the scratch memory. */
void obf_logits(const obf_network *network, const obf_layer *layer, uint8_t *arena, int32_t *logits) {
    const view source = open_source(network, layer, arena);
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
