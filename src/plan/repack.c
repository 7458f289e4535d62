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

/* ---- 32 codes as bytes, in four words ---- */

enum { WORDS = 4 };
#define BYTES(b) (0x0101010101010101ull * (b))

/* The lowest `bits` (4, 5, 8) of eight bytes, the first lowest; and back. */
static u64 pack_8(u64 x, u32 bits) {
    if (bits == 8)
        return x;
    if (bits == 4) {
        x = (x | x >> 4) & 0x00ff00ff00ff00ffull;
        x = (x | x >> 8) & 0x0000ffff0000ffffull;
        return (x | x >> 16) & 0xffffffff;
    }
    x = (x & 0x001f001f001f001full) | (x >> 3 & 0x03e003e003e003e0ull);
    x = (x & 0x000003ff000003ffull) | (x >> 6 & 0x000ffc00000ffc00ull);
    return (x & 0xfffff) | (x >> 12 & 0xfffff00000ull);
}

static u64 unpack_8(u64 x, u32 bits) {
    if (bits == 8)
        return x;
    if (bits == 4) {
        x = (x | x << 16) & 0x0000ffff0000ffffull;
        x = (x | x << 8) & 0x00ff00ff00ff00ffull;
        return (x | x << 4) & BYTES(0x0f);
    }
    x = (x & 0xfffff) | (x & 0xfffff00000ull) << 12;
    x = (x & 0x000003ff000003ffull) | (x & 0x000ffc00000ffc00ull) << 6;
    return (x & 0x001f001f001f001full) | (x & 0x03e003e003e003e0ull) << 3;
}

/* Bits of a stream, the first lowest: `bits` bytes for eight codes. */
static void read_bits(u64 *code, const u8 *in, u32 bits) {
    for (u32 i = 0; i < WORDS; i++, in += bits) {
        u64 x = bits == 8 ? lb_load_u64(in) : lb_load_u32(in);
        code[i] = unpack_8(bits == 5 ? x | (u64)in[4] << 32 : x, bits);
    }
}

static void write_bits(u8 *out, const u64 *code, u32 bits) {
    for (u32 i = 0; i < WORDS; i++, out += bits) {
        u64 x = pack_8(code[i], bits);
        if (bits == 8) {
            lb_store_u64(out, x);
            continue;
        }
        lb_store_u32(out, (u32)x);
        if (bits == 5)
            out[4] = (u8)(x >> 32);
    }
}

/* Code j low, code j + 16 high. */
static void read_halves(u64 *code, const u8 *in) {
    for (u32 i = 0; i < 2; i++) {
        u64 x = lb_load_u64(in + 8 * i);
        code[i] = x & BYTES(0x0f);
        code[i + 2] = x >> 4 & BYTES(0x0f);
    }
}

static void write_halves(u8 *out, const u64 *code) {
    for (u32 i = 0; i < 2; i++)
        lb_store_u64(out + 8 * i, (code[i] & BYTES(0x0f)) | (code[i + 2] & BYTES(0x0f)) << 4);
}

/* Bit i of a byte as byte i of a word; and back. */
static u64 spread_bits(u64 byte) {
    u64 x = BYTES(byte) & 0x8040201008040201ull;
    return (x + BYTES(0x7f)) >> 7 & BYTES(1);
}

static u32 gather_bits(u64 x) {
    return (u32)((x & BYTES(1)) * 0x0102040810204080ull >> 56);
}

static void read_fifth(u64 *code, u32 high) {
    for (u32 i = 0; i < WORDS; i++)
        code[i] |= spread_bits(high >> 8 * i & 255) << 4;
}

static u32 fifth_bits(const u64 *code) {
    u32 v = 0;
    for (u32 i = 0; i < WORDS; i++)
        v |= gather_bits(code[i] >> 4) << 8 * i;
    return v;
}

/* ---- E2M1 ---- */

static void run_mxfp4(lb_repack repack, bool blocks, u64 n, u8 *out, const u8 *const part[]) {
    const u8 *codes = part[0] + blocks, *scales = blocks ? part[0] : part[1];
    u64 next = blocks ? BLOCK : CODES, next_scale = blocks ? BLOCK : 1, code[WORDS];
    for (u64 i = 0; i < n; i++, codes += next, scales += next_scale) {
        if (repack != LB_REPACK_MXFP4_CODES)
            *out++ = *scales;
        if (repack == LB_REPACK_MXFP4_SCALES)
            continue;
        if (blocks == (repack == LB_REPACK_MXFP4)) {
            memcpy(out, codes, CODES);
        } else if (blocks) {
            read_halves(code, codes);
            write_bits(out, code, 4);
        } else {
            read_bits(code, codes, 4);
            write_halves(out, code);
        }
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
    u64 code[WORDS];
    number scale, bias;
} group;

/* What the output is made of. */
typedef struct wanted {
    bool codes, scales;
} wanted;

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

/* Group k of eight of a block of Q4_K (bits 4) or Q5_K (5): f16 d, f16 dmin, 12 bytes of six-bit
 * scales and minima, for Q5_K 32 bytes of fifth bits, 128 bytes of low nibbles then high ones. */
static void read_k_codes(group *g, const u8 *block, u32 k, u32 bits) {
    const u8 *low = block + 16 + (bits == 5 ? 32 : 0) + k / 2 * 32;
    for (u32 i = 0; i < WORDS; i++) {
        g->code[i] = lb_load_u64(low + 8 * i) >> (k % 2 ? 4 : 0) & BYTES(0x0f);
        if (bits == 5)
            g->code[i] |= (lb_load_u64(block + 16 + 8 * i) >> k & BYTES(1)) << 4;
    }
}

static void read_k_scales(group *g, const u8 *block, u32 k) {
    const u8 *q = block + 4;
    u32 sc = k < 4 ? q[k] & 63u : (q[k + 4] & 15u) | (u32)(q[k - 4] >> 6) << 4;
    u32 m = k < 4 ? q[k + 4] & 63u : (u32)(q[k + 4] >> 4) | (u32)(q[k] >> 6) << 4;
    g->scale = from_product(lb_f16_to_f32(lb_load_u16(block)), (float)sc);
    g->bias = from_product(lb_f16_to_f32(lb_load_u16(block + 2)), -(float)m);
}

/* The bias of codes whose zero point is in the middle: the scale times -2^(bits-1). */
static number middle_of(const number *scale, u32 bits) {
    u32 exponent = scale->half >> 10 & 31;
    if (exponent == 0 || exponent + bits - 1 > 30)
        return from_product(scale->value, -(float)(1u << (bits - 1)));
    return from_half((u16)((scale->half ^ 0x8000u) + ((bits - 1) << 10)));
}

/* A block of 32: its scale, its bias (or a zero point in the middle), fifth bits, codes. */
static void read_block(group *g, lb_dtype t, u32 bits, wanted want, const u8 *block) {
    bool middle = t != LB_Q4_1 && t != LB_Q5_1;
    const u8 *at = block + (middle ? 2 : 4);
    if (want.scales) {
        g->scale = from_half(lb_load_u16(block));
        g->bias = middle ? middle_of(&g->scale, bits) : from_half(lb_load_u16(block + 2));
    }
    if (!want.codes)
        return;
    if (bits == 8) {
        for (u32 i = 0; i < WORDS; i++)
            g->code[i] = lb_load_u64(at + 8 * i) ^ BYTES(0x80);
        return;
    }
    read_halves(g->code, at + (bits == 5 ? 4 : 0));
    if (bits == 5)
        read_fifth(g->code, lb_load_u32(at));
}

static number number_at(lb_dtype t, const u8 *at, u64 i) {
    return t == LB_F32    ? from_float(lb_f32_from_bits(lb_load_u32(at + 4 * i)))
           : t == LB_BF16 ? from_float(lb_bf16_to_f32(lb_load_u16(at + 2 * i)))
                          : from_half(lb_load_u16(at + 2 * i));
}

/* Group k of unit i. */
static void read_group(group *g, const lb_codec *c, u64 i, u32 k, wanted want,
                       const u8 *const part[]) {
    const u8 *unit = part[0] + i * c->part[0].unit_bytes;
    if (c->enc.kind != LB_ENC_PLAIN) {
        if (want.codes)
            read_bits(g->code, unit + k * GROUP / 8 * c->enc.bits, c->enc.bits);
        g->scale = number_at(c->part[1].dtype, part[1], i);
        g->bias = number_at(c->part[2].dtype, part[2], i);
    } else if (c->dtype == LB_Q4_K || c->dtype == LB_Q5_K) {
        if (want.codes)
            read_k_codes(g, unit, k, bits_of(c->dtype));
        if (want.scales)
            read_k_scales(g, unit, k);
    } else {
        read_block(g, c->dtype, bits_of(c->dtype), want, unit);
    }
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
        for (u32 i = 0; i < WORDS; i++)
            lb_store_u64(out + 8 * i, g->code[i] ^ BYTES(0x80));
        return out + GROUP;
    }
    if (bits == 5) {
        lb_store_u32(out, fifth_bits(g->code));
        out += 4;
    }
    write_halves(out, g->code);
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
    group g = {0};
    bool words = repacks[repack].dtype == LB_U32, blocks = repacks[repack].elems == GROUP;
    wanted want = {.codes = words || blocks, .scales = !words};
    for (u64 i = 0; i < n; i++)
        for (u32 k = 0; k < c->unit_elems / GROUP; k++) {
            read_group(&g, c, i, k, want, part);
            out = write_group(repack, &g, out);
            count_group(repack, &g, counts);
        }
}
