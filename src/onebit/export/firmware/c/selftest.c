#include "selftest.h"

/* A number in decimal, without stdio. */
static void say_number(void (*say)(const char *text), int32_t number) {
    char text[12], *p = text + sizeof text - 1;
    uint32_t rest = number < 0 ? 0u - (uint32_t)number : (uint32_t)number;
    *p = 0;
    do
        *--p = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--p = '-';
    say(p);
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
