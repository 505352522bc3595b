/* The sizes of the caches, and what follows from them: from how many bytes on output is written past the caches. No
 * result depends on it, only speed. */
#include "kernels.h"
#include "processor.h"

#if defined(__linux__)
#include <stdio.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

enum { FL_LEVELS = 3 };
/* Bounds of what is believed: a virtual machine may report no cache, or those of all processors of its host (320 MiB
 * where the process had 32). */
#define FL_STREAM_LEAST ((ptrdiff_t)8 << 20)
#define FL_STREAM_MOST ((ptrdiff_t)64 << 20)
/* Where nothing is reported. */
#define FL_STREAM_DEFAULT ((ptrdiff_t)32 << 20)

#ifdef __linux__
/* One word of a file of the first processor's cache `index`; 0 if there is none. */
static int fl_word_of_cache(int index, const char *name, char word[32])
{
    char path[96];
    FILE *file;
    int found;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    file = fopen(path, "r");
    if (file == NULL) return 0;
    found = fscanf(file, "%31s", word) == 1;
    fclose(file);
    return found;
}

static ptrdiff_t fl_cache_of_system(int level)
{
    char word[32];
    long size = 0;
    for (int index = 0; fl_word_of_cache(index, "level", word); index++) {
        char unit = 'B';
        int its_level = 0;
        if (sscanf(word, "%d", &its_level) != 1 || its_level != level) continue;
        if (!fl_word_of_cache(index, "type", word) || word[0] == 'I') continue; /* of instructions */
        if (!fl_word_of_cache(index, "size", word) || sscanf(word, "%ld%c", &size, &unit) < 1) continue;
        return (ptrdiff_t)size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
    }
#ifdef _SC_LEVEL1_DCACHE_SIZE
    size = sysconf(level == 1 ? _SC_LEVEL1_DCACHE_SIZE : level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
#endif
    return (ptrdiff_t)size;
}
#elif defined(__APPLE__)
static ptrdiff_t fl_cache_of_system(int level)
{
    static const char *const names[FL_LEVELS] = {"hw.l1dcachesize", "hw.l2cachesize", "hw.l3cachesize"};
    int64_t size = 0;
    size_t length = sizeof size;
    return sysctlbyname(names[level - 1], &size, &length, NULL, 0) == 0 ? (ptrdiff_t)size : 0;
}
#else
static ptrdiff_t fl_cache_of_system(int level) { return (void)level, 0; }
#endif

/* Leaf 4 is Intel's, 0x8000001d AMD's; both have the same form. */
static ptrdiff_t fl_cache_of_processor(int level)
{
#ifdef FL_X86
    static const unsigned leaves[2] = {4u, 0x8000001du};
    for (int k = 0; k < 2; k++)
        for (unsigned subleaf = 0; subleaf < 16; subleaf++) {
            unsigned r[4];
            fl_cpuid(leaves[k], subleaf, r);
            if ((r[0] & 31u) == 0) break;                                      /* no more caches */
            if ((r[0] & 31u) == 2 || (int)(r[0] >> 5 & 7u) != level) continue; /* of instructions */
            return (ptrdiff_t)((r[1] >> 22) + 1) * (ptrdiff_t)((r[1] >> 12 & 0x3ffu) + 1) *
                   (ptrdiff_t)((r[1] & 0xfffu) + 1) * ((ptrdiff_t)r[2] + 1);
        }
#else
    (void)level;
#endif
    return 0;
}

ptrdiff_t fl_cache_bytes(int level)
{
    const ptrdiff_t size = fl_cache_of_system(level);
    return size > 0 ? size : fl_cache_of_processor(level);
}

ptrdiff_t fl_stream_bytes(ptrdiff_t largest_cache)
{
    if (largest_cache <= 0) return FL_STREAM_DEFAULT;
    if (largest_cache < FL_STREAM_LEAST) return FL_STREAM_LEAST;
    return largest_cache < FL_STREAM_MOST ? largest_cache : FL_STREAM_MOST;
}
