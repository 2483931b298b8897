/* The kernels of AVX-512 and, with emulated_amx.c, of AMX, emulated, and nothing else: takes the places of isa.c and of all
 * kernels in a program for tests. */
#include "emulation.h"

#include "../src/kernels/table_avx512.c"

#include "../src/isa.h"

static int always(void) { return 1; }

static const ob_isa all[] = {{"amx", always, &ob_table_avx512, ob_conv_amx}, {"avx512", always, &ob_table_avx512, NULL}};

const char *ob_isa_name(int i) { return i == 0 || i == 1 ? all[i].name : NULL; }

int ob_isa_here(int i) { return i == 0 || i == 1; }

const ob_isa *ob_isa_find(const char *name) {
    for (int i = 0; i < 2; i++)
        if (!name || !strcmp(name, all[i].name)) return &all[i];
    return NULL;
}
