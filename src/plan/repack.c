/* SPDX-License-Identifier: Apache-2.0 */
/* repack.c: codes in another layout: bits move, scales are copied or rounded to f16.
 *
 * Groups of 32 codes. E2M1 with one scale (E8M0): GGUF has the scale, then byte j holds code j low
 * and code j + 16 high; MLX and gpt-oss's checkpoints have code 2j low and code 2j + 1 high, scales
 * in a tensor of their own. Whole numbers, value = code * scale + bias: GGUF's blocks of 32 (the
 * zero point of Q4_0, Q5_0, Q8_0 is in the middle: bias = -2^(bits-1) * scale) and of 256 (Q4_K,
 * Q5_K: six-bit scales and minima of each group, times one f16 each); MLX's affine words, scales
 * and biases. Source of the blocks: ggml-common.h and ggml-quants.c, dtype.def. */
#include "kernel/half.h"
#include "plan/prog.h"

enum { CODES = 16, BLOCK = 17, GROUP = 32 };

/* Elements of the output for 32 codes, and its type. */
static const struct {
    u32 elems;
    lb_dtype dtype;
} repacks[LB_REPACK_COUNT] = {
    [LB_REPACK_NONE] = {32, LB_U8},          [LB_REPACK_MXFP4] = {32, LB_MXFP4},
    [LB_REPACK_MXFP4_CODES] = {4, LB_U32},   [LB_REPACK_MXFP4_SCALES] = {1, LB_U8},
    [LB_REPACK_Q4_0] = {32, LB_Q4_0},        [LB_REPACK_Q4_1] = {32, LB_Q4_1},
    [LB_REPACK_Q5_0] = {32, LB_Q5_0},        [LB_REPACK_Q5_1] = {32, LB_Q5_1},
    [LB_REPACK_Q8_0] = {32, LB_Q8_0},        [LB_REPACK_AFFINE4] = {4, LB_U32},
    [LB_REPACK_AFFINE5] = {5, LB_U32},       [LB_REPACK_AFFINE8] = {8, LB_U32},
    [LB_REPACK_AFFINE_SCALES] = {1, LB_F16}, [LB_REPACK_AFFINE_BIASES] = {1, LB_F16},
};

u32 lb_repack_elems(lb_repack repack) {
    return repacks[repack].elems;
}

lb_dtype lb_repack_dtype(lb_repack repack) {
    return repacks[repack].dtype;
}

/* ---- what goes into what ---- */

static u32 bits_of(lb_dtype t) {
    switch (t) {
    case LB_Q4_0:
    case LB_Q4_1:
    case LB_Q4_K:
        return 4;
    case LB_Q5_0:
    case LB_Q5_1:
    case LB_Q5_K:
        return 5;
    case LB_Q8_0:
        return 8;
    default:
        return 0;
    }
}

static bool is_float(lb_dtype t) {
    return t == LB_F16 || t == LB_BF16 || t == LB_F32;
}

bool lb_repack_takes(lb_repack repack, const lb_source *s, const lb_weight *w) {
    u64 rows, cols;
    bool plain = w->enc.kind == LB_ENC_PLAIN, affine = w->enc.kind == LB_ENC_MLX_AFFINE;
    lb_dtype t = s->tensors[w->part[0]].dtype;
    u32 bits = plain ? bits_of(t) : affine ? w->enc.bits : 0;
    lb_shape_matrix(&w->shape, &rows, &cols);
    if (cols % GROUP != 0)
        return false;
    switch (repack) {
    case LB_REPACK_MXFP4:
    case LB_REPACK_MXFP4_CODES:
    case LB_REPACK_MXFP4_SCALES:
        return plain ? t == LB_MXFP4 : w->enc.kind == LB_ENC_MLX_MXFP4;
    case LB_REPACK_AFFINE4:
    case LB_REPACK_AFFINE5:
    case LB_REPACK_AFFINE8:
        return plain && bits == lb_repack_elems(repack);
    case LB_REPACK_AFFINE_SCALES:
    case LB_REPACK_AFFINE_BIASES:
        return plain && bits;
    case LB_REPACK_Q4_0:
    case LB_REPACK_Q4_1:
    case LB_REPACK_Q5_0:
    case LB_REPACK_Q5_1:
    case LB_REPACK_Q8_0:
        return affine && bits == bits_of(repacks[repack].dtype) &&
               is_float(s->tensors[w->part[1]].dtype) && is_float(s->tensors[w->part[2]].dtype);
    default:
        return false;
    }
}

bool lb_repack_is_exact(lb_repack repack, const lb_source *s, const lb_weight *w) {
    if (w->enc.kind == LB_ENC_MLX_AFFINE)
        return lb_repack_takes(repack, s, w) && s->tensors[w->part[1]].dtype == LB_F16 &&
               s->tensors[w->part[2]].dtype == LB_F16;
    lb_dtype t = s->tensors[w->part[0]].dtype;
    return lb_repack_takes(repack, s, w) && t != LB_Q4_K && t != LB_Q5_K;
}

/* ---- E2M1 ---- */

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

static void run_mxfp4(lb_repack repack, bool blocks, u64 n, u8 *out, const u8 *const part[]) {
    const u8 *codes = part[0] + blocks, *scales = blocks ? part[0] : part[1];
    u64 next = blocks ? BLOCK : CODES, next_scale = blocks ? BLOCK : 1;
    for (u64 i = 0; i < n; i++, codes += next, scales += next_scale) {
        if (repack != LB_REPACK_MXFP4_CODES)
            *out++ = *scales;
        if (repack == LB_REPACK_MXFP4_SCALES)
            continue;
        if (blocks == (repack == LB_REPACK_MXFP4))
            memcpy(out, codes, CODES);
        else if (blocks)
            from_halves(out, codes);
        else
            to_halves(out, codes);
        out += CODES;
    }
}

/* ---- whole numbers: groups of 32 as bytes, with their scale and bias ---- */

typedef struct number {
    float value;     /* as the source has it */
    u16 half;        /* as f16 */
    bool rounded;    /* it is no f16 */
    bool overflowed; /* ... and is infinite now */
} number;

typedef struct group {
    u8 code[GROUP];
    number scale, bias;
} group;

static number from_half(u16 h) {
    return (number){.value = lb_f16_to_f32(h), .half = h};
}

static number from_float(float x) {
    u16 h = lb_f16_from_f32(x);
    return (number){x, h, x == x && lb_f16_to_f32(h) != x, !lb_f16_is_finite(h) && x - x == 0};
}

/* Processors differ in the NaN that they make. */
static number from_product(float a, float b) {
    return from_float(lb_canon_f32(a * b));
}

/* Code j low, code j + 16 high. */
static void halves(u8 *code, const u8 *in, u32 n) {
    for (u32 j = 0; j < n; j++) {
        code[j] = in[j] & 15;
        code[j + n] = in[j] >> 4;
    }
}

static void fifth_bits(u8 *code, u32 high) {
    for (u32 j = 0; j < GROUP; j++)
        code[j] = (u8)(code[j] | (high >> j & 1) << 4);
}

/* Group k of eight of a block of Q4_K (bits 4) or Q5_K (5): f16 d, f16 dmin, 12 bytes of six-bit
 * scales and minima, for Q5_K 32 bytes of fifth bits, 128 bytes of low nibbles then high ones. */
static void read_k(group *g, const u8 *block, u32 k, u32 bits) {
    const u8 *q = block + 4, *low = block + 16 + (bits == 5 ? 32 : 0) + k / 2 * 32;
    u32 sc = k < 4 ? q[k] & 63u : (q[k + 4] & 15u) | (u32)(q[k - 4] >> 6) << 4;
    u32 m = k < 4 ? q[k + 4] & 63u : (u32)(q[k + 4] >> 4) | (u32)(q[k] >> 6) << 4;
    for (u32 j = 0; j < GROUP; j++) {
        g->code[j] = k % 2 ? low[j] >> 4 : low[j] & 15;
        if (bits == 5)
            g->code[j] = (u8)(g->code[j] | (block[16 + j] >> k & 1) << 4);
    }
    g->scale = from_product(lb_f16_to_f32(lb_load_u16(block)), (float)sc);
    g->bias = from_product(lb_f16_to_f32(lb_load_u16(block + 2)), -(float)m);
}

/* The zero point in the middle. */
static void middle(group *g, const u8 *d, u32 bits) {
    g->scale = from_half(lb_load_u16(d));
    g->bias = from_product(g->scale.value, -(float)(1u << (bits - 1)));
}

static void read_block(group *g, lb_dtype t, const u8 *block, u32 k) {
    switch (t) {
    case LB_Q4_0:
        middle(g, block, 4);
        halves(g->code, block + 2, 16);
        return;
    case LB_Q4_1:
        g->scale = from_half(lb_load_u16(block));
        g->bias = from_half(lb_load_u16(block + 2));
        halves(g->code, block + 4, 16);
        return;
    case LB_Q5_0:
        middle(g, block, 5);
        halves(g->code, block + 6, 16);
        fifth_bits(g->code, lb_load_u32(block + 2));
        return;
    case LB_Q5_1:
        g->scale = from_half(lb_load_u16(block));
        g->bias = from_half(lb_load_u16(block + 2));
        halves(g->code, block + 8, 16);
        fifth_bits(g->code, lb_load_u32(block + 4));
        return;
    case LB_Q8_0:
        middle(g, block, 8);
        for (u32 j = 0; j < GROUP; j++)
            g->code[j] = block[2 + j] ^ 0x80;
        return;
    default:
        read_k(g, block, k, bits_of(t));
    }
}

static number number_at(lb_dtype t, const u8 *at, u64 i) {
    return t == LB_F32    ? from_float(lb_f32_from_bits(lb_load_u32(at + 4 * i)))
           : t == LB_BF16 ? from_float(lb_bf16_to_f32(lb_load_u16(at + 2 * i)))
                          : from_half(lb_load_u16(at + 2 * i));
}

/* Bits of a stream, the first lowest. */
static void read_bits(u8 *code, const u8 *in, u32 bits) {
    for (u32 j = 0; j < GROUP; j++) {
        u32 at = j * bits, word = in[at / 8];
        if (at % 8 + bits > 8)
            word |= (u32)in[at / 8 + 1] << 8;
        code[j] = (u8)(word >> at % 8 & ((1u << bits) - 1));
    }
}

static void write_bits(u8 *out, const u8 *code, u32 bits) {
    u32 word = 0, have = 0;
    for (u32 j = 0; j < GROUP; j++) {
        word |= (u32)code[j] << have;
        for (have += bits; have >= 8; have -= 8, word >>= 8)
            *out++ = (u8)word;
    }
}

/* Group k of unit i. */
static void read_group(group *g, const lb_codec *c, u64 i, u32 k, const u8 *const part[]) {
    if (c->enc.kind == LB_ENC_PLAIN) {
        read_block(g, c->dtype, part[0] + i * c->part[0].unit_bytes, k);
        return;
    }
    read_bits(g->code, part[0] + i * c->part[0].unit_bytes + k * GROUP / 8 * c->enc.bits,
              c->enc.bits);
    g->scale = number_at(c->part[1].dtype, part[1], i);
    g->bias = number_at(c->part[2].dtype, part[2], i);
}

static void put_halves(u8 *out, const u8 *code) {
    for (u32 j = 0; j < 16; j++)
        out[j] = (u8)((code[j] & 15) | code[j + 16] << 4);
}

static u32 high_bits(const u8 *code) {
    u32 v = 0;
    for (u32 j = 0; j < GROUP; j++)
        v |= (u32)(code[j] >> 4 & 1) << j;
    return v;
}

static u8 *put_u16(u8 *out, u16 v) {
    lb_store_u16(out, v);
    return out + 2;
}

/* Blocks of GGUF; `symmetric`: without a bias. */
static u8 *put_block(u8 *out, const group *g, u32 bits, bool symmetric) {
    out = put_u16(out, g->scale.half);
    if (!symmetric)
        out = put_u16(out, g->bias.half);
    if (bits == 8) {
        for (u32 j = 0; j < GROUP; j++)
            *out++ = g->code[j] ^ 0x80;
        return out;
    }
    if (bits == 5) {
        lb_store_u32(out, high_bits(g->code));
        out += 4;
    }
    put_halves(out, g->code);
    return out + 16;
}

/* Of NaN no code has a value. */
static bool is_middle(const group *g, u32 bits) {
    float s = g->scale.value, b = g->bias.value;
    return b == s * -(float)(1u << (bits - 1)) || (s != s && b != b);
}

static u8 *write_group(lb_repack repack, const group *g, u8 *out) {
    u32 bits = bits_of(repacks[repack].dtype);
    switch (repack) {
    case LB_REPACK_Q4_0:
    case LB_REPACK_Q5_0:
    case LB_REPACK_Q8_0:
        return put_block(out, g, bits, true);
    case LB_REPACK_Q4_1:
    case LB_REPACK_Q5_1:
        return put_block(out, g, bits, false);
    case LB_REPACK_AFFINE_SCALES:
        return put_u16(out, g->scale.half);
    case LB_REPACK_AFFINE_BIASES:
        return put_u16(out, g->bias.half);
    default:
        write_bits(out, g->code, repacks[repack].elems);
        return out + 4 * repacks[repack].elems;
    }
}

/* Once, not in each of three parts: of MLX with the scales. A bias that is not written does not
 * count. */
static void count_group(lb_repack repack, const group *g, u64 counts[2]) {
    bool rounded = g->scale.rounded, overflowed = g->scale.overflowed;
    switch (repack) {
    case LB_REPACK_Q4_0:
    case LB_REPACK_Q5_0:
    case LB_REPACK_Q8_0:
        rounded = rounded || !is_middle(g, bits_of(repacks[repack].dtype));
        break;
    case LB_REPACK_Q4_1:
    case LB_REPACK_Q5_1:
    case LB_REPACK_AFFINE_SCALES:
        rounded = rounded || g->bias.rounded;
        overflowed = overflowed || g->bias.overflowed;
        break;
    default:
        return;
    }
    counts[0] += rounded ? GROUP : 0;
    counts[1] += overflowed ? GROUP : 0;
}

void lb_repack_run(lb_repack repack, const lb_codec *c, u64 n, u8 *out, const u8 *const part[],
                   u64 counts[2]) {
    if (repack <= LB_REPACK_MXFP4_SCALES) {
        LB_ASSERT(repack != LB_REPACK_NONE);
        run_mxfp4(repack, c->enc.kind == LB_ENC_PLAIN, n, out, part);
        return;
    }
    group g;
    for (u64 i = 0; i < n; i++)
        for (u32 k = 0; k < c->unit_elems / GROUP; k++) {
            read_group(&g, c, i, k, part);
            out = write_group(repack, &g, out);
            count_group(repack, &g, counts);
        }
}
