#include "../table.h"
#if defined(__AVX512BW__) && (defined(__GNUC__) || defined(__clang__))
#include "vector_avx512.h"
#define OB_KERNELS ob_table_avx512
#define OB_NAME "avx512"
#include "all_kernels.h"
#else
typedef int ob_no_avx512;
#endif
