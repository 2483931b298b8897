/* check FILE...: what ob_program_read says about each, a line a file: its name, the status, the operation that is wrong.
 * Memory is exactly as large as asked for, so that a sanitizer sees a step beyond it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../include/onebit.h"

static uint8_t *read_file(const char *name, size_t *bytes) {
    FILE *file = fopen(name, "rb");
    uint8_t *content = NULL;
    if (!file)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0) {
        long end = ftell(file);
        rewind(file);
        *bytes = end > 0 ? (size_t)end : 0;
        content = end < 0 ? NULL : malloc(*bytes ? *bytes : 1);
    }
    if (content && fread(content, 1, *bytes, file) != *bytes) {
        free(content);
        content = NULL;
    }
    fclose(file);
    return content;
}

int main(int count, char **names) {
    for (int i = 1; i < count; i++) {
        size_t bytes = 0;
        uint8_t *file = read_file(names[i], &bytes);
        if (!file) {
            fprintf(stderr, "%s: cannot be read\n", names[i]);
            return 1;
        }
        ob_program *program;
        int32_t operation = -1;
        size_t size = ob_program_size(file, bytes);
        void *memory = aligned_alloc(OB_ALIGNMENT, size ? size : OB_ALIGNMENT);
        ob_status status = memory ? ob_program_read(file, bytes, memory, size, &program, &operation) : OB_ERROR_MEMORY;
        printf("%s %s %" PRId32 "\n", names[i], ob_status_name(status), operation);
        free(memory);
        free(file);
    }
    return 0;
}
