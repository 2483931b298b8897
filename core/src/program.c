/* Reading a packed file: its records become operations, each checked as soon as the ones before are. */
#include "program.h"

#include <string.h>

#include "header.h"
#include "values.h"

enum { COLUMNS = 12, KINDS = 6 };
enum column { KIND, SOURCE, BASE, CHANNELS, HEIGHT, WIDTH, STRIDE, PADDING, SHIFT, ZERO, LIMIT, AT };

#define BIT(column) (1u << (column))
#define WINDOW (BIT(HEIGHT) | BIT(WIDTH) | BIT(STRIDE) | BIT(PADDING))

/* Columns that mean something. */
static const unsigned USED[KINDS] = {
    BIT(KIND) | BIT(CHANNELS) | BIT(HEIGHT) | BIT(WIDTH),
    BIT(KIND) | BIT(SOURCE) | BIT(BASE) | BIT(CHANNELS) | WINDOW | BIT(SHIFT) | BIT(AT),
    BIT(KIND) | BIT(SOURCE) | BIT(ZERO) | BIT(LIMIT) | BIT(AT),
    BIT(KIND) | BIT(SOURCE) | BIT(CHANNELS) | WINDOW | BIT(AT),
    BIT(KIND) | BIT(SOURCE) | WINDOW,
    BIT(KIND) | BIT(SOURCE) | BIT(CHANNELS) | BIT(HEIGHT) | BIT(WIDTH) | BIT(SHIFT) | BIT(ZERO) | BIT(LIMIT) | BIT(AT),
};

/* What lies in the caller's memory, in this order. The places that texts are sorted by are gone before the operations
 * come, and lie where these do. */
typedef struct layout {
    size_t operations, used, end;
} layout;

static layout lay_out(const ob_header *header) {
    layout at;
    size_t texts = (size_t)(header->keys > header->names ? header->keys : header->names);
    size_t count = (size_t)header->tensors[OB_TENSOR_PROGRAM].rows;
    at.operations = OB_ALIGNMENT;
    at.used = at.operations + count * sizeof(ob_operation);
    at.end = at.used + count;
    if (at.end < at.operations + texts * sizeof(uint32_t))
        at.end = at.operations + texts * sizeof(uint32_t);
    at.end += (OB_ALIGNMENT - at.end % OB_ALIGNMENT) % OB_ALIGNMENT; /* as aligned_alloc wants it */
    return at;
}

static ob_status read_header(const uint8_t *file, size_t bytes, int with_crc, ob_header *header) {
    ob_status status = ob_header_read(file, bytes, with_crc, header);
    int32_t count = header->tensors[OB_TENSOR_PROGRAM].rows;
    return status != OB_OK ? status : count < 2 || count > OB_MAX_OPERATIONS ? OB_ERROR_PROGRAM : OB_OK;
}

/* -- records ------------------------------------------------------------------------------------------------------- */

static int within(int32_t number, int32_t low, int32_t high) { return low <= number && number <= high; }

/* Take `rows` from a tensor, `left` of which nobody owns yet. */
static const uint8_t *take(const ob_tensor *tensor, int32_t *left, int64_t rows) {
    if (rows > *left)
        return NULL;
    const uint8_t *data = tensor->data + (int64_t)(tensor->rows - *left) * tensor->row_bytes;
    *left -= (int32_t)rows;
    return data;
}

/* The rows of its tensors that an operation owns. They begin where those of the one before end. */
static int own(ob_operation *op, int32_t at, const ob_value *source, const ob_tensor *tensors, int32_t *left) {
    int t;
    int64_t rows, row_bytes = 0;
    switch (op->kind) {
    case OB_TABLE:
        t = OB_TENSOR_TABLE;
        rows = op->value.channels;
        break;
    case OB_NORM:
        t = OB_TENSOR_NORMS;
        rows = source->channels;
        break;
    case OB_AVERAGE:
        t = OB_TENSOR_AVERAGES;
        rows = (int64_t)op->height * op->width;
        break;
    case OB_MAX: return 1;
    default: /* to the file a row of weights is as many rows as it has bytes */
        t = OB_TENSOR_BITS;
        row_bytes = ((int64_t)op->height * op->width * source->channels + 7) / 8;
        rows = op->value.channels * row_bytes;
    }
    if (at != tensors[t].rows - left[t])
        return 0;
    op->rows = take(&tensors[t], &left[t], rows);
    op->row_bytes = t != OB_TENSOR_BITS ? tensors[t].row_bytes : op->rows ? (int32_t)row_bytes : 0;
    if (op->kind == OB_LOGITS)
        op->gains = take(&tensors[OB_TENSOR_LOGITS], &left[OB_TENSOR_LOGITS], op->value.channels);
    return op->rows && (op->gains || op->kind != OB_LOGITS);
}

/* Everything about operation `i`; `left` are the rows of each tensor that no earlier one owns. */
static int read_operation(const ob_header *header, int32_t i, ob_operation *operations, int32_t *left) {
    const ob_tensor *records = &header->tensors[OB_TENSOR_PROGRAM];
    ob_operation *op = &operations[i];
    const ob_value *source = NULL;
    int32_t row[COLUMNS];
    for (int c = 0; c < COLUMNS; c++)
        row[c] = ob_read32(records->data + (int64_t)i * records->row_bytes + 4 * c);
    if (!within(row[KIND], 0, KINDS - 1))
        return 0;
    unsigned used = USED[row[KIND]];
    uint32_t padding = (uint32_t)row[PADDING];
    for (int c = 0; c < COLUMNS; c++)
        if (!(used & BIT(c)) && row[c] != 0)
            return 0;
    memset(op, 0, sizeof *op);
    op->kind = (ob_kind)row[KIND];
    op->source = row[SOURCE];
    op->base = op->kind == OB_CONV ? row[BASE] : -1;
    op->height = row[HEIGHT];
    op->width = row[WIDTH];
    op->stride = row[STRIDE];
    op->top = (int32_t)(padding & 255);
    op->left = (int32_t)(padding >> 8 & 255);
    op->bottom = (int32_t)(padding >> 16 & 255);
    op->right = (int32_t)(padding >> 24);
    op->shift = row[SHIFT];
    op->zero = row[ZERO];
    op->limit = row[LIMIT];
    if ((op->kind == OB_TABLE) != (i == 0) || (op->kind == OB_LOGITS) != (i == records->rows - 1))
        return 0;
    if (op->kind != OB_TABLE) {
        if (!within(op->source, 0, i - 1) || !within(op->base, -1, i - 1))
            return 0;
        source = &operations[op->source].value;
    }
    op->value.channels = used & BIT(CHANNELS) ? row[CHANNELS] : source->channels;
    return within(op->value.channels, 1, OB_MAX_CHANNELS) &&
           (!(used & BIT(HEIGHT)) || (within(op->height, 1, OB_MAX_SIDE) && within(op->width, 1, OB_MAX_SIDE))) &&
           (!(used & BIT(STRIDE)) || within(op->stride, 1, 255)) &&
           within(op->top, 0, 127) && within(op->left, 0, 127) && within(op->bottom, 0, 127) &&
           within(op->right, 0, 127) && within(op->shift, 0, 24) &&
           own(op, row[AT], source, header->tensors, left) && ob_value_find(operations, i);
}

/* Is there a third column of norms only if it says something? */
static int offsets_matter(const ob_tensor *norms) {
    if (norms->row_bytes != 6)
        return 1;
    for (int64_t i = 0; i < norms->rows; i++)
        if (ob_read16(norms->data + 6 * i + 4) != 0)
            return 1;
    return 0;
}

/* Returns -1, or the number of the operation that breaks a rule, or `count` if the whole does. */
static int32_t read_operations(const ob_header *header, ob_operation *operations, uint8_t *used) {
    int32_t left[OB_TENSORS], count = header->tensors[OB_TENSOR_PROGRAM].rows;
    for (int t = 0; t < OB_TENSORS; t++)
        left[t] = header->tensors[t].rows;
    memset(used, 0, (size_t)count);
    for (int32_t i = 0; i < count; i++) {
        if (!read_operation(header, i, operations, left))
            return i;
        if (i > 0)
            used[operations[i].source] = 1;
        if (operations[i].base >= 0)
            used[operations[i].base] = 1;
    }
    for (int32_t i = 0; i < count - 1; i++)
        if (!used[i])
            return i;
    for (int t = OB_TENSOR_LOGITS; t <= OB_TENSOR_BITS; t++)
        if (left[t] != 0)
            return count;
    return offsets_matter(&header->tensors[OB_TENSOR_NORMS]) ? -1 : count;
}

/* -- the interface ------------------------------------------------------------------------------------------------- */

size_t ob_program_size(const void *file, size_t bytes) {
    ob_header header;
    return file && read_header(file, bytes, 0, &header) == OB_OK ? lay_out(&header).end : 0;
}

ob_status ob_program_read(const void *file, size_t bytes, void *memory, size_t memory_bytes, ob_program **program,
                          int32_t *operation) {
    ob_header header;
    if (operation)
        *operation = -1;
    if (!file || !program)
        return OB_ERROR_ARGUMENT;
    *program = NULL;
    ob_status status = read_header(file, bytes, 1, &header);
    if (status != OB_OK)
        return status;
    layout at = lay_out(&header);
    if (!memory || (uintptr_t)memory % OB_ALIGNMENT != 0)
        return OB_ERROR_ARGUMENT;
    if (memory_bytes < at.end)
        return OB_ERROR_MEMORY;
    uint8_t *base = memory;
    status = ob_header_differ(&header, (uint32_t *)(base + at.operations));
    if (status != OB_OK)
        return status;
    ob_operation *operations = (ob_operation *)(base + at.operations);
    ob_program *made = memory;
    made->count = header.tensors[OB_TENSOR_PROGRAM].rows;
    made->operations = operations;
    int32_t wrong = read_operations(&header, operations, base + at.used);
    if (wrong >= 0) {
        if (operation && wrong < made->count)
            *operation = wrong;
        return OB_ERROR_PROGRAM;
    }
    if (header.names != operations[made->count - 1].value.channels)
        return OB_ERROR_TEXT;
    *program = made;
    return OB_OK;
}

void ob_program_shape(const ob_program *program, ob_shape *shape) {
    const ob_value *picture = &program->operations[0].value;
    const ob_operation *logits = &program->operations[program->count - 1];
    shape->channels = picture->channels;
    shape->height = picture->height;
    shape->width = picture->width;
    shape->classes = logits->value.channels;
    shape->fraction = logits->zero;
    shape->sharpness = logits->limit;
    shape->operations = program->count;
}
