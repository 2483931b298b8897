/* Instruction sets: which this build knows, and which this CPU has. */
#ifndef OB_ISA_H
#define OB_ISA_H

#include "matrix.h"

typedef struct ob_isa {
    const char *name;
    int (*here)(void);
    const ob_table_kernels *table; /* NULL: plain loops */
    ob_matrix_conv *matrix;        /* NULL: there is no matrix unit */
} ob_isa;

/* The one of this name, NULL for the best of this CPU; NULL where there is none, or not here. */
const ob_isa *ob_isa_find(const char *name);

#endif
