/* Start-up of Cortex-M boards as QEMU plays them: runs the self-test, says how it went by semihosting, ends QEMU. */
#include <stdint.h>

#include "selftest.h"

extern uint32_t stack_end[], data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_start[];
static uint64_t arena[(OBF_ARENA + 7) / 8];

enum { WRITE0 = 0x04, EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

static int semihost(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void say(const char *text) { semihost(WRITE0, text); }

static void leave(int status) {
    const uint32_t arguments[2] = {APPLICATION_EXIT, (uint32_t)status};
    semihost(EXIT_EXTENDED, arguments);
    for (;;) {
    }
}

void obf_reset(void) {
#if defined(__ARM_FEATURE_MVE) || defined(__ARM_FP)
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* CPACR: coprocessors 10 and 11, which hold Helium's registers; first, since
                                                       * compilers may use them in any loop */
    __asm__ volatile("dsb\n isb" ::: "memory");
#endif
    for (uint32_t *from = data_load, *to = data_start; to < data_end; from++, to++)
        *to = *from;
    for (uint32_t *p = bss_start; p < bss_end; p++)
        *p = 0;
    const int wrong = obf_selftest((uint8_t *)arena, say);
    obf_measure_stack((uint8_t *)arena, stack_start, say);
    leave(wrong ? 1 : 0);
}

static void fault(void) {
    say("FAULT\n");
    leave(2);
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))(uintptr_t)stack_end, obf_reset, fault, fault, fault, fault, fault,
};
