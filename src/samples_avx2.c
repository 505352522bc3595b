#define FL_ISA avx2
#include "samples.inc"
