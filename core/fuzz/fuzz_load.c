/* Fuzz target: ob_program_read on any bytes. What it takes must lie within the limits that the rest of the library relies
 * on, and within the file. */
#include <stdlib.h>

#include "../src/program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
    if (!condition)
        abort();
}

static int inside(const uint8_t *rows, int64_t bytes, const uint8_t *data, size_t size) {
    return rows >= data && bytes <= (int64_t)size && (size_t)(rows - data) <= size - (size_t)bytes;
}

static void look(const ob_program *program, const uint8_t *data, size_t size) {
    require(program->count >= 2 && program->count <= OB_MAX_OPERATIONS);
    for (int32_t i = 0; i < program->count; i++) {
        const ob_operation *op = &program->operations[i];
        const ob_value *v = &op->value;
        require((op->kind == OB_TABLE) == (i == 0) && (op->kind == OB_LOGITS) == (i == program->count - 1));
        require(i == 0 || (op->source >= 0 && op->source < i));
        require(op->base >= -1 && op->base < i);
        require(v->channels >= 1 && v->channels <= OB_MAX_CHANNELS && v->height >= 1 && v->height <= OB_MAX_SIDE);
        require(v->width >= 1 && v->width <= OB_MAX_SIDE);
        require((int64_t)v->channels * v->height * v->width <= OB_MAX_MAP);
        require(v->low <= v->high);
        require(v->type != OB_U8 || (v->low == 0 && v->high <= 255 && v->zero >= 0 && v->zero <= v->high));
        require(v->type != OB_I16 || (v->low >= -32768 && v->high <= 32767 && v->zero == 0));
        require((v->type == OB_I32) == (op->kind == OB_LOGITS));
        const int64_t rows = op->kind == OB_AVERAGE ? (int64_t)op->height * op->width : v->channels;
        require(op->kind == OB_MAX || inside(op->rows, rows * op->row_bytes, data, size));
        require(op->kind != OB_LOGITS || inside(op->gains, (int64_t)v->channels * 8, data, size));
    }
    ob_shape shape;
    ob_program_shape(program, &shape);
    require(shape.operations == program->count && shape.sharpness > 0 && shape.fraction <= 24);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ob_program *program;
    int32_t operation;
    const size_t bytes = ob_program_size(data, size);
    void *memory = aligned_alloc(OB_ALIGNMENT, bytes ? bytes : OB_ALIGNMENT); /* a step beyond is seen */
    require(memory != NULL && bytes % OB_ALIGNMENT == 0);
    const ob_status status = ob_program_read(data, size, memory, bytes, &program, &operation);
    require(operation == -1 || status == OB_ERROR_PROGRAM);
    require(status != OB_ERROR_ARGUMENT && status != OB_ERROR_MEMORY);
    require(bytes > 0 || status != OB_OK);
    if (status == OB_OK)
        look(program, data, size);
    free(memory);
    return 0;
}
