/* What the core asks of a C library, for a build that has none; onebit_wasm.c has the functions. */
#ifndef ONEBIT_WASM_STRING_H
#define ONEBIT_WASM_STRING_H
#include <stddef.h>
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
char *strchr(const char *text, int letter);
size_t strlen(const char *text);
#endif
