/* SPDX-License-Identifier: Apache-2.0 */
/* mended.h: for files whose parts are hashed: an input as it is, and once more with the hashes that
 * its bytes should have, so that what lies behind them is reached. */
#ifndef LB_TESTS_FUZZ_MENDED_H
#define LB_TESTS_FUZZ_MENDED_H

#include "base/mem.h"
#include <stdlib.h>

/* LB_OK: all of it was read. */
typedef lb_status mended_read_fn(const u8 *data, size_t size);
/* Reads a copy, which it may change, with every hash as it should be. */
typedef void mended_fn(u8 *data, size_t size);

static inline int mended_run(const u8 *data, size_t size, mended_read_fn *read, mended_fn *mend) {
    u8 *copy = malloc(size ? size : 1);
    (void)read(data, size);
    if (copy && size) {
        memcpy(copy, data, size);
        mend(copy, size);
    }
    free(copy);
    return 0;
}

/* How reading may end. */
static inline lb_status mended_end(lb_status st, const lb_err *err) {
    LB_ASSERT(st == LB_OK || (st == err->code && err->msg[0]));
    LB_ASSERT(st == LB_OK || st == LB_E_FORMAT || st == LB_E_UNSUPPORTED);
    return st;
}

#endif
