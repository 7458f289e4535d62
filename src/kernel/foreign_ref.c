/* SPDX-License-Identifier: Apache-2.0 */
/* foreign_ref.c: codes of other tools' encodings to f32; scales and zeros are applied by map_
 * kernels, in the order of the maker's code (plan/codec_foreign.c). */
#include "kernel/kernel.h"

void lb_k_decode_f32_i8_ref(size_t n_elems, float *out, const void *in) {
    const i8 *p = in;
    for (size_t i = 0; i < n_elems; i++)
        out[i] = (float)p[i];
}

void lb_k_decode_f32_codes_ref(size_t n_elems, size_t first, u32 bits, float *out, const void *in) {
    const u8 *p = in;
    for (size_t i = 0; i < n_elems; i++) {
        const size_t at = (first + i) * bits, shift = at % 8;
        u32 v = p[at / 8];
        if (shift + bits > 8)
            v |= (u32)p[at / 8 + 1] << 8;
        out[i] = (float)(v >> shift & ((1u << bits) - 1));
    }
}
