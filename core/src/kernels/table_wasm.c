#include "../table.h"
#if defined(__wasm_simd128__)
#include "vector_wasm.h"
#define OB_KERNELS ob_table_wasm
#define OB_NAME "wasm"
#include "all_kernels.h"
#else
typedef int ob_no_wasm;
#endif
