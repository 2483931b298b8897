/* Changes of packed files for libFuzzer that get past the checksum and often past the rules, so that fuzzing reaches what
 * lies behind: header texts, numbers of tensors and records, and whole operations put in, taken out or changed, with the
 * rest of the file made to fit. Linked to a fuzz target, beside the files of the library. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/crc32.h"
#include "../src/header.h"
#include "../src/program.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

enum { MOST_OPERATIONS = 48, MOST_BYTES = 4096, COLUMNS = 12, MOST_CLASSES = 64, CRC_BYTES = 4 };
enum { KIND, SOURCE, BASE, CHANNELS, HEIGHT, WIDTH, STRIDE, PADDING, SHIFT, ZERO, LIMIT, AT };

typedef struct part { /* of a tensor */
    int32_t bytes;
    uint8_t data[MOST_BYTES];
} part;

typedef struct operation {
    int32_t row[COLUMNS];
    part rows, gains; /* of norms always three columns */
} operation;

static operation operations[MOST_OPERATIONS];
static int32_t count;

/* -- chance -------------------------------------------------------------------------------------------------------- */

static uint64_t state;

static uint32_t any(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)(state * 0x2545f4914f6cdd1dull >> 32);
}

static int32_t below(int32_t n) { return (int32_t)(any() % (uint32_t)n); }

/* Numbers at which rules and kernels change their minds. */
static int32_t odd_number(void) {
    switch (below(4)) {
    case 0: return below(9) - 2;
    case 1: return (int32_t)any();
    case 2: return (int32_t)((1u << below(32)) + (uint32_t)below(3) - 1);
    default: return -(int32_t)((1u << below(31)) + (uint32_t)below(3) - 1);
    }
}

/* -- bytes --------------------------------------------------------------------------------------------------------- */

static void put32(uint8_t *p, uint32_t number) {
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(number >> 8 * i);
}

static void put16(uint8_t *p, int32_t number) {
    p[0] = (uint8_t)number;
    p[1] = (uint8_t)(number >> 8);
}

static size_t seal(uint8_t *data, size_t size) {
    if (size > CRC_BYTES)
        put32(data + size - CRC_BYTES, ob_crc32(data, size - CRC_BYTES));
    return size;
}

static size_t header_length(const uint8_t *data, size_t size) {
    size_t length = size < 16 ? 0 : data[0] | (size_t)data[1] << 8;
    return length <= size - 12 ? length : 0;
}

/* -- a file taken apart -------------------------------------------------------------------------------------------- */

/* Rows that an operation owns of its tensor, -1 where its numbers are too large for that. */
static int64_t rows_needed(const operation *op, int32_t source_channels, int *tensor) {
    const int64_t area = (int64_t)op->row[HEIGHT] * op->row[WIDTH]; /* of 32 bits each */
    for (int c = CHANNELS; c <= WIDTH; c++)
        if (op->row[c] < 0 || op->row[c] > 4096 || source_channels < 0 || source_channels > 4096)
            source_channels = -1;
    *tensor = OB_TENSOR_BITS;
    if (source_channels < 0)
        return -1;
    switch (op->row[KIND]) {
    case OB_TABLE: *tensor = OB_TENSOR_TABLE; return op->row[CHANNELS];
    case OB_NORM: *tensor = OB_TENSOR_NORMS; return source_channels;
    case OB_AVERAGE: *tensor = OB_TENSOR_AVERAGES; return area;
    case OB_CONV:
    case OB_LOGITS: *tensor = OB_TENSOR_BITS; return op->row[CHANNELS] * ((area * source_channels + 7) / 8);
    default: *tensor = -1; return 0;
    }
}

static int32_t channels_of(int32_t i) { /* of what operation i makes */
    for (; i > 0 && (operations[i].row[KIND] == OB_NORM || operations[i].row[KIND] == OB_MAX); i = operations[i].row[SOURCE])
        if (operations[i].row[SOURCE] < 0 || operations[i].row[SOURCE] >= i)
            return 1;
    return i >= 0 ? operations[i].row[CHANNELS] : 1;
}

static int32_t source_channels_of(int32_t i) {
    const int32_t source = operations[i].row[SOURCE];
    return source >= 0 && source < i ? channels_of(source) : 1;
}

static int take(part *part, const ob_tensor *tensor, int32_t *from, int64_t rows) {
    if (rows < 0 || rows > tensor->rows - *from || rows * tensor->row_bytes > MOST_BYTES)
        return 0;
    part->bytes = (int32_t)(rows * tensor->row_bytes);
    memcpy(part->data, tensor->data + (int64_t)*from * tensor->row_bytes, (size_t)part->bytes);
    *from += (int32_t)rows;
    return 1;
}

static int take_apart(const uint8_t *data, size_t size) {
    ob_header header;
    int32_t from[OB_TENSORS] = {0};
    if (ob_header_read(data, size, 0, &header) != OB_OK)
        return 0;
    const ob_tensor *records = &header.tensors[OB_TENSOR_PROGRAM], *norms = &header.tensors[OB_TENSOR_NORMS];
    if (records->rows > MOST_OPERATIONS)
        return 0;
    count = records->rows;
    for (int32_t i = 0; i < count; i++) {
        operation *op = &operations[i];
        int tensor;
        for (int c = 0; c < COLUMNS; c++)
            op->row[c] = ob_read32(records->data + (size_t)(i * COLUMNS + c) * 4);
        op->rows.bytes = op->gains.bytes = 0;
        const int64_t rows = rows_needed(op, source_channels_of(i), &tensor);
        if (tensor >= 0 && !take(&op->rows, &header.tensors[tensor], &from[tensor], rows))
            return 0;
        if (op->row[KIND] == OB_LOGITS &&
            !take(&op->gains, &header.tensors[OB_TENSOR_LOGITS], &from[OB_TENSOR_LOGITS], op->row[CHANNELS]))
            return 0;
        if (tensor == OB_TENSOR_NORMS && norms->row_bytes == 4) {
            if (rows * 6 > MOST_BYTES)
                return 0;
            for (int64_t r = rows; r-- > 0;) {
                memmove(op->rows.data + 6 * r, op->rows.data + 4 * r, 4);
                put16(op->rows.data + 6 * r + 4, 0);
            }
            op->rows.bytes = (int32_t)(6 * rows);
        }
    }
    return 1;
}

/* -- and put together again ---------------------------------------------------------------------------------------- */

/* Make a part as large as it must be, out of what it holds or by chance, and mostly of numbers that are allowed. */
static int fit(part *part, int64_t bytes) {
    if (bytes < 0 || bytes > MOST_BYTES)
        return 0;
    const int32_t had = part->bytes;
    for (int32_t i = had; i < bytes; i++)
        part->data[i] = had ? part->data[i % had] : (uint8_t)any();
    part->bytes = (int32_t)bytes;
    return 1;
}

static void allow(operation *op, int32_t source_channels) {
    uint8_t *data = op->rows.data;
    const int64_t weights = (int64_t)op->row[HEIGHT] * op->row[WIDTH] * source_channels;
    switch (op->row[KIND]) {
    case OB_TABLE:
        for (int32_t i = 0; i < op->rows.bytes; i += 2)
            put16(data + i, ob_read16(data + i) % 8160);
        break;
    case OB_NORM:
        for (int32_t i = 2; i < op->rows.bytes; i += 6)
            if (ob_read16(data + i) == -32768)
                put16(data + i, 1);
        break;
    case OB_AVERAGE:
        for (int32_t i = 0; i < op->rows.bytes; i += 4) {
            put16(data + i, ob_read16(data + i) & 15);
            put16(data + i + 2, ob_read16(data + i + 2) & 0x7fff);
        }
        break;
    case OB_CONV:
    case OB_LOGITS:
        if (weights % 8)
            for (int64_t row = (weights + 7) / 8, i = row; i <= op->rows.bytes; i += row)
                data[i - 1] &= (uint8_t)((1 << weights % 8) - 1);
        break;
    }
}

static size_t used;

static void append(uint8_t *data, size_t most, const char *format, ...) {
    char text[256];
    va_list values;
    va_start(values, format);
    const int length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (used + (size_t)length < most)
        memcpy(data + used, text, (size_t)length);
    used += (size_t)length;
}

static void append_bytes(uint8_t *data, size_t most, const uint8_t *from, int32_t bytes) {
    if (used + (size_t)bytes < most)
        memcpy(data + used, from, (size_t)bytes);
    used += (size_t)bytes;
}

/* The file of the operations. Returns its bytes, 0 where it does not fit into `most`. */
static size_t put_together(uint8_t *data, size_t most) {
    static const char *const names[] = {"program", "logits", "table", "norms", "averages", "bits", "crc"};
    static const char *const types[] = {"I32", "I32", "I16", "I16", "I16", "U8", "U8"};
    int32_t rows[OB_TENSORS] = {count}, row_bytes[OB_TENSORS] = {48, 8, 512, 4, 4, 1, 1}, classes = 1;
    rows[OB_TENSOR_CRC] = CRC_BYTES;
    for (int32_t i = 0; i < count; i++) {
        operation *op = &operations[i];
        int tensor;
        const int32_t incoming = source_channels_of(i);
        const int64_t needed = rows_needed(op, incoming, &tensor);
        if (tensor < 0)
            continue;
        const int unit = tensor == OB_TENSOR_NORMS ? 6 : row_bytes[tensor];
        if (needed > MOST_BYTES || !fit(&op->rows, needed * unit))
            return 0;
        if (below(16))
            allow(op, incoming);
        op->row[AT] = op->row[KIND] == OB_TABLE ? 0 : rows[tensor];
        rows[tensor] += (int32_t)needed;
        if (op->row[KIND] == OB_LOGITS) {
            classes = op->row[CHANNELS];
            if (classes < 1 || classes > MOST_CLASSES || !fit(&op->gains, classes * 8))
                return 0;
            rows[OB_TENSOR_LOGITS] += classes;
        }
    }
    int offsets = 0;
    for (int32_t i = 0; i < count; i++)
        if (operations[i].row[KIND] == OB_NORM)
            for (int32_t k = 4; k < operations[i].rows.bytes; k += 6)
                offsets |= ob_read16(operations[i].rows.data + k) != 0;
    row_bytes[OB_TENSOR_NORMS] = offsets ? 6 : 4;

    used = 8;
    append(data, most, "{\"__metadata__\":{\"classes\":\"[");
    for (int32_t i = 0; i < classes; i++)
        append(data, most, i ? ",\\\"%d\\\"" : "\\\"%d\\\"", (int)i);
    append(data, most, "]\",\"format\":\"onebit 1\"}");
    for (int32_t t = 0, begin = 0; t < OB_TENSORS; t++) {
        static const int items[] = {4, 4, 2, 2, 2, 1, 1};
        const int32_t end = begin + rows[t] * row_bytes[t];
        if (rows[t] > 0 && row_bytes[t] > 1)
            append(data, most, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[%d,%d]}", names[t],
                   types[t], (int)rows[t], (int)(row_bytes[t] / items[t]), (int)begin, (int)end);
        else if (rows[t] > 0)
            append(data, most, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%d],\"data_offsets\":[%d,%d]}", names[t], types[t],
                   (int)rows[t], (int)begin, (int)end);
        begin = end;
    }
    append(data, most, "}");
    while (used % 8)
        append(data, most, " ");
    const size_t length = used - 8;
    for (int t = 0; t < OB_TENSORS; t++)
        for (int32_t i = 0; i < count; i++) {
            operation *op = &operations[i];
            uint8_t record[COLUMNS * 4];
            int own;
            (void)rows_needed(op, 1, &own);
            for (int c = 0; c < COLUMNS && t == OB_TENSOR_PROGRAM; c++)
                put32(record + 4 * c, (uint32_t)op->row[c]);
            if (t == OB_TENSOR_PROGRAM)
                append_bytes(data, most, record, sizeof record);
            else if (t == OB_TENSOR_LOGITS && op->row[KIND] == OB_LOGITS)
                append_bytes(data, most, op->gains.data, op->gains.bytes);
            else if (t == own && t == OB_TENSOR_NORMS && !offsets)
                for (int32_t k = 0; k < op->rows.bytes; k += 6)
                    append_bytes(data, most, op->rows.data + k, 4);
            else if (t == own)
                append_bytes(data, most, op->rows.data, op->rows.bytes);
        }
    append(data, most, "CRC.");
    if (used >= most)
        return 0;
    put32(data, (uint32_t)length);
    put32(data + 4, 0);
    return used;
}

/* -- changes ------------------------------------------------------------------------------------------------------- */

static void remove_operation(int32_t at) {
    const int32_t source = operations[at].row[SOURCE];
    memmove(&operations[at], &operations[at + 1], (size_t)(count - at - 1) * sizeof(operation));
    count--;
    for (int32_t i = at; i < count; i++)
        for (int c = SOURCE; c <= BASE; c++) {
            int32_t *number = &operations[i].row[c];
            *number = *number == at ? source : *number > at ? *number - 1 : *number;
        }
}

/* An operation of some kind before number `at`, which then reads it. */
static void insert_operation(int32_t at) {
    operation made = {{0}, {0, {0}}, {0, {0}}};
    memmove(&operations[at + 1], &operations[at], (size_t)(count - at) * sizeof(operation));
    count++;
    for (int32_t i = at + 1; i < count; i++)
        for (int c = SOURCE; c <= BASE; c++)
            operations[i].row[c] += operations[i].row[c] >= at && operations[i].row[c] < count;
    int32_t *row = made.row;
    row[KIND] = 1 + below(4);
    row[SOURCE] = below(4) ? operations[at + 1].row[SOURCE] : below(at);
    if (row[KIND] == OB_NORM) {
        row[LIMIT] = below(4) ? 255 : 1 + below(255);
        row[ZERO] = below(2) ? 0 : below(row[LIMIT] + 1);
    } else {
        row[HEIGHT] = 1 + below(3);
        row[WIDTH] = below(3) ? row[HEIGHT] : 1 + below(3);
        row[STRIDE] = 1 + below(2);
        if (below(2))
            row[PADDING] = (row[HEIGHT] - 1) / 2 * 0x00010001 + (row[WIDTH] - 1) / 2 * 0x01000100;
    }
    if (row[KIND] == OB_CONV) {
        row[CHANNELS] = 1 + below(40);
        row[SHIFT] = below(12);
        row[BASE] = -1;
    }
    operations[at] = made;
    if (row[KIND] == OB_AVERAGE)
        operations[at].row[CHANNELS] = source_channels_of(at) + (below(3) ? 0 : below(20));
    operations[at + 1].row[SOURCE] = at;
}

/* Another number in a column that means something for the kind. */
static void change_operation(int32_t at) {
    static const unsigned meant[] = {0x38, 0x1fe, 0x602, 0xfa, 0xf2, 0x73a};
    int32_t *row = operations[at].row;
    int c = below(COLUMNS);
    if (row[KIND] < 0 || row[KIND] > OB_LOGITS || below(16) == 0) {
        row[c] = odd_number();
        return;
    }
    while (!(meant[row[KIND]] >> c & 1))
        c = below(COLUMNS);
    switch (c) {
    case SOURCE: row[c] = below(at + 1) - (at > 0 && below(8)); break;
    case BASE: row[c] = below(at + 1) - 1; break;
    case CHANNELS: row[c] = 1 + below(below(4) ? 20 : 80); break;
    case STRIDE: row[c] = 1 + below(3); break;
    case PADDING: row[c] = (int32_t)(any() & 0x03030303); break;
    case SHIFT: row[c] = below(25); break;
    case ZERO: row[c] = below(256); break;
    case LIMIT: row[c] = 1 + below(255); break;
    default: row[c] = 1 + below(below(4) ? 7 : 24); /* height and width */
    }
}

static void remove_unread(void) {
    for (int32_t i = count - 2; i > 0; i--) {
        int read = 0;
        for (int32_t k = i + 1; k < count; k++)
            read |= operations[k].row[SOURCE] == i || operations[k].row[BASE] == i;
        if (!read)
            remove_operation(i);
    }
}

static size_t change_operations(uint8_t *data, size_t size, size_t most) {
    if (!take_apart(data, size) || count < 2)
        return 0;
    for (int32_t times = 1 + below(3); times > 0; times--) {
        const int32_t at = below(count);
        const int how = below(8);
        if (how < 2 && count < MOST_OPERATIONS && at > 0)
            insert_operation(at);
        else if (how == 2 && at > 0 && at < count - 1)
            remove_operation(at);
        else
            change_operation(at);
    }
    if (below(8))
        remove_unread();
    return put_together(data, most);
}

static size_t change_header(uint8_t *data, size_t size, size_t most) {
    static uint8_t text[1 << 16];
    const size_t length = header_length(data, size), rest = size - 8 - length;
    const size_t room = most - size < 64 ? 0 : length + 56;
    if (length == 0 || room == 0 || room > sizeof text)
        return 0;
    memcpy(text, data + 8, length);
    size_t now = length;
    while (now > 0 && text[now - 1] == ' ')
        now--;
    now = LLVMFuzzerMutate(text, now, room);
    while (now % 8)
        text[now++] = ' ';
    memmove(data + 8 + now, data + 8 + length, rest);
    memcpy(data + 8, text, now);
    put32(data, (uint32_t)now);
    return 8 + now + rest;
}

static size_t change_number(uint8_t *data, size_t size) {
    const size_t begin = 8 + header_length(data, size), room = size - begin - CRC_BYTES;
    if (begin == 8 || size < begin + CRC_BYTES + 8)
        return 0;
    const size_t at = begin + any() % (room - 4) / 2 * 2;
    if (below(2))
        put16(data + at, odd_number());
    else
        put32(data + at / 4 * 4, (uint32_t)odd_number());
    return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
    static uint8_t before[1 << 20];
    size_t made = 0;
    state = seed * 0x9e3779b97f4a7c15ull + 1;
    if (size >= 16 && most <= sizeof before) {
        memcpy(before, data, size);
        switch (below(8)) {
        case 0: break;
        case 1: made = change_header(data, size, most); break;
        case 2: made = change_number(data, size); break;
        default: made = change_operations(data, size, most); break;
        }
        if (made == 0)
            memcpy(data, before, size);
    }
    if (made == 0)
        made = LLVMFuzzerMutate(data, size, most);
    return below(32) ? seal(data, made) : made;
}
