/* SPDX-License-Identifier: Apache-2.0 */
/* transpose_ref.c: scalar reference of the matrix transpose. */
#include "kernel/kernel.h"

void lb_k_transpose_ref(size_t n_rows, size_t n_cols, size_t elem_bytes, void *out,
                        size_t out_stride, const void *in, size_t in_stride) {
    u8 *dst = out;
    const u8 *src = in;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t c = 0; c < n_cols; c++)
            memcpy(dst + (c * out_stride + r) * elem_bytes, src + (r * in_stride + c) * elem_bytes,
                   elem_bytes);
}
