#define FL_ISA avx512
#include "kernels.inc"
