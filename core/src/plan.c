#include "plan.h"

#include <string.h>

void *ob_take(ob_memory *memory, uint64_t bytes) {
    const uint64_t at = (memory->used + OB_ALIGNMENT - 1) & ~(uint64_t)(OB_ALIGNMENT - 1);
    memory->used = at + bytes;
    return memory->base && memory->used <= memory->size ? memory->base + at : NULL;
}

int32_t ob_pitch(int32_t width) {
    if (width <= 32) return width <= 8 ? 8 : width <= 16 ? 16 : 32;
    return width > 56 && width <= 64 ? 64 : (width + 7) / 8 * 8;
}

/* The taps of a kernel that a phase has in one direction: at, at + stride, ... */
static int32_t taps(int32_t kernel, int32_t phase, int32_t stride) {
    return phase < kernel ? (kernel - phase + stride - 1) / stride : 0;
}

/* Phase px of the columns: its sections, and the tap that is the centre. */
static int32_t sections_of(const ob_operation *op, int32_t px, int flat, int32_t *centre) {
    const int32_t n = taps(op->width, px, op->stride);
    *centre = px;
    if (flat) return OB_FLAT;
    if (n == 3) return *centre += op->stride, OB_CENTRE | OB_LEFT | OB_RIGHT;
    if (n == 1) return OB_CENTRE;
    /* Of two, the second if zero may enter from the left at column 0: what it replaces is padding. */
    if (px + op->stride - op->left < op->stride) return *centre += op->stride, OB_CENTRE | OB_LEFT;
    return OB_CENTRE | OB_RIGHT;
}

static int32_t count_of(int32_t sections) { return sections == 7 ? 3 : sections == OB_CENTRE || sections == OB_FLAT ? 1 : 2; }

/* Columns of tiles; the number of them, 0 if a tile has no lane that counts. */
static int32_t make_columns(const ob_operation *op, const ob_table_layer *l, int flat, ob_column *column) {
    int32_t count = 0;
    for (int32_t x = 0; x < l->out_width; count++) {
        ob_column c = {x, 0, 0};
        for (int attempt = 0; attempt < 2; attempt++) { /* one lane earlier if lane 0 lacks its neighbour */
            c.at = x - attempt;
            int32_t first = 0, last = l->pitch - 1;
            for (int32_t px = 0; px < op->stride && px < op->width; px++) {
                int32_t centre;
                const int32_t sections = sections_of(op, px, flat, &centre);
                if (flat) {
                    const int32_t most = l->pitch - taps(op->width, px, op->stride);
                    if (last > most) last = most;
                    continue;
                }
                if (sections & OB_LEFT && (c.at - 1) * op->stride + centre - op->left >= 0) first = 1;
                if (sections & OB_RIGHT && (c.at + l->pitch) * op->stride + centre - op->left < l->width)
                    if (last > l->pitch - 2) last = l->pitch - 2;
            }
            c.from = x - c.at;
            c.to = last + 1 < l->out_width - c.at ? last + 1 : l->out_width - c.at;
            if (first <= c.from && c.from < c.to) break;
            if (attempt) return 0;
        }
        if (column) column[count] = c;
        x = c.at + c.to;
    }
    return count;
}

typedef struct span {
    int32_t most;   /* largest number of a lane less the smallest, over all planes */
    int32_t planes; /* 1 or 2 */
    int nibble;     /* lanes of 8 bits serve */
} span;

static span span_of(const ob_value *v) {
    if (v->type != OB_U8) return (span){255, 2, 0};
    return (span){v->high - v->low > 0 ? v->high - v->low : 1, 1, v->high <= 15 && v->zero == 0 && v->low == 0};
}

/* What a chunk's lanes can be below 0, for each of its channels. */
static int32_t below(const ob_value *v, ob_plane plane) {
    return plane == OB_PLANE_BYTE ? v->zero - v->low : plane == OB_PLANE_HIGH ? 128 : 0;
}

static int own_code(int32_t sums, int32_t most) {
#define OB_OWN(K, M) if (sums == K && most == M) return 1;
    OB_NIBBLE_ENTRIES(OB_OWN)
    return 0;
}

/* Tiles that can share rows: 3 x 3, two rows of OB_RING_PITCH lanes, and code that knows how a ring is turned. */
static int32_t ring_of(const ob_operation *op, const ob_table_layer *l, const ob_table_kernels *kernels, int32_t groups) {
    const int32_t all = (l->channels + l->bits - 1) / l->bits, parts = (all + groups - 1) / groups;
    if (op->height != 3 || op->width != 3 || op->stride != 1 || l->pitch != OB_RING_PITCH || l->rows != 2) return 1;
    if (OB_RING_PITCH % (l->nibble ? kernels->lanes * 2 : kernels->lanes)) return 1; /* vectors of several rows */
    if (l->nibble) {
        const int32_t most = 255 / (15 * l->bits);
        if (!own_code(all / parts * 3, most) || !own_code((all + parts - 1) / parts * 3, most)) return 1;
    }
    return OB_RING;
}

/* The layer's cost in cycles, roughly: two loads a cycle, a store a cycle. The numbers were fitted to times of all (g, groups) of
 * a dozen layers on Zen 4; what matters is the order in which they put them. */
static double cost(const ob_operation *op, const ob_table_layer *l, int flat, const ob_table_kernels *kernels, span s,
                   int32_t groups) {
    const int32_t all = (l->channels + l->bits - 1) / l->bits, chunks = (all + groups - 1) / groups;
    const double vectors = l->strip / kernels->lanes, slots = l->outputs + l->extra;
    double total = 0;
    for (int32_t py = 0; py < op->stride && py < op->height; py++)
        for (int32_t px = 0; px < op->stride && px < op->width; px++) {
            int32_t centre;
            const int32_t sections = sections_of(op, px, flat, &centre), rows = taps(op->height, py, op->stride);
            const double entries = (double)rows * taps(op->width, px, op->stride) * all;
            const double lanes = l->nibble ? kernels->lanes * 2 : kernels->lanes;
            const double entry = (l->rows + (double)(rows - 1) / l->ring) * l->pitch / lanes, strips = l->strip / lanes;
            if (l->nibble) { /* each few entries three instructions more; some numbers of entries have code of their own */
                const int32_t most = 255 / (15 * l->bits), K = rows * groups;
                const int own = own_code(K, most);
                const double one = own ? 0.6 + 0.75 / most : 1.6;
                total += (double)all * (1 << l->bits) * entry * 1.1 + (double)all * l->bits * entry * 4;
                total += slots * (entries * strips * one + chunks * (strips * count_of(sections) * 5 + strips * 4 + 10));
                continue;
            }
            total += (double)all * (1 << l->bits) * entry * 1.1 + (double)all * l->bits * entry * 3;
            /* chunks of few taps leave sums of 16 bits to the next: half a flush, and less to do */
            const double part = (double)rows * taps(op->width, px, op->stride) * groups * l->bits * s.most / 65536;
            const double flush = l->carries && part < 0.5 ? 1 + 2 * part : 2;
            total += slots * (entries * vectors * 0.55 + chunks * (vectors * (count_of(sections) * 1.5 + flush) + 10));
        }
    return (total * s.planes + slots * (vectors * 6 + 40)) * l->tile_rows * l->columns;
}

/* Do tables of so many channels and groups fit: the cache, 16 bits of an offset, 16 bits of a sum? */
static int fits(const ob_operation *op, const ob_table_layer *l, int flat, const ob_table_kernels *kernels, span s,
                int32_t groups) {
    const int32_t rows = taps(op->height, 0, op->stride), columns = taps(op->width, 0, op->stride); /* the largest phase's */
    const int64_t lanes = (int64_t)(l->rows + rows - 1) * l->pitch + (flat ? columns : 0) + kernels->lanes;
    const int64_t sums = (int64_t)rows * columns * groups * l->bits;
    if (l->nibble)
        return rows * columns <= OB_TABLE_TAPS && lanes + kernels->lanes <= OB_TABLE_LANES / OB_TABLE_BITS && sums * 15 < 65536 &&
               ((lanes + kernels->lanes) << l->bits) * groups <= OB_TABLE_BYTES;
    return lanes * 2 <= OB_TABLE_LANES / OB_TABLE_BITS && (lanes * 2 << l->bits) * groups <= OB_TABLE_BYTES &&
           sums * s.most < 65536 && rows * columns <= OB_TABLE_TAPS;
}

enum { OB_BANK = 65535 / 15 }; /* numbers of 4 bits that a sum of 16 bits can hold */

/* Groups of channels in part i of `parts`. */
static int32_t groups_before(int32_t all, int32_t i, int32_t parts) { return (int32_t)((int64_t)all * i / parts); }

/* Banks of accumulators that a layer of 4 bits fills, chunk by chunk. */
static int32_t count_banks(const ob_operation *op, const ob_table_layer *l, int32_t groups) {
    const int32_t all = (l->channels + l->bits - 1) / l->bits, parts = (all + groups - 1) / groups;
    int32_t banks = 1, full = 0;
    for (int32_t py = 0; py < op->stride && py < op->height; py++)
        for (int32_t px = 0; px < op->stride && px < op->width; px++)
            for (int32_t i = 0; i < parts; i++) {
                const int32_t count = groups_before(all, i + 1, parts) - groups_before(all, i, parts);
                const int32_t more = taps(op->height, py, op->stride) * taps(op->width, px, op->stride) * count * l->bits;
                if ((full += more) > OB_BANK) banks++, full = more;
            }
    return banks;
}

int ob_plan(const ob_operation *op, const ob_value *source, const ob_table_kernels *kernels, ob_table_layer *layer) {
    const span s = span_of(source);
    const int flat = taps(op->width, 0, op->stride) > 3;
#ifdef OB_SMALL /* less code: one strip, rows of up to 32 lanes, 4 bits three entries at a time */
    const int32_t least = kernels->strip, widest = 32, bits = s.nibble && !flat ? 5 : OB_TABLE_BITS;
#else
    const int32_t least = 16, widest = 64, bits = OB_TABLE_BITS;
#endif
    double best = 0;
    if ((uint64_t)op->row_bytes * 8 * (uint64_t)(op->value.channels + 2) > UINT32_MAX) return 0;
    /* Halves of a word would overflow into each other where a plane's sums pass 2^24. */
    if (kernels->lanes == 4 && s.planes == 2 && (int64_t)source->channels * op->height * op->width > 65536) return 0;
    ob_table_layer l = {0};
    l.channels = source->channels, l.height = source->height, l.width = source->width;
    l.outputs = op->value.channels, l.out_height = op->value.height, l.out_width = op->value.width;
    l.stride = op->stride, l.top = op->top, l.zero = source->zero;
    l.extra = below(source, s.planes == 2 ? OB_PLANE_HIGH : OB_PLANE_BYTE) > 0 ? 2 : 1;
    l.nibble = s.nibble && !flat;
    const int64_t fan_in = (int64_t)source->channels * op->height * op->width; /* S and twice the bias: 3 * 2^8 or 2^16 each */
    l.halved = op->shift > 0 && fan_in * (s.planes == 2 ? 3 << 16 : 3 << 8) < INT32_MAX;
#ifdef OB_SMALL /* half of 2 * S1 - S, with what rounds it, fits 16 bits: then all that is behind the sums is done in them */
    if (l.halved && s.planes == 1 && fan_in * s.most + (1 << op->shift >> 1) < 65535) l.halved = 2;
#endif
    l.shift = op->shift, l.has_base = op->base >= 0;
    for (l.pitch = 8; l.pitch <= widest; l.pitch *= 2)
        for (l.strip = least; l.strip <= kernels->strip; l.strip *= 2) {
            if (l.strip < kernels->lanes || l.strip < l.pitch || (l.strip < kernels->strip && l.pitch != 8)) continue;
            if (l.out_width > 64 && l.pitch < 32) continue;
            if (s.nibble && !flat && l.strip < kernels->strip) continue;
            l.rows = l.strip / l.pitch;
            l.tile_rows = (l.out_height + l.rows - 1) / l.rows;
            l.columns = make_columns(op, &l, flat, NULL);
            if (!l.columns) continue;
            for (l.bits = 1; l.bits <= bits; l.bits++)
                for (int32_t groups = 1; groups <= (l.nibble ? OB_NIBBLE_GROUPS : OB_TABLE_GROUPS); groups++) {
                    if (!fits(op, &l, flat, kernels, s, groups)) continue;
                    if (!layer) return 1;
                    l.ring = ring_of(op, &l, kernels, groups);
                    l.carries = l.ring == 1 && !l.nibble;
                    const double c = cost(op, &l, flat, kernels, s, groups);
                    if (best > 0 && c >= best) continue;
                    best = c;
                    *layer = l;
                    layer->chunks = groups; /* until ob_plan_memory counts them */
                }
        }
    if (best > 0 && layer->nibble) layer->banks = count_banks(op, layer, layer->chunks);
    return best > 0;
}

/* 57 or more bits of a row from bit `at` on; zeros behind its end. */
static inline uint64_t bits_of_row(const uint8_t *row, int32_t row_bytes, int32_t at) {
    uint64_t w = 0;
    const int32_t byte = at >> 3, left = row_bytes - byte;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (left >= 8) {
        memcpy(&w, row + byte, 8);
        return w >> (at & 7);
    }
#endif
    for (int32_t i = 0; i < 8 && i < left; i++) w |= (uint64_t)row[byte + i] << 8 * i;
    return w >> (at & 7);
}

/* Where a tap's weights lie in a row of bits, and its entries in a table. */
typedef struct tap_place {
    int32_t bit;
    uint32_t entry;
} tap_place;

/* A row's offsets of one chunk. Groups are a constant where it is called: this is most of the time that loading takes. */
static inline uint16_t *row_offsets(const ob_chunk *c, int32_t bits, const tap_place *tap, int32_t count, uint64_t all,
                                    const uint8_t *row, int32_t row_bytes, const int32_t groups, uint16_t *offset) {
    const uint32_t one = ((uint32_t)1 << bits) - 1, entry = (uint32_t)c->entry, table = entry << bits;
    for (int32_t k = 0; k < count; k++) {
        uint64_t w = (row ? bits_of_row(row, row_bytes, tap[k].bit) : ~(uint64_t)0) & all;
        uint32_t at = tap[k].entry;
        for (int32_t i = 0; i < groups; i++, w >>= bits, at += table) *offset++ = (uint16_t)(at + ((uint32_t)w & one) * entry);
    }
    return offset;
}

/* The offsets of one chunk: for each output, the extra ones first, each section, each tap and each group. */
static void make_offsets(const ob_operation *op, const ob_table_layer *l, const ob_chunk *c, int32_t px,
                         uint16_t *offset) {
    const int flat = c->sections == OB_FLAT;
    const int32_t rows = taps(op->height, c->phase_y, op->stride);
    const int32_t columns = flat ? taps(op->width, px, op->stride) : count_of(c->sections);
    const int32_t left = l->channels - c->channel, most = c->groups * l->bits, count = left < most ? left : most;
    const uint64_t all = ~(uint64_t)0 >> (64 - count);
    int32_t centre, places = 0;
    tap_place tap[OB_TABLE_TAPS];
    sections_of(op, px, flat, &centre);
    for (int32_t x = 0; x < columns; x++) {
        int32_t q = flat ? px + x * op->stride : centre; /* sections: centre, left, right */
        if (!flat && x) q += x == 1 && c->sections & OB_LEFT ? -op->stride : op->stride;
        for (int32_t y = 0; y < rows; y++) {
            const int32_t r = c->phase_y + y * op->stride, lane = y * l->pitch + (flat ? x : 0);
            tap[places++] = (tap_place){(r * op->width + q) * l->channels + c->channel, (uint32_t)(l->nibble ? lane : lane * 2)};
        }
    }
    for (int32_t n = -l->extra; n < l->outputs; n++) {
        const uint8_t *row = n < 0 ? NULL : op->rows + (size_t)n * (size_t)op->row_bytes;
        const uint64_t some = n < 0 && n != -l->extra ? 0 : all; /* all weights +1, then all -1 */
        switch (c->groups) {
        case 2: offset = row_offsets(c, l->bits, tap, places, some, row, op->row_bytes, 2, offset); break;
        case 3: offset = row_offsets(c, l->bits, tap, places, some, row, op->row_bytes, 3, offset); break;
        case 4: offset = row_offsets(c, l->bits, tap, places, some, row, op->row_bytes, 4, offset); break;
        default: offset = row_offsets(c, l->bits, tap, places, some, row, op->row_bytes, c->groups, offset); break;
        }
    }
}

void ob_plan_memory(const ob_operation *op, const ob_value *source, const ob_table_kernels *kernels,
                    ob_table_layer *l, ob_memory *memory) {
    const span s = span_of(source);
    const int flat = taps(op->width, 0, op->stride) > 3;
    const int32_t groups = l->chunks, all = (l->channels + l->bits - 1) / l->bits, parts = (all + groups - 1) / groups;
    const int32_t high = op->stride < op->height ? op->stride : op->height;
    const int32_t wide = op->stride < op->width ? op->stride : op->width;
    l->chunks = parts * high * wide * s.planes;
    l->high_chunks = s.planes == 2 ? l->chunks / 2 : 0;
    ob_chunk *chunk = ob_take(memory, (uint64_t)l->chunks * sizeof *chunk);
    ob_column *column = ob_take(memory, (uint64_t)l->columns * sizeof *column);
    if (column) make_columns(op, l, flat, column);
    uint64_t count = 0;
    for (int32_t py = 0; py < high; py++)
        for (int32_t px = 0; px < wide; px++)
            count += (uint64_t)all * (uint64_t)taps(op->height, py, op->stride) * (uint64_t)taps(op->width, px, op->stride);
    count *= (uint64_t)(l->outputs + l->extra);
    uint16_t *offsets = ob_take(memory, count * sizeof *offsets + 8); /* kernels read four at a time */
    l->chunk = chunk, l->column = column, l->offsets = offsets;
    l->direct = l->columns == 1 && l->pitch == ob_pitch(l->out_width);
    if (!offsets || !chunk || !column) return;
    l->direct = l->direct && column[0].at == 0;
    for (int32_t p = 0; p < s.planes; p++) {
        uint32_t at = 0;
        int32_t bank = 0, full = 0; /* of the bank: additions so far, each of at most 15 */
        for (int32_t py = 0; py < high; py++)
            for (int32_t px = 0; px < wide; px++)
                for (int32_t i = 0; i < parts; i++) {
                    int32_t centre;
                    const int32_t sections = sections_of(op, px, flat, &centre), rows = taps(op->height, py, op->stride);
                    const int32_t from = groups_before(all, i, parts), to = groups_before(all, i + 1, parts);
                    const int32_t columns = taps(op->width, px, op->stride);
                    const int32_t lanes = (l->rows + rows - 1) * l->pitch + (flat ? columns - 1 : 0);
                    ob_chunk c = {0};
                    c.offsets = at;
                    c.plane = (uint8_t)(s.planes == 1 ? OB_PLANE_BYTE : p ? OB_PLANE_LOW : OB_PLANE_HIGH);
                    c.groups = (uint8_t)(to - from);
                    c.sections = (uint8_t)sections;
                    c.sums = (uint16_t)(rows * c.groups * (flat ? columns : 1));
                    c.phase_y = (uint8_t)py;
                    c.column = centre - op->left;
                    c.channel = from * l->bits;
                    c.entry = l->nibble ? (lanes + kernels->lanes * 2 - 1) / (kernels->lanes * 2) * (kernels->lanes * 2)
                                        : (lanes + kernels->lanes - 1) / kernels->lanes * kernels->lanes * 2;
                    if (l->nibble) {
                        const int32_t more = rows * columns * c.groups * l->bits;
                        if ((full += more) > OB_BANK) bank++, full = more;
                        c.bank = bank;
                    }
                    const int32_t last = to * l->bits < l->channels ? to * l->bits : l->channels;
                    c.bias = (uint16_t)(below(source, (ob_plane)c.plane) * (last - c.channel));
                    if (l->carries) { /* of the same plane, as long as 16 bits hold them all */
                        const int32_t more = rows * columns * (last - c.channel) * s.most;
                        c.carried = c.sections != 7 && (full += more) <= 65535 && full > more;
                        if (c.carried) chunk[-1].carries = 1;
                        else full = c.sections == 7 ? 65535 : more; /* those have code that knows no carrying */
                    }
                    *chunk++ = c;
                    if (p == 0) make_offsets(op, l, &c, px, offsets + at);
                    at += (uint32_t)((l->outputs + l->extra) * c.sums * (flat ? 1 : count_of(sections)));
                }
    }
}
