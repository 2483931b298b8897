/* onebit for microcontrollers: what generated firmware, its runtime and its kernels share.
 *
 * C99, no heap, no stdio, no float, no libc but memcpy and memset. All memory is the caller's: one arena, whose size is
 * known when the firmware is generated. Everything that is const stays in flash, weights as the bits that they are.
 *
 * Maps lie in the arena row by row, without border. A row holds its pixels in turn, channels together (quarter = 0), or
 * tuples of four pixels: tuple t, those at t, t + quarter, t + 2 * quarter and t + 3 * quarter, channel by channel, four numbers
 * side by side. Moved by a tap of a kernel all four move alike. 8-bit numbers lie in that order, 16-bit ones as pixels 0, 2,
 * 1, 3 of the four, so that one instruction takes both types to the same halves of words. Pixels of a tuple beyond the width
 * hold anything. Of a map that is made and used up row by row only some rows are kept: row y lies in slot y % rows.
 */
#ifndef OBF_FIRMWARE_H
#define OBF_FIRMWARE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What each pixel value of a channel becomes: a straight line between two bounds, as nearly always, or any 256 values. */
enum { OBF_LINE = 15 };
typedef struct obf_line {
    int32_t slope, offset; /* (slope * x + offset) >> OBF_LINE */
    int32_t lowest, highest;
} obf_line;
typedef struct obf_table {
    const obf_line *lines;
    const int16_t *values; /* values[256 * channel + x]; null: take the lines */
} obf_table;

/* Types of the numbers of a map. */
enum { OBF_PIXELS, OBF_U8, OBF_I16 };

/* A batch-norm with its ReLU (docs/format.md, "Norm"): mean and multiplier of channel c are at numbers[2 * c], its offset
 * at offsets[c] (offsets is null where all are 0). */
typedef struct obf_norm {
    const int16_t *numbers;
    const int16_t *offsets;
    uint8_t zero, limit;
    uint8_t usual; /* bytes: zero 0, limit 255, no offsets, and no multiplier between 0 and +-256 */
} obf_norm;

/* A map: where it lies and what it holds. */
typedef struct obf_map {
    void *data;
    uint16_t height, width, channels;
    uint16_t rows;    /* that are kept: height, or fewer (see above) */
    uint16_t quarter; /* tuples of a row; 0: channels lie together */
    uint8_t type;   /* OBF_PIXELS: raw pixels, which `table` turns into the value; OBF_U8, OBF_I16 */
    uint8_t zero;   /* the number that stands for 0; what lies outside the map counts as it */
} obf_map;

/* A convolution with all that is fused into it, addresses resolved.
 *
 * Reading, number by number:  x = source;  pixels: x = what `table` says;  read: x = its norm of x (then x is u8).
 * Then  a = sat16(rsh(sum of +-(x - zero), shift)), with zero that of the value read;  base: a = sat16(base + a).
 * Writing:  write: the norm of a, u8;  else a, i16.
 * `base` may be the map written (each number is read before it is written, by the same call). Neither may be `source`'s
 * data, unless the caller knows that the rows overwritten are not read again: kernels read the source rows that the rows
 * [first, end) of the output need, and no others, before they write the last of these. */
typedef struct obf_conv {
    obf_map source, out;
    obf_map base;            /* its data is null if there is none */
    const obf_table *table;  /* null unless the source holds pixels */
    const obf_norm *read;    /* null: the source's numbers as they are */
    const obf_norm *write;   /* null: the sums are written, i16 */
    const void *weights;     /* in the order of the kernel that runs it (src/onebit/export/firmware/layouts.py) */
    uint8_t kernel_height, kernel_width, stride, top, left, shift;
    uint8_t zero;            /* of the value read */
    uint8_t chunk;           /* nibble: tables of how many channels at a time; helium: rows of a band; see layouts.py */
    void *scratch;           /* 8-byte aligned; as large as layouts.py says */
} obf_conv;

/* Rows [first, end) of the output. All kernels give the same numbers. `any` takes every convolution; the others take what
 * layouts.py says they take. Scratch holds nothing between calls. */
enum { OBF_ANY_GROUPS = 32 }; /* of four inputs, for which `any` makes tables at once */
void obf_conv_any(const obf_conv *conv, int first, int end);     /* conv_any.c: portable; any kernel, stride, type */
void obf_conv_few(const obf_conv *conv, int first, int end);     /* conv_few.c: portable; the first of a network */
void obf_conv_nibble(const obf_conv *conv, int first, int end);  /* conv_nibble.c: portable, Thumb-2 and Thumb-1 loops */
void obf_conv_helium(const obf_conv *conv, int first, int end);  /* conv_helium.c: Cortex-M55 and others with MVE */

/* -- a network, as it is generated ---------------------------------------------------------------------------------- */

/* Where a map lies: bytes from the start of the arena. */
typedef struct obf_place {
    uint32_t at;
    uint16_t height, width, channels, rows, quarter;
    uint8_t type, zero;
} obf_place;

typedef struct obf_network obf_network;
typedef struct obf_layer obf_layer;

/* What computes rows [first, end) of a layer's output; map, table and norms as for obf_conv. */
typedef void obf_function(const obf_network *network, const obf_layer *layer, uint8_t *arena, int first, int end);

enum { OBF_NONE = 0xffff }; /* no map */
enum { OBF_WHOLE = 0xff };  /* all rows */

struct obf_layer {
    obf_function *run;
    void (*kernel)(const obf_conv *conv, int first, int end); /* of a convolution */
    const void *weights;   /* convolution, logits: bits; average: shift and multiplier for 1, 2, ... positions */
    const obf_norm *read, *write;
    uint32_t scratch;      /* bytes from the start of the arena */
    uint16_t source, out, base;
    uint8_t kernel_height, kernel_width, stride, top, left, shift;
    uint8_t zero, chunk;
    uint8_t rows; /* at a time, of a layer and those before that run together with it; 0: it runs with the next */
};

struct obf_network {
    const obf_place *maps;      /* the first holds the picture */
    const obf_layer *layers;    /* the last is the classifier */
    const obf_table *table;     /* of the picture */
    const int32_t *logits;      /* gain and offset of each class */
    uint16_t classes;
};

/* Run a network. The picture lies in the arena at maps[0].at: height x width x channels raw pixels. It is gone afterwards.
 * `logits`: one for each class, on the scale that the generated header names. */
void obf_run(const obf_network *network, void *arena, int32_t *logits);

/* The layers' functions, for generated code. */
obf_function obf_layer_conv, obf_layer_average, obf_layer_max, obf_layer_copy;

/* The classifier, the last layer. */
void obf_logits(const obf_network *network, const obf_layer *layer, uint8_t *arena, int32_t *logits);

enum { OBF_TOGETHER = 6 }; /* layers that may run together, row by row */

#ifdef __cplusplus
}
#endif

#endif
