/* 3 x 3 convolutions of activations on cores with Helium (MVE): Cortex-M55, M85 and others.
 *
 * A weight bit is 0 or 1, so that a dot product of 16 bytes with 16 such bytes adds the activations whose bit is 1: S1. With S
 * the sum of all inputs of a window, which all outputs share, the sum of +-x is 2 * S1 - S. Two outputs' weights are spread to
 * bytes, once for each row of the output, and serve all its pixels, three at a time.
 *
 * The rows of the source that a row of the output needs are staged as activations, channels padded to 16, with a border that
 * counts as 0; each is staged once. Weights of an output: for each of the nine taps, row by row, its channels' bits, 16 by 16
 * (layouts.py). */
#include "firmware_math.h"

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>

enum { TAPS = 3, STEP = 16, PIXELS = 3 };

typedef struct job {
    const obf_conv *conv;
    int padded;       /* channels, a multiple of 16 */
    int places;       /* staged pixels of a row: those that any window covers */
    uint8_t *rows;    /* [3][places][padded] */
    int32_t *totals;  /* [3][places]: the sum over all channels */
    uint32_t *sums;   /* [width + 2][outputs]: S1 of a row of the output */
    int outputs;      /* channels, a multiple of 4 */
    uint8_t *panel;   /* [3][padded / 16][3][2][16]: weights of two outputs, as bytes */
    int usual;        /* is the batch-norm of what is read the usual one, of a stream? */
} job;

/* Stage row y of the source. */
static void stage(const job *j, int y, int slot) {
    const obf_conv *conv = j->conv;
    const obf_map *source = &conv->source;
    const int channels = source->channels, inside = y >= 0 && y < source->height;
    const int32_t row = inside ? (int32_t)obf_slot(y, source->rows) * source->width : 0;
    uint8_t *to = j->rows + (int32_t)slot * j->places * j->padded;
    for (int p = 0; p < j->places; p++, to += j->padded) {
        const int x = p - conv->left;
        uint32_t total = 0;
        for (int c = 0; c < j->padded; c += STEP) {
            const mve_pred16_t there = vctp8q(channels > c ? (uint32_t)(channels - c) : 0);
            uint8x16_t v = vdupq_n_u8(0);
            if (!inside || x < 0 || x >= source->width)
                ;
            else if (source->type == OBF_U8 && !conv->read)
                v = vldrbq_z_u8((const uint8_t *)source->data + (row + x) * channels + c, there);
            else if (j->usual && channels >= c + STEP) {
                const int16_t *in = (const int16_t *)source->data + (row + x) * channels + c;
                const int16x8x2_t x2 = vld2q_s16(in); /* even channels, odd channels */
                const int16x8x4_t n = vld4q_s16(conv->read->numbers + 2 * c); /* their means and multipliers */
                /* The doubling high half, rounded, is (x * m + 0x4000) >> 15. */
                const int16x8_t even = vqrdmulhq_s16(vqsubq_s16(x2.val[0], n.val[0]), n.val[1]);
                const int16x8_t odd = vqrdmulhq_s16(vqsubq_s16(x2.val[1], n.val[2]), n.val[3]);
                v = vqmovuntq_s16(vqmovunbq_s16(v, even), odd);
            } else {
                uint8_t numbers[STEP];
                for (int k = 0; k < STEP; k++)
                    numbers[k] =
                        c + k < channels ? (uint8_t)obf_read(source, conv->table, conv->read, (row + x) * channels + c + k, c + k) : 0;
                v = vldrbq_u8(numbers);
            }
            vstrbq_u8(to + c, v);
            total = vaddvaq_u8(total, v);
        }
        j->totals[slot * j->places + p] = (int32_t)total;
    }
}

/* Spread the bits of two outputs to bytes of 0 and 1, in the order in which `dots` wants them; one output twice where only it
 * is left. */
static void spread(const job *j, const uint16_t *one, const uint16_t *two) {
    const uint8x16_t ones = vdupq_n_u8(1), none = vdupq_n_u8(0);
    const int chunks = j->padded / STEP;
    uint8_t *to = j->panel;
    for (int dy = 0; dy < TAPS; dy++)
        for (int n = 0; n < chunks; n++)
            for (int dx = 0; dx < TAPS; dx++, to += 2 * STEP) {
                const int at = (dy * TAPS + dx) * chunks + n;
                vstrbq_u8(to, vpselq_u8(ones, none, (mve_pred16_t)one[at]));
                vstrbq_u8(to + STEP, vpselq_u8(ones, none, (mve_pred16_t)two[at]));
            }
}

/* S1 of three pixels (`apart` bytes from one to the next) and two outputs: s[2 * pixel + output]. */
static inline void dots(const job *j, const uint8_t *const rows[TAPS], int stride, uint32_t s[2 * PIXELS]) {
    const int padded = j->padded;
    const uint8_t *w = j->panel;
    uint32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0, c0 = 0, c1 = 0;
#define DOTS(TAP, A, B, C) \
    one = vldrbq_u8(w + 2 * STEP * (TAP)); \
    a0 = vmladavaq_u8(a0, A, one); \
    b0 = vmladavaq_u8(b0, B, one); \
    c0 = vmladavaq_u8(c0, C, one); \
    one = vldrbq_u8(w + 2 * STEP * (TAP) + STEP); \
    a1 = vmladavaq_u8(a1, A, one); \
    b1 = vmladavaq_u8(b1, B, one); \
    c1 = vmladavaq_u8(c1, C, one)
    const int chunks = padded / STEP;
    OBF_UNROLL
    for (int dy = 0; dy < TAPS; dy++) {
        const uint8_t *x = rows[dy];
        for (int n = chunks; n; n--, x += STEP, w += 2 * TAPS * STEP) {
            const uint8_t *at = x;
            uint8x16_t one, p, q, r;
            if (stride == 1) { /* neighbours share what they read */
                p = vldrbq_u8(at);
                q = vldrbq_u8(at += padded);
                r = vldrbq_u8(at += padded);
                DOTS(0, p, q, r);
                p = vldrbq_u8(at += padded);
                DOTS(1, q, r, p);
                q = vldrbq_u8(at += padded);
                DOTS(2, r, p, q);
            } else {
                const int apart = stride * padded;
                for (int dx = 0; dx < TAPS; dx++, at += padded) {
                    p = vldrbq_u8(at);
                    q = vldrbq_u8(at + apart);
                    r = vldrbq_u8(at + 2 * apart);
                    DOTS(dx, p, q, r);
                }
            }
        }
    }
#undef DOTS
    s[0] = a0, s[1] = a1, s[2] = b0, s[3] = b1, s[4] = c0, s[5] = c1;
}

/* A pixel's sums to numbers of the output, four outputs at a time: rounded, shifted, added to the stream, through the usual
 * batch-norm. */
static void finish(const obf_conv *conv, const uint32_t *s, int32_t all, int32_t at, int32_t base_at) {
    const int channels = conv->out.channels, shift = conv->shift;
    for (int o = 0; o < channels; o += 4) {
        const mve_pred16_t there = vctp32q((uint32_t)(channels - o));
        const int32x4_t ones = vldrwq_s32((const int32_t *)s + o);
        /* 2 * S1 - S, shifted with rounding; a shift to the left by less than 0 is one to the right. */
        int32x4_t x = vrshlq_s32(vsubq_n_s32(vaddq_s32(ones, ones), all), vdupq_n_s32(-shift));
        x = vminq_s32(vmaxq_s32(x, vdupq_n_s32(-32768)), vdupq_n_s32(32767));
        if (conv->base.data) {
            x = vaddq_s32(x, vldrhq_z_s32((const int16_t *)conv->base.data + base_at + o, there));
            x = vminq_s32(vmaxq_s32(x, vdupq_n_s32(-32768)), vdupq_n_s32(32767));
        }
        if (conv->write) {
            /* Means and multipliers lie in turn: halves of words. In 16-bit lanes 0, 2, ... the batch-norm is three steps. */
            const int16x8_t n = vreinterpretq_s16_s32(vldrwq_z_s32((const int32_t *)(const void *)(conv->write->numbers + 2 * o), there));
            const int16x8_t m = vreinterpretq_s16_s32(vshrq_n_s32(vreinterpretq_s32_s16(n), 16));
            const int16x8_t y = vqrdmulhq_s16(vqsubq_s16(vreinterpretq_s16_s32(x), n), m);
            const int32x4_t z = vmovlbq_s16(y);
            vstrbq_p_s32((int8_t *)conv->out.data + at + o, vminq_s32(vmaxq_s32(z, vdupq_n_s32(0)), vdupq_n_s32(255)), there);
        } else
            vstrhq_p_s32((int16_t *)conv->out.data + at + o, x, there);
    }
}

/* Row y of the output. `ring`: the slot of the kernel's first row. */
static void outputs(const job *j, int y, int ring) {
    const obf_conv *conv = j->conv;
    const int width = conv->out.width, channels = conv->out.channels, step = conv->stride * j->padded;
    const int32_t row = (int32_t)obf_slot(y, conv->out.rows) * width;
    const int32_t base_row = conv->base.data ? (int32_t)obf_slot(y, conv->base.rows) * width : 0;
    const uint16_t *bits = conv->weights;
    const int32_t row_bits = TAPS * TAPS * j->padded / STEP;
    const uint8_t *rows[TAPS];
    for (int dy = 0; dy < TAPS; dy++)
        rows[dy] = j->rows + (int32_t)obf_slot(ring + dy, TAPS) * j->places * j->padded;
    for (int o = 0; o < channels; o += 2, bits += 2 * row_bits) {
        const uint8_t *at[TAPS] = {rows[0], rows[1], rows[2]};
        uint32_t *to = j->sums + o;
        spread(j, bits, channels - o < 2 ? bits : bits + row_bits);
        for (int x = 0; x < width; x += PIXELS) {
            uint32_t s[2 * PIXELS];
            dots(j, at, conv->stride, s);
            OBF_UNROLL
            for (int i = 0; i < PIXELS; i++, to += j->outputs) {
                to[0] = s[2 * i];
                to[1] = s[2 * i + 1];
            }
            OBF_UNROLL
            for (int dy = 0; dy < TAPS; dy++)
                at[dy] += PIXELS * step;
        }
    }
    for (int x = 0; x < width; x++) {
        const uint32_t *s = j->sums + x * j->outputs;
        int32_t all = 0;
        for (int dy = 0; dy < TAPS; dy++) {
            const int32_t *t = j->totals + obf_slot(ring + dy, TAPS) * j->places + x * conv->stride;
            all += t[0] + t[1] + t[2];
        }
        if (!conv->write || conv->write->usual)
            finish(conv, s, all, (row + x) * channels, (base_row + x) * channels);
        else
            for (int o = 0; o < channels; o++)
                obf_write(conv, y, x, o, 2 * (int32_t)s[o] - all);
    }
}

void obf_conv_helium(const obf_conv *conv, int first, int end) {
    job j;
    j.conv = conv;
    j.padded = (conv->source.channels + STEP - 1) / STEP * STEP;
    j.places = ((conv->out.width + PIXELS - 1) / PIXELS * PIXELS - 1) * conv->stride + TAPS;
    j.totals = conv->scratch;
    j.outputs = (conv->out.channels + 3) / 4 * 4;
    j.sums = (uint32_t *)(j.totals + TAPS * j.places);
    j.rows = (uint8_t *)(j.sums + (conv->out.width + PIXELS - 1) * j.outputs);
    j.panel = j.rows + TAPS * j.places * j.padded;
    j.usual = conv->read && conv->source.type == OBF_I16 && conv->read->usual && conv->source.channels % STEP == 0;
    int built = first * conv->stride - conv->top, slot = 0;
    for (int y = first; y < end; y++) {
        const int top = y * conv->stride - conv->top;
        for (; built < top + TAPS; built++, slot = slot == TAPS - 1 ? 0 : slot + 1)
            stage(&j, built, slot);
        outputs(&j, y, slot);
    }
}

#else

/* Elsewhere, so that firmware made for such a core can be tested on any: plain and slow. */
void obf_conv_helium(const obf_conv *conv, int first, int end) {
    const obf_map *source = &conv->source;
    const int padded = (source->channels + 15) / 16 * 16, width = conv->out.width;
    const int32_t row_bytes = 9 * padded / 8;
    for (int y = first; y < end; y++)
        for (int x = 0; x < width; x++)
            for (int o = 0; o < conv->out.channels; o++) {
                const uint8_t *bits = (const uint8_t *)conv->weights + o * row_bytes;
                int32_t sum = 0;
                for (int tap = 0; tap < 9; tap++) {
                    const int row = y * conv->stride - conv->top + tap / 3, column = x * conv->stride - conv->left + tap % 3;
                    if (row < 0 || row >= source->height || column < 0 || column >= source->width)
                        continue;
                    const int32_t at = (int32_t)obf_slot(row, source->rows) * source->width + column;
                    for (int c = 0; c < source->channels; c++) {
                        const int32_t value = obf_read(source, conv->table, conv->read, at * source->channels + c, c);
                        const int bit = tap * padded + c;
                        sum += bits[bit / 8] >> (bit % 8) & 1 ? value : -value;
                    }
                }
                obf_write(conv, y, x, o, sum);
            }
}

#endif
