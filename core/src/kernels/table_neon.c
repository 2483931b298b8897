#include "../table.h"
#if defined(__ARM_NEON) && defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#include "vector_neon.h"
#define OB_KERNELS ob_table_neon
#define OB_NAME "neon"
#include "all_kernels.h"
#else
typedef int ob_no_neon;
#endif
