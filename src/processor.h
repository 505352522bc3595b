/* The instruction cpuid, where the processor has it. */
#ifndef FASTLOSS_PROCESSOR_H
#define FASTLOSS_PROCESSOR_H

#if defined(__x86_64__) || defined(_M_X64) || defined(__i386__) || defined(_M_IX86)
#define FL_X86 1
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif

/* Zeros if the processor has no such leaf. */
static inline void fl_cpuid(unsigned leaf, unsigned subleaf, unsigned r[4])
{
#ifdef _MSC_VER
    __cpuidex((int *)r, (int)(leaf & 0x80000000u), 0);
    if (r[0] < leaf)
        r[0] = r[1] = r[2] = r[3] = 0;
    else
        __cpuidex((int *)r, (int)leaf, (int)subleaf);
#else
    r[0] = r[1] = r[2] = r[3] = 0;
    __get_cpuid_count(leaf, subleaf, &r[0], &r[1], &r[2], &r[3]);
#endif
}
#endif

#endif
