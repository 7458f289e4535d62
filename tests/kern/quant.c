/* SPDX-License-Identifier: Apache-2.0 */
/* quant.c: cases of the quantizers: their variants, sizes, weights and calls.
 *
 * A quantizer writes to two or three places. They stand in one output, in any order and 37 bytes
 * apart, so that each comes to stand before a guard page and none is aligned. */
#include "checkkern.h"
#include "kernel/half.h"

enum { GAP = 37 };

bool is_quant(const kern *w) {
    return w->sig >= SIG_QUANT_GROUPS && w->sig <= SIG_PACK;
}

u32 quant_variants(const kern *w) {
    switch (w->sig) {
    case SIG_QUANT_GROUPS: /* types, roundings, rule or zero points, order; groups, codes or bits */
        return 3 * 3 * 2 * 3 * (w->code_bits ? 3 * 2 : 7 * 6);
    case SIG_QUANT_FP:
        return 3 * 3 * 2 * 3 * 4;
    case SIG_QUANT_F8:
    case SIG_QUANT_I8:
        return 3 * 3 * 2 * 2;
    case SIG_PARAMS:
        return 3 * 4 * 3;
    case SIG_PACK:
        return 8 * 3;
    default:
        return 1;
    }
}

u32 quant_bench(const kern *w) {
    if (w->sig == SIG_QUANT_GROUPS) /* bf16, bf16, no flag; codes at the end */
        return 4 + 18 * (0 + 3 * (w->code_bits ? 1u : 2 + 7 * 1u));
    if (w->sig == SIG_QUANT_FP || w->sig == SIG_QUANT_F8 || w->sig == SIG_QUANT_I8)
        return 4;
    return w->sig == SIG_PACK ? 3 : 0;
}

/* Takes a digit of the variant. */
static u32 digit(u32 *variant, u32 base) {
    const u32 d = *variant % base;
    *variant /= base;
    return d;
}

static size_t type_bytes(u32 how) {
    return (how & 15) == LB_ROUND_NONE ? 4 : 2;
}

static size_t round_bytes(u32 how) {
    return (how >> 4 & 15) == LB_ROUND_NONE ? 4 : 2;
}

/* The places of parts of these sizes, part `last` at the end. */
static void set_parts(kcase *c, const size_t bytes[3], u32 last) {
    size_t at = 0;
    for (u32 i = 1; i <= 3; i++) {
        const u32 p = (last + i) % 3;
        c->part[p] = at;
        at += bytes[p] + (i < 3 ? GAP : 0);
    }
    c->out_bytes = at;
}

static void set_in(kcase *c, size_t n_elems) {
    c->n_in = 1;
    c->in_bytes[0] = n_elems * type_bytes(c->how);
    c->in_step[0] = 1;
}

static void set_groups(const kern *w, kcase *c, u32 variant) {
    static const u32 lengths[] = {32, 64, 128, 96, 7, 256};
    const u32 type = digit(&variant, 3), round = digit(&variant, 3), flag = digit(&variant, 2);
    const u32 last = digit(&variant, 3);
    u32 bits = w->code_bits;
    if (bits) {
        c->how = LB_QUANT_HOW(type, round, 0) | (flag ? LB_QUANT_CPU : 0);
        c->group_elems = (size_t)32 << digit(&variant, 3);
        c->how |= variant ? LB_QUANT_STORED : 0;
    } else {
        bits = 2 + digit(&variant, 7);
        c->how = LB_QUANT_HOW(type, round, bits) | (flag ? LB_QUANT_ASYM : 0);
        c->group_elems = lengths[variant % LB_LEN(lengths)];
    }
    set_in(c, c->n * c->group_elems);
    const size_t code_bytes = (c->n * c->group_elems * bits + 31) / 32 * 4;
    const size_t third = w->code_bits ? c->n * round_bytes(c->how) : flag ? c->n : 0;
    const size_t bytes[3] = {code_bytes, c->n * round_bytes(c->how), third};
    set_parts(c, bytes, last);
}

static void set_fp(const kern *w, kcase *c, u32 variant) {
    static const float globals[] = {0, 0.37f, 2688.0f, 1e-3f};
    const u32 type = digit(&variant, 3), round = digit(&variant, 3), flag = digit(&variant, 2);
    const u32 last = digit(&variant, 3);
    c->how = LB_QUANT_HOW(type, round, 0) | (flag ? LB_QUANT_CPU : 0);
    c->group_elems = strstr(w->name, "nvfp4") ? 16 : 32;
    c->c = globals[variant];
    set_in(c, c->n * c->group_elems);
    const size_t bytes[3] = {c->n * c->group_elems * w->code_bits / 8, c->n, 0};
    set_parts(c, bytes, last);
}

static void set_row(const kern *w, kcase *c, u32 variant) {
    const u32 type = digit(&variant, 3), round = digit(&variant, 3), flag = digit(&variant, 2);
    const u32 bits = w->sig == SIG_QUANT_I8 && variant ? 2 + (u32)(c->seed % 7) : 8;
    c->how = LB_QUANT_HOW(type, round, bits);
    if (flag)
        c->how |= w->sig == SIG_QUANT_I8 ? LB_QUANT_ASYM : LB_QUANT_TIMES;
    set_in(c, c->n);
    c->out_bytes = c->n;
    c->zero = (float)(i32)(c->seed >> 8 & 15) - 8;
    /* factors and scales of weights, a few of them odd */
    c->c = c->seed % 5 ? 0.37f * lb_f32_from_bits((117u + (u32)(c->seed >> 16) % 20) << 23)
                       : lb_f32_from_bits(lb_f32_bits(c->c) & INT32_MAX);
}

void quant_sizes(const kern *w, kcase *c, u32 variant) {
    c->out_step = 1;
    switch (w->sig) {
    case SIG_QUANT_GROUPS:
        set_groups(w, c, variant);
        break;
    case SIG_QUANT_FP:
        set_fp(w, c, variant);
        break;
    case SIG_PARAMS:
        c->how = LB_QUANT_HOW(0, digit(&variant, 3), 8);
        c->how |= (u32[]){0, LB_QUANT_ASYM, LB_QUANT_FLOAT, LB_QUANT_TIMES}[digit(&variant, 4)];
        c->n_in = 2;
        c->in_bytes[0] = c->in_bytes[1] = c->n * sizeof(float);
        c->in_step[0] = c->in_step[1] = c->out_step = sizeof(float);
        c->part[1] = c->n * sizeof(float);
        c->out_bytes = 2 * c->n * sizeof(float);
        break;
    case SIG_PACK:
        c->bits = 1 + digit(&variant, 8);
        c->in_stride = (size_t[]){1, 3, 8}[variant];
        c->out_stride = c->in_stride;
        c->n_in = 1;
        c->in_bytes[0] = c->n ? (c->n - 1) * c->in_stride + 1 : 0;
        c->in_step[0] = 1;
        c->out_bytes = c->n ? (((c->n * c->bits + 31) / 32 - 1) * c->out_stride + 1) * 4 : 0;
        break;
    default:
        set_row(w, c, variant);
    }
}

/* Halves of whole numbers up to `top`, itself and 0 among them: with top steps the scale is a power
 * of two and codes tie. */
static void fill_ties(rng *r, float *x, size_t n) {
    static const float tops[] = {1, 3, 7, 15, 31, 63, 255, 12, 127.5f};
    const float top = tops[rng_below(r, LB_LEN(tops))];
    const u32 e = 117 + (u32)rng_below(r, 20);
    const float unit = lb_f32_from_bits((u32)rng_below(r, 2) << 31 | e << 23);
    for (size_t i = 0; i < n; i++)
        x[i] = i == 1   ? 0
               : i == 2 ? top * unit
                        : (float)rng_below(r, (u64)(2 * top + 1)) * 0.5f * unit;
}

/* One group of weights. Random bits are finite in most groups, a NaN or Inf is in a few of any. */
static void fill_group(rng *r, u32 fill, bool finite, float *x, size_t n) {
    const u32 kind = finite ? 40 : (u32)rng_below(r, 40);
    if (!strcmp(fill_name(fill), "ties") && kind % 4)
        fill_ties(r, x, n);
    else
        fill_f32(r, fill, x, n);
    for (size_t i = 0; i < n; i++) {
        if (kind > 3 && !(x[i] - x[i] == 0))
            x[i] = lb_f32_from_bits(lb_f32_bits(x[i]) & 0xbfffffffu);
        if (kind == 4) /* of one sign */
            x[i] = -lb_f32_from_bits(lb_f32_bits(x[i]) & 0x7fffffffu);
    }
    if (kind == 3)
        x[rng_below(r, n)] = lb_f32_from_bits(rng_below(r, 2) ? 0x7fa00000u : 0xff800000u);
}

void quant_fill(const kern *w, const kcase *c, u32 input, u8 *out) {
    rng r = {c->seed + input * 0x1234567u};
    const size_t unit = w->sig == SIG_PARAMS ? 4 : type_bytes(c->how);
    float x[256];
    if (w->sig == SIG_PACK) {
        fill_codes(&r, c->fill, out, c->in_bytes[input], 1);
        return;
    }
    const size_t n = c->in_bytes[input] / unit,
                 step = LB_MAX(c->group_elems, (size_t)1) > 1 ? c->group_elems : 64;
    for (size_t i = 0; i < n; i += step) {
        const size_t m = LB_MIN(n - i, step);
        fill_group(&r, c->fill, c->finite, x, m);
        for (size_t j = 0; j < m; j++) {
            u8 *at = out + (i + j) * unit;
            if (unit == 4)
                lb_store_u32(at, lb_f32_bits(x[j]));
            else if ((c->how & 15) == LB_ROUND_F16)
                lb_store_u16(at, lb_f16_from_f32(x[j]));
            else
                lb_store_u16(at, lb_bf16_from_f32(x[j]));
        }
    }
}

void quant_call(const kern *w, any_fn *fn, const kcase *c, void *out, const void *const in[3],
                result *r) {
    u8 *o = out;
    switch (w->sig) {
    case SIG_QUANT_GROUPS:
        r->n = ((lb_k_quant_mlx_q4_fn *)fn)(c->n, c->group_elems, o + c->part[0], o + c->part[1],
                                            o + c->part[2], in[0], c->how);
        break;
    case SIG_QUANT_FP:
        r->n = ((lb_k_quant_mlx_mxfp4_fn *)fn)(c->n, o + c->part[0], o + c->part[1], in[0], c->c,
                                               c->how);
        break;
    case SIG_QUANT_F8:
        ((lb_k_quant_f8_e4m3_fn *)fn)(c->n, out, in[0], c->c, c->how);
        break;
    case SIG_QUANT_I8:
        ((lb_k_quant_i8_fn *)fn)(c->n, out, in[0], c->c, c->zero, c->how);
        break;
    case SIG_PARAMS:
        r->n = ((lb_k_quant_params_fn *)fn)(c->n, out, (float *)(void *)(o + c->part[1]), in[0],
                                            in[1], c->how);
        break;
    default:
        ((lb_k_pack_codes_fn *)fn)(c->n, c->bits, out, c->out_stride, in[0], c->in_stride);
    }
}
