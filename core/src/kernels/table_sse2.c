#include "../table.h"
#if defined(__SSE2__) && (defined(__GNUC__) || defined(__clang__))
#include "vector_sse2.h"
#define OB_KERNELS ob_table_sse2
#define OB_NAME "sse2"
#include "all_kernels.h"
#else
typedef int ob_no_sse2;
#endif
