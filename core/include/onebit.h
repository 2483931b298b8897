/* onebit: run a packed model. Plain C11, no dependencies; usable from C++.
 *
 *     size_t n = ob_program_size(file, bytes);                       memory to check the file in
 *     ob_program_read(file, bytes, memory, n, &program, NULL);       check everything about it
 *     size_t m = ob_model_size(program, NULL);                       memory of the model on this CPU
 *     ob_model_build(program, NULL, memory2, m, &model);             repack the weights; the file is no longer needed
 *     size_t a = ob_arena_size(model, NULL);                         memory to compute in
 *     ob_run(model, NULL, pictures, count, logits, memory3, a);      pictures in, logits out
 *
 * The caller owns all memory: nothing but ob_pool_create allocates, nothing is global, nothing is kept between calls. A
 * program and a model are read only once made, so any number of threads may use them; an arena and a pool serve one ob_run
 * at a time. Memory that a function is given must be aligned to OB_ALIGNMENT, or the function returns OB_ERROR_ARGUMENT.
 * Handles are not freed; free the memory that they lie in. docs/format.md says what a model means; every kernel on every
 * machine gives its logits, to the last bit.
 */
#ifndef ONEBIT_H
#define ONEBIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(OB_SHARED)
#define OB_API __declspec(dllexport)
#elif defined(OB_SHARED)
#define OB_API __attribute__((visibility("default")))
#else
#define OB_API
#endif

#define OB_ALIGNMENT 64 /* bytes */

/* What a function returns. Numbers are part of the interface: new ones are added at the end. */
typedef enum ob_status {
    OB_OK = 0,
    OB_ERROR_ARGUMENT,  /* a pointer is NULL or not aligned, a number is out of range: a mistake of the caller */
    OB_ERROR_MEMORY,    /* the memory given is smaller than asked for, or there is none left */
    OB_ERROR_FORMAT,    /* these bytes are no packed model of onebit */
    OB_ERROR_DAMAGED,   /* the checksum does not fit, or the file is cut short */
    OB_ERROR_NEWER,     /* a later version of the format, which this library does not know */
    OB_ERROR_HEADER,    /* the header breaks a rule of docs/format.md: JSON, tensors, their places */
    OB_ERROR_TEXT,      /* class names or metadata break a rule */
    OB_ERROR_PROGRAM,   /* an operation breaks a rule; ob_program_read says which */
    OB_ERROR_ISA,       /* there is no instruction set of this name, or this machine or build lacks it */
    OB_ERROR_THREADS    /* the system started no thread */
} ob_status;

/* The name of a status ("OB_ERROR_DAMAGED") and a sentence for people. Never NULL, whatever the number. */
OB_API const char *ob_status_name(ob_status status);
OB_API const char *ob_status_text(ob_status status);

/* -- a checked file ------------------------------------------------------------------------------------------------ */

typedef struct ob_program ob_program; /* points into the file's bytes: keep them as long as the program is used */

/* Bytes of memory in which ob_program_read can check a file; 0 if ob_program_read would not get as far as needing any. */
OB_API size_t ob_program_size(const void *file, size_t bytes);

/* Check all rules of docs/format.md. On OB_OK *program is a handle in `memory`. `operation`, if not NULL, receives the
 * number of the operation that broke a rule, else -1. Takes time linear in the file, whatever its bytes say. */
OB_API ob_status ob_program_read(const void *file, size_t bytes, void *memory, size_t memory_bytes, ob_program **program,
                                 int32_t *operation);

typedef struct ob_shape {
    int32_t channels, height, width; /* of a picture */
    int32_t classes;
    int32_t fraction;   /* logits in real numbers are 2^-fraction times the integers */
    int32_t sharpness;  /* probabilities are softmax(logits * 2^-fraction * sharpness * 2^-16) */
    int32_t operations;
} ob_shape;

OB_API void ob_program_shape(const ob_program *program, ob_shape *shape);

/* -- a model for this CPU ------------------------------------------------------------------------------------------ */

typedef struct ob_model ob_model;

/* Instruction sets that this build knows, best first: name of number i, NULL behind the last. ob_isa_here: can this CPU
 * run it? "scalar" (plain loops, the readable kernel) and "words" (tables in 64-bit words) are everywhere. */
OB_API const char *ob_isa_name(int i);
OB_API int ob_isa_here(int i);

/* `isa` names one of them; NULL is the best of this CPU. Bytes of memory of the model; 0 where ob_model_build would refuse
 * for the instruction set. */
OB_API size_t ob_model_size(const ob_program *program, const char *isa);

/* Plan and repack. On OB_OK *model is a handle in `memory`; neither program nor file is needed any more. */
OB_API ob_status ob_model_build(const ob_program *program, const char *isa, void *memory, size_t memory_bytes,
                                ob_model **model);

OB_API const char *ob_model_isa(const ob_model *model);
OB_API void ob_model_shape(const ob_model *model, ob_shape *shape);

/* What became of operation i, for people and benchmarks. */
typedef struct ob_layer {
    const char *operation; /* "conv", "norm", ... */
    const char *kernel;    /* what computes it: "tables of 8 bits", "matrix unit", "loops", ...; "fused" where the operation before does */
    int32_t channels, height, width; /* of what it makes */
    int32_t source_channels, kernel_height, kernel_width, stride;
    int64_t macs; /* multiply-accumulates a picture */
    int32_t group; /* tables: input channels that one addition of a lane covers; else 0 */
} ob_layer;

OB_API ob_status ob_model_layer(const ob_model *model, int32_t i, ob_layer *layer);

/* -- computing ----------------------------------------------------------------------------------------------------- */

typedef struct ob_pool ob_pool;

/* A pool of `threads` threads, the caller's own among them: 1 to 256. It is the only thing that allocates. It serves one
 * ob_run at a time. Answers do not depend on the number of threads. */
OB_API ob_status ob_pool_create(int threads, ob_pool **pool);
OB_API void ob_pool_free(ob_pool *pool); /* NULL is fine */
OB_API int ob_pool_threads(const ob_pool *pool); /* 1 for NULL */

/* Bytes of memory to compute in, with the threads of this pool (NULL: one). */
OB_API size_t ob_arena_size(const ob_model *model, const ob_pool *pool);

/* Logits int32 [count][classes] of pictures uint8 [count][height][width][channels]: raw pixels, as a file decodes.
 * Pictures are computed one after the other. */
OB_API ob_status ob_run(const ob_model *model, ob_pool *pool, const uint8_t *pictures, size_t count, int32_t *logits,
                        void *arena, size_t arena_bytes);

/* The same for one picture, with the nanoseconds that each operation took in nanoseconds[operations] (0 where fused). */
OB_API ob_status ob_run_timed(const ob_model *model, ob_pool *pool, const uint8_t *picture, int32_t *logits, void *arena,
                              size_t arena_bytes, int64_t *nanoseconds);

/* What tables could do at best on this CPU: lanes added from the first-level cache in a second, with nothing else to do, of
 * 16 bits (or of 8, for activations of 4). A layer's bound is its `group` times that, in multiply-accumulates. Takes some
 * milliseconds. `memory` has OB_PEAK_BYTES; *lanes is 0 where the instruction set has no tables. */
enum { OB_PEAK_BYTES = 65536 };
OB_API ob_status ob_peak(const char *isa, int nibbles, void *memory, size_t memory_bytes, double *lanes);

#ifdef __cplusplus
}
#endif
#endif
