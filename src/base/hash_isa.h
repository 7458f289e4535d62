/* SPDX-License-Identifier: Apache-2.0 */
/* hash_isa.h: XXH3-128 compiled for wider registers, for hash.c alone. The state is the same for
 * all of them: an update may go on with what another one began. */
#ifndef LB_BASE_HASH_ISA_H
#define LB_BASE_HASH_ISA_H

#include "base/hash.h"

void lb_xxh_update_avx2(lb_xxh *h, const void *ptr, size_t len);
void lb_xxh_update_avx512(lb_xxh *h, const void *ptr, size_t len);

#endif
