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

const ob_table_kernels OB_KERNELS = {
    .name = OB_NAME,
    .lanes = OB_LANES,
    .strip = OB_LANES == 4 ? 32 : 64,
    .conv = conv,
    .norm = norm,
    .average = average,
    .totals = totals,
};
