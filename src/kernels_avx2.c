#define FL_ISA avx2
#include "kernels.inc"
