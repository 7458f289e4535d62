/* SPDX-License-Identifier: Apache-2.0 */
/* quantize.c: runs one quantizer on rows of standard input, for tests/peers/peer_quant_*.py.
 *
 * usage: quantize NAME GROUP HOW N_GROUPS GLOBAL_SCALE ISA_MASK [TILE_ROWS TILE_COLS]
 * Names as quant_kit.h has them; with tiles GROUP and N_GROUPS are columns and rows. Writes codes,
 * scales, biases or zero points, and the count of groups that do not hold what they were given, as
 * a u64. */
#include "quant_kit.h"
#include "base/cpu.h"
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc != 7 && argc != 9) {
        fprintf(stderr, "usage: quantize NAME GROUP HOW N_GROUPS GLOBAL_SCALE ISA_MASK "
                        "[TILE_ROWS TILE_COLS]\n");
        return 2;
    }
    const size_t group = strtoull(argv[2], NULL, 0), n = strtoull(argv[4], NULL, 0);
    const u32 how = (u32)strtoul(argv[3], NULL, 0);
    const size_t size = n * group * ((how & 15) == LB_ROUND_NONE ? 4 : 2);
    u8 *in = malloc(size + 1);
    lb_kernels k;
    quant_out o;
    lb_kernels_init(&k, (u32)strtoul(argv[6], NULL, 0) & lb_cpu_isa());
    if (!in || fread(in, 1, size, stdin) != size) {
        fprintf(stderr, "quantize: %zu bytes are not there\n", size);
        return 1;
    }
    const quant_job job = {.name = argv[1],
                           .n_groups = n,
                           .group = group,
                           .how = how,
                           .global_scale = strtof(argv[5], NULL),
                           .tile_rows = argc == 9 ? strtoull(argv[7], NULL, 0) : 0,
                           .tile_cols = argc == 9 ? strtoull(argv[8], NULL, 0) : 0};
    if (!quant_run(&k, &job, in, &o)) {
        fprintf(stderr, "quantize: no %s of %zu\n", argv[1], group);
        return 1;
    }
    const bool written = fwrite(o.codes, 1, o.n_codes, stdout) == o.n_codes &&
                         fwrite(o.scale, 1, o.n_scale, stdout) == o.n_scale &&
                         fwrite(o.second, 1, o.n_second, stdout) == o.n_second &&
                         fwrite(&o.n_odd, sizeof o.n_odd, 1, stdout) == 1;
    quant_out_free(&o);
    free(in);
    return written ? 0 : 1;
}
