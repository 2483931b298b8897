#include "header.h"

#include <string.h>

#include "crc32.h"
#include "json.h"
#include "program.h"

static const int64_t MAX_FILE = INT32_MAX;
enum { MAX_HEADER = 1 << 20, SHORTEST = 16, CRC_BYTES = 4 };

static const struct {
    const char *name, *dtype;
    int item, columns, or_columns; /* bytes; 0 columns: no second axis */
} TENSORS[OB_TENSORS] = {
    {"program", "I32", 4, 12, 12}, {"logits", "I32", 4, 2, 2}, {"table", "I16", 2, 256, 256},
    {"norms", "I16", 2, 2, 3},     {"averages", "I16", 2, 2, 2}, {"bits", "U8", 1, 0, 0},
    {"crc", "U8", 1, 0, 0},
};

/* -- the container ------------------------------------------------------------------------------------------------- */

static int holds_name(const uint8_t *text, size_t bytes) {
    static const char name[] = "\"onebit ";
    for (size_t i = 0; i + sizeof name - 1 <= bytes; i++)
        if (memcmp(text + i, name, sizeof name - 1) == 0)
            return 1;
    return 0;
}

static ob_status read_container(const uint8_t *file, size_t bytes, int with_crc, ob_text *text) {
    uint64_t length = 0;
    if (bytes < SHORTEST || bytes > (uint64_t)MAX_FILE)
        return OB_ERROR_FORMAT;
    for (int i = 8; i-- > 0;)
        length = length << 8 | file[i];
    if (length > MAX_HEADER || length > bytes - 8 - CRC_BYTES)
        return length <= MAX_HEADER && file[8] == '{' ? OB_ERROR_DAMAGED : OB_ERROR_FORMAT;
    text->at = file + 8;
    text->end = text->at + length;
    if (with_crc && ob_crc32(file, bytes - CRC_BYTES) != (uint32_t)ob_read32(file + bytes - CRC_BYTES))
        return holds_name(text->at, (size_t)length) ? OB_ERROR_DAMAGED : OB_ERROR_FORMAT;
    return length % 8 == 0 && length > 0 && *text->at == '{' && ob_json_check(*text) ? OB_OK : OB_ERROR_HEADER;
}

/* -- texts --------------------------------------------------------------------------------------------------------- */

/* The next character of the JSON in a string that is no space. */
static int32_t next_token(ob_text *text) {
    int32_t c;
    do {
        c = ob_string_next(text);
    } while (c == ' ' || c == '\t' || c == '\n' || c == '\r');
    return c;
}

/* Walk through a JSON list of names that can be seen; `places`, if not NULL, receives where each begins. Returns how many
 * there are, -1 where it is something else, or a list of none, which fits no program. */
static int32_t read_classes(ob_text text, uint32_t *places) {
    const uint8_t *start = text.at;
    if (next_token(&text) != '[')
        return -1;
    for (int32_t count = 1;; count++) {
        if (next_token(&text) != '"' || ob_text_unseen(text, ob_inner_next, 0))
            return -1;
        if (places)
            places[count - 1] = (uint32_t)(text.at - start);
        int32_t c = ob_inner_next(&text);
        if (c == OB_END) /* empty */
            return -1;
        while (c >= 0)
            c = ob_inner_next(&text);
        if (c == OB_BAD)
            return -1;
        c = next_token(&text);
        if (c == ']')
            return next_token(&text) == OB_END ? count : -1;
        if (c != ',')
            return -1;
    }
}

/* The metadata's values are strings; the format is ours; nothing in them plays tricks. */
static ob_status read_metadata(ob_header *header) {
    ob_text text = header->metadata, format = {NULL, NULL};
    int good = 1;
    if (ob_json_kind(&text) != '{')
        return OB_ERROR_HEADER;
    for (ob_json_open(&text); ob_json_more(&text); header->keys++) {
        ob_text key = ob_json_key(&text);
        if (ob_json_kind(&text) != '"')
            return OB_ERROR_HEADER;
        ob_text value = ob_json_string(&text), first = key;
        if (ob_text_is(key, "format"))
            format = value;
        else if (ob_text_is(key, "classes"))
            header->classes = value;
        else if (ob_string_next(&first) == OB_END || ob_text_unseen(key, ob_string_next, 0) ||
                 ob_text_unseen(value, ob_string_next, 1))
            good = 0;
    }
    if (!format.at || !ob_text_begins(format, "onebit "))
        return OB_ERROR_FORMAT;
    if (!ob_text_is(format, "onebit 1"))
        return OB_ERROR_NEWER;
    header->names = header->classes.at ? read_classes(header->classes, NULL) : -1;
    return good && header->names >= 0 ? OB_OK : OB_ERROR_TEXT;
}

ob_status ob_header_differ(const ob_header *header, uint32_t *places) {
    ob_text text = header->metadata;
    int32_t count = 0;
    for (ob_json_open(&text); ob_json_more(&text); (void)ob_json_string(&text))
        places[count++] = (uint32_t)(ob_json_key(&text).at - header->metadata.at);
    if (!ob_texts_differ(header->metadata, ob_string_next, places, count))
        return OB_ERROR_HEADER;
    count = read_classes(header->classes, places);
    return ob_texts_differ(header->classes, ob_inner_next, places, count) ? OB_OK : OB_ERROR_TEXT;
}

/* -- tensors ------------------------------------------------------------------------------------------------------- */

typedef struct entry {
    int32_t shape[2], place[2];
    int axes, ends; /* how many numbers they have */
} entry;

/* One or two whole numbers in a list. */
static int read_numbers(ob_text *text, int32_t *numbers, int *count) {
    *count = 0;
    if (ob_json_kind(text) != '[')
        return 0;
    for (ob_json_open(text); ob_json_more(text); ++*count) {
        int kind = ob_json_kind(text);
        if (*count == 2 || kind < '0' || kind > '9')
            return 0;
        numbers[*count] = ob_json_number(text);
    }
    return *count > 0;
}

/* An object with exactly dtype, shape and data_offsets. */
static int read_entry(ob_text *text, const char *dtype, entry *e) {
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    int found = 0;
    if (ob_json_kind(text) != '{')
        return 0;
    for (ob_json_open(text); ob_json_more(text);) {
        int i = 0, good;
        ob_text key = ob_json_key(text);
        while (i < 3 && !ob_text_is(key, keys[i]))
            i++;
        if (i == 3 || found & 1 << i)
            return 0;
        found |= 1 << i;
        if (i == 0)
            good = ob_json_kind(text) == '"' && ob_text_is(ob_json_string(text), dtype);
        else
            good = i == 1 ? read_numbers(text, e->shape, &e->axes)
                          : read_numbers(text, e->place, &e->ends);
        if (!good)
            return 0;
    }
    return found == 7;
}

/* Tensors one behind the other from `data` to `end`, in the order of TENSORS. */
static int lay_out(const entry *entries, const uint8_t *data, const uint8_t *end, ob_tensor *tensors) {
    int64_t begin = 0;
    for (int i = 0; i < OB_TENSORS; i++) {
        const entry *e = &entries[i];
        tensors[i].data = data + begin;
        tensors[i].rows = tensors[i].row_bytes = 0;
        if (e->axes == 0) {
            if (i != OB_TENSOR_NORMS && i != OB_TENSOR_AVERAGES)
                return 0;
            continue;
        }
        int32_t columns = e->axes == 2 ? e->shape[1] : 0;
        if (e->shape[0] == 0 || (columns != TENSORS[i].columns && columns != TENSORS[i].or_columns))
            return 0;
        if (e->axes == 2 && columns == 0) /* an axis without numbers is not the same as no axis */
            return 0;
        tensors[i].rows = e->shape[0];
        tensors[i].row_bytes = (columns ? columns : 1) * TENSORS[i].item;
        int64_t size = (int64_t)tensors[i].rows * tensors[i].row_bytes;
        if (e->ends != 2 || e->place[0] != begin || e->place[1] != begin + size || begin + size > end - data)
            return 0;
        begin += size;
    }
    return begin == end - data && tensors[OB_TENSOR_CRC].rows == CRC_BYTES;
}

ob_status ob_header_read(const uint8_t *file, size_t bytes, int with_crc, ob_header *header) {
    ob_text text, top;
    entry entries[OB_TENSORS];
    int good = 1;
    memset(header, 0, sizeof *header);
    ob_status status = read_container(file, bytes, with_crc, &text);
    if (status != OB_OK)
        return status;
    /* First the metadata, wherever they are: of a newer file, which may have other tensors, they say so. */
    top = text;
    for (ob_json_open(&top); ob_json_more(&top); ob_json_skip(&top)) {
        if (!ob_text_is(ob_json_key(&top), "__metadata__"))
            continue;
        good = good && !header->metadata.at; /* twice */
        header->metadata = top;
    }
    if (!good || !header->metadata.at)
        return OB_ERROR_HEADER;
    status = read_metadata(header);
    if (status != OB_OK)
        return status;
    memset(entries, 0, sizeof entries);
    top = text;
    for (ob_json_open(&top); ob_json_more(&top);) {
        ob_text key = ob_json_key(&top);
        if (ob_text_is(key, "__metadata__")) {
            ob_json_skip(&top);
            continue;
        }
        int i = 0;
        while (i < OB_TENSORS && !ob_text_is(key, TENSORS[i].name))
            i++;
        if (i == OB_TENSORS || entries[i].axes || !read_entry(&top, TENSORS[i].dtype, &entries[i]))
            return OB_ERROR_HEADER;
    }
    return lay_out(entries, text.end, file + bytes, header->tensors) ? OB_OK : OB_ERROR_HEADER;
}
