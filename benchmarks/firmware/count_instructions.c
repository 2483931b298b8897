/* QEMU plugin: how often each instruction ran. Debian's QEMU loads plugins but ships no header; what is needed of it is
 * declared here.
 *
 *     gcc -shared -fPIC -O2 -o count.so count_instructions.c
 *     qemu-system-arm ... -icount shift=6 -plugin ./count.so,out=counts.txt,lo=0,hi=1048576
 *
 * Writes a line "address count", both decimal, for every address of [lo, hi) that ran. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*finished)(qemu_plugin_id_t, void *);
enum { INLINE_ADD = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, finished, void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t *counts, lo, hi = 1 << 20;
static char out[4096] = "counts.txt";

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint64_t address = qemu_plugin_insn_vaddr(insn);
        if (address >= lo && address < hi)
            qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD, &counts[(address - lo) / 2], 1);
    }
}

static void finish(qemu_plugin_id_t id, void *unused) {
    (void)id;
    (void)unused;
    FILE *file = fopen(out, "w");
    for (uint64_t i = 0; file && i < (hi - lo) / 2; i++)
        if (counts[i])
            fprintf(file, "%llu %llu\n", (unsigned long long)(lo + 2 * i), (unsigned long long)counts[i]);
    if (!file || fclose(file))
        fprintf(stderr, "%s: cannot be written\n", out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            snprintf(out, sizeof out, "%s", argv[i] + 4);
        else if (!strncmp(argv[i], "lo=", 3))
            lo = strtoull(argv[i] + 3, 0, 0);
        else if (!strncmp(argv[i], "hi=", 3))
            hi = strtoull(argv[i] + 3, 0, 0);
    }
    counts = calloc((size_t)((hi - lo) / 2), sizeof *counts);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, finish, 0);
    return !counts;
}
