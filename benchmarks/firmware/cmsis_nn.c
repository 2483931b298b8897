/* CMSIS-NN's int8 kernels on the layers of CIFAR-10 20-1, for their instructions to be counted: -DLAYER=0, 1 or 2 is one
 * 3 x 3 convolution of 16 channels at 32 x 32, 32 at 16 x 16 or 64 at 8 x 8; -DLAYER=3 the whole network. Weights and pictures
 * are random bytes; nothing saturates on average. The network's batch-norms on the residual stream, which no convolution can
 * take in, are left out, in CMSIS-NN's favour. */
#include <stdint.h>
#include <string.h>

#include "arm_nnfunctions.h"

enum { MOST = 32 * 32 * 16 };
static int8_t maps[3][MOST], weights[64 * 9 * 64];
static int32_t bias[64], multiplier[64], shift[64];
static uint8_t buffer[16384] __attribute__((aligned(8)));
volatile int8_t result;

static void conv(const int8_t *x, int8_t *y, int side, int in, int out, int kernel, int stride, int least) {
    const cmsis_nn_context context = {buffer, sizeof buffer};
    const int pad = kernel / 2;
    const cmsis_nn_conv_params conv = {.input_offset = 128, .stride = {stride, stride}, .padding = {pad, pad},
                                       .dilation = {1, 1}, .activation = {least, 127}};
    const cmsis_nn_per_channel_quant_params quant = {multiplier, shift};
    const cmsis_nn_dims input = {1, side, side, in}, filter = {out, kernel, kernel, in}, biases = {1, 1, 1, out};
    const cmsis_nn_dims output = {1, side / stride, side / stride, out};
    if (arm_convolve_wrapper_s8(&context, &conv, &quant, &input, x, &filter, weights, &biases, bias, &output, y))
        result = -1;
}

static void add(const int8_t *a, const int8_t *b, int8_t *y, int count) {
    arm_elementwise_add_s8(a, b, 128, 1 << 30, 0, 128, 1 << 30, 0, 20, y, -128, 1 << 30, -19, -128, 127, count);
}

static void average(const int8_t *x, int8_t *y, int side, int channels, int window, int stride, int pad) {
    const cmsis_nn_context context = {buffer, sizeof buffer};
    const cmsis_nn_pool_params pool = {{stride, stride}, {pad, pad}, {-128, 127}};
    const cmsis_nn_dims input = {1, side, side, channels}, filter = {1, window, window, 1};
    const int out = window == side ? 1 : side / stride;
    const cmsis_nn_dims output = {1, out, out, channels};
    arm_avgpool_s8(&context, &pool, &input, x, &filter, &output, y);
}

static void network(void) {
    int8_t *stream = maps[0], *a = maps[1], *b = maps[2];
    int side = 32, channels = 16;
    conv(a, stream, 32, 3, 16, 3, 1, -128);
    for (int group = 0; group < 3; group++)
        for (int block = 0; block < 3; block++) {
            const int stride = group && !block ? 2 : 1, out = channels * stride;
            conv(stream, a, side, channels, out, 3, stride, 0);
            if (stride == 2) {
                average(stream, b, side, channels, 3, 2, 1);
                side /= 2;
                for (int p = 0; p < side * side; p++) { /* channels appended */
                    memcpy(stream + p * out, b + p * channels, channels);
                    memset(stream + p * out + channels, 0, channels);
                }
                channels = out;
            }
            conv(a, b, side, channels, channels, 3, 1, -128);
            add(stream, b, stream, side * side * channels);
        }
    conv(stream, a, 8, 64, 10, 1, 1, -128);
    average(a, b, 8, 10, 8, 1, 0);
}

static void start(void) {
    uint32_t seed = 1;
    for (unsigned i = 0; i < sizeof maps; i++)
        ((int8_t *)maps)[i] = (int8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    for (unsigned i = 0; i < sizeof weights; i++)
        weights[i] = (int8_t)((seed = seed * 1664525 + 1013904223) >> 24);
    for (int i = 0; i < 64; i++) {
        multiplier[i] = 1 << 30;
        shift[i] = -8;
    }
    if (LAYER == 3)
        network();
    else
        conv(maps[0], maps[1], 32 >> LAYER, 16 << LAYER, 16 << LAYER, 3, 1, -128);
    result = maps[1][7];
}

/* -- start-up, as boards/cortex_m.c ---------------------------------------------------------------------------------- */

extern uint32_t stack_end[], bss_start[], bss_end[];

void obf_reset(void) {
    const uint32_t arguments[2] = {0x20026, 0};
    for (uint32_t *p = bss_start; p < bss_end; p++)
        *p = 0;
#if defined(__ARM_FEATURE_MVE) || defined(__ARM_FP)
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;
    __asm__ volatile("dsb\n isb");
#endif
    start();
    register int r0 __asm__("r0") = 0x20;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : : "r"(r0), "r"(r1) : "memory");
    for (;;) {
    }
}

static void fault(void) {
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))(uintptr_t)stack_end, obf_reset, fault, fault, fault, fault, fault,
};
