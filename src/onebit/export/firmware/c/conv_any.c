/* Every convolution, in plain C. Weights are the file's own rows: bit j is input j of the window, channels fastest.
 *
 * For each output pixel the window is cut into groups of four inputs; all 16 sums of a group's subsets are made once, and
 * every output channel looks its own up by four of its bits. With S1 the sum of the inputs whose bit is 1 and S that of
 * all, the sum of +-x is 2 * S1 - S. */
#include "firmware_math.h"

enum { GROUPS = OBF_ANY_GROUPS };

/* The next input of the window at each call, row by row, pixel by pixel, channel by channel; 0 outside the map. */
typedef struct window {
    const obf_conv *conv;
    int y, x;              /* of tap (0, 0), in the source */
    int tap_y, tap_x, channel;
} window;

static int32_t next_input(window *w) {
    const obf_conv *conv = w->conv;
    const obf_map *source = &conv->source;
    const int y = w->y + w->tap_y, x = w->x + w->tap_x, channel = w->channel;
    if (++w->channel == source->channels) {
        w->channel = 0;
        if (++w->tap_x == conv->kernel_width) {
            w->tap_x = 0;
            w->tap_y++;
        }
    }
    if (y < 0 || y >= source->height || x < 0 || x >= source->width)
        return 0;
    const int32_t place = obf_pixel(source, y, x) + channel * obf_step(source);
    return obf_read(source, conv->table, conv->read, place, channel) - conv->zero;
}

/* All 16 subset sums of each of `groups` groups of inputs, of which `inputs` are left; returns the sum of all. */
static int32_t build(window *w, int32_t *tables, int groups, int32_t inputs) {
    int32_t all = 0;
    for (int g = 0; g < groups; g++, tables += 16) {
        tables[0] = 0;
        for (int k = 0; k < 4; k++) {
            const int32_t x = inputs-- > 0 ? next_input(w) : 0;
            const int half = 1 << k;
            for (int n = 0; n < half; n++)
                tables[half + n] = tables[n] + x;
        }
        all += tables[15];
    }
    return all;
}

void obf_conv_any(const obf_conv *conv, int first, int end) {
    const int outputs = conv->out.channels;
    const int32_t inputs = (int32_t)conv->kernel_height * conv->kernel_width * conv->source.channels;
    const int32_t row_bytes = (inputs + 7) / 8;
    int32_t *const tables = conv->scratch;
    int32_t *const sums = tables + 16 * GROUPS; /* used if the window has more than GROUPS groups */
    for (int y = first; y < end; y++)
        for (int x = 0; x < conv->out.width; x++) {
            window w = {conv, y * conv->stride - conv->top, x * conv->stride - conv->left, 0, 0, 0};
            int32_t all = 0;
            for (int32_t done = 0; done < inputs; done += 4 * GROUPS) {
                const int32_t left = inputs - done;
                const int groups = left >= 4 * GROUPS ? GROUPS : (int)((left + 3) / 4);
                all += build(&w, tables, groups, left);
                const uint8_t *bits = (const uint8_t *)conv->weights + done / 8;
                for (int o = 0; o < outputs; o++, bits += row_bytes) {
                    int32_t sum = done ? sums[o] : 0;
                    const int32_t *t = tables;
                    for (int g = 0; g < groups; g += 2, t += 32) {
                        const int byte = bits[g / 2];
                        sum += t[byte & 15];
                        if (g + 1 < groups)
                            sum += t[16 + (byte >> 4)];
                    }
                    if (left > 4 * GROUPS)
                        sums[o] = sum;
                    else
                        obf_write(conv, y, x, o, 2 * sum - all);
                }
            }
        }
}
