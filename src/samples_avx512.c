#define FL_ISA avx512
#include "samples.inc"
