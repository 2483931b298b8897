/* The kernel of AMX, emulated: a part of the program of emulated.c. */
#include "emulation.h"

#include "../src/kernels/amx.c"
