/* The core on a command line, for tests of machines that have nothing else:
 *
 *     run --isas                                            instruction sets of this build: name, 1 if this machine has it
 *     run MODEL ISA THREADS < pictures > logits             raw uint8 in, int32 little-endian out; ISA - is the best
 *
 * Several programs can follow each other in one run, since an emulator takes long to start:
 *
 *     run MODEL ISA THREADS [MODEL ISA THREADS ...] < pictures of all, one behind the other > logits of all
 *
 * THREADS may be THREADSxCOUNT: COUNT pictures belong to this model; otherwise all that are left. */
#include "../include/onebit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

static void *kept[8]; /* what is freed behind each model */
static int kept_count;

static void *check(void *memory) {
    if (!memory) {
        fprintf(stderr, "run: no memory left\n");
        exit(1);
    }
    return memory;
}

static void *keep(void *memory) { return kept[kept_count++] = check(memory); }

static unsigned char *read_all(FILE *file, size_t *bytes) {
    size_t room = 1 << 16;
    unsigned char *content = check(malloc(room));
    *bytes = 0;
    for (size_t got; (got = fread(content + *bytes, 1, room - *bytes, file)) > 0;) {
        *bytes += got;
        if (*bytes == room)
            content = check(realloc(content, room *= 2));
    }
    return content;
}

/* Memory aligned as the core wants it. */
static void *aligned(size_t bytes) {
    char *memory = keep(malloc(bytes + OB_ALIGNMENT));
    return memory + (OB_ALIGNMENT - (size_t)memory % OB_ALIGNMENT);
}

static void demand(ob_status status, const char *what) {
    if (status != OB_OK) {
        fprintf(stderr, "run: %s: %s: %s\n", what, ob_status_name(status), ob_status_text(status));
        exit(1);
    }
}

static size_t run(const char *path, const char *isa, const char *how, const unsigned char *pictures, size_t bytes) {
    isa = strcmp(isa, "-") == 0 ? NULL : isa;
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "run: %s: cannot be opened\n", path);
        exit(1);
    }
    size_t size;
    unsigned char *content = keep(read_all(file, &size));
    fclose(file);

    ob_program *program;
    ob_model *model;
    ob_pool *pool;
    ob_shape shape;
    size_t n = ob_program_size(content, size);
    demand(ob_program_read(content, size, aligned(n), n, &program, NULL), path);
    n = ob_model_size(program, isa);
    demand(ob_model_build(program, isa, aligned(n), n, &model), isa ? isa : "best instruction set");
    fprintf(stderr, "%s\n", ob_model_isa(model));
    demand(ob_pool_create(atoi(how), &pool), "threads");
    ob_model_shape(model, &shape);

    const size_t picture = (size_t)shape.channels * (size_t)shape.height * (size_t)shape.width;
    const char *behind = strchr(how, 'x');
    const size_t count = behind ? strtoul(behind + 1, NULL, 10) : bytes / picture;
    if (count * picture > bytes || (!behind && count * picture != bytes)) {
        fprintf(stderr, "run: %s: pictures have %lu bytes, not %lu\n", path, (unsigned long)picture, (unsigned long)bytes);
        exit(1);
    }
    n = ob_arena_size(model, pool);
    int32_t *logits = keep(malloc(count * (size_t)shape.classes * sizeof *logits + 1));
    demand(ob_run(model, pool, pictures, count, logits, aligned(n), n), "run");
    for (size_t i = 0; i < count * (size_t)shape.classes; i++)
        for (int byte = 0; byte < 4; byte++)
            putchar((int)((uint32_t)logits[i] >> (8 * byte) & 255));
    ob_pool_free(pool);
    while (kept_count > 0) free(kept[--kept_count]);
    return count * picture;
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "--isas") == 0) {
        for (int i = 0; ob_isa_name(i); i++)
            printf("%s %d\n", ob_isa_name(i), ob_isa_here(i));
        return 0;
    }
    if (count < 4 || count % 3 != 1) {
        fprintf(stderr, "usage: run --isas\n       run MODEL ISA THREADS[xPICTURES] ... < pictures > logits\n");
        return 2;
    }
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    size_t bytes;
    unsigned char *pictures = read_all(stdin, &bytes), *next = pictures;
    for (int i = 1; i < count; i += 3) {
        const size_t used = run(arguments[i], arguments[i + 1], arguments[i + 2], next, bytes);
        next += used;
        bytes -= used;
    }
    free(pictures);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "run: the logits could not be written\n");
        return 1;
    }
    return 0;
}
