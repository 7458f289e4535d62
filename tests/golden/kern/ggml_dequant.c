/* SPDX-License-Identifier: Apache-2.0 */
/* ggml_dequant.c: decodes blocks with ggml's own C code, for the golden files.
 *
 *   ggml_dequant TYPE <blocks >floats
 * Built against llama.cpp's sources, without contraction, so that the values are those of C:
 *   G=<llama.cpp>/ggml; cc -O1 -ffp-contract=off -ffunction-sections -I$G/include -I$G/src \
 *     ggml_dequant.c $G/src/ggml-quants.c -Wl,--gc-sections,--unresolved-symbols=ignore-all -lm */
#define GGML_COMMON_DECL_C
#include "ggml-common.h"
#include "ggml-quants.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPES(X)                                                                                \
    X(q4_0, 32)                                                                                 \
    X(q4_1, 32) X(q5_0, 32) X(q5_1, 32) X(q8_0, 32) X(q1_0, 128) X(q2_0, 64) X(mxfp4, 32)       \
        X(nvfp4, 64) X(tq1_0, 256) X(tq2_0, 256) X(q2_K, 256) X(q3_K, 256) X(q4_K, 256)         \
            X(q5_K, 256) X(q6_K, 256) X(q8_K, 256) X(iq2_xxs, 256) X(iq2_xs, 256) X(iq2_s, 256) \
                X(iq3_xxs, 256) X(iq3_s, 256) X(iq1_s, 256) X(iq1_m, 256) X(iq4_nl, 32)         \
                    X(iq4_xs, 256)

int main(int argc, char **argv) {
    static float y[256];
#define X(t, n)                                      \
    if (argc == 2 && !strcmp(argv[1], #t)) {         \
        static block_##t b;                          \
        while (fread(&b, sizeof b, 1, stdin) == 1) { \
            dequantize_row_##t(&b, y, n);            \
            fwrite(y, sizeof *y, n, stdout);         \
        }                                            \
        return 0;                                    \
    }
    TYPES(X)
    fprintf(stderr, "usage: ggml_dequant TYPE\n");
    return 2;
}
