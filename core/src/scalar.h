/* Every operation in plain loops: the C that docs/format.md reads like, which all kernels must equal. Channels [from, to)
 * of the output are computed, so that threads can share one operation. `source` is the value that x holds. */
#ifndef OB_SCALAR_H
#define OB_SCALAR_H

#include "maps.h"

void ob_scalar_table(const ob_operation *op, const uint8_t *picture, const ob_map *y, int32_t from, int32_t to);
void ob_scalar_conv(const ob_operation *op, const ob_value *source, const ob_map *x, const ob_map *base /* or NULL */,
                    const ob_map *y, int32_t from, int32_t to);
void ob_scalar_norm(const ob_operation *op, const ob_map *x, const ob_map *y, int32_t from, int32_t to);
void ob_scalar_average(const ob_operation *op, const ob_value *source, const ob_map *x, const ob_map *y, int32_t from,
                       int32_t to);
void ob_scalar_max(const ob_operation *op, const ob_map *x, const ob_map *y, int32_t from, int32_t to);
void ob_scalar_logits(const ob_operation *op, const ob_value *source, const ob_map *x, int32_t *logits, int32_t from,
                      int32_t to);

#endif
