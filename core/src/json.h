/* JSON as the header of a packed file has it. ob_json_check decides whether all is well; the others walk through a text
 * that it found good, and check nothing but what they are asked. */
#ifndef OB_JSON_H
#define OB_JSON_H

#include "text.h"

enum { OB_JSON_DEPTH = 64 }; /* a valid header needs 3; a later version of the format may need more */

/* Is the text one JSON value, all numbers in it whole ones from 0 to 2^31 - 1 written as digits alone? */
int ob_json_check(ob_text text);

/* The byte with which the next value begins: { [ " t f n or a digit. Passes the space before it. */
int ob_json_kind(ob_text *text);

/* Walk: ob_json_open at { or [, then values (keys first) as long as ob_json_more, which passes the end. */
void ob_json_open(ob_text *text);
int ob_json_more(ob_text *text);

/* Pass a string, and the colon where it is a key. Returns where its characters begin. */
ob_text ob_json_string(ob_text *text);
ob_text ob_json_key(ob_text *text);
int32_t ob_json_number(ob_text *text);
void ob_json_skip(ob_text *text); /* any value */

#endif
