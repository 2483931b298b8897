/* 3 x 3 convolutions of activations on cores with Helium (MVE): Cortex-M55, M85 and others.
 *
 * A weight bit is spread to a byte of 0 or 2, so that dot products of 16 bytes with 16 such bytes make 2 * S1, S1 the sum of
 * the activations whose bit is 1. With S the sum of all inputs of a window, which all outputs share, the sum of +-x is
 * 2 * S1 - S: sums begin with -S. Two outputs at four pixels are computed at once, which takes the eight registers that a dot
 * product can add to.
 *
 * It goes by bands of rows of the output. The rows of the source that a band needs are staged as activations, each once,
 * with a border that counts as 0: for each row, for 16 channels after 16, their places in turn. Then two outputs' weights are
 * spread, which serves all pixels of the band. A window with a stride shares few places with its neighbour: for these, the
 * places of the windows' first columns are staged, then those of the second, then of the third, so that four pixels' lie side
 * by side.
 *
 * Weights of an output: for each row of the kernel, for 16 channels after 16, for its three columns: a bit a channel
 * (layouts.py). */
#include "firmware_math.h"

#if defined(__ARM_FEATURE_MVE) && defined(__GNUC__)
#include <arm_mve.h>

#define APART __attribute__((noinline)) static /* together they would take more stack */

enum { TAPS = 3, STEP = 16, PIXELS = 4 };
enum { MOST = 65534 / 3 }; /* channels of the output of which 16-bit offsets reach four pixels */

typedef struct block { /* four pixels of a row of the output */
    int32_t first[PIXELS]; /* what their sums begin with */
    const uint8_t *x;      /* the staged place of the first pixel's first weight */
} block;

typedef struct dots { /* what blocks are multiplied with, in steps of 16 channels */
    const uint8_t *panel;
    int rounds;   /* of three steps */
    int step;     /* bytes from a place to that of the next step */
    int left_out; /* steps of the first round */
} dots;

/* Blocks of a band, in this order: at the map's upper border, where the kernel's first row is left out since it is 0; those
 * that take all rows; at the lower border, where the last is left out. */
enum { UPPER, INNER, LOWER, PARTS };

typedef struct job {
    const obf_conv *conv;
    int chunks;      /* of 16 channels */
    int width;       /* of the output, a multiple of 4 */
    int places;      /* staged for a row */
    int next;        /* places from a window's column to its next */
    int band;        /* rows of the output in a band */
    int32_t row;     /* bytes of a staged row */
    uint8_t *panel;  /* [3][chunks][3][2][16]: weights of two outputs, as bytes */
    uint8_t *rows;   /* [staged rows][chunks][places][16] */
    int32_t *totals; /* [places]: of the row being staged, sums over all channels */
    int32_t *across; /* [staged rows][width]: sums of a window's three places in the row */
    int32_t *sums;   /* [blocks][2][4]: of two outputs */
    block *blocks;
    const block *ends[PARTS];
    dots dots[PARTS];
} job;

/* Loops are in assembly where -Os would make them half as long again. What is in the predicate is put back, since compilers do
 * not agree on its name. */

static void copy(uint8_t *to, const uint8_t *from, int32_t bytes) {
    __asm__ volatile(
        "wlstp.8 lr, %[bytes], 2f\n"
        "1: vldrb.u8 q0, [%[from]], #16\n"
        "vstrb.8 q0, [%[to]], #16\n"
        "letp lr, 1b\n"
        "2:"
        : [to] "+r"(to), [from] "+r"(from)
        : [bytes] "r"(bytes)
        : "lr", "q0", "memory");
}

static void clear(void *to, int32_t bytes) {
    __asm__ volatile(
        "vmov.i32 q0, #0\n"
        "wlstp.8 lr, %[bytes], 2f\n"
        "1: vstrb.8 q0, [%[to]], #16\n"
        "letp lr, 1b\n"
        "2:"
        : [to] "+r"(to)
        : [bytes] "r"(bytes)
        : "lr", "q0", "memory");
}

/* Stage `count` places of row `row` of the source (in pixels from its start), from column x on, every stride-th. */
static void stage_places(const job *j, int32_t row, int x, int count, uint8_t *to, int32_t *totals) {
    const obf_conv *conv = j->conv;
    const obf_map *source = &conv->source;
    const int channels = source->channels, stride = conv->stride;
    for (; x < 0 && count; x += stride, count--, to += STEP)
        totals++;
    while (count && x + (count - 1) * stride >= source->width)
        count--;
    row += x;
    if (count <= 0)
        return;
    const int next = stride * channels;
    uint32_t saved;
    if (source->type == OBF_U8 && !conv->read)
        for (int c = 0; c < channels; c += STEP, to += j->places * STEP) {
            const uint8_t *from = (const uint8_t *)source->data + row * channels + c;
            uint8_t *place = to;
            int32_t *total = totals;
            __asm__ volatile(
                "vmrs %[saved], p0\n"
                "vctp.8 %[left]\n"
                "dls lr, %[count]\n"
                "1: vpst\n"
                "vldrbt.u8 q0, [%[from]]\n"
                "add %[from], %[next]\n"
                "vstrb.8 q0, [%[place]], #16\n"
                "ldr r12, [%[total]]\n"
                "vaddva.u8 r12, q0\n"
                "str r12, [%[total]], #4\n"
                "le lr, 1b\n"
                "vmsr p0, %[saved]"
                : [from] "+r"(from), [place] "+r"(place), [total] "+r"(total), [saved] "=&r"(saved)
                : [left] "r"(channels - c), [count] "r"(count), [next] "r"(next)
                : "r12", "lr", "q0", "memory");
        }
    else if (source->type == OBF_I16 && conv->read->usual) {
        const uint16x8_t pairs = vidupq_n_u16(0, 2);
        for (int c = 0; c < channels; c += STEP / 2) {
            const mve_pred16_t there = vctp16q((uint32_t)(channels - c));
            const int16x8_t mean = vldrhq_gather_shifted_offset_z_s16(conv->read->numbers + 2 * c, pairs, there);
            const int16x8_t multiplier = vldrhq_gather_shifted_offset_z_s16(conv->read->numbers + 2 * c + 1, pairs, there);
            const int16_t *from = (const int16_t *)source->data + row * channels + c;
            uint8_t *place = to;
            int32_t *total = totals;
            __asm__ volatile(
                "vmov.i32 q1, #0\n"
                "vmrs %[saved], p0\n"
                "vctp.16 %[left]\n"
                "dls lr, %[count]\n"
                "1: vpst\n"
                "vldrht.s16 q0, [%[from]]\n"
                "add %[from], %[from], %[next], lsl #1\n"
                "vqsub.s16 q0, q0, %q[mean]\n"
                "vqrdmulh.s16 q0, q0, %q[multiplier]\n" /* the doubling high half, rounded: (x * m + 0x4000) >> 15 */
                "vqmovunb.s16 q1, q0\n"
                "vstrb.16 q1, [%[place]], #16\n"
                "ldr r12, [%[total]]\n"
                "vaddva.u16 r12, q1\n"
                "str r12, [%[total]], #4\n"
                "le lr, 1b\n"
                "vmsr p0, %[saved]"
                : [from] "+r"(from), [place] "+l"(place), [total] "+r"(total), [saved] "=&r"(saved)
                : [left] "r"(channels - c), [count] "r"(count), [next] "r"(next), [mean] "w"(mean), [multiplier] "w"(multiplier)
                : "r12", "lr", "q0", "q1", "memory");
            to += c % STEP ? j->places * STEP - STEP / 2 : STEP / 2;
        }
    } else
        for (int i = 0; i < count; i++)
            for (int c = 0; c < channels; c++) {
                const int32_t v = obf_read(source, conv->table, conv->read, (row + i * stride) * channels + c, c);
                to[(c / STEP * j->places + i) * STEP + c % STEP] = (uint8_t)v;
                totals[i] += v;
            }
}

/* Stage row y of the source. */
APART void stage(const job *j, int y, int slot) {
    const obf_conv *conv = j->conv;
    const obf_map *source = &conv->source;
    int32_t *totals = j->totals, *across = j->across + slot * j->width;
    uint8_t *to = j->rows + slot * j->row;
    clear(to, j->row);
    if (y < 0 || y >= source->height) {
        clear(across, j->width * 4);
        return;
    }
    clear(totals, j->places * 4);
    const int32_t row = (int32_t)obf_slot(y, source->rows) * source->width;
    const int count = conv->stride == 1 ? j->places : j->width;
    for (int p = 0, x = -conv->left; p < j->places; p += count, x++)
        stage_places(j, row, x, count, to + p * STEP, totals + p);
    for (int i = 0; i < j->width; i += PIXELS) {
        const int32_t *at = totals + i;
        const int32x4_t sum = vaddq_s32(vldrwq_s32(at), vldrwq_s32(at + j->next));
        vstrwq_s32(across + i, vaddq_s32(sum, vldrwq_s32(at + 2 * j->next)));
    }
}

/* Stage what a band of `rows` rows from y on needs, and set up its blocks. `shared`: rows that lie behind the band before. */
static void begin(job *j, int y, int rows, int shared) {
    const obf_conv *conv = j->conv;
    const int stride = conv->stride, top = y * stride - conv->top, bottom = top + (rows - 1) * stride + TAPS;
    copy(j->rows, j->rows + j->band * stride * j->row, shared * j->row);
    copy((uint8_t *)j->across, (const uint8_t *)(j->across + j->band * stride * j->width), shared * j->width * 4);
    for (int slot = shared; top + slot < bottom; slot++)
        stage(j, top + slot, slot);
    block *to = j->blocks;
    for (int i = 0; i < PARTS; i++)
        j->ends[i] = to;
    for (int r = 0; r < rows; r++) {
        const int upper = r == 0 && top == -1, lower = r == rows - 1 && bottom == conv->source.height + 1;
        const int32_t *across = j->across + r * stride * j->width;
        const uint8_t *x = j->rows + (r * stride + upper) * j->row;
        for (int i = 0; i < j->width; i += PIXELS, x += PIXELS * STEP, across += PIXELS, to++) {
            const int32x4_t sum = vaddq_s32(vldrwq_s32(across), vldrwq_s32(across + j->width));
            vstrwq_s32(to->first, vnegq_s32(vaddq_s32(sum, vldrwq_s32(across + 2 * j->width))));
            to->x = x;
        }
        for (int i = upper ? UPPER : lower ? LOWER : INNER; i < PARTS; i++)
            j->ends[i] = to;
    }
}

/* Spread the bits of two outputs to bytes of 0 and 2. */
static void spread(const job *j, const uint16_t *one, const uint16_t *two) {
    uint8_t *to = j->panel;
    uint32_t bits, saved;
    __asm__ volatile(
        "vmov.i8 q0, #2\n"
        "vmov.i8 q1, #0\n"
        "vmrs %[saved], p0\n"
        "dls lr, %[count]\n"
        "1: ldrh %[bits], [%[one]], #2\n"
        "vmsr p0, %[bits]\n"
        "vpsel q2, q0, q1\n"
        "vstrb.8 q2, [%[to]], #16\n"
        "ldrh %[bits], [%[two]], #2\n"
        "vmsr p0, %[bits]\n"
        "vpsel q2, q0, q1\n"
        "vstrb.8 q2, [%[to]], #16\n"
        "le lr, 1b\n"
        "vmsr p0, %[saved]"
        : [one] "+r"(one), [two] "+r"(two), [to] "+r"(to), [bits] "=&r"(bits), [saved] "=&r"(saved)
        : [count] "r"(TAPS * TAPS * j->chunks)
        : "lr", "q0", "q1", "q2", "memory");
}

/* Sums of blocks for the two outputs whose weights are spread: of each four of the first output, four of the second.
 * In assembly because compilers do not find registers for it: a dot product adds to even registers only. r0 r2 r4 r6 sum the
 * first output's pixels, r8 r10 r12 lr the second's; r7 is a place, r3 weights, r5 bytes to the next step, r9 counts
 * rounds, r11 blocks, r1 sums; q0-q3 are places, q4 and q5 weights. */
#define DOT(SUM, PLACE, WEIGHTS) "vmladava.u8 " SUM ", " PLACE ", " WEIGHTS "\n"
#define PLACE(TO, AT) "vldrw.u32 " TO ", [r7, #" AT "]\n"
#define WEIGHTS(TO) "vldrw.u32 " TO ", [r3], #16\n"

/* 16 channels of a row of the kernel: six places. Loads lie between dot products, which do not wait for them. */
#define ROW \
    PLACE("q0", "0") WEIGHTS("q4") PLACE("q1", "16") DOT("r0", "q0", "q4") PLACE("q2", "32") DOT("r2", "q1", "q4") \
    PLACE("q3", "48") DOT("r4", "q2", "q4") WEIGHTS("q5") DOT("r6", "q3", "q4") DOT("r8", "q0", "q5") \
    WEIGHTS("q4") DOT("r10", "q1", "q5") DOT("r12", "q2", "q5") PLACE("q0", "64") DOT("lr", "q3", "q5") \
    DOT("r0", "q1", "q4") WEIGHTS("q5") DOT("r2", "q2", "q4") DOT("r4", "q3", "q4") DOT("r6", "q0", "q4") \
    WEIGHTS("q4") DOT("r8", "q1", "q5") PLACE("q1", "80") DOT("r10", "q2", "q5") "add r7, r5\n" DOT("r12", "q3", "q5") \
    DOT("lr", "q0", "q5") DOT("r0", "q2", "q4") WEIGHTS("q5") DOT("r2", "q3", "q4") DOT("r4", "q0", "q4") \
    DOT("r6", "q1", "q4") DOT("r8", "q2", "q5") DOT("r10", "q3", "q5") DOT("r12", "q0", "q5") DOT("lr", "q1", "q5")

/* 16 channels of one weight of the kernel. */
#define TAP \
    PLACE("q0", "0") WEIGHTS("q4") PLACE("q1", "16") DOT("r0", "q0", "q4") PLACE("q2", "32") DOT("r2", "q1", "q4") \
    PLACE("q3", "48") DOT("r4", "q2", "q4") WEIGHTS("q5") DOT("r6", "q3", "q4") "add r7, r5\n" DOT("r8", "q0", "q5") \
    DOT("r10", "q1", "q5") DOT("r12", "q2", "q5") DOT("lr", "q3", "q5")

#if defined(__ARM_FEATURE_BTI_DEFAULT) /* then jumps may lead to such an instruction only */
#define LAND ".inst.w 0xf3af800f\n" /* bti, which older assemblers lack */
#else
#define LAND ""
#endif

/* Returns where the sums end. On the stack: `end`, the panel, rounds, and where the first begins. */
#define DOTS(NAME, STEP_CODE) \
    __attribute__((naked, aligned(4))) static int32_t *NAME( \
        int32_t *sums, const block *blocks, const block *end, const dots *of) { \
        __asm__( \
            LAND "push {r4-r11, lr}\n" \
            "vpush {d8-d11}\n" \
            "ldm r3, {r4-r7}\n" \
            "adr.w r8, 2f\n" \
            "cmp r7, #1\n" \
            "it eq\n" \
            "adreq.w r8, 3f\n" \
            "it hi\n" \
            "adrhi.w r8, 4f\n" \
            "orr r8, r8, #1\n" \
            "push {r2, r4, r5, r8}\n" \
            "mov r11, r1\n" \
            "mov r1, r0\n" \
            "mov r5, r6\n" \
            "1: ldm r11, {r8, r10, r12, lr}\n" \
            "ldm r11!, {r0, r2, r4, r6, r7}\n" \
            "ldrd r3, r9, [sp, #4]\n" \
            "ldr pc, [sp, #12]\n" \
            "2:" LAND STEP_CODE "3:" LAND STEP_CODE "4:" LAND STEP_CODE \
            "subs r9, #1\n" \
            "bne 2b\n" \
            "stm r1!, {r0, r2, r4, r6, r8, r10, r12, lr}\n" \
            "ldr r3, [sp]\n" \
            "cmp r11, r3\n" \
            "bne 1b\n" \
            "mov r0, r1\n" \
            "add sp, #16\n" \
            "vpop {d8-d11}\n" \
            "pop {r4-r11, pc}\n"); \
    }

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* they are where the procedure call standard puts them */
DOTS(dots_adjacent, ROW)
DOTS(dots_apart, TAP)
#pragma GCC diagnostic pop

/* Outputs o and o + 1 of rows [y, end) from their sums: rounded, shifted, added to the stream, through the batch-norm. */
APART void finish(const job *j, int y, int end, int o) {
    const obf_conv *conv = j->conv;
    const int channels = conv->out.channels, both = o + 1 < channels, width = conv->out.width;
    const int usual = channels <= MOST && (!conv->write || conv->write->usual);
    /* Lanes 0, 2, ... are the first output's four pixels, lanes 1, 3, ... the second's: the first's again if that is the last. */
    const uint16x8_t lanes = vidupq_n_u16(0, 1), second = vandq_u16(lanes, vdupq_n_u16((uint16_t)both));
    const uint16x8_t offsets = vmlaq_n_u16(second, vshrq_n_u16(lanes, 1), (uint16_t)channels);
    int16x8_t mean = vdupq_n_s16(0), multiplier = mean;
    if (conv->write) {
        const int16_t *numbers = conv->write->numbers + 2 * o;
        mean = vldrhq_gather_shifted_offset_s16(numbers, vaddq_u16(second, second));
        multiplier = vldrhq_gather_shifted_offset_s16(numbers + 1, vaddq_u16(second, second));
    }
    const int32_t *sums = j->sums;
    while (y < end) {
        const int slot = obf_slot(y, conv->out.rows), base_slot = conv->base.data ? obf_slot(y, conv->base.rows) : 0;
        const int32_t at = (int32_t)slot * width, base_at = (int32_t)base_slot * width;
        int rows = 1; /* that lie behind each other, without a gap between their sums */
        if (!usual) {
            for (int x = 0; x < width; x++)
                for (int k = 0; k <= both; k++)
                    obf_write(conv, y, x, o + k, sums[x / PIXELS * 2 * PIXELS + k * PIXELS + x % PIXELS]);
            sums += 2 * j->width;
            y++;
            continue;
        }
        if (width % PIXELS == 0)
            while (y + rows < end && slot + rows < conv->out.rows && (!conv->base.data || base_slot + rows < conv->base.rows))
                rows++;
        y += rows;
        const int16_t *base = conv->base.data ? (const int16_t *)conv->base.data + base_at * channels + o : 0;
        uint8_t *out = (uint8_t *)conv->out.data + (at * channels + o) * (conv->write ? 1 : 2);
        /* In assembly for the loop that leaves out what is beyond the row by itself. */
        __asm__ volatile(
            "dlstp.16 lr, %[lanes]\n"
            "1: vldrw.u32 q0, [%[sums]], #16\n"
            "vldrw.u32 q1, [%[sums]], #16\n"
            "vrshl.s32 q0, %[shift]\n"
            "vrshl.s32 q1, %[shift]\n"
            "vqmovnb.s32 q0, q0\n"
            "vqmovnt.s32 q0, q1\n"
            "cbz %[base], 2f\n"
            "vldrh.u16 q1, [%[base], %q[offsets], uxtw #1]\n"
            "vqadd.s16 q0, q0, q1\n"
            "add %[base], %[base], %[step], lsl #1\n"
            "2: cbz %[norm], 3f\n"
            "vqsub.s16 q0, q0, %q[mean]\n"
            "vqrdmulh.s16 q0, q0, %q[multiplier]\n" /* the doubling high half, rounded, is (x * m + 0x4000) >> 15 */
            "vqmovunb.s16 q0, q0\n"
            "vstrb.16 q0, [%[out], %q[offsets]]\n"
            "add %[out], %[out], %[step]\n"
            "letp lr, 1b\n"
            "b 4f\n"
            "3: vstrh.16 q0, [%[out], %q[offsets], uxtw #1]\n"
            "add %[out], %[out], %[step], lsl #1\n"
            "letp lr, 1b\n"
            "4:"
            : [sums] "+r"(sums), [base] "+l"(base), [out] "+r"(out)
            : [lanes] "r"(2 * rows * width), [shift] "r"(-conv->shift), [step] "r"(PIXELS * channels), [norm] "l"(conv->write),
              [offsets] "w"(offsets), [mean] "w"(mean), [multiplier] "w"(multiplier)
            : "lr", "q0", "q1", "memory");
    }
}

static void lay_out(job *j, const obf_conv *conv) {
    const int stride = conv->stride;
    j->conv = conv;
    j->chunks = (conv->source.channels + STEP - 1) / STEP;
    j->width = (conv->out.width + PIXELS - 1) / PIXELS * PIXELS;
    j->places = stride == 1 ? j->width + TAPS - 1 : TAPS * j->width;
    j->next = stride == 1 ? 1 : j->width;
    j->band = conv->chunk ? conv->chunk : 1;
    j->row = (int32_t)j->chunks * j->places * STEP;
    const int staged = (j->band - 1) * stride + TAPS, kernel_row = 2 * STEP * TAPS * j->chunks;
    j->panel = (uint8_t *)conv->scratch;
    j->rows = j->panel + TAPS * kernel_row;
    j->totals = (int32_t *)(void *)(j->rows + staged * j->row);
    j->across = j->totals + j->places;
    j->sums = j->across + staged * j->width;
    j->blocks = (block *)(void *)(j->sums + 2 * j->band * j->width);
    for (int i = 0; i < PARTS; i++) {
        dots *of = &j->dots[i];
        const int steps = (i == INNER ? TAPS : TAPS - 1) * j->chunks * (stride == 1 ? 1 : TAPS);
        of->panel = j->panel + (i == UPPER ? kernel_row : 0);
        of->rounds = (steps + 2) / 3;
        of->step = (stride == 1 ? j->places : j->width) * STEP;
        of->left_out = of->rounds * 3 - steps;
    }
}

void obf_conv_helium(const obf_conv *conv, int first, int end) {
    job j;
    lay_out(&j, conv);
    const int shared = conv->stride < TAPS ? TAPS - conv->stride : 0, output = TAPS * TAPS * j.chunks;
    for (int y = first; y < end; y += j.band) {
        const int rows = end - y < j.band ? end - y : j.band;
        begin(&j, y, rows, y > first ? shared : 0);
        const uint16_t *bits = (const uint16_t *)conv->weights;
        for (int o = 0; o < conv->out.channels; o += 2, bits += 2 * output) {
            spread(&j, bits, o + 1 < conv->out.channels ? bits + output : bits);
            const block *from = j.blocks;
            int32_t *sums = j.sums;
            for (int i = 0; i < PARTS; from = j.ends[i++])
                if (from != j.ends[i])
                    sums = (conv->stride == 1 ? dots_adjacent : dots_apart)(sums, from, j.ends[i], &j.dots[i]);
            finish(&j, y, y + rows, o);
        }
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
                        const int bit = ((tap / 3 * (padded / 16) + c / 16) * 3 + tap % 3) * 16 + c % 16;
                        sum += bits[bit / 8] >> (bit % 8) & 1 ? value : -value;
                    }
                }
                obf_write(conv, y, x, o, sum);
            }
}

#endif
