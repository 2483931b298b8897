/* replay FILE...: run a fuzz target on files, for compilers without libFuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **names) {
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        long size = -1;
        if (file && fseek(file, 0, SEEK_END) == 0)
            size = ftell(file);
        uint8_t *data = size < 0 ? NULL : malloc(size > 0 ? (size_t)size : 1);
        if (!data || fseek(file, 0, SEEK_SET) != 0 || fread(data, 1, (size_t)size, file) != (size_t)size) {
            fprintf(stderr, "%s: cannot be read\n", names[i]);
            return 1;
        }
        fclose(file);
        fprintf(stderr, "%s\n", names[i]); /* before, so that the last line is of the file that fails */
        LLVMFuzzerTestOneInput(data, (size_t)size);
        free(data);
    }
    printf("%d files\n", count - 1);
    return 0;
}
