/* The firmware on a computer: the self-test, or pictures from standard input to logits on standard output.
 *
 *     ./host                            runs the self-test
 *     ./host - < pictures > logits      raw pictures in, int32 logits of this machine's byte order out
 */
#include <stdio.h>
#include <string.h>

#include "selftest.h"

static union {
    uint64_t align;
    uint8_t bytes[OBF_ARENA];
} arena;

static void say(const char *text) { fputs(text, stdout); }

static int filter(void) {
    int32_t logits[OBF_CLASSES];
    uint8_t picture[OBF_PICTURE];
    while (fread(picture, sizeof picture, 1, stdin) == 1) {
        memcpy(obf_picture(arena.bytes), picture, sizeof picture);
        obf_run(obf_network_under_test, arena.bytes, logits);
        if (fwrite(logits, sizeof logits, 1, stdout) != 1)
            return 1;
    }
    return fflush(stdout) || ferror(stdin);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "-"))
        return filter();
    return obf_selftest(arena.bytes, say) ? 1 : 0;
}
