/* Start-up of QEMU's RISC-V board "virt": runs the self-test, writes to the serial port, ends QEMU. */
#include <stdint.h>

#include "selftest.h"

static uint64_t arena[(OBF_ARENA + 7) / 8];
extern uint32_t bss_start[], bss_end[], stack_start[];

static void say(const char *text) {
    while (*text)
        *(volatile uint8_t *)0x10000000 = (uint8_t)*text++;
}

void obf_start(void) {
    for (uint32_t *p = bss_start; p < bss_end; p++)
        *p = 0;
    const int wrong = obf_selftest((uint8_t *)arena, say);
    obf_measure_stack((uint8_t *)arena, stack_start, say);
    *(volatile uint32_t *)0x100000 = wrong ? (1u << 16) | 0x3333 : 0x5555;
    for (;;) {
    }
}

/* libc's, which the compiler may call for. */
void *memcpy(void *to, const void *from, __SIZE_TYPE__ count) {
    uint8_t *t = to;
    const uint8_t *f = from;
    while (count--)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int value, __SIZE_TYPE__ count) {
    uint8_t *t = to;
    while (count--)
        *t++ = (uint8_t)value;
    return to;
}

__attribute__((section(".start"), naked, used)) void obf_entry(void) {
    __asm__ volatile("la sp, stack_end\n j obf_start");
}
