/* The speed of the table kernels' hot loop alone, for comparison. */
#include <string.h>
#include <time.h>

#include "isa.h"

enum { TABLE = 24 << 10, OFFSETS = 12 * 64, ROUNDS = 40 };

static double seconds(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

ob_status ob_peak(const char *isa, int nibbles, void *memory, size_t memory_bytes, double *lanes) {
    const ob_isa *found = ob_isa_find(isa);
    if (!memory || !lanes || (uintptr_t)memory % OB_ALIGNMENT) return OB_ERROR_ARGUMENT;
    if (!found) return OB_ERROR_ISA;
    if (memory_bytes < OB_PEAK_BYTES) return OB_ERROR_MEMORY;
    *lanes = 0;
    if (!found->table) return OB_OK;
    uint8_t *table = memory;
    uint16_t *offsets = (uint16_t *)(void *)(table + TABLE);
    uint8_t *to = table + TABLE + OFFSETS * 2 + OB_ALIGNMENT;
    const uint32_t entry = (uint32_t)found->table->strip * (nibbles ? 1 : 2), entries = TABLE / entry;
    memset(memory, 0, OB_PEAK_BYTES);
    for (uint32_t i = 0, x = 1; i < OFFSETS; i++) { /* entries in no order, as weights ask for them */
        x = x * 1664525 + 1013904223;
        offsets[i] = (uint16_t)((x >> 16) % entries * entry);
    }
    for (int i = 0; i < ROUNDS; i++) { /* the best of many: others use the machine too */
        const double begin = seconds();
        for (int k = 0; k < 16; k++) found->table->probe(table, offsets, OFFSETS / 12, nibbles, to);
        const double took = seconds() - begin, rate = 16.0 * OFFSETS * found->table->strip / took;
        if (took > 0 && rate > *lanes) *lanes = rate;
    }
    return OB_OK;
}
