/* Maps in memory: planes. Element (c, y, x) lies at data[c * plane + y * pitch + x]; uint8_t or int16_t by the type of the
 * value. Elements behind the width of a row (pitch > width) hold anything: nobody may depend on them. */
#ifndef OB_MAPS_H
#define OB_MAPS_H

#include "program.h"

typedef struct ob_map {
    void *data;
    ob_type type;
    int32_t channels, height, width;
    int32_t pitch;   /* elements from row to row */
    size_t plane;    /* elements from channel to channel */
} ob_map;

#endif
