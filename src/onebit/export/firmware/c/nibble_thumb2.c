/* The inner loops of conv_nibble.c for ARM processors with Thumb-2: Cortex-M3, M4, M7, M33 and others. Other processors have
 * them in C (nibble.h, conv_nibble.c), and here nothing. By hand, because all registers are needed. */
#include "nibble.h"

#if defined(__thumb2__)

#include <stddef.h>

/* Offsets that the assembly has as numbers. An array of negative size would be an error. */
#define AT(TYPE, FIELD, BYTES) (offsetof(TYPE, FIELD) == (BYTES))
typedef char obf_spot_is_so[AT(obf_spot, move, 4) && AT(obf_spot, table, 16) && sizeof(obf_spot) == 20 ? 1 : -1];
typedef char obf_row_is_so[AT(obf_row, numbers, 4) && AT(obf_row, group_bytes, 8) && AT(obf_row, tables, 16) &&
                           AT(obf_row, totals, 20) && AT(obf_row, spots, 24) && AT(obf_row, places, 28) && AT(obf_row, more, 32) ? 1 : -1];
typedef char obf_eight_is_so[sizeof(obf_rows) == 8 && AT(obf_eight, less, 32) && AT(obf_eight, out, 48) && AT(obf_eight, base, 56) &&
                             AT(obf_eight, numbers, 64) && AT(obf_eight, weights, 68) && AT(obf_eight, channels, 72) &&
                             AT(obf_eight, shift, 76) && AT(obf_eight, skip, 80) && AT(obf_eight, sum, 84) &&
                             AT(obf_eight, list, 88) ? 1 : -1];

#pragma GCC diagnostic ignored "-Wunused-parameter" /* they are where the procedure call standard puts them */

/* -- sums: see obf_sum. r0-r3 sums, r4 tables, r5 pairs left, r6 weights' bits, r10 an entry, r11 the list of rows, r12 the
 * weights; r7 is left alone. ------------------------------------------------------------------------------------------- */

/* Four weights, from bit BIT: the entry that they choose, of 2^LOG bytes, and its words at AT. */
#define STEP(BIT, LOG, AT) \
    "ubfx r10, r6, #" #BIT ", #4\n" \
    "add r10, r4, r10, lsl #" #LOG "\n" \
    "ldrd r8, r9, [r10, #" #AT "]\n" \
    "add r0, r8\n" \
    "add r1, r9\n" \
    "ldrd r8, r9, [r10, #" #AT " + 8]\n" \
    "add r2, r8\n" \
    "add r3, r9\n"
/* The last load reads a byte behind the weights: layouts.py adds it. r4 is `BIAS` bytes further than the first group's tables,
 * so that all lie within reach. */
#define SUM(NAME, BIAS, PAIR, STEPS) \
    __attribute__((naked)) void NAME(void) { \
        __asm__( \
            "ldrd r4, r5, [r11], #8\n" \
            "movs r0, #0\n" \
            "movs r1, #0\n" \
            "movs r2, #0\n" \
            "movs r3, #0\n" \
            "1: " BIAS \
            "2: ldr r6, [r12], #3\n" /* unaligned */ \
            STEPS \
            "subs r5, #1\n" \
            "add r4, r4, #" #PAIR "\n" \
            "bne 2b\n" \
            "ldrd r4, r5, [r11], #8\n" \
            "cmp r4, #0\n" \
            "bne 1b\n" \
            "bx lr\n"); \
    }

SUM(obf_sum_thumb2, "", 1024, STEP(0, 5, 0) STEP(4, 5, 8) STEP(8, 5, 16) STEP(12, 5, 512) STEP(16, 5, 520) STEP(20, 5, 528))
SUM(obf_sum_thumb2_far, "add r4, r4, #512\n", 1536,
    STEP(0, 5, -512) STEP(4, 4, 0) STEP(8, 5, -504) STEP(12, 5, 256) STEP(16, 4, 768) STEP(20, 5, 264))

/* -- tables: see obf_row. r0 a table, r1 the source; channel k of pixels 0 and 2 in r2-r5, of pixels 1 and 3 in r6-r9; r12 the
 * numbers, lr 0x4000. On the stack: the struct, move, group_bytes, the table behind the last, two sums, two masks. ------- */

/* 16 entries, so many bytes apart. Each is a number or one sum: of two numbers (PAIR), or of the one before (r10, r11) and a
 * number. */
#define STORE(N, A, B) "strd " A ", " B ", [r0, #" N "]\n"
#define PAIR(N, A0, A1, B0, B1) "add r10, " A0 ", " A1 "\n" "add r11, " B0 ", " B1 "\n" STORE(N, "r10", "r11")
#define MORE(N, A, B) "add r10, r10, " A "\n" "add r11, r11, " B "\n" STORE(N, "r10", "r11")
#define ENTRIES(X) \
    "mov r10, #0\n" \
    STORE(X "*0", "r10", "r10") STORE(X "*1", "r2", "r6") STORE(X "*2", "r3", "r7") STORE(X "*4", "r4", "r8") \
    STORE(X "*8", "r5", "r9") PAIR(X "*9", "r2", "r5", "r6", "r9") MORE(X "*11", "r3", "r7") \
    PAIR(X "*10", "r3", "r5", "r7", "r9") PAIR(X "*5", "r2", "r4", "r6", "r8") PAIR(X "*6", "r3", "r4", "r7", "r8") \
    MORE(X "*14", "r5", "r9") PAIR(X "*12", "r4", "r5", "r8", "r9") MORE(X "*13", "r2", "r6") \
    PAIR(X "*3", "r2", "r3", "r6", "r7") MORE(X "*7", "r4", "r8") MORE(X "*15", "r5", "r9")

#define EACH(X) X("r2", "r6") X("r3", "r7") X("r4", "r8") X("r5", "r9")
#define UP(A, B) "mov r11, " A "\n" "lsl " A ", " B ", #16\n" "mov " B ", r11\n"
#define DOWN(A, B) "mov r11, " B "\n" "lsr " B ", " A ", #16\n" "mov " A ", r11\n"
#define MASK(A, B) "and " A ", " A ", r10\n" "and " B ", " B ", r11\n"

#if defined(__ARM_FEATURE_DSP)
#define BYTES_OF(A, B) "uxtb16 " B ", " A ", ror #8\n" "uxtb16 " A ", " A "\n"
/* Two halves through a batch-norm: r10 multiplier and mean, r11 the mean twice. lr is 0x4000. */
#define NORMED(A) \
    "smlabt r11, " A ", r10, lr\n" \
    "smlatt " A ", " A ", r10, lr\n" \
    "usat r11, #8, r11, asr #15\n" \
    "usat " A ", #8, " A ", asr #15\n" \
    "pkhbt " A ", r11, " A ", lsl #16\n"
#define STREAM_OF(A, B) \
    "ldrd " A ", " B ", [r1], #8\n" \
    "ldr r10, [r12], #4\n" \
    "pkhbt r11, r10, r10, lsl #16\n" \
    "qsub16 " A ", " A ", r11\n" \
    "qsub16 " B ", " B ", r11\n" NORMED(A) NORMED(B)
#define STREAM EACH(STREAM_OF)
#else
#define BYTES_OF(A, B) "lsr " B ", " A ", #8\n" "and " B ", " B ", #0x00ff00ff\n" "and " A ", " A ", #0x00ff00ff\n"
/* r10 the mean, r0 the multiplier. */
#define ONE(TO) "sub " TO ", r10\n" "mla " TO ", " TO ", r0, lr\n" "usat " TO ", #8, " TO ", asr #15\n"
#define NORMED(A) "sxth r11, " A "\n" ONE("r11") "asr " A ", " A ", #16\n" ONE(A) "orr " A ", r11, " A ", lsl #16\n"
#define STREAM_OF(A, B) \
    "ldrd " A ", " B ", [r1], #8\n" \
    "ldrsh r10, [r12], #2\n" \
    "ldrsh r0, [r12], #2\n" NORMED(A) NORMED(B)
#define STREAM "str r0, [sp, #32]\n" EACH(STREAM_OF) "ldr r0, [sp, #32]\n"
#endif

__attribute__((naked)) void obf_row_thumb2(obf_row *row) {
    __asm__(
        "push {r4-r11, lr}\n"
        "sub sp, #36\n"
        "str r0, [sp]\n"
        "mov lr, #0x4000\n"
        "1: ldr r1, [sp]\n"
        "ldr r0, [r1, #24]\n"     /* spots */
        "ldm r0!, {r2-r6}\n"      /* source, move, masks, table */
        "str r0, [r1, #24]\n"
        "ldrd r7, r8, [r1, #8]\n" /* group_bytes, size */
        "ldr r0, [r1, #16]\n"     /* tables */
        "add r0, r0, r6\n"
        "add r8, r8, r0\n"
        "str r3, [sp, #4]\n"
        "strd r7, r8, [sp, #8]\n"
        "mov r8, #0\n"
        "strd r8, r8, [sp, #16]\n"
        "strd r4, r5, [sp, #24]\n"
        "ldrd r1, r12, [r1]\n"    /* source, numbers */
        "add r1, r1, r2\n"
        "2: cmp r12, #0\n"
        "bne 6f\n"
        "ldrd r4, r5, [r1, #8]\n"
        "ldrd r2, r3, [r1], #16\n" EACH(BYTES_OF)
        "3: ldr r10, [sp, #4]\n"
        "cmp r10, #0\n"
        "bne 7f\n"
        "4: " ENTRIES("32")
        "5: ldrd r2, r3, [sp, #16]\n"
        "ldrd r4, r5, [sp, #8]\n"
        "add r2, r2, r10\n"
        "add r3, r3, r11\n"
        "strd r2, r3, [sp, #16]\n"
        "add r0, r0, r4\n"
        "cmp r0, r5\n"
        "bne 2b\n"
        "ldr r1, [sp]\n"
        "ldr r0, [r1, #20]\n"     /* totals */
        "uxth r4, r2\n"
        "lsr r5, r2, #16\n"
        "uxth r6, r3\n"
        "lsr r7, r3, #16\n"
        "ldr r8, [r1, #32]\n"     /* more */
        "cmp r8, #0\n"
        "bne 11f\n"
        "10: stm r0!, {r4-r7}\n"
        "str r0, [r1, #20]\n"
        "ldr r4, [r1, #28]\n"     /* places */
        "subs r4, r4, #1\n"
        "str r4, [r1, #28]\n"
        "bne 1b\n"
        "add sp, #36\n"
        "pop {r4-r11, pc}\n"
        "6: " STREAM
        "b 3b\n"
        "7: tst r10, #7\n"        /* OBF_UP */
        "beq 8f\n" EACH(UP)
        "sub r10, r10, #1\n"
        "b 7b\n"
        "8: tst r10, #56\n"       /* OBF_DOWN */
        "beq 9f\n" EACH(DOWN)
        "sub r10, r10, #8\n"
        "b 8b\n"
        "9: ldrd r10, r11, [sp, #24]\n" EACH(MASK)
        "ldr r10, [sp, #4]\n"
        "tst r10, #128\n"         /* OBF_HALF */
        "beq 4b\n" ENTRIES("16")
        "b 5b\n"
        "11: ldm r0, {r8-r11}\n"
        "add r4, r4, r8\n"
        "add r5, r5, r9\n"
        "add r6, r6, r10\n"
        "add r7, r7, r11\n"
        "b 10b\n");
}

/* -- sums of all inputs: two tuples' in r0-r3 and r4-r7, added up from the totals of up to three rows' four places each ---- */

#define ADD_TO(A, B, C, D) \
    "add " A ", " A ", r8\n" "add " B ", " B ", r9\n" "add " C ", " C ", r10\n" "add " D ", " D ", r11\n"
#define FIRST "r0", "r1", "r2", "r3"
#define SECOND "r4", "r5", "r6", "r7"
#define EXPAND(X) X
#define ADD_PLACE(TO) EXPAND(ADD_TO(TO))
/* Halves together, in A. */
#define LESS(A, B) "add " A ", " A ", " B ", lsl #16\n" "sub " A ", " A ", #0x80008000\n"
#define SHIFTED(A) "add " A ", " A ", r9\n" "lsr " A ", " A ", #1\n"

__attribute__((naked)) int32_t obf_totals_thumb2(const int32_t *const *rows, int32_t *all, uint32_t *less, int shift) {
    __asm__(
        "push {r1-r11, lr}\n"
        "mov lr, r0\n"
        "movs r0, #0\n" "movs r1, #0\n" "movs r2, #0\n" "movs r3, #0\n"
        "movs r4, #0\n" "movs r5, #0\n" "movs r6, #0\n" "movs r7, #0\n"
        "ldr r12, [lr], #4\n"
        "1: ldm r12!, {r8-r11}\n" ADD_PLACE(FIRST)
        "ldm r12!, {r8-r11}\n" ADD_PLACE(FIRST) ADD_PLACE(SECOND)
        "ldm r12!, {r8-r11}\n" ADD_PLACE(FIRST) ADD_PLACE(SECOND)
        "ldm r12!, {r8-r11}\n" ADD_PLACE(SECOND)
        "ldr r12, [lr], #4\n"
        "cmp r12, #0\n"
        "bne 1b\n"
        "ldr r8, [sp]\n"
        "stm r8, {r0-r7}\n"
        "orr r10, r0, r1\n" "orr r10, r10, r2\n" "orr r10, r10, r3\n" "orr r10, r10, r4\n"
        "orr r10, r10, r5\n" "orr r10, r10, r6\n" "orr r10, r10, r7\n"
        "ldrd r8, r9, [sp, #4]\n" /* less, shift */
        "cmp r9, #0\n"
        "beq 2f\n"
        "cmp r9, #1\n" /* from 2 on up */
        "ite eq\n"
        "moveq r9, #0\n"
        "movne r9, #1\n" SHIFTED("r0") SHIFTED("r1") SHIFTED("r2") SHIFTED("r3") SHIFTED("r4") SHIFTED("r5") SHIFTED("r6") SHIFTED("r7")
        "2: " LESS("r0", "r1") LESS("r2", "r3") LESS("r4", "r5") LESS("r6", "r7")
        "str r0, [r8]\n" "str r2, [r8, #4]\n" "str r4, [r8, #8]\n" "str r6, [r8, #12]\n"
        "mov r0, r10\n"
        "add sp, #12\n"
        "pop {r4-r11, pc}\n");
}

/* -- outputs: see obf_eight. r0-r3 sums, then numbers, two in a word; r7 outputs left, r11 behind the struct's rows, r12 the
 * weights. Numbers in halves have a sign with DSP instructions, and are 0x8000 larger without. --------------------------- */

#define NUMBERS "str r6, [r11, #32]\n" "mov r6, #0x4000\n" /* from there on r6 rounds */
#define FOUR(X) X("r0") X("r1") X("r2") X("r3")
#define SIGN(A) "eor " A ", " A ", #0x80008000\n"
#if defined(__ARM_FEATURE_DSP)
#define HALVES FOUR(SIGN)
#define STORED
/* Shifted by r9, rounded: halved r9 times, the first time with half a unit in r10. */
#define HALVE(A) "shadd16 " A ", " A ", r10\n"
#define LEFT \
    "mov r10, #0x00010001\n" \
    "subs r4, r9, #1\n" \
    "lsl r10, r10, r4\n" \
    "11: " FOUR(HALVE) \
    "mov r10, #0\n" \
    "subs r9, r9, #1\n" \
    "bne 11b\n"
#define ADD(A, FROM) "ldr r6, [" FROM "], #4\n" "qadd16 " A ", " A ", r6\n"
#define LESS_MEAN(A) "qsub16 " A ", " A ", r9\n"
#define NORM(A) \
    "smlabt r8, " A ", r10, r6\n" \
    "smlatt " A ", " A ", r10, r6\n" \
    "usat r8, #8, r8, asr #15\n" \
    "usat " A ", #8, " A ", asr #15\n" \
    "pkhbt " A ", r8, " A ", lsl #16\n"
#define NORMS "ldr r10, [r6], #4\n" NUMBERS "pkhbt r9, r10, r10, lsl #16\n" FOUR(LESS_MEAN) FOUR(NORM)
#else
#define HALVES
#define STORED FOUR(SIGN)
/* r10: 0x8000 less half a unit. */
#define SHIFT(A) \
    "uxth r4, " A "\n" \
    "sub r4, r4, r10\n" \
    "asr r4, r4, r9\n" \
    "rsb " A ", r10, " A ", lsr #16\n" \
    "asr " A ", " A ", r9\n" \
    "bfi r4, " A ", #16, #16\n" \
    "eor " A ", r4, #0x80008000\n"
#define LEFT \
    "subs r4, r9, #1\n" \
    "mov r10, #1\n" \
    "lsl r10, r10, r4\n" \
    "rsb r10, r10, #0x8000\n" FOUR(SHIFT)
#define ADD(A, FROM) \
    "uxth r8, " A "\n" \
    "sub r8, r8, #0x8000\n" \
    "ldrsh r10, [" FROM "], #2\n" \
    "add r8, r8, r10\n" \
    "ssat r8, #16, r8\n" \
    "lsr " A ", " A ", #16\n" \
    "sub " A ", " A ", #0x8000\n" \
    "ldrsh r10, [" FROM "], #2\n" \
    "add " A ", " A ", r10\n" \
    "ssat " A ", #16, " A "\n" \
    "bfi r8, " A ", #16, #16\n" \
    "eor " A ", r8, #0x80008000\n"
/* r9 the mean, r10 the multiplier. */
#define FINISH(TO) "mla " TO ", " TO ", r10, r6\n" "usat " TO ", #8, " TO ", asr #15\n"
#define NORM(A) \
    "uxth r8, " A "\n" \
    "sub r8, r8, r9\n" FINISH("r8") \
    "rsb " A ", r9, " A ", lsr #16\n" FINISH(A) \
    "orr " A ", r8, " A ", lsl #16\n"
#define NORMS "ldrsh r9, [r6], #2\n" "ldrsh r10, [r6], #2\n" NUMBERS "add r9, r9, #0x8000\n" FOUR(NORM)
#endif

/* With shift 0, as nearly always in the first layers. */
#define NOT_SHIFTED \
    "ldrd r4, r5, [r11]\n" /* less */ \
    "ldrd r6, r8, [r11, #8]\n" \
    "ldr r10, [r11, #48]\n" /* skip */ \
    "rsb r0, r4, r0, lsl #1\n" \
    "rsb r1, r5, r1, lsl #1\n" \
    "rsb r2, r6, r2, lsl #1\n" \
    "rsb r3, r8, r3, lsl #1\n" \
    "add r12, r12, r10\n" HALVES

__attribute__((naked)) void obf_eight_thumb2(obf_eight *e) {
    __asm__(
        "push {r4-r11, lr}\n"
        "add r11, r0, #32\n"
        "ldr r12, [r0, #68]\n" /* weights */
        "ldr r7, [r0, #72]\n"  /* channels */
        /* Where sums return to: what is usual has a way of its own. */
        "ldr r1, [r11, #44]\n" /* shift */
        "ldr r2, [r11, #24]\n" /* base */
        "ldr r3, [r11, #32]\n" /* numbers */
        "adr lr, 7f\n"
        "cbnz r1, 1f\n"
        "adr lr, 2f\n"
        "cbnz r2, 1f\n"
        "adr lr, 4f\n"
        "cbnz r3, 1f\n"
        "adr lr, 7f\n"
        "1: orr lr, lr, #1\n" /* Thumb */
        "10: ldrd r4, r11, [r11, #52]\n" /* sum, list */
        "bx r4\n"
        ".balign 4\n"
        "2: " NOT_SHIFTED
        "3: ldrd r4, r5, [r11, #24]\n" ADD("r0", "r4") ADD("r1", "r4") ADD("r2", "r5") ADD("r3", "r5")
        "strd r4, r5, [r11, #24]\n"
        "ldr r6, [r11, #32]\n" /* numbers */
        "cmp r6, #0\n"
        "bne 5f\n"
        "6: ldrd r4, r5, [r11, #16]\n" STORED /* out */
        "strd r2, r3, [r5], #8\n"
        "strd r0, r1, [r4], #8\n"
        "strd r4, r5, [r11, #16]\n"
        "subs r7, r7, #1\n"
        "bne 10b\n"
        "pop {r4-r11, pc}\n"
        ".balign 4\n"
        "4: " NOT_SHIFTED
        "5: ldrd r4, r5, [r11, #16]\n"
        "ldr r6, [r11, #32]\n" NORMS
        "orr r2, r2, r3, lsl #8\n"
        "str r2, [r5], #4\n"
        "orr r0, r0, r1, lsl #8\n"
        "str r0, [r4], #4\n"
        "strd r4, r5, [r11, #16]\n"
        "subs r7, r7, #1\n"
        "bne 10b\n"
        "pop {r4-r11, pc}\n"
        ".balign 4\n"
        "7: ldr r9, [r11, #44]\n"
        "cmp r9, #0\n"
        "bne 8f\n" NOT_SHIFTED
        "b 9f\n"
        "8: ldrd r4, r5, [r11]\n"
        "ldrd r6, r8, [r11, #8]\n"
        "ldr r10, [r11, #48]\n"
        "sub r0, r0, r4\n"
        "sub r1, r1, r5\n"
        "sub r2, r2, r6\n"
        "sub r3, r3, r8\n"
        "add r12, r12, r10\n" HALVES
        "subs r9, r9, #1\n"
        "beq 9f\n" LEFT
        "9: ldr r4, [r11, #24]\n" /* base */
        "cmp r4, #0\n"
        "bne 3b\n"
        "ldr r6, [r11, #32]\n"
        "cmp r6, #0\n"
        "bne 5b\n"
        "b 6b\n");
}

#endif
