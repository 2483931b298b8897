/* The core for WebAssembly: an instance holds one model. JavaScript (web/onebit.js) does this:
 *
 *     place = reserve(bytes)                 a piece of memory; 0: there is none left. The file is copied to it,
 *     status = load(place, bytes)            checked and repacked;
 *     picture(), logits()                    where pixels go in and logits come out
 *     run()                                  pixels to logits
 *
 * Nothing is imported: no library, no clock, no other memory than the instance's own. */
#include <string.h>

#include "crc32.h"
#include "isa.h"
#include "onebit.h"
#include "pool.h"

#define EXPORT(name) __attribute__((export_name(#name), visibility("default")))
enum { PAGE = 65536 };

/* -- memory -------------------------------------------------------------------------------------------------------- */

extern unsigned char __heap_base; /* set by the linker: what is behind belongs to nobody */
static size_t used;

EXPORT(reserve) void *reserve(size_t bytes) {
    if (!used) used = (size_t)&__heap_base;
    const size_t at = (used + OB_ALIGNMENT - 1) & ~(size_t)(OB_ALIGNMENT - 1), all = __builtin_wasm_memory_size(0) * PAGE;
    if (at < used || bytes > SIZE_MAX - PAGE - at) return NULL;
    if (at + bytes > all && __builtin_wasm_memory_grow(0, (at + bytes - all + PAGE - 1) / PAGE) == SIZE_MAX) return NULL;
    used = at + bytes;
    return (void *)at;
}

/* -- a model ------------------------------------------------------------------------------------------------------- */

static ob_model *model;
static ob_shape shape;
static int32_t operation; /* that broke a rule; -1: none did */
static uint8_t *pixels;
static int32_t *answers;
static void *arena;
static size_t arena_bytes;

static ob_status make(const ob_program *program) {
    const size_t bytes = ob_model_size(program, NULL);
    void *memory = reserve(bytes);
    if (!memory) return OB_ERROR_MEMORY;
    const ob_status status = ob_model_build(program, NULL, memory, bytes, &model);
    if (status) return status;
    ob_model_shape(model, &shape);
    arena_bytes = ob_arena_size(model, NULL);
    arena = reserve(arena_bytes);
    pixels = reserve((size_t)shape.channels * (size_t)shape.height * (size_t)shape.width);
    answers = reserve((size_t)shape.classes * sizeof *answers);
    return arena && pixels && answers ? OB_OK : OB_ERROR_MEMORY;
}

EXPORT(load) ob_status load(const void *file, size_t bytes) {
    ob_program *program;
    operation = -1;
    const size_t needed = ob_program_size(file, bytes);
    void *memory = reserve(needed);
    if (!memory) return OB_ERROR_MEMORY;
    const ob_status status = ob_program_read(file, bytes, memory, needed, &program, &operation);
    return status ? status : make(program);
}

EXPORT(operation) int32_t operation_of(void) { return operation; }
EXPORT(shape) const ob_shape *shape_of(void) { return &shape; } /* seven numbers of 32 bits, as in onebit.h */
EXPORT(picture) uint8_t *picture_of(void) { return pixels; }    /* [height][width][channels] */
EXPORT(logits) int32_t *logits_of(void) { return answers; }     /* [classes] */
EXPORT(run) ob_status run(void) { return ob_run(model, NULL, pixels, 1, answers, arena, arena_bytes); }

EXPORT(status_name) const char *name_of(ob_status status) { return ob_status_name(status); }
EXPORT(status_text) const char *text_of(ob_status status) { return ob_status_text(status); }

/* -- what the core's other files would bring: one instruction set, one thread, no matrix unit ------------------------ */

static const ob_isa simd128 = {.name = "simd128", .table = &ob_table_wasm};

const ob_isa *ob_isa_find(const char *name) {
    (void)name;
    return &simd128;
}

int ob_pool_threads(const ob_pool *pool) {
    (void)pool;
    return 1;
}

void ob_pool_run(ob_pool *pool, ob_task *task, void *context) {
    (void)pool;
    task(context, 0, 1);
}

int ob_matrix_plan(const ob_operation *op, const ob_value *source, ob_table_layer *layer) {
    (void)op, (void)source, (void)layer;
    return 0;
}

void ob_matrix_plan_memory(const ob_operation *op, const ob_value *source, ob_table_layer *layer, ob_memory *memory) {
    (void)op, (void)source, (void)layer, (void)memory;
}

/* crc32.c has tables of 16 kB, for speed. This one has 64 bytes. */
uint32_t ob_crc32(const uint8_t *data, size_t bytes) {
    uint32_t table[16], crc = ~(uint32_t)0;
    for (uint32_t i = 0; i < 16; i++) {
        table[i] = i;
        for (int bit = 0; bit < 4; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    for (const uint8_t *p = data, *end = data + bytes; p < end; p++) {
        crc = crc >> 4 ^ table[(crc ^ *p) & 15];
        crc = crc >> 4 ^ table[(crc ^ *p >> 4) & 15];
    }
    return ~crc;
}

/* -- a C library: the compiler makes single instructions of the first two -------------------------------------------- */

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) { return __builtin_memcpy(to, from, bytes); }

void *memset(void *to, int byte, size_t bytes) { return __builtin_memset(to, byte, bytes); }

int memcmp(const void *a, const void *b, size_t bytes) {
    const uint8_t *p = a, *q = b;
    for (; bytes; bytes--, p++, q++)
        if (*p != *q) return *p - *q;
    return 0;
}

char *strchr(const char *text, int letter) {
    for (; *text != (char)letter; text++)
        if (!*text) return NULL;
    return (char *)(uintptr_t)text;
}

size_t strlen(const char *text) {
    size_t n = 0;
    while (text[n]) n++;
    return n;
}
