#include "json.h"

#include <string.h>

static void space(ob_text *text) {
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\t' || *text->at == '\n' || *text->at == '\r'))
        text->at++;
}

static int take(ob_text *text, int byte) {
    if (text->at == text->end || *text->at != byte)
        return 0;
    text->at++;
    return 1;
}

static int digit(const ob_text *text) { return text->at < text->end && *text->at >= '0' && *text->at <= '9'; }

/* -- checking ------------------------------------------------------------------------------------------------------ */

static int check_string(ob_text *text) {
    int32_t c;
    if (!take(text, '"'))
        return 0;
    while ((c = ob_string_next(text)) >= 0)
        continue;
    return c == OB_END;
}

static int check_key(ob_text *text) {
    space(text);
    if (!check_string(text))
        return 0;
    space(text);
    return take(text, ':');
}

static int check_number(ob_text *text) {
    const uint8_t *start = text->at;
    int64_t number = 0;
    while (digit(text) && number <= INT32_MAX)
        number = 10 * number + (*text->at++ - '0');
    return number <= INT32_MAX && (*start != '0' || text->at - start == 1); /* who comes next refuses a point */
}

static int check_word(ob_text *text) {
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(text->end - text->at) >= length && memcmp(text->at, words[i], length) == 0) {
            text->at += length;
            return 1;
        }
    }
    return 0;
}

int ob_json_check(ob_text text) {
    uint8_t ends[OB_JSON_DEPTH]; /* of the lists and objects around this place */
    int depth = 0;
    for (;;) {
        /* a value begins here */
        int whole = 1;
        space(&text);
        if (text.at == text.end)
            return 0;
        if (*text.at == '{' || *text.at == '[') {
            if (depth == OB_JSON_DEPTH)
                return 0;
            ends[depth++] = *text.at++ == '{' ? '}' : ']';
            space(&text);
            if (!take(&text, ends[depth - 1])) {
                whole = 0;
                if (ends[depth - 1] == '}' && !check_key(&text))
                    return 0;
            } else {
                depth--;
            }
        } else if (*text.at == '"' ? !check_string(&text) : digit(&text) ? !check_number(&text) : !check_word(&text)) {
            return 0;
        }
        /* it ends here, if it is not a list or object of which the first value comes now; so may those around it */
        while (whole) {
            space(&text);
            if (depth == 0)
                return text.at == text.end;
            if (take(&text, ',')) {
                if (ends[depth - 1] == '}' && !check_key(&text))
                    return 0;
                break;
            }
            if (!take(&text, ends[depth - 1]))
                return 0;
            depth--;
        }
    }
}

/* -- walking ------------------------------------------------------------------------------------------------------- */

int ob_json_kind(ob_text *text) {
    space(text);
    return *text->at;
}

void ob_json_open(ob_text *text) {
    space(text);
    text->at++;
}

int ob_json_more(ob_text *text) {
    space(text);
    if (*text->at == '}' || *text->at == ']') {
        text->at++;
        return 0;
    }
    take(text, ',');
    return 1;
}

ob_text ob_json_string(ob_text *text) {
    space(text);
    text->at++;
    ob_text start = *text;
    while (ob_string_next(text) >= 0)
        continue;
    return start;
}

ob_text ob_json_key(ob_text *text) {
    ob_text start = ob_json_string(text);
    space(text);
    text->at++; /* : */
    return start;
}

int32_t ob_json_number(ob_text *text) {
    int32_t number = 0;
    space(text);
    while (digit(text))
        number = 10 * number + (*text->at++ - '0');
    return number;
}

void ob_json_skip(ob_text *text) {
    int depth = 0;
    do {
        space(text);
        if (*text->at == '"') {
            (void)ob_json_string(text);
            continue;
        }
        depth += (*text->at == '{' || *text->at == '[') - (*text->at == '}' || *text->at == ']');
        /* words and numbers hold none of these bytes; commas and colons stand between two values */
        text->at++;
        while (text->at < text->end && !strchr(" \t\n\r,:{}[]\"", *text->at))
            text->at++;
    } while (depth > 0);
}
