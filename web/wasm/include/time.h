/* WebAssembly has no clock of its own: ob_run_timed is not exported, and the page asks the browser for the time. */
#ifndef ONEBIT_WASM_TIME_H
#define ONEBIT_WASM_TIME_H
#define TIME_UTC 1
struct timespec {
    long long tv_sec;
    long tv_nsec;
};
static inline int timespec_get(struct timespec *t, int base) {
    t->tv_sec = 0;
    t->tv_nsec = 0;
    return base;
}
#endif
