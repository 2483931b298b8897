/* The inner loop of conv_nibble.c (obf_sum in nibble.h) where only eight registers take part in arithmetic: Cortex-M0, M0+, M1.
 * Other processors have theirs elsewhere, and here nothing. */
#include "nibble.h"

#if defined(__thumb__) && !defined(__thumb2__)

/* r0-r3 sums, r4 the weights' bits, r5 an entry, r6 a word, r7 the weights; r8 tables. Two times four weights of a byte choose
 * an entry of 2^LOG bytes: the LOW, then the HIGH. */
#define LOW(LOG) "lsls r5, r4, #28\n" "lsrs r5, r5, #28 - " #LOG "\n" "add r5, r8\n"
#define HIGH(LOG) "lsrs r5, r4, #4\n" "lsls r5, r5, #" #LOG "\n" "add r5, r8\n"
#define WORD(SUM, AT) "ldr r6, [r5, #" #AT "]\n" "adds " SUM ", " SUM ", r6\n"
#define ENTRY_AT(AT) WORD("r0", AT) WORD("r1", AT + 4) WORD("r2", AT + 8) WORD("r3", AT + 12)
#define BYTE(N) "ldrb r4, [r7, #" #N "]\n"
#define NEXT_GROUP "add r8, r10\n"
#define SECOND_BLOCK "add r5, r12\n"

/* r10 group_bytes, r11 where the row's weights end, r12 bytes of the first block, lr the list of rows. On the stack: s, r8-r11,
 * r4-r7, lr. */
#define SUM(LABEL, GROUP_BYTES, STEPS) \
    LABEL \
    "movs r6, #" GROUP_BYTES " / 16\n" \
    "lsls r6, r6, #4\n" \
    "mov r10, r6\n" \
    "movs r6, #1\n" \
    "lsls r6, r6, #9\n" \
    "mov r12, r6\n" \
    "b 3f\n" \
    "1: mov r8, r5\n" \
    "ldr r5, [r4, #4]\n" /* pairs: three bytes each */ \
    "adds r4, #8\n" \
    "mov lr, r4\n" \
    "adds r4, r5, r5\n" \
    "adds r4, r4, r5\n" \
    "adds r4, r4, r7\n" \
    "mov r11, r4\n" \
    "2:\n" STEPS \
    "adds r7, #3\n" \
    "cmp r7, r11\n" \
    "bne 2b\n" \
    "3: mov r4, lr\n" \
    "ldr r5, [r4]\n" \
    "cmp r5, #0\n" \
    "bne 1b\n"
#define NEAR \
    BYTE(0) LOW(5) ENTRY_AT(0) HIGH(5) ENTRY_AT(8) BYTE(1) LOW(5) ENTRY_AT(16) NEXT_GROUP \
    HIGH(5) ENTRY_AT(0) BYTE(2) LOW(5) ENTRY_AT(8) HIGH(5) ENTRY_AT(16) NEXT_GROUP
#define FAR \
    BYTE(0) LOW(5) ENTRY_AT(0) HIGH(4) SECOND_BLOCK ENTRY_AT(0) BYTE(1) LOW(5) ENTRY_AT(8) NEXT_GROUP \
    HIGH(5) ENTRY_AT(0) BYTE(2) LOW(4) SECOND_BLOCK ENTRY_AT(0) HIGH(5) ENTRY_AT(8) NEXT_GROUP

#pragma GCC diagnostic ignored "-Wunused-parameter" /* they are where the procedure call standard puts them */
__attribute__((naked)) const uint8_t *obf_sum_thumb1(uint32_t s[4], const obf_rows *rows, const uint8_t *weights, int stride) {
    __asm__(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "mov r6, r10\n"
        "mov r7, r11\n"
        "push {r0, r4-r7}\n"
        "mov lr, r1\n"
        "mov r7, r2\n"
        "mov r4, r3\n"
        "movs r0, #0\n"
        "movs r1, #0\n"
        "movs r2, #0\n"
        "movs r3, #0\n"
        "cmp r4, #1\n"
        "bne 5f\n" SUM("", "512", NEAR)
        "4: pop {r4}\n"
        "stm r4!, {r0-r3}\n"
        "mov r0, r7\n"
        "pop {r4-r7}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "mov r10, r6\n"
        "mov r11, r7\n"
        "pop {r4-r7, pc}\n" SUM("5:", "768", FAR)
        "b 4b\n");
}

#endif
