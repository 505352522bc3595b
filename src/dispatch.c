/* Detects which tables of kernels this machine can run. Compiled for the baseline, like all code that runs before
 * the detection. */
#include "kernels.h"
#include "processor.h"

#ifdef FL_X86
/* The register states that the operating system saves. Without them the instructions fault or lose data. */
static uint64_t fl_xcr0(void)
{
#ifdef _MSC_VER
    return _xgetbv(0);
#else
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
#endif
}

static int fl_all(unsigned value, unsigned bits) { return (value & bits) == bits; }
#endif

int fl_machine_level(void)
{
#ifdef FL_X86
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    const unsigned avx2 = 1u << 5, avx512f = 1u << 16, avx512dq = 1u << 17, avx512bw = 1u << 30, avx512vl = 1u << 31;
    const uint64_t ymm_state = 0x06, zmm_state = 0xe6;
    unsigned leaf1[4], leaf7[4];
    uint64_t saved;
    fl_cpuid(1, 0, leaf1);
    if (!fl_all(leaf1[2], fma | osxsave | avx | f16c)) return 0;
    saved = fl_xcr0();
    fl_cpuid(7, 0, leaf7);
    if ((saved & ymm_state) != ymm_state || !fl_all(leaf7[1], avx2)) return 0;
    if ((saved & zmm_state) != zmm_state || !fl_all(leaf7[1], avx512f | avx512dq | avx512bw | avx512vl)) return 1;
    return 2;
#else
    return 0;
#endif
}

int fl_machine_has_bfloat16(void)
{
#ifdef FL_X86
    unsigned leaf7[4];
    if (fl_machine_level() < 2) return 0;
    fl_cpuid(7, 0, leaf7);
    if (leaf7[0] < 1) return 0;
    fl_cpuid(7, 1, leaf7);
    return fl_all(leaf7[0], 1u << 5);
#else
    return 0;
#endif
}

int fl_uses_bfloat16 = 0;

const struct fl_kernels *fl_kernels_of_level(int level)
{
    if (level == 0) return &fl_kernels_baseline;
#ifdef FASTLOSS_BUILT_AVX2
    if (level == 1) return &fl_kernels_avx2;
#endif
#ifdef FASTLOSS_BUILT_AVX512
    if (level == 2) return &fl_kernels_avx512;
#endif
    return NULL;
}
