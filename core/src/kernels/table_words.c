#include "../table.h"
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include "vector_words.h"
#define OB_KERNELS ob_table_words
#define OB_NAME "words"
#include "all_kernels.h"
#else
typedef int ob_no_words;
#endif
