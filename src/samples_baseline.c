#define FL_ISA baseline
#include "samples.inc"
