/* A model as ob_model_build leaves it: operations with their constants, planned layers, and where each map lies. */
#ifndef OB_MODEL_H
#define OB_MODEL_H

#include "isa.h"

/* What becomes of one operation. */
typedef struct ob_step {
    ob_operation operation;      /* its rows point into the model's memory */
    const ob_table_layer *layer; /* a convolution by tables; else NULL: plain loops */
    const int16_t *norm;         /* constants of a norm: [channel][3], mean, multiplier, offset */
    int32_t fused;               /* conv: the norm that its output stage computes; that norm: the conv. Else -1 */
    int32_t kept;                /* does its value lie in memory? not if a fused norm alone reads it */
    uint64_t at;                 /* where in the arena */
    ob_map map;                  /* its value, data not yet known */
} ob_step;

struct ob_model {
    const ob_isa *isa;
    ob_shape shape;
    int32_t count;
    const ob_step *steps;
    uint64_t maps;    /* bytes of all maps at once */
    uint64_t scratch; /* bytes of each thread */
};

#endif
