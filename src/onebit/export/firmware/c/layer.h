/* Maps as layers see them. */
#ifndef OBF_LAYER_H
#define OBF_LAYER_H

#include "firmware_math.h"

static inline obf_map obf_open(const obf_network *network, int number, uint8_t *arena) {
    const obf_place *place = &network->maps[number];
    obf_map map = {arena + place->at, place->height, place->width,   place->channels,
                   place->rows,       place->quarter, place->type, place->zero};
    return map;
}

/* A map of a layer, and a number of it through all that the layer applies to what it reads. */
typedef struct obf_view {
    obf_map map;
    const obf_table *table;
    const obf_norm *norm;
} obf_view;

static inline obf_view obf_open_source(const obf_network *network, const obf_layer *layer, uint8_t *arena) {
    obf_view v;
    v.map = obf_open(network, layer->source, arena);
    v.table = v.map.type == OBF_PIXELS ? network->table : 0;
    v.norm = layer->read;
    return v;
}

static inline void obf_put(const obf_map *map, int32_t place, int32_t value) {
    if (map->type == OBF_I16)
        ((int16_t *)map->data)[place] = (int16_t)value;
    else
        ((uint8_t *)map->data)[place] = (uint8_t)value;
}

/* The part of a window that lies in the map. */
typedef struct obf_window {
    int top, bottom, left, right; /* first and behind the last */
} obf_window;

static inline obf_window obf_window_at(const obf_layer *layer, const obf_map *map, int y, int x) {
    obf_window w;
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

#endif
