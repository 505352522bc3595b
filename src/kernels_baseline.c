#define FL_ISA baseline
#include "kernels.inc"
