/* The rules of a single operation: numbers, shapes and ranges. */
#ifndef OB_VALUES_H
#define OB_VALUES_H

#include "program.h"

/* Check what docs/format.md demands of operation `number`, of which all but `value` is known and whose numbers each lie
 * within the limits, and work out `value`. Those of earlier operations are at hand. Returns whether all is well. */
int ob_value_find(ob_operation *operations, int32_t number);

#endif
