#include "text.h"

/* A character of UTF-8: not longer than it must be, no surrogate, at most U+10FFFF. */
static int32_t utf8(ob_text *text) {
    static const int32_t least[4] = {0, 0x80, 0x800, 0x10000};
    if (text->at == text->end)
        return OB_BAD;
    int32_t c = *text->at++;
    if (c < 0x80)
        return c;
    int more = c < 0xc0 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf8 ? 3 : 0;
    if (more == 0 || text->end - text->at < more)
        return OB_BAD;
    c &= 0x3f >> more;
    for (int i = 0; i < more; i++) {
        if ((*text->at & 0xc0) != 0x80)
            return OB_BAD;
        c = c << 6 | (*text->at++ & 0x3f);
    }
    return c < least[more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? OB_BAD : c;
}

static int32_t hex4(ob_text *text, ob_next *get) {
    int32_t number = 0;
    for (int i = 0; i < 4; i++) {
        int32_t c = get(text);
        if (c >= '0' && c <= '9')
            c -= '0';
        else if (c >= 'a' && c <= 'f')
            c -= 'a' - 10;
        else if (c >= 'A' && c <= 'F')
            c -= 'A' - 10;
        else
            return OB_BAD;
        number = number << 4 | c;
    }
    return number;
}

/* `get` gives the characters as they are written. */
static int32_t unescaped(ob_text *text, ob_next *get) {
    int32_t c = get(text);
    if (c == '"')
        return OB_END;
    if (c < 0x20) /* a control character, or the text ends before the string does */
        return OB_BAD;
    if (c != '\\')
        return c;
    c = get(text);
    switch (c) {
    case '"':
    case '\\':
    case '/': return c;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'u': break;
    default: return OB_BAD;
    }
    c = hex4(text, get);
    if (c < 0xd800 || c > 0xdbff)
        return c;
    ob_text after = *text;
    if (get(&after) != '\\' || get(&after) != 'u')
        return c;
    int32_t low = hex4(&after, get);
    if (low < 0xdc00 || low > 0xdfff)
        return c;
    *text = after;
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

int32_t ob_string_next(ob_text *text) { return unescaped(text, utf8); }

int32_t ob_inner_next(ob_text *text) { return unescaped(text, ob_string_next); }

static int begins(ob_text *text, const char *literal) {
    for (; *literal; literal++)
        if (ob_string_next(text) != (unsigned char)*literal)
            return 0;
    return 1;
}

int ob_text_begins(ob_text text, const char *literal) { return begins(&text, literal); }

int ob_text_is(ob_text text, const char *literal) {
    return begins(&text, literal) && ob_string_next(&text) == OB_END;
}

int ob_text_unseen(ob_text text, ob_next *next, int lines) {
    int32_t c;
    while ((c = next(&text)) >= 0) {
        if (lines && (c == '\t' || c == '\n'))
            continue;
        if (c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
            (c >= 0xd800 && c <= 0xdfff))
            return 1;
    }
    return 0;
}

/* -- order --------------------------------------------------------------------------------------------------------- */

typedef struct order {
    ob_text start;
    ob_next *next;
} order;

/* Is it a character by itself, in a string and in one within a string? The quotes that end these are not. */
static int plain(uint8_t byte) { return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\'; }

static int compare(const order *by, uint32_t left, uint32_t right) {
    ob_text a = {by->start.at + left, by->start.end}, b = {by->start.at + right, by->start.end};
    for (;;) {
        for (; *a.at == *b.at && plain(*a.at); a.at++) /* long names that begin alike are the slowest there are */
            b.at++;
        int32_t c = by->next(&a), d = by->next(&b);
        if (c != d)
            return c < d ? -1 : 1;
        if (c < 0)
            return 0;
    }
}

/* Let the place at `i` sink until both below it, in the tree that an array is to heapsort, come before it. */
static void sink(const order *by, uint32_t *places, int32_t i, int32_t count) {
    uint32_t moved = places[i];
    for (int32_t below; (below = 2 * i + 1) < count; i = below) {
        if (below + 1 < count && compare(by, places[below], places[below + 1]) < 0)
            below++;
        if (compare(by, moved, places[below]) >= 0)
            break;
        places[i] = places[below];
    }
    places[i] = moved;
}

/* Heapsort: in place, and n log n comparisons whatever a hostile file holds. */
int ob_texts_differ(ob_text start, ob_next *next, uint32_t *places, int32_t count) {
    const order by = {start, next};
    for (int32_t i = count / 2; i-- > 0;)
        sink(&by, places, i, count);
    for (int32_t last = count - 1; last > 0; last--) {
        uint32_t largest = places[0];
        places[0] = places[last];
        places[last] = largest;
        sink(&by, places, 0, last);
    }
    for (int32_t i = 1; i < count; i++)
        if (compare(&by, places[i - 1], places[i]) == 0)
            return 0;
    return 1;
}
