/* SPDX-License-Identifier: Apache-2.0 */
/* hash_avx2.c: the xxHash library, compiled in for AVX2: its header chooses by the flags. */
#include "base/hash_isa.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wshadow"
#define XXH_INLINE_ALL
#include <xxhash.h>
#pragma GCC diagnostic pop

_Static_assert(XXH_VECTOR == XXH_AVX2, "compile with -mavx2");

void lb_xxh_update_avx2(lb_xxh *h, const void *ptr, size_t len) {
    (void)XXH3_128bits_update((XXH3_state_t *)(void *)h->opaque, ptr, len);
}
