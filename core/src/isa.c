#if defined(__linux__) && !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE /* syscall */
#endif
#include "isa.h"

#include <string.h>

static int always(void) { return 1; }

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#include <cpuid.h>
#if defined(__x86_64__) && defined(__linux__) && !defined(OB_NO_AVX512) && !defined(OB_NO_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#define OB_AMX
#endif

/* Registers that the system saves: bits of XCR0, 0 if it says nothing. */
static uint32_t saved(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 27))) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}
static uint32_t leaf7(void) {
    uint32_t a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) ? b : 0;
}
#ifndef OB_NO_AVX2
static int has_avx2(void) { return (saved() & 0x6) == 0x6 && leaf7() >> 5 & 1; }
#endif
#ifndef OB_NO_AVX512
static int has_avx512(void) { /* F, DQ, BW, VL */
    const uint32_t all = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    return (saved() & 0xe6) == 0xe6 && (leaf7() & all) == all;
}
#endif
#ifdef OB_AMX
/* The system gives tiles, whose registers it must save, to processes that ask: once, for all threads, and asking again does
 * nothing. It refuses where a thread has a stack for signals too small for them. */
static int has_amx(void) { /* AMX-TILE, AMX-INT8 */
    const uint32_t all = 1u << 24 | 1u << 25, tiles = 1u << 17 | 1u << 18;
    uint32_t a, b, c, d;
    if (!has_avx512() || (saved() & tiles) != tiles) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & all) != all) return 0;
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
}
#endif
#endif

/* Best first. Tables in 64-byte vectors do not beat those in 32 where a core loads 64 bytes a cycle (Zen 4: 0.9 times as
 * fast), so AVX-512 stands behind AVX2 until a machine shows otherwise. AMX has only ever run emulated: it is here for who asks
 * for it, and becomes the best where a machine has shown it right and fast. */
static const ob_isa all[] = {
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#ifndef OB_NO_AVX2
    {"avx2", has_avx2, &ob_table_avx2, NULL},
#endif
#ifndef OB_NO_AVX512
    {"avx512", has_avx512, &ob_table_avx512, NULL},
#endif
#ifdef OB_AMX
    {"amx", has_amx, &ob_table_avx512, ob_conv_amx},
#endif
#ifdef __x86_64__
    {"sse2", always, &ob_table_sse2, NULL},
#endif
#elif defined(__aarch64__) && defined(__ARM_NEON) && (defined(__GNUC__) || defined(__clang__))
    {"neon", always, &ob_table_neon, NULL},
#elif defined(__wasm_simd128__)
    {"simd128", always, &ob_table_wasm, NULL},
#endif
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    {"words", always, &ob_table_words, NULL},
#endif
    {"scalar", always, NULL, NULL},
};
enum { COUNT = sizeof all / sizeof *all };

const char *ob_isa_name(int i) { return i >= 0 && i < (int)COUNT ? all[i].name : NULL; }

int ob_isa_here(int i) { return i >= 0 && i < (int)COUNT && all[i].here(); }

const ob_isa *ob_isa_find(const char *name) {
    for (int i = 0; i < (int)COUNT; i++)
        if (all[i].here() && (!name || !strcmp(name, all[i].name))) return &all[i];
    return NULL;
}
