#include "../table.h"
#if defined(__AVX2__)  && (defined(__GNUC__) || defined(__clang__))
#include "vector_avx2.h"
#define OB_KERNELS ob_table_avx2
#define OB_NAME "avx2"
#include "all_kernels.h"
#else
typedef int ob_no_avx2;
#endif
