/* Fuzz target: a file that the loader takes is built for every instruction set of this machine, and computes pictures made
 * of its own bytes, with one thread or, now and then, two. All must give the logits of the plain loops. Memory is exactly as large as
 * asked for and holds something else for each, so that nothing unwritten can be read unseen. */
#include <stdlib.h>
#include <string.h>

#include "../src/program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_WORK = 400000, PICTURES = 2 };

static void require(int condition) {
    if (!condition)
        abort();
}

static void *take(size_t bytes, int fill) {
    bytes = bytes ? (bytes + OB_ALIGNMENT - 1) / OB_ALIGNMENT * OB_ALIGNMENT : OB_ALIGNMENT;
    void *memory = aligned_alloc(OB_ALIGNMENT, bytes);
    require(memory != NULL);
    return memset(memory, fill, bytes);
}

/* Additions and elements for a picture: what takes long teaches little. */
static int64_t work(const ob_program *program) {
    int64_t sum = 0;
    for (int32_t i = 0; i < program->count && sum <= MOST_WORK; i++) {
        const ob_operation *op = &program->operations[i];
        const ob_value *v = &op->value, *source = &program->operations[op->source].value;
        const int64_t made = (int64_t)v->channels * v->height * v->width;
        const int64_t window = op->kind == OB_TABLE || op->kind == OB_NORM ? 1 : (int64_t)op->height * op->width;
        if (made > MOST_WORK || window > MOST_WORK)
            return MOST_WORK + 1;
        sum += made * window * (op->kind == OB_CONV || op->kind == OB_LOGITS ? source->channels : 1);
        if (op->kind == OB_LOGITS)
            sum += made * source->channels * source->height * source->width;
    }
    return sum;
}

/* The logits of one instruction set. */
static void compute(const ob_program *program, const char *isa, ob_pool *pool, const uint8_t *pictures, int32_t *logits,
                    int fill) {
    ob_model *model;
    ob_layer layer;
    ob_shape shape;
    const size_t bytes = ob_model_size(program, isa);
    require(bytes > 0);
    void *memory = take(bytes, fill);
    require(ob_model_build(program, isa, memory, bytes, &model) == OB_OK);
    require(strcmp(ob_model_isa(model), isa) == 0);
    ob_model_shape(model, &shape);
    const size_t arena_bytes = ob_arena_size(model, pool);
    void *arena = take(arena_bytes, ~fill & 255);
    for (int32_t i = 0; i < shape.operations; i++)
        require(ob_model_layer(model, i, &layer) == OB_OK && layer.macs >= 0);
    require(ob_model_layer(model, shape.operations, &layer) == OB_ERROR_ARGUMENT);
    require(ob_run(model, pool, pictures, PICTURES, logits, arena, arena_bytes) == OB_OK);
    free(arena);
    free(memory);
}

static void compare(const ob_program *program, const uint8_t *data, size_t size) {
    static ob_pool *pair;
    ob_shape shape;
    ob_program_shape(program, &shape);
    const size_t numbers = (size_t)shape.classes * PICTURES;
    const size_t pixels = (size_t)shape.channels * (size_t)shape.height * (size_t)shape.width * PICTURES;
    uint8_t *pictures = malloc(pixels);
    int32_t *expected = malloc(numbers * sizeof *expected), *found = malloc(numbers * sizeof *found);
    require(pictures && expected && found);
    require(pair || ob_pool_create(2, &pair) == OB_OK);
    uint32_t state = 1;
    for (size_t i = 0; i < pixels; i++) {
        state = (state ^ data[i % size]) * 16777619u;
        pictures[i] = (uint8_t)(state >> 24);
    }
    compute(program, "scalar", NULL, pictures, expected, 0);
    for (int i = 0; ob_isa_name(i); i++) {
        if (!ob_isa_here(i))
            continue;
        memset(found, 0x55, numbers * sizeof *found);
        compute(program, ob_isa_name(i), state >> 28 == 0 ? pair : NULL, pictures, found, 0x7f + 0x22 * i);
        require(memcmp(found, expected, numbers * sizeof *found) == 0);
    }
    free(found);
    free(expected);
    free(pictures);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ob_program *program;
    const size_t bytes = ob_program_size(data, size);
    void *memory = take(bytes, 0xa5);
    if (ob_program_read(data, size, memory, bytes, &program, NULL) == OB_OK && work(program) <= MOST_WORK)
        compare(program, data, size);
    free(memory);
    return 0;
}
