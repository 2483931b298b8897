/* Recorded pictures through the network, beside the logits that the reference computed of them. */
#ifndef OBF_SELFTEST_H
#define OBF_SELFTEST_H

#include "selftest_data.h" /* generated: the network, its sizes, pictures and logits */

#define obf_picture(arena) ((arena) + obf_network_under_test->maps[0].at)

/* Runs all recorded pictures, says the logits of each, and how it ended; returns how many logits were wrong. */
int obf_selftest(uint8_t *arena, void (*say)(const char *text));

/* Says how many bytes of stack obf_run takes: what lies from `lowest` up to here is painted before, looked at afterwards. For
 * boards whose stack is theirs alone. */
void obf_measure_stack(uint8_t *arena, uint32_t *lowest, void (*say)(const char *text));

#endif
