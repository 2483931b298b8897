/* JSON strings, read character by character where they lie: nothing is copied, so nothing is allocated. */
#ifndef OB_TEXT_H
#define OB_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes still to read. */
typedef struct ob_text {
    const uint8_t *at, *end;
} ob_text;

enum { OB_END = -1, OB_BAD = -2 };

/* The next character of a string whose opening quote has been read: a code point (half of a surrogate pair is one),
 * OB_END at the closing quote, which it passes, OB_BAD where it is no JSON or no UTF-8. */
typedef int32_t ob_next(ob_text *text);

int32_t ob_string_next(ob_text *text); /* of a string in the bytes */
int32_t ob_inner_next(ob_text *text);  /* of a string in the JSON text that such a string holds */

/* Is the string, from here to its closing quote, `literal`, which is ASCII? */
int ob_text_is(ob_text text, const char *literal);
int ob_text_begins(ob_text text, const char *literal);

/* Does the string hold a character that could disguise it or command a terminal? `lines`: tab and new line are fine. */
int ob_text_unseen(ob_text text, ob_next *next, int lines);

/* Do the strings at these `count` places, counted from `start`, differ from each other? Sorts the places. */
int ob_texts_differ(ob_text start, ob_next *next, uint32_t *places, int32_t count);

#endif
