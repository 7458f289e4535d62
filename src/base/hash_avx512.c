/* SPDX-License-Identifier: Apache-2.0 */
/* hash_avx512.c: the xxHash library, compiled in for AVX-512: its header chooses by the flags. */
#include "base/hash_isa.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wshadow"
#define XXH_INLINE_ALL
#include <xxhash.h>
#pragma GCC diagnostic pop

_Static_assert(XXH_VECTOR == XXH_AVX512, "compile with -mavx512f");

void lb_xxh_update_avx512(lb_xxh *h, const void *ptr, size_t len) {
    (void)XXH3_128bits_update((XXH3_state_t *)(void *)h->opaque, ptr, len);
}
