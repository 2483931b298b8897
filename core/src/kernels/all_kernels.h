/* All kernels for one vector: the file that includes this has a vector_*.h, a name for people (OB_NAME) and one for the
 * linker (OB_KERNELS). */
#include "tile_kernel.h"

#include "table_kernel.h"

#include "nibble_kernel.h"

#include "map_kernel.h"

static void conv(const ob_table_job *job) {
    if (job->layer->nibble)
        conv_nibbles(job);
    else
        conv_bytes(job);
}

#ifndef OB_SMALL
OB_CALL void probe(const uint8_t *table, const uint16_t *offsets, int32_t count, int nibbles, uint8_t *to) {
    enum { V = (OB_LANES == 4 ? 32 : 64) / OB_LANES, HALF = V > 1 ? V / 2 : 1 };
    for (int32_t i = 0; i < count; i++, offsets += 12) {
        v16 a[VECTORS], even[PAIRS], odd[PAIRS];
        if (nibbles) {
            add_up_nibbles(HALF, 12, 3, 0, table, offsets, even, odd);
            OB_UNROLL for (int e = 0; e < HALF; e++) v_store(to + e * 2 * LANES, v_add8(even[e], odd[e]));
        } else {
            add_up(V, 0, 12, 1, 0, table, offsets, a);
            OB_UNROLL for (int e = 0; e < V; e++) v_store(to + e * 2 * LANES, a[e]);
        }
    }
}
#endif

const ob_table_kernels OB_KERNELS = {
    .name = OB_NAME,
    .lanes = OB_LANES,
    .strip = OB_LANES == 4 ? 32 : 64,
    .conv = conv,
    .norm = norm,
    .average = average,
    .totals = totals,
#ifndef OB_SMALL
    .probe = probe,
#endif
};
