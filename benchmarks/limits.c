/* The limit of memory: what a kernel reads and writes, and nothing else. `benchmarks/contenders.py` compiles it.
 */
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { LINE = 64, AHEAD = 2048 };

/* Reads n bytes (a multiple of a line of the cache) of each of the arrays, and writes n bytes, line by line in turn,
 * as reading and writing in bursts takes longer: past the caches, or through them. All are aligned to a line; `to`
 * may be NULL. */
uint64_t move(const char *const *from, int arrays, char *to, int64_t n, int is_past)
{
    uint64_t line[LINE / 8], mixed[LINE / 8] = {0}, all = 0;
    for (int64_t i = 0; i < n; i += LINE) {
        for (int k = 0; k < arrays; k++) {
            // Into the caches: past them, an Intel Xeon takes twice as long.
            __builtin_prefetch(from[k] + i + AHEAD, 0, 3);
            memcpy(line, from[k] + i, LINE);
            for (int l = 0; l < LINE / 8; l++) mixed[l] ^= line[l];
        }
        if (!to) continue;
#ifdef __SSE2__
        if (!is_past) {
            memcpy(to + i, mixed, LINE);
            continue;
        }
        for (int l = 0; l < LINE / 16; l++)
            _mm_stream_si128((__m128i *)(void *)(to + i) + l,
                             _mm_loadu_si128((const __m128i *)(const void *)mixed + l));
#else
        (void)is_past;
        memcpy(to + i, mixed, LINE);
#endif
    }
#ifdef __SSE2__
    _mm_sfence();
#endif
    for (int l = 0; l < LINE / 8; l++) all ^= mixed[l];
    return all;
}
