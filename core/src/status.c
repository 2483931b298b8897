#include "../include/onebit.h"

static const struct {
    const char *name, *text;
} STATUSES[] = {
    {"OB_OK", "no error"},
    {"OB_ERROR_ARGUMENT", "a pointer is NULL or not aligned, or a number is out of range: a mistake of the caller"},
    {"OB_ERROR_MEMORY", "the memory given is smaller than asked for, or there is none left"},
    {"OB_ERROR_FORMAT", "this is no packed model of onebit"},
    {"OB_ERROR_DAMAGED", "the packed model is damaged or cut short: copy or fetch it again"},
    {"OB_ERROR_NEWER", "the packed model has a later format than this library knows: update onebit"},
    {"OB_ERROR_HEADER", "the header of the packed model breaks a rule of the format"},
    {"OB_ERROR_TEXT", "the class names or the metadata of the packed model break a rule of the format"},
    {"OB_ERROR_PROGRAM", "an operation of the packed model breaks a rule of the format"},
    {"OB_ERROR_ISA", "there is no instruction set of this name, or this machine or build lacks it"},
    {"OB_ERROR_THREADS", "the system started no thread"},
};

enum { COUNT = sizeof STATUSES / sizeof STATUSES[0] };

const char *ob_status_name(ob_status status) {
    return (unsigned)status < COUNT ? STATUSES[status].name : "OB_ERROR_UNKNOWN";
}

const char *ob_status_text(ob_status status) {
    return (unsigned)status < COUNT ? STATUSES[status].text : "an error that this library does not know";
}
