/* SPDX-License-Identifier: Apache-2.0 */
/* repack.c: codes in another layout: only bits move. A unit is 32 codes of E2M1 with one scale
 * (E8M0). GGUF: the scale, then byte j holds code j low and code j + 16 high; MLX and gpt-oss's
 * checkpoints: byte j holds code 2j low and code 2j + 1 high, scales in a tensor of their own. */
#include "plan/prog.h"

enum { CODES = 16, BLOCK = 17 };

/* Alternating codes -> halves. */
static void to_halves(u8 *out, const u8 *in) {
    for (u32 j = 0; j < CODES / 2; j++) {
        out[2 * j] = (u8)((in[j] & 15) | in[j + 8] << 4);
        out[2 * j + 1] = (u8)(in[j] >> 4 | (in[j + 8] & 0xf0));
    }
}

static void from_halves(u8 *out, const u8 *in) {
    for (u32 j = 0; j < CODES / 2; j++) {
        out[j] = (u8)((in[2 * j] & 15) | in[2 * j + 1] << 4);
        out[j + 8] = (u8)(in[2 * j] >> 4 | (in[2 * j + 1] & 0xf0));
    }
}

void lb_repack_run(lb_repack repack, const lb_codec *c, u64 n, u8 *out, const u8 *const part[]) {
    bool blocks = c->enc.kind == LB_ENC_PLAIN; /* GGUF's */
    const u8 *codes = part[0] + blocks, *scales = blocks ? part[0] : part[1];
    u64 next = blocks ? BLOCK : CODES, next_scale = blocks ? BLOCK : 1;
    for (u64 i = 0; i < n; i++, codes += next, scales += next_scale)
        switch (repack) {
        case LB_REPACK_MXFP4:
            *out++ = *scales;
            if (blocks)
                memcpy(out, codes, CODES);
            else
                to_halves(out, codes);
            out += CODES;
            break;
        case LB_REPACK_MXFP4_CODES:
            if (blocks)
                from_halves(out, codes);
            else
                memcpy(out, codes, CODES);
            out += CODES;
            break;
        case LB_REPACK_MXFP4_SCALES:
            *out++ = *scales;
            break;
        case LB_REPACK_NONE:
        case LB_REPACK_COUNT:
            LB_ASSERT(false && "a layout of codes");
        }
}
