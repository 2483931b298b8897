/* The inner loop of conv_nibble.c (obf_sum in nibble_step.h) where only eight registers take part in arithmetic: Cortex-M0,
 * M0+, M1. Other processors have it in nibble_step.h, and here nothing. */
#include "nibble_step.h"

#if defined(__thumb__) && !defined(__thumb2__)

/* Four weights: the entry that they choose, brought into column dx by FAR, for both tuples. r0-r3 sums, r4 the weights' bits,
 * r5 the entry, r7 a mask; r8 tables, r11 bytes from the first tuple's place to the second's. */
#define STEP(SHIFT, FAR) \
    SHIFT \
    "ands r5, r7\n" \
    "add r5, r8\n" \
    FAR \
    "ldr r6, [r5]\n" \
    "adds r0, r0, r6\n" \
    "ldr r6, [r5, #4]\n" \
    "adds r1, r1, r6\n" \
    "add r5, r11\n" \
    "ldr r6, [r5]\n" \
    "adds r2, r2, r6\n" \
    "ldr r6, [r5, #4]\n" \
    "adds r3, r3, r6\n"
#define GROUP(S0, S1, S2) \
    STEP(S0, "") STEP("lsrs r5, r4, #" S1 "\n", "adds r5, #128\n") \
    STEP("lsrs r5, r4, #" S2 "\n", "adds r5, #255\n" "adds r5, #1\n") \
    "add r8, r10\n"

#pragma GCC diagnostic ignored "-Wunused-parameter" /* they are where the procedure call standard puts them */
__attribute__((naked)) const uint8_t *obf_sum_thumb1(
    uint32_t s[4], const uint32_t *const *rows, int pairs, uint32_t group_bytes, int second_bytes, const uint8_t *weights) {
    /* On the stack: pairs, s, r8-r11, r4-r7, lr, second_bytes, weights. r9 weights, r10 group_bytes, r12 rows, lr a count. */
    __asm__(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "mov r6, r10\n"
        "mov r7, r11\n"
        "push {r4-r7}\n"
        "mov r10, r3\n"
        "mov r12, r1\n"
        "ldr r4, [sp, #36]\n"
        "mov r11, r4\n"
        "ldr r4, [sp, #40]\n"
        "mov r9, r4\n"
        "push {r0}\n"
        "push {r2}\n"
        "movs r7, #0x78\n"
        "ldm r0, {r0-r3}\n"
        "b 3f\n"
        "1: ldr r6, [sp]\n"
        "mov lr, r6\n"
        "2: mov r5, r9\n"
        "ldrb r4, [r5]\n"
        "ldrb r6, [r5, #1]\n"
        "lsls r6, r6, #8\n"
        "orrs r4, r6\n"
        "ldrb r6, [r5, #2]\n"
        "lsls r6, r6, #16\n"
        "orrs r4, r6\n"
        "adds r5, #3\n"
        "mov r9, r5\n"
        GROUP("lsls r5, r4, #3\n", "1", "5")
        GROUP("lsrs r5, r4, #9\n", "13", "17")
        "mov r6, lr\n"
        "subs r6, #1\n"
        "mov lr, r6\n"
        "bne 2b\n"
        "3: mov r5, r12\n"
        "ldr r6, [r5]\n"
        "adds r5, #4\n"
        "mov r12, r5\n"
        "mov r8, r6\n"
        "cmp r6, #0\n"
        "bne 1b\n"
        "pop {r4}\n"
        "pop {r4}\n"
        "stm r4!, {r0-r3}\n"
        "mov r0, r9\n"
        "pop {r4-r7}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "mov r10, r6\n"
        "mov r11, r7\n"
        "pop {r4-r7, pc}\n");
}

#endif
