#include "selftest.h"

/* A number in decimal, without stdio and without division, which small processors leave to a library. */
static void say_number(void (*say)(const char *text), int32_t number) {
    static const uint32_t powers[] = {1000000000, 100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};
    char text[12], *p = text;
    uint32_t rest = number < 0 ? 0u - (uint32_t)number : (uint32_t)number;
    if (number < 0)
        *p++ = '-';
    char *const digits = p;
    for (int i = 0; i < 10; i++) {
        char digit = '0';
        for (; rest >= powers[i]; rest -= powers[i])
            digit++;
        if (digit != '0' || p != digits || i == 9)
            *p++ = digit;
    }
    *p = 0;
    say(text);
}

int obf_selftest(uint8_t *arena, void (*say)(const char *text)) {
    int32_t logits[OBF_CLASSES];
    int wrong = 0;
    for (int i = 0; i < OBF_SELFTEST_PICTURES; i++) {
        for (int p = 0; p < OBF_PICTURE; p++)
            obf_picture(arena)[p] = obf_selftest_pictures[i][p];
        obf_run(obf_network_under_test, arena, logits);
        for (int k = 0; k < OBF_CLASSES; k++) {
            wrong += logits[k] != obf_selftest_logits[i][k];
            say_number(say, logits[k]);
            say(k + 1 < OBF_CLASSES ? " " : "\n");
        }
    }
    say(wrong ? "FAILED: wrong logits: " : "passed: wrong logits: ");
    say_number(say, wrong);
    say("\n");
    return wrong;
}

#if defined(__GNUC__) && !defined(__x86_64__)

enum { PAINT = 0x5aa55aa5, OWN_WORDS = 64 };

void __attribute__((noinline)) obf_measure_stack(uint8_t *arena, uint32_t *lowest, void (*say)(const char *text)) {
    int32_t logits[OBF_CLASSES];
    char *const here = __builtin_frame_address(0);
    volatile uint32_t *p = lowest;
    while ((char *)(uintptr_t)p < here - 4 * OWN_WORDS) /* not what this function itself uses */
        *p++ = PAINT;
    obf_run(obf_network_under_test, arena, logits);
    for (p = lowest; *p == PAINT;)
        p++;
    say("stack ");
    say_number(say, (int32_t)(here - (char *)(uintptr_t)p));
    say("\n");
}

#endif
