/* A packed file but for its operations: container, header, texts, and where the tensors lie. */
#ifndef OB_HEADER_H
#define OB_HEADER_H

#include "../include/onebit.h"
#include "text.h"

/* In the order of the file. */
enum {
    OB_TENSOR_PROGRAM,
    OB_TENSOR_LOGITS,
    OB_TENSOR_TABLE,
    OB_TENSOR_NORMS,
    OB_TENSOR_AVERAGES,
    OB_TENSOR_BITS,
    OB_TENSOR_CRC,
    OB_TENSORS
};

typedef struct ob_tensor {
    const uint8_t *data;
    int32_t rows, row_bytes; /* 0 rows: the file has no such tensor */
} ob_tensor;

typedef struct ob_header {
    ob_tensor tensors[OB_TENSORS];
    ob_text metadata; /* the object with all texts, its brace still to read */
    ob_text classes;  /* the characters of one of them: JSON again */
    int32_t keys, names;
} ob_header;

/* All rules but those of operations, and that keys of metadata and names of classes differ. */
ob_status ob_header_read(const uint8_t *file, size_t bytes, int with_crc, ob_header *header);

/* These, with `places` for the larger number of both. */
ob_status ob_header_differ(const ob_header *header, uint32_t *places);

#endif
