/* How a convolution becomes tables: tiles, phases, chunks, and the offsets that its bits are turned into. */
#ifndef OB_PLAN_H
#define OB_PLAN_H

#include "table.h"

/* Memory handed out in order; with base NULL it only counts. */
typedef struct ob_memory {
    uint8_t *base;
    uint64_t used, size;
} ob_memory;

/* NULL when only counting, or when there is no more: `used` then is beyond `size`. */
void *ob_take(ob_memory *memory, uint64_t bytes);

int32_t ob_pitch(int32_t width); /* elements of a row of a map in memory */

/* Plan the convolution `op` of a value; 0 where tables do not serve it (kernels of many rows or columns). Fills the layer
 * but for what lies in memory; with NULL it only says whether they do. */
int ob_plan(const ob_operation *op, const ob_value *source, const ob_table_kernels *kernels, ob_table_layer *layer);

/* Chunks, columns and offsets of a planned layer, in memory. */
void ob_plan_memory(const ob_operation *op, const ob_value *source, const ob_table_kernels *kernels,
                    ob_table_layer *layer, ob_memory *memory);

#endif
